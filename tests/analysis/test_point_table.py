"""Points as a table that the other verbs read back."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from planted import SIZES, eval_row, mixture_law, spec, summary_of, write_log, write_study

from analysis.__main__ import main
from analysis.page.table import Table, csv_bytes
from analysis.runs.logs import AnalysisError
from analysis.runs.point_table import COLUMNS, point_table, write_points
from analysis.runs.points import build_study
from analysis.runs.read_table import read_table
from analysis.runs.records import read_runs

RICH, POOR = {"docs": 0.8, "code": 0.2}, {"docs": 0.2, "code": 0.8}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two mixtures, six sizes, two seeds; and a killed run."""
    folder = tmp_path_factory.mktemp("runs")
    write_study(folder, [spec(D, seed, weights) for weights in (RICH, POOR) for seed in range(2) for D in SIZES])
    write_log(folder, spec(SIZES[-1], 7), [eval_row(1000, {"docs": 9.0, "code": 9.0}, False)], None)
    return folder


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_the_table_holds_what_a_law_may_be_fitted_to(runs: Path, tmp_path: Path) -> None:
    written = write_points([str(runs)], tmp_path / "points.parquet")
    rows = rows_of(written.path)
    assert (written.num_points, written.num_runs, written.domains) == (48, 24, ("code", "docs"))
    assert len(rows) == 48
    assert list(rows[0]) == [*COLUMNS, "w:code", "w:docs"]
    assert {row["role"] for row in rows} == {"fit", "held_out"}
    assert {row["D"] for row in rows if row["is_held_out"]} == {SIZES[-1]}
    assert {(row["w:docs"], row["w:code"]) for row in rows} == {(0.8, 0.2), (0.2, 0.8)}
    first = next(row for row in rows if row["domain"] == "docs" and row["D"] == SIZES[0])
    assert first["loss"] == pytest.approx(first["sum_nats"] / first["num_eval_tokens"], rel=1e-15)
    assert first["C"] == 700_000.0 * SIZES[0]
    assert len({row["trunk"] for row in rows}) == 4  # a recipe and its seeds


def test_every_evaluation_is_there_when_asked_for(runs: Path, tmp_path: Path) -> None:
    rows = rows_of(write_points([str(runs)], tmp_path / "all.parquet", every=True).path)
    assert len(rows) == 24 * 2 * 2 + 2
    middle = [row for row in rows if row["role"] == "trajectory"]
    assert len(middle) == 24 * 2 + 2
    assert all(row["U"] is None or row["U"] <= row["D"] for row in rows)
    (killed,) = (row for row in middle if row["state"] == "interrupted" and row["domain"] == "docs")
    assert (killed["D"], killed["loss"], killed["U"], killed["w:docs"]) == (1000, 9.0, None, None)
    assert killed["C"] == 700_000.0 * 1000


def test_csv_and_parquet_hold_the_same_numbers(runs: Path, tmp_path: Path) -> None:
    rows = rows_of(write_points([str(runs)], tmp_path / "points.parquet").path)
    with write_points([str(runs)], tmp_path / "points.csv").path.open(newline="", encoding="utf-8") as file:
        texts = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in texts] == [row["loss"] for row in rows]
    assert [row["is_held_out"] for row in texts] == [str(row["is_held_out"]).lower() for row in rows]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_the_other_verbs_read_the_table_without_being_told_its_columns(runs: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"points.{suffix}"
    assert main(["points", str(runs), "--out", str(path)]) == 0
    table = read_table(path, needs=("N", "D", "U", "C", "w"), where=["domain=docs"])
    study = build_study(read_runs([str(runs)]))
    points = [point for point in study.points if point.domain == "docs"]
    assert sorted(table.y.tolist()) == sorted(point.loss for point in points)
    assert set(table.recipe.tolist()) == {point.recipe for point in points}
    assert len(set(table.run.tolist())) == 4
    assert table.domains == ("code", "docs")
    clean = [float(mixture_law(RICH if row[1] == 0.8 else POOR, "docs").loss(D))
             for row, D in zip(table.columns["w"].tolist(), table.columns["D"].tolist(), strict=True)]  # fmt: skip
    assert table.y == pytest.approx(clean, rel=0.02)  # 5 standard deviations of the planted noise


def test_a_table_of_two_domains_is_not_fitted_as_one(runs: Path, tmp_path: Path) -> None:
    path = write_points([str(runs)], tmp_path / "points.parquet").path
    with pytest.raises(AnalysisError, match="domain=code"):
        read_table(path, needs=("D",))


def test_another_kind_of_file_is_refused(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["points", str(runs), "--out", str(tmp_path / "points.xlsx")]) == 2
    assert "--out must end in .parquet or .csv" in capsys.readouterr().err


def test_a_domain_that_a_run_did_not_use_has_weight_0(tmp_path: Path) -> None:
    alone = spec(2000, 0)
    alone["recipe"]["corpus"]["domains"] = {"docs": {"kind": "embedded", "part": "docs"}}
    alone["recipe"]["mixture"]["weights"] = {"docs": 1.0}
    write_study(tmp_path, [spec(1000, 0), alone])
    table = point_table(build_study(read_runs([str(tmp_path)])), every=False)
    at = table.columns.index("w:code")
    assert {row[at] for row in table.rows} == {0.0, 0.2}


def test_names_that_a_spreadsheet_would_run_are_text(tmp_path: Path) -> None:
    tree = spec(1000, 0)
    write_log(tmp_path, tree, [eval_row(1000, {"docs": 4.0, "code": 3.0})], summary_of(tree), name="=1+1")
    written = write_points([str(tmp_path)], tmp_path / "points.csv")
    assert ",'=1+1," in written.path.read_text(encoding="utf-8")


def test_csv_writes_plain_numbers_and_blanks_for_what_is_none() -> None:
    rows = ((1, 0.1, float("inf"), np.float64(0.5), True, "-1"), (None, 2, float("nan"), None, False, 3.0))
    lines = csv_bytes(Table("t", ("a", "b", "c", "d", "e", "=f"), rows)).decode().split("\r\n")
    assert lines == ["a,b,c,d,e,'=f", "1,0.1,,0.5,true,'-1", ",2,,,false,3.0", ""]


def test_csv_holds_any_text_and_values_that_are_equal_but_of_other_types() -> None:
    texts = ("a,b", 'say "no"', "two\nlines", " x ", "ä\r", "1")
    rows = tuple((text, value) for text, value in zip(texts, (1, 1.0, True, 0.0, False, None), strict=True))
    read = list(csv.reader(io.StringIO(csv_bytes(Table("t", ("text", "value"), rows)).decode(), newline="")))
    assert [row[0] for row in read[1:]] == list(texts)
    assert [row[1] for row in read[1:]] == ["1", "1.0", "true", "0.0", "false", ""]
