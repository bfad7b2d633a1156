"""The verb `fit`: from a table on disk to parameters, predictions and JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.__main__ import main
from analysis.fit_table import fit_table
from analysis.laws.catalogue import catalogue
from analysis.laws.law import law_named, law_names
from analysis.runs.logs import AnalysisError

sys.path.insert(0, str(Path(__file__).parent / "laws"))
from planted_laws import PlantedTables, planted, write_csv

TABLES = PlantedTables()


@pytest.fixture
def sizes(tmp_path: Path) -> Path:
    """L(N, D) = 1.8 + 480 / N^.35 + 2100 / D^.37 with 0.3 % of noise, two recipes, one with half the worth."""
    return TABLES.sizes(tmp_path / "runs.csv")


def told(folder: Path, *words: str) -> dict[str, Any]:
    out = folder / "fits.json"
    assert main(["fit", *words, "--json", str(out)]) == 0
    return dict(json.loads(out.read_text()))


def test_a_bootstrap_over_runs_stands_beside_the_profile_where_it_is_asked_for(sizes: Path, tmp_path: Path) -> None:
    words = (str(sizes), "--law", "power", "--group", "recipe", "--bootstrap", "200")
    for fit in told(tmp_path, *words)["fits"]:
        for name, ends in fit["bootstrap"].items():
            assert ends["lo"] < ends["hi"], name
            assert ends["value"] == fit["params"][name]["value"]
        assert fit["bootstrap"].keys() == fit["params"].keys()
    assert all(not fit["bootstrap"] for fit in told(tmp_path, *words[:-2])["fits"])
    assert main(["fit", *words[:-1], "-1"]) == 2


def test_json_says_all_that_a_program_needs(sizes: Path, tmp_path: Path) -> None:
    result = told(tmp_path, str(sizes), "--law", "chinchilla", "--hold-out", "largest:1")
    assert [fit["group"] for fit in result["fits"]] == ["plain", "thin"]
    fit = result["fits"][0]
    assert {"law", "group", "params", "objective", "status", "num_points", "num_runs", "held_out"} <= set(fit)
    assert fit["law"] == "chinchilla"
    assert fit["status"] == "ok"
    assert (fit["num_points"], fit["num_runs"]) == (41, 41)  # 6 x 7, less the largest
    assert set(fit["params"]) == {"E", "A", "B", "alpha", "beta"}
    for name, truth in {"E": 1.8, "alpha": 0.35, "beta": 0.37}.items():
        assert fit["params"][name]["lo"] < truth < fit["params"][name]["hi"], name
    assert fit["held_out"]["num_points"] == 1
    assert fit["held_out"]["error"] < 0.02


def test_a_parameter_that_is_given_stays(sizes: Path, tmp_path: Path) -> None:
    fit = told(tmp_path, str(sizes), "--law", "chinchilla", "--fix", "alpha=0.35,E=1.8")["fits"][0]
    assert fit["params"]["alpha"] == {"value": 0.35, "lo": 0.35, "hi": 0.35, "unit": "", "is_fixed": True}
    assert fit["params"]["A"]["value"] == pytest.approx(480, rel=0.1)


def test_a_prediction_has_two_intervals_and_says_how_far_it_goes(sizes: Path, tmp_path: Path) -> None:
    fit = told(tmp_path, str(sizes), "--law", "chinchilla", "--at", "N=1e10,D=2e11")["fits"][0]
    at = fit["predictions"][0]
    truth = 1.8 + 480 / 1e10**0.35 + 2100 / 2e11**0.37
    assert at["lo"] < truth < at["hi"]
    assert at["new_run"]["lo"] < at["lo"] < at["value"] < at["hi"] < at["new_run"]["hi"]
    assert at["beyond"] == pytest.approx(1e10 * 2e11 / (5e9 * 1e11))


def test_a_budget_alone_asks_for_the_frontier(sizes: Path, tmp_path: Path) -> None:
    """N_opt and D_opt of the planted law at 1e21 FLOPs, C = 6 N D."""
    best = told(tmp_path, str(sizes), "--law", "chinchilla", "--at", "C=1e21")["fits"][0]["optima"][0]
    G = (0.35 * 480 / (0.37 * 2100)) ** (1 / 0.72)
    wanted = G * (1e21 / 6) ** (0.37 / 0.72)
    assert best["N"]["lo"] < wanted < best["N"]["hi"]
    assert best["D"]["value"] * best["N"]["value"] * 6 == pytest.approx(1e21)
    assert best["exponent"]["lo"] < 0.37 / 0.72 < best["exponent"]["hi"]
    around = [1.8 + 480 / n**0.35 + 2100 / (1e21 / 6 / n) ** 0.37 for n in (wanted / 1.3, wanted, wanted * 1.3)]
    assert around[1] == min(around)
    assert best["loss"]["value"] == pytest.approx(around[1], rel=0.01)


def test_several_laws_are_compared_by_what_they_predict_not_by_how_they_fit(tmp_path: Path) -> None:
    """A curve that bends: the broken law predicts the largest size, the power law does not."""
    path = TABLES.bent(tmp_path / "bent.csv")
    result = told(tmp_path, str(path), "--law", "power", "--law", "broken", "--hold-out", "largest:4")
    assert [each["law"] for each in result["comparison"]] == ["broken", "power"]
    errors = [each["held_out_error"] for each in result["comparison"]]
    assert errors[0] < errors[1] / 3
    assert "broken predicts what was held out best" in result["answer"]


def test_a_straight_curve_is_not_given_a_bend(tmp_path: Path) -> None:
    """Six parameters fit a power law better than three do, and predict it no better."""
    path = TABLES.straight(tmp_path / "straight.csv")
    found = fit_table(path, ["power", "broken"], hold_out=2)
    fits = {each.fit.law.name: each.fit for each in found.fits}
    assert fits["broken"].value <= fits["power"].value
    assert found.comparison[0].law == "power"


def test_the_order_of_the_rows_changes_no_number(sizes: Path, tmp_path: Path) -> None:
    head, *rows = sizes.read_text().splitlines()
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    (tmp_path / "shuffled.csv").write_text("\n".join([head, *shuffled]) + "\n")
    one, other = (fit_table(path, ["chinchilla"]) for path in (sizes, tmp_path / "shuffled.csv"))
    for a, b in zip(one.fits, other.fits, strict=True):
        assert a.group == b.group
        np.testing.assert_allclose(a.fit.theta, b.fit.theta, rtol=1e-6)


def test_a_quality_law_gives_the_worth_of_a_token(sizes: Path, tmp_path: Path) -> None:
    """The tokens of `thin` do as much as half as many of `plain`."""
    path = TABLES.two_qualities(tmp_path / "qualities.csv")
    result = told(tmp_path, str(path), "--law", "quality", "--at", "D=1e11")
    fit = result["fits"][0]
    assert fit["group"] is None
    assert fit["params"]["m:thin"]["lo"] < 0.5 < fit["params"]["m:thin"]["hi"]
    assert [each["at"]["recipe"] for each in fit["predictions"]] == ["plain", "thin"]
    assert fit["predictions"][0]["value"] < fit["predictions"][1]["value"]


def test_a_table_too_small_gets_a_status_and_no_number(tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("D,loss\n1e9,3\n2e9,2.8\n")
    fit = told(tmp_path, str(tmp_path / "two.csv"), "--law", "power")["fits"][0]
    assert fit["status"] == "too_few_points"
    assert fit["objective"] is None
    assert fit["params"] == {}
    assert fit["why"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--law", "kaplan"], "law must be one of"),
        (["--law", "power", "--hold-out", "5"], "--hold-out must be largest:K"),
        (["--law", "power", "--hold-out", "largest:50"], r"has no 51 scales \(C, or N D\) to hold out 50 of"),
        (["--law", "power", "--fix", "gamma=1"], "power has no parameter 'gamma'; it has E, B, beta"),
        (["--law", "power", "--fix", "beta=-1"], "beta must be within 0 and 5"),
        (["--law", "power", "--fix", "beta"], "--fix must be PARAMETER=VALUE"),
        (["--law", "power", "--fix", "beta=steep"], "beta must be a number, got 'steep'"),
        (["--law", "power", "--delta", "-1"], "--delta must be above 0"),
        (["--law", "power", "--objective", "lad", "--delta", "1"], "--delta is of Huber's loss alone"),
        (["--law", "power", "--at", "N=1e9"], "--at must give D for power"),
        (["--law", "power", "--at", "D=0"], "D must be above 0"),
        (["--law", "data_constrained"], "no column for U"),
        (["--law", "mixture"], "no columns 'w:.*' with the weights of domains"),
        (["--law", "power", "--law", "logistic"], "cannot be compared"),
        (["--law", "power", "--columns", "X=D"], "--columns must name one of"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_one_line(
    sizes: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["fit", str(sizes), *words]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert re.search(message, told), told


def test_laws_of_a_metric_read_the_loss_as_a_column(tmp_path: Path) -> None:
    path = TABLES.accuracy(tmp_path / "tasks.csv")
    result = told(tmp_path, str(path), "--law", "logistic", "--loss-column", "accuracy", "--columns", "L=val_loss")
    fit = result["fits"][0]
    assert fit["loss"]["scale"] == "raw"
    assert fit["params"]["L_0"]["value"] == pytest.approx(2.9, abs=0.05)


@pytest.mark.parametrize("words", [["--help"], ["fit", "--help"]])
def test_help_is_quick_and_loads_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys, analysis.__main__ as m\n"
        f"try: m.main({words})\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'wandb', 'numba', 'scipy', 'numpy', 'matplotlib', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_benchmarks_run_as_files_from_anywhere(tmp_path: Path) -> None:
    """`coverage`, which numba imports, must not be benchmarks/coverage.py."""
    script = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
    few = ["--replicates", "1", "--laws", "power", "--sizes", "5", "--seeds", "1"]
    done = subprocess.run([sys.executable, str(script), *few], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["studies"] == 1


def test_every_verb_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    from analysis.__main__ import VERBS

    for verb in VERBS:
        with pytest.raises(SystemExit) as ended:
            main([verb, "--help"])
        assert ended.value.code == 0
        assert f"python -m analysis {verb}" in capsys.readouterr().out


def test_no_law_at_all_is_refused(sizes: Path) -> None:
    with pytest.raises(AnalysisError, match="name at least one law"):
        fit_table(sizes, [])


def test_a_group_at_one_size_is_told_what_it_does_not_vary(tmp_path: Path) -> None:
    """One N per group: the table has several, no group has."""
    at = [(n, 1e9 * 2**i) for n in (1e8, 1e9) for i in range(8)]
    rows = [f"m{n:g},{n},{d},{1.8 + 480 / n**0.35 + 2100 / d**0.37}" for n, d in at]
    (tmp_path / "models.csv").write_text("\n".join(["model,N,D,loss", *rows]) + "\n")
    result = told(tmp_path, str(tmp_path / "models.csv"), "--law", "chinchilla", "--group", "model")
    assert [fit["status"] for fit in result["fits"]] == ["too_few_points"] * 2
    assert result["fits"][0]["why"].startswith("All 8 rows have N 1e+08, and chinchilla")


def test_laws_whose_errors_differ_by_chance_are_not_told_apart(sizes: Path, tmp_path: Path) -> None:
    """`overtraining` is nearly the planted law: at the last scale, one run of each recipe, nothing is between them."""
    words = [str(sizes), "--law", "chinchilla", "--law", "overtraining"]
    few, more = told(tmp_path, *words), told(tmp_path, *words, "--hold-out", "largest:4")
    for result in (few, more):
        assert result["best"] is None
        assert [each["may_be_best"] for each in result["comparison"]] == [True, True]
    assert few["answer"].endswith("fewer than 3 runs held out cannot decide; use --hold-out largest:3.")
    assert "cannot be told apart from" in more["answer"]
    assert "fewer than 3" not in more["answer"]


def test_a_fit_says_the_constants_of_its_equation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the parameters, E + K at the lowest point of the parabola of C_0 can be computed from the JSON alone."""
    own = planted()["isoflop"].table
    write_csv(tmp_path / "budgets.csv", {**own.columns, "loss": own.y})
    fit = told(tmp_path, str(tmp_path / "budgets.csv"), "--law", "isoflop", "--at", "C=1e22")["fits"][0]
    assert fit["constants"] == {"C_0": pytest.approx(10**19.5)}
    text = capsys.readouterr().out
    assert "C_0 = 3.16" in text
    assert fit["optima"][0]["beyond"] == pytest.approx(10)
    assert "10 x the largest scale fitted" in text


def test_runs_are_counted_as_runs_and_trunks_as_clusters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    D = np.geomspace(1e8, 1e11, 6)
    rows = [f"r{s}{i},t{s},{d},{1.7 + 400 / d**0.3 + 0.001 * s * (i % 2)}" for s in range(3) for i, d in enumerate(D)]
    (tmp_path / "trunks.csv").write_text("\n".join(["run,trunk,D,loss", *rows]) + "\n")
    fit = told(tmp_path, str(tmp_path / "trunks.csv"), "--law", "power")["fits"][0]
    assert (fit["num_points"], fit["num_runs"], fit["num_clusters"]) == (18, 18, 3)
    assert "18 points of 18 runs of 3 clusters" in capsys.readouterr().out


@pytest.mark.parametrize("count", [0, 1, 5])
def test_rows_far_off_the_law_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int) -> None:
    rng = np.random.default_rng(3)
    D = np.geomspace(1e7, 1e10, 30)
    loss = (2 + 300 * D**-0.33) * np.exp(rng.normal(0, 0.003, 30))
    loss[4 : 4 + count] *= 10
    table = tmp_path / "runs.csv"
    table.write_text("D,loss\n" + "".join(f"{d},{y}\n" for d, y in zip(D, loss, strict=True)))
    assert main(["fit", str(table), "--law", "power"]) == 0
    said = capsys.readouterr().out
    named = re.findall(r"row (\d+): loss is [\d.]+, and the law that fits the others has [\d.]+ there", said)
    assert set(map(int, named)) <= set(range(5, 5 + count))
    assert len(named) == min(3, count)
    assert ("2 more rows lie as far off" in said) == (count == 5)


def test_what_is_probably_not_meant_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = [(n, d, c) for n in (70, 160, 410, 900) for d in (1000, 3000, 9000) for c in ("web", "code")]
    rows = [f"{n},{d},{c},{2 + 3 / n**0.3 + 0.1 * np.log(d)}" for n, d, c in at]
    (tmp_path / "odd.csv").write_text("\n".join(["N,D,corpus,loss", *rows]) + "\n")
    words = [str(tmp_path / "odd.csv"), "--law", "chinchilla"]
    notes = told(tmp_path, *words)["notes"]
    text = capsys.readouterr().out
    for part in ("N is at most 900: in millions", "D is at most 9000", "corpus: are they recipes", "loss rises with D"):
        assert any(part in note for note in notes), part
        assert f"note: {next(note for note in notes if part in note)}" in text
    assert not any("corpus" in note for note in told(tmp_path, *words, "--group", "corpus")["notes"])


def test_what_is_measured_in_other_units_is_said_in_them(tmp_path: Path) -> None:
    rows = [f"{d},{1.2 + 40 / d**0.25},{np.exp(1.2 + 40 / d**0.25)}" for d in np.geomspace(1e6, 1e9, 8)]
    (tmp_path / "odd.csv").write_text("\n".join(["D,wiki_bpb,wiki_ppl", *rows]) + "\n")
    words = [str(tmp_path / "odd.csv"), "--law", "power", "--loss-column"]
    found = told(tmp_path, *words, "wiki_bpb")
    assert found["fits"][0]["params"]["B"]["unit"] == "wiki_bpb x tokens^beta"
    assert found["notes"] == []
    assert any("wiki_ppl is exp(loss)" in note for note in told(tmp_path, *words, "wiki_ppl")["notes"])


def test_a_good_table_is_not_doubted(sizes: Path, tmp_path: Path) -> None:
    assert told(tmp_path, str(sizes), "--law", "chinchilla")["notes"] == []


@pytest.mark.parametrize(
    ("steps", "column", "said"),
    [
        ((1, 2, 4, 8, 16, 32), "step", "the column step looks like checkpoints"),
        ((1, 2, 3, 4, 5, 6), "note", "equal steps of D look like checkpoints"),
        ((1, 2, 4, 8, 16, 32), "note", None),
        ((1, 2, 3, 4), "note", None),
    ],
)
def test_rows_that_look_like_checkpoints_are_not_silently_runs(
    steps: tuple[int, ...], column: str, said: str | None, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    lines = [f"N,D,{column},model,loss"]
    for N in (1e7, 3e7, 1e8, 3e8):
        for step in steps:
            loss = (1.69 + 406 / N**0.34 + 410 / (step * 1e8) ** 0.28) * np.exp(rng.normal(0, 0.003))
            lines.append(f"{N},{step * 1e8},{step},m{N:.0f},{loss}")
    (tmp_path / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
    words = (str(tmp_path / "rows.csv"), "--law", "chinchilla")
    doubts = [note for note in told(tmp_path, *words)["notes"] if "counts as a run" in note]
    assert len(doubts) == (said is not None)
    assert all(said is not None and said in note and "--cluster COLUMN" in note for note in doubts)
    assert not any("counts as a run" in note for note in told(tmp_path, *words, "--cluster", "model")["notes"])


def test_a_law_that_says_nothing_of_a_place_stops_no_other(
    sizes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(tmp_path, str(sizes), "--law", "power", "--law", "chinchilla", "--at", "C=1e21")
    assert {fit["law"] for fit in found["fits"]} == {"power", "chinchilla"}
    assert "no prediction: --at must give D for power, got C" in found["notes"]
    capsys.readouterr()
    assert main(["fit", str(sizes), "--law", "power", "--at", "C=1e21"]) == 2
    assert "--at must give D for power" in capsys.readouterr().err


def test_many_fits_are_told_in_a_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"g{g},{d},{1.5 + (50 + g) / d**0.2}" for g in range(7) for d in np.geomspace(1e7, 1e11, 6)]
    (tmp_path / "many.csv").write_text("\n".join(["recipe,D,loss", *rows]) + "\n")
    assert main(["fit", str(tmp_path / "many.csv"), "--law", "power"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[0].startswith("power of g0: E = 1.5, B = 50")
    assert lines[0].endswith("; ok")


def test_help_of_fit_lists_every_law_as_its_class_has_it() -> None:
    told = {entry.name: entry for entry in catalogue()}
    assert tuple(told) == law_names()
    for name, entry in told.items():
        law = law_named(name)
        assert (entry.equation, entry.columns, entry.optional) == (law.equation, law.columns, law.optional)
        assert entry.purpose


def test_a_law_of_shares_refuses_per_cent_with_the_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    y = [0.9 - 4 / d**0.4 for d in np.geomspace(100, 1e4, 8)]
    for name, cells in (("share", y), ("percent", [100 * each for each in y]), ("sign", [f"{100 * e}%" for e in y])):
        rows = [f"{d},{cell}" for d, cell in zip(np.geomspace(100, 1e4, 8), cells, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["D,accuracy", *rows]) + "\n")
    words = ["--law", "ceiling", "--loss-column", "accuracy"]
    assert main(["fit", str(tmp_path / "percent.csv"), *words]) == 2
    error = capsys.readouterr().err
    assert re.search(r"row 1: accuracy is 26\.6\d*, and ceiling is a law of shares up to 1: per cent\? Divide", error)
    for name in ("share", "sign"):
        assert told(tmp_path, str(tmp_path / f"{name}.csv"), *words)["fits"][0]["params"]["E"]["value"] < 0.2


def test_small_amounts_of_tokens_are_doubted_where_they_are_all_that_a_law_reads(tmp_path: Path) -> None:
    for name, unit in (("billions", 1e9), ("plain", 1.0)):
        rows = [f"{d / unit},{1.7 + 40 / d**0.25}" for d in np.geomspace(1e8, 2e10, 6)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["D,loss", *rows]) + "\n")
    note = told(tmp_path, str(tmp_path / "billions.csv"), "--law", "power")["notes"]
    assert [each[:44] for each in note] == ["D is at most 20: in millions or billions? Th"]
    assert told(tmp_path, str(tmp_path / "billions.csv"), "--law", "rectified")["notes"] == []  # D may be examples
    assert told(tmp_path, str(tmp_path / "plain.csv"), "--law", "power")["notes"] == []


def test_a_zero_that_one_law_refuses_is_said_with_its_name_and_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{d},{0.8 + 6 / (1 + (d / 300) ** 0.5)}" for d in (0, 100, 200, 400, 800, 1600, 3200, 6400)]
    (tmp_path / "zero.csv").write_text("\n".join(["examples,loss", *rows]) + "\n")
    words = [str(tmp_path / "zero.csv"), "--law", "rectified", "--columns", "D=examples"]
    assert main(["fit", *words, "--law", "power"]) == 2
    assert "row 1: power needs D above 0, got 0; leave such rows out with --where 'D>0'" in capsys.readouterr().err
    assert len(told(tmp_path, *words, "--law", "power", "--where", "D>0")["fits"]) == 2
    assert told(tmp_path, *words)["fits"][0]["num_points"] == 8


@pytest.mark.parametrize(
    ("law", "columns", "what"),
    [
        ("mixture", {"w:a": [0.2, 0.5, 0.7], "w:b": [0.8, 0.5, 0.3]}, "mixtures: 3, and a fit needs 4 or more"),
        ("logistic", {"L": [3.0, 2.5, 2.2]}, "losses: 3, and a fit needs 5 or more"),
        ("power", {"D": [1e8, 1e9, 1e10]}, "sizes: 3, and a fit needs 4 or more"),
    ],
)
def test_of_too_few_points_it_is_said_what_is_too_few(
    law: str, columns: dict[str, list[float]], what: str, tmp_path: Path
) -> None:
    write_csv(
        tmp_path / "few.csv", {**{name: np.array(x) for name, x in columns.items()}, "y": np.array([3, 2.9, 2.8])}
    )
    fit = told(tmp_path, str(tmp_path / "few.csv"), "--law", law, "--loss-column", "y")["fits"][0]
    assert fit["status"] == "too_few_points"
    assert fit["why"].startswith(f"Too few different {what}")
