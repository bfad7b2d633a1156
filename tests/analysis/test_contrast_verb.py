"""`contrast`: what the command line says, writes and refuses."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from planted import POOR, RICH, SIZES, demo_trees, mixture_law, spec, write_study

from analysis.__main__ import main

TRUE_M = mixture_law(RICH, "docs").B ** -4 / mixture_law(POOR, "docs").B ** -4


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("runs"), demo_trees())


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recipes at 4 model sizes x 5 budgets, under names of their own."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("table") / "published.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["corpus", "size", "budget", "nll"])
        for name, worth in (("=cmd|' /C calc'!A0", 1.5), ("plain", 1.0)):
            for N in np.geomspace(1e7, 1e9, 4):
                for D in np.geomspace(1e9, 1e11, 5):
                    loss = (1.7 + 400 / N**0.34 + 600 / (worth * D) ** 0.29) * np.exp(rng.normal(0, 0.002))
                    writer.writerow([name, int(N), int(D), loss])
    return path


MAPPED = ["--columns", "N=size,D=budget", "--group", "corpus", "--loss-column", "nll"]


def test_two_recipes_of_our_runs_are_compared(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "contrast.json"
    code = main(["contrast", str(runs), "--a", "80 % docs", "--b", "20 % docs", "--at", "D=8e6", "--json", str(out)])
    said = capsys.readouterr().out
    assert code == 0
    assert said.startswith(
        "80 % docs / 20 % code is better on docs: it reaches the loss that 20 % docs / 80 % code has"
    )
    assert "At 8M tokens: 80 % docs / 20 % code is better: it reaches the loss that 20 % docs / 80 % code has" in said
    assert "That is 4.0 times the largest size that both have" in said
    assert "at 8M tokens 80 % docs / 20 % code would see docs 4.0 times, of which its runs saw at most 1.0" in said
    told = json.loads(out.read_text())
    assert (told["decision"], told["refused"], told["tokens"]) == ("a_better", None, SIZES[-1])
    assert told["multiplier"]["lo"] < TRUE_M < told["multiplier"]["hi"]
    assert told["probability_a_better"] > 0.99
    assert told["unit"] == "nats per token"
    assert told["forecasts"][0]["times_largest"] == 4


def test_the_runs_and_their_points_as_a_table_say_the_same(runs: Path, tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    assert main(["points", str(runs), "--out", str(points)]) == 0
    told = []
    for place, more in ((runs, []), (points, ["--domain", "docs"])):
        out = tmp_path / "out.json"
        pair = ["--a", "80 % docs", "--b", "20 % docs"]
        assert main(["contrast", str(place), *pair, *more, "--json", str(out)]) == 0
        told.append(json.loads(out.read_text()))
    by_runs, by_table = told
    assert by_runs["decision"] == by_table["decision"] == "a_better"
    assert by_table["gap"]["value"] == pytest.approx(by_runs["gap"]["value"], rel=0.05)
    assert by_table["multiplier"]["value"] == pytest.approx(by_runs["multiplier"]["value"], rel=0.05)
    assert by_table["multiplier"]["lo"] < TRUE_M < by_table["multiplier"]["hi"]


def test_runs_of_others_are_compared_at_equal_model_size(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "contrast.json"
    asked = ["--a", "=cmd", "--b", "plain", "--at", "D=4e11", "--at", "D=1e13,N=1e9", "--json", str(out)]
    assert main(["contrast", str(table), *asked, *MAPPED]) == 0
    said = capsys.readouterr().out
    assert said.startswith("At N = 1B in both: ")
    assert "The target is more than 8 times the largest size that both have." in said
    told = json.loads(out.read_text())
    assert told["num_params"] == 1e9
    assert told["multiplier"]["lo"] < 1.5 < told["multiplier"]["hi"]
    assert [one["reason"] for one in told["forecasts"]] == [None, "beyond_reach"]


def test_an_unmatched_pair_is_refused_with_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ({}, {"budget__unique_tokens": 250_000})
    write_study(tmp_path, [spec(D, s, **change) for change in changes for s in range(2) for D in SIZES[-2:]])
    out = tmp_path / "out.json"
    asked = ["--a", "250k", "--b", "unlimited", "--match", "unique_tokens", "--json", str(out)]
    assert main(["contrast", str(tmp_path), *asked]) == 2
    assert "not matched in unique_tokens: 250k against 1M at 1M tokens" in capsys.readouterr().err
    told = json.loads(out.read_text())
    assert (told["decision"], told["gap"]) == (None, None)
    assert told["refused"].startswith("not matched in unique_tokens")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--a", "80 % docs", "--b", "no such"], "--b 'no such' must be one of: "),
        (["--a", "docs", "--b", "20 % docs"], "--a 'docs' is part of 2 names: "),
        (["--a", "80 % docs", "--b", "80 % docs"], "--a and --b must be two recipes"),
        (["--a", "80 % docs", "--b", "20 % docs", "--at", "D=-1"], "--at must be D=TOKENS"),
        (["--a", "80 % docs", "--b", "20 % docs", "--at", "N=1e6"], "--at needs D"),
        (["--a", "80 % docs", "--b", "20 % docs", "--at", "D=1e6,N=5"], "--at N must be the size of the recipes"),
        (["--a", "80 % docs", "--b", "20 % docs", "--domain", "law"], "--domain must be one of docs, code"),
        (["--a", "80 % docs", "--b", "20 % docs", "--group", "x"], "--group is for a table"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str], asked: list[str], said: str
) -> None:
    assert main(["contrast", str(runs), *asked]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_table_without_what_is_needed_says_what_it_has(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = ["--a", "x", "--b", "y"]
    assert main(["contrast", str(table), *pair]) == 2
    assert "no column for D" in capsys.readouterr().err
    assert main(["contrast", str(table), *pair, "--columns", "D=budget", "--loss-column", "nll"]) == 2
    assert "no column tells recipes apart; name it with --group" in capsys.readouterr().err
    assert main(["contrast", str(table), *pair, "--columns", "D"]) == 2
    assert "--columns must be LETTER=COLUMN" in capsys.readouterr().err


def two_recipes(path: Path, column: str = "loss", scale: float = 1.0, unit: float = 1.0, bend: float = 0.0) -> Path:
    """Two recipes at 8 D x 3 seeds; a token of b is worth 0.7 of a's, and b falls by `bend` faster. unit: of D."""
    rng = np.random.default_rng(0)
    lines = [f"recipe,seed,D,{column}"]
    for name, worth, beta in (("a", 1.0, 0.3), ("b", 0.7, 0.3 + bend)):
        for seed in range(3):
            for D in 1e8 * 2.0 ** np.arange(8):
                loss = 1.7 + 2 * (worth * D / 4e8) ** -beta
                lines.append(f"{name},{seed},{D / unit},{scale * loss * np.exp(rng.normal(0, 0.002))}")
    path.write_text("\n".join(lines) + "\n")
    return path


def said_of(path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The lines that `contrast` prints of recipes a and b."""
    assert main(["contrast", str(path), "--a", "a", "--b", "b", *words]) == 0
    return capsys.readouterr().out.splitlines()


def checkpoints(path: Path, seed: int, column: str, steps: np.ndarray) -> Path:
    """Points of 3 trainings of each of two equal recipes, which share the noise of their training."""
    rng = np.random.default_rng(seed)
    lines = [f"recipe,N,{column},D,model,row,loss"]
    for name in "ab":
        for N in (7e7, 1.6e8, 4.1e8):
            off = rng.normal(0, 0.004)
            for step in steps:
                D = step * 1e9
                loss = (1.7 + 400 / N**0.34 + 1500 / D**0.36) * np.exp(off + rng.normal(0, 0.002))
                lines.append(f"{name},{N},{step},{D},{name}{N:.0f},{len(lines)},{loss}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("column", "steps", "why"),
    [
        ("step", np.geomspace(1, 20, 12).round(2), "the column step looks like checkpoints of a few runs"),
        ("note", np.arange(1.0, 21.0), "equal steps of D look like checkpoints of a few runs"),
    ],
)
def test_checkpoints_of_runs_that_nothing_names_decide_nothing(
    column: str, steps: np.ndarray, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(4):  # taken for runs of their own, 22 of 30 such tables are decided
        path = checkpoints(tmp_path / "rows.csv", seed, column, steps)
        lines = said_of(path, capsys, "--at", "D=4e10")
        assert "Cannot tell whether a or b is better" in lines[0]
        assert any(line.startswith("At N = 410M, D = 40B tokens: cannot tell. Rows that look like") for line in lines)
        assert any(line.startswith(f"Note: {why}") and "--cluster COLUMN" in line for line in lines)
    for cluster in ("model", "row"):  # runs, or each row a run of its own: then laws are compared
        lines = said_of(path, capsys, "--cluster", cluster)
        assert not any("checkpoints" in line for line in lines)
        assert any(line.startswith("The probability that a has the lower loss") for line in lines)


@pytest.mark.parametrize(("column", "unit"), [("wiki_bits_per_byte", "wiki_bits_per_byte"), ("nll", "nats per token")])
def test_a_gap_is_said_in_the_unit_of_its_column(
    column: str, unit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = two_recipes(tmp_path / "two.csv", column)
    lines = said_of(path, capsys, "--loss-column", column, "--at", "D=2e10", "--json", str(tmp_path / "out.json"))
    assert lines[0].startswith(f"a is better on {column}: ")
    assert sum(f"{unit} lower" in line for line in lines) == 2
    assert any(line.startswith("Note: measured there: a gap of -0.") and line.endswith(f" {unit}.") for line in lines)
    assert json.loads((tmp_path / "out.json").read_text())["unit"] == unit
    assert unit == "nats per token" or not any("nats" in line for line in lines)


def test_a_contrast_doubts_the_units_of_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = two_recipes(tmp_path / "two.csv", "ppl", unit=1e9)
    notes = [line for line in said_of(path, capsys, "--loss-column", "ppl") if line.startswith("Note: ")]
    assert any("D is at most 12.8: in millions or billions?" in note for note in notes)
    assert any("ppl is exp(loss)" in note for note in notes)
    good = said_of(two_recipes(tmp_path / "good.csv"), capsys)
    assert [line[:20] for line in good if line.startswith("Note: ")] == ["Note: measured there"]


@pytest.mark.parametrize("column", ["accuracy", "mmlu_acc", "eval/macro_f1", "exact_match", "rougeL", "pass@1"])
def test_a_metric_that_rises_is_no_loss(column: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = two_recipes(tmp_path / "two.csv", column)
    assert main(["contrast", str(path), "--a", "a", "--b", "b", "--loss-column", column]) == 2
    error = capsys.readouterr().err
    assert f"{column} is a metric that rises" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("column", ["error_rate", "1-accuracy", "acc_loss", "macro", "system"])
def test_what_falls_is_a_loss_whatever_its_name_has(
    column: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said_of(two_recipes(tmp_path / "two.csv", column), capsys, "--loss-column", column)
    assert lines[0].startswith(f"a is better on {column}")


def test_small_losses_are_not_rounded_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said_of(two_recipes(tmp_path / "two.csv", scale=1e-7), capsys, "--at", "D=2e10")
    assert not any("0.0000" in line for line in lines)
    assert sum(bool(re.search(r"its loss is [1-9.]+e-\d+ \(\S+e-\d+ to \S+e-\d+\) nats", line)) for line in lines) == 2


def test_a_budget_is_told_as_seen_from_the_recipe_that_is_better_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = two_recipes(tmp_path / "two.csv", bend=0.1)
    lines = said_of(path, capsys, "--at", "D=1e8", "--at", "D=5e10", "--json", str(tmp_path / "out.json"))
    early, late = json.loads((tmp_path / "out.json").read_text())["forecasts"]
    assert (early["decision"], late["decision"]) == ("a_better", "b_better")
    told = [line for line in lines if line.startswith("At ")]
    for line, first, other, times in (
        (told[0], "a", "b", early["multiplier"]["value"]),
        (told[1], "b", "a", 1 / late["multiplier"]["value"]),
    ):
        assert times > 1
        assert f"tokens: {first} is better: it reaches the loss that {other} has" in line
        assert f"with {times:.2f} times fewer tokens" in line
