"""Tables of runs: what is read, and what is refused with its row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from analysis.fit_table import fit_table
from analysis.runs.logs import AnalysisError
from analysis.runs.read_table import read_table

Cells = dict[str, list[object]]


def good(n: int = 6) -> Cells:
    return {
        "run": [f"r{i}" for i in range(n)],
        "N": [1e8 * 2**i for i in range(n)],
        "D": [2e9 * 2**i for i in range(n)],
        "loss": [4.0 - 0.2 * i for i in range(n)],
    }


def changed(column: str, row: int, value: object) -> Cells:
    """The good table with one cell changed; rows count from 1."""
    cells = good()
    cells[column][row - 1] = value
    return cells


def written(folder: Path, cells: Cells, name: str = "runs.csv") -> Path:
    """As text, whatever the cells are."""
    path = folder / name
    rows = [",".join(cells)]
    rows += [",".join("" if c is None else str(c) for c in row) for row in zip(*cells.values(), strict=True)]
    path.write_text("\n".join(rows) + "\n")
    return path


def repeated_row(cells: Cells, row: int, **other: object) -> Cells:
    return {name: [*column, other.get(name, column[row - 1])] for name, column in cells.items()}


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (changed("loss", 3, -2.5), r"runs.csv: row 3: loss must be a finite number above 0, got -2.5"),
        (changed("loss", 2, "nan"), r"row 2: loss is missing or NaN"),
        (changed("loss", 5, "inf"), r"row 5: loss must be a finite number above 0, got inf"),
        (changed("loss", 4, None), r"row 4: loss is missing or NaN"),
        (changed("D", 1, 0), r"row 1: D must be a finite number above 0, got 0"),
        (changed("N", 6, "nan"), r"row 6: N is missing or NaN"),
        (changed("D", 2, "4 GB"), r"row 2: D must be a number, got '4 GB'"),
        (changed("loss", 2, '"3,800"'), r"row 2: loss must be a number, got '3,800'"),
        (changed("D", 4, 16.0), r"row 4: D is 16; .*mixed units\?"),
        (changed("N", 1, 100), r"row 1: N is 100; .*mixed units\?"),
        (changed("loss", 6, 300.0), r"row 6: loss is 300; .*mixed units\?"),
        ({**good(), "C": [1e18 * 4**i / (1000 if i == 2 else 1) for i in range(6)]}, r"row 3: C is .* mixed units\?"),
        ({**good(), "loss_unit": ["nats", "nats", "bits", *["nats"] * 3]}, r"row 3: loss_unit is 'bits'.*mixed units"),
        (repeated_row(good(), 2), r"row 7: run 'r1' is there before, with the same amounts, in row 2"),
        (repeated_row(good(), 2, loss=3.7), r"row 7: run 'r1' is there before"),
        ({name: column[:1] for name, column in good().items()}, r"1 point is left"),
        ({**good(), "loss": [3.0] * 6}, r"all 6 rows have loss 3: there is nothing to fit"),
        ({**good(), "domain": ["code"] * 3 + ["web"] * 3}, r"2 domains \(code, web\).*--where domain=code"),
        ({**good(), "metric_name": ["f1"] * 3 + ["mcc"] * 3}, r"2 metrics \(f1, mcc\).*--where metric_name=f1"),
        ({"w:a": [0.5, 0.2, 0.4], "w:b": [0.5, 0.8, 0.9], "loss": [3, 2, 1]}, r"row 3: .* sum to 1, got 1.3"),
        ({"w:a": [0.5, 1.2], "w:b": [0.5, -0.2], "loss": [3, 2]}, r"row 2: w must not be below 0, got -0.2"),
    ],
)
def test_a_bad_table_is_refused_with_the_row(tmp_path: Path, cells: Cells, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        read_table(written(tmp_path, cells), needs=("w",) if "w:a" in cells else ("N", "D"))


def test_a_run_without_a_name_twice_is_refused_too(tmp_path: Path) -> None:
    cells = repeated_row(good(), 2)
    del cells["run"]
    wanted = "row 7: the same run is there before, with the same amounts, in row 2: .*a column named seed tells them"
    with pytest.raises(AnalysisError, match=wanted):
        read_table(written(tmp_path, cells))
    cells["seed"] = [*range(7)]
    assert len(read_table(written(tmp_path, cells))) == 7
    cells["seed"][6] = 1
    with pytest.raises(AnalysisError, match=r"a run counts once$"):
        read_table(written(tmp_path, cells))


def test_a_row_number_hides_no_duplicate_and_a_learning_rate_is_no_duplicate(tmp_path: Path) -> None:
    cells = repeated_row(good(), 2)
    del cells["run"]
    cells["index"] = [*range(7)]
    with pytest.raises(AnalysisError, match="row 7: the same run is there before"):
        read_table(written(tmp_path, cells))
    cells["lr"] = [1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 3e-4]
    assert len(read_table(written(tmp_path, cells))) == 7


def test_a_run_of_several_sizes_and_repeated_seeds_are_no_duplicates(tmp_path: Path) -> None:
    cells = {"run": ["a", "a", "b"], "seed": [0, 0, 1], "D": [1e9, 2e9, 1e9], "loss": [3.0, 2.8, 3.01]}
    assert len(read_table(written(tmp_path, cells))) == 3


@pytest.mark.parametrize(("lacks", "has"), [("C", "ND"), ("D", "NC"), ("N", "CD")])
def test_of_sizes_tokens_and_flops_two_give_the_third(tmp_path: Path, lacks: str, has: str) -> None:
    whole = {"N": [1e6, 2e6, 4e6], "D": [1e9, 3e9, 2e9], "C": [6e15, 3.6e16, 4.8e16], "loss": [4.0, 3.5, 3.4]}
    path = written(tmp_path, {name: cells for name, cells in whole.items() if name != lacks})
    assert read_table(path, needs=(lacks, has[0])).columns[lacks] == pytest.approx(whole[lacks])
    with pytest.raises(AnalysisError, match=f"no column for {lacks} "):
        read_table(written(tmp_path, {"loss": whole["loss"], has[0]: whole[has[0]]}), needs=(lacks,))


def test_all_equal_sizes_fit_no_law_of_sizes(tmp_path: Path) -> None:
    path = written(tmp_path, {**good(), "N": [1e8] * 6})
    with pytest.raises(AnalysisError, match=r"all 6 rows have N 1e\+08, and chinchilla .* needs several"):
        fit_table(path, ["chinchilla"])
    assert fit_table(path, ["power"]).fits[0].fit.value < 1e-2


def test_a_missing_column_is_said_with_what_is_there(tmp_path: Path) -> None:
    path = written(tmp_path, {"size": [1, 2], "tokens_seen": [1e9, 2e9], "val": [3.0, 2.8]})
    with pytest.raises(AnalysisError, match=r"no column for D .*has: size, tokens_seen, val.*--columns D=NAME"):
        read_table(path, needs=("D",))
    with pytest.raises(AnalysisError, match=r"no column 'loss'; name it with --loss-column"):
        read_table(path, columns={"D": "tokens_seen"})
    with pytest.raises(AnalysisError, match=r"there is no column 'tokens' \(D\); the table has: size"):
        read_table(path, columns={"D": "tokens"})


def test_columns_are_mapped_and_usual_names_are_known(tmp_path: Path) -> None:
    cells = {"params": [1e8, 2e8], "my_tokens": [1e9, 2e9], "val_loss": [3.0, 2.8], "corpus": ["x", "y"]}
    table = read_table(written(tmp_path, cells), needs=("N", "D"), columns={"D": "my_tokens"}, group="corpus")
    assert list(table.columns["N"]) == [1e8, 2e8]
    assert list(table.columns["D"]) == [1e9, 2e9]
    assert list(table.recipe) == ["x", "y"]
    assert table.response == "val_loss"


@pytest.mark.parametrize("name", ["n_parameters", "non_embedding_params", "Param Count", "total_params", "Model Size"])
def test_sizes_go_by_many_names(tmp_path: Path, name: str) -> None:
    cells: Cells = {name: [1e8, 2e8], "D": [1e9, 2e9], "loss": [3.0, 2.8]}
    assert read_table(written(tmp_path, cells), needs=("N", "D")).columns["N"].tolist() == [1e8, 2e8]


def test_a_letter_in_a_condition_is_its_column(tmp_path: Path) -> None:
    cells: Cells = {"examples": [0, 100, 200], "loss": [4.0, 3.0, 2.8]}
    path = written(tmp_path, cells)
    with pytest.raises(AnalysisError, match=r"row 1: D must be .* got 0; leave such rows out with --where 'D>0'"):
        read_table(path, needs=("D",), columns={"D": "examples"})
    assert read_table(path, needs=("D",), columns={"D": "examples"}, where=["D>0"]).row.tolist() == [2, 3]


def test_weights_are_found_by_a_pattern_and_domains_named_after_it(tmp_path: Path) -> None:
    cells = {"train_web": [0.3, 0.6], "train_code": [0.7, 0.4], "loss": [3.0, 2.8]}
    table = read_table(written(tmp_path, cells), needs=("w",), columns={"weights": "train_*"})
    assert table.domains == ("web", "code")
    np.testing.assert_array_equal(table.columns["w"], [[0.3, 0.7], [0.6, 0.4]])


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("run=r2", [3]),
        ("N=4e8", [3]),
        ("D<8e9", [1, 2]),
        ("D<=8e9", [1, 2, 3]),
        ("run!=r0", [2, 3, 4, 5, 6]),
        ("loss>3.3", [1, 2, 3, 4]),
    ],
)
def test_rows_are_chosen_and_keep_their_numbers(tmp_path: Path, condition: str, kept: Sequence[int]) -> None:
    path = written(tmp_path, good())
    if len(kept) < 2:
        with pytest.raises(AnalysisError, match="1 point is left"):
            read_table(path, where=[condition])
    else:
        assert list(read_table(path, where=[condition]).row) == list(kept)


def test_a_choice_that_leaves_no_row_and_one_of_no_column_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, good())
    with pytest.raises(AnalysisError, match="no row has run=r9"):
        read_table(path, where=["run=r9"])
    with pytest.raises(AnalysisError, match="no column 'epoch'"):
        read_table(path, where=["epoch=1"])
    with pytest.raises(AnalysisError, match="--where must be column=value"):
        read_table(path, where=["run"])


@pytest.mark.parametrize("write", [parquet.write_table, csv.write_csv])
def test_csv_and_parquet_are_read_alike(tmp_path: Path, write: Callable[[pa.Table, Path], None]) -> None:
    path = tmp_path / ("runs.parquet" if write is parquet.write_table else "runs.csv")
    write(pa.table(good()), path)
    table = read_table(path, needs=("N", "D"))
    np.testing.assert_allclose(table.columns["D"], good()["D"])
    assert list(table.run) == good()["run"]


@pytest.mark.parametrize(("sign", "mark"), [(";", ""), ("\t", ""), (",", "\ufeff")])
def test_other_separators_marks_and_spellings_are_read_alike(tmp_path: Path, sign: str, mark: str) -> None:
    text = written(tmp_path, good()).read_text().replace("N,D,loss", " Params, Training Tokens , Val Loss")
    (tmp_path / "other.csv").write_text(mark + text.replace(",", sign))
    found = read_table(tmp_path / "other.csv", needs=("N", "D"))
    assert found.columns["N"].tolist() == good()["N"]
    assert found.y.tolist() == good()["loss"]


def test_rows_without_a_value_can_be_left_out_as_the_message_says(tmp_path: Path) -> None:
    for empty in ("nan", None, "NA"):
        path = written(tmp_path, changed("loss", 3, empty))
        assert read_table(path, where=["loss!="]).row.tolist() == [1, 2, 4, 5, 6]
    whole = pa.table({**good(), "loss": [4.0, 3.8, float("nan"), 3.4, 3.2, 3.0]})
    parquet.write_table(whole, tmp_path / "runs.parquet")
    assert len(read_table(tmp_path / "runs.parquet", where=["loss!="])) == 5


def test_a_percentage_is_a_share(tmp_path: Path) -> None:
    cells = good() | {"error": ["81.5%", "70 %", "62%", "55%", "50%", "44%"]}
    found = read_table(written(tmp_path, cells), response="metric")
    assert found.y[:2].tolist() == [0.815, 0.7]


def test_amounts_as_papers_print_them_are_numbers(tmp_path: Path) -> None:
    sizes = ["100M", "200 m", "0.4B", '"800,000,000"', "1.6e9", "3200000K"]
    found = read_table(written(tmp_path, good() | {"N": list(sizes)}), needs=("N", "D"))
    np.testing.assert_allclose(found.columns["N"], good()["N"])


def test_a_decimal_comma_is_read_where_semicolons_separate(tmp_path: Path) -> None:
    text = written(tmp_path, good()).read_text().replace(",", ";").replace(".", ",")
    (tmp_path / "other.csv").write_text(text)
    assert read_table(tmp_path / "other.csv", needs=("N", "D")).y.tolist() == good()["loss"]


def test_what_is_no_table_is_said(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="no such table"):
        read_table(tmp_path / "nothing.csv")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(AnalysisError, match=r"cannot read '.*torn.parquet' as a table"):
        read_table(tmp_path / "torn.parquet")
    (tmp_path / "latin.csv").write_bytes("N,D,loss,modèle\n1,2,3,a\n".encode("latin-1"))
    with pytest.raises(AnalysisError, match=r"cannot read '.*latin.csv' as a table"):
        read_table(tmp_path / "latin.csv")
    (tmp_path / "empty.csv").write_text("N,D,loss\n")
    with pytest.raises(AnalysisError, match="the table has no rows"):
        read_table(tmp_path / "empty.csv")


def test_a_bad_cell_in_a_column_that_nobody_asked_for_does_no_harm(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, changed("N", 3, None)), needs=("D",))
    assert "N" not in table.columns


def test_weights_may_be_listed_where_their_columns_share_no_prefix(tmp_path: Path) -> None:
    cells = good() | {"web": [0.1 * i for i in range(6)], "code": [1 - 0.1 * i for i in range(6)]}
    table = read_table(written(tmp_path, cells), columns={"w": "code|web"}, needs=["w"])
    assert table.domains == ("code", "web")
    assert table.columns["w"][:, 1].tolist() == cells["web"]
    with pytest.raises(AnalysisError, match="there is no column 'maths'"):
        read_table(written(tmp_path, cells), columns={"w": "code|web|maths"}, needs=["w"])


def test_weights_that_sum_to_100_are_asked_about(tmp_path: Path) -> None:
    cells = good() | {"w:web": [10 * i for i in range(6)], "w:code": [100 - 10 * i for i in range(6)]}
    with pytest.raises(AnalysisError, match=r"row 1: the weights of the domains must sum to 1, got 100: per cent\?"):
        read_table(written(tmp_path, cells), needs=["w"])


@pytest.mark.parametrize("word", ["true", "True", "TRUE"])
def test_booleans_are_chosen_in_any_case(tmp_path: Path, word: str) -> None:
    cells = good() | {"final": [i > 1 for i in range(6)]}
    assert len(read_table(written(tmp_path, cells), where=[f"final={word}"])) == 4
    assert len(read_table(written(tmp_path, cells), where=[f"final!={word}"])) == 2


def test_a_column_of_texts_that_names_sizes_is_no_recipe(tmp_path: Path) -> None:
    cells: Cells = {
        "N": [1e8, 1e8, 1e9, 1e9, 1e8, 1e8, 1e9, 1e9],
        "D": [1e9, 1e9, 1e9, 1e9, 2e9, 2e9, 2e9, 2e9],
        "size": ["small", "small", "large", "large", "small", "small", "large", "large"],
        "corpus": ["web", "code"] * 4,
        "loss": [3 + 0.1 * i for i in range(8)],
    }
    assert read_table(written(tmp_path, cells)).unread == ("corpus",)
    assert read_table(written(tmp_path, cells), group="corpus").unread == ()
