"""`contrast`: what the command line says, writes and refuses."""

from __future__ import annotations

import csv
import json
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
    assert "At 8M tokens: 80 % docs / 20 % code is better." in said
    told = json.loads(out.read_text())
    assert (told["decision"], told["refused"], told["tokens"]) == ("a_better", None, SIZES[-1])
    assert told["multiplier"]["lo"] < TRUE_M < told["multiplier"]["hi"]
    assert told["probability_a_better"] > 0.99
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
