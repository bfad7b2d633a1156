"""From a plan or from logs to what can be seen, and to a sweep that Hydra composes into the proposed runs."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from planted import RICH, demo_trees, spec, write_study

from analysis.__main__ import main
from analysis.page.answer import answer
from analysis.planning.plan import Plan, plan_of, read_plan
from analysis.planning.planned_run import own_tokens
from analysis.planning.sweep_file import sweep_yaml
from analysis.runs.logs import AnalysisError
from analysis.runs.points import build_study
from analysis.runs.records import read_runs
from analysis.sections.next_runs import section
from scaling.__main__ import compose_points
from scaling.config import Point
from scaling.identity import fingerprint
from scaling.plan import tokens_from_trunks, write_plan

Compose = Callable[..., list[Point]]
SWEEP = """# @package _global_
study: {name: tiny, question: "Which mixture?", target: a}
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      mixture.weights: "{a:0.7,b:0.3},{a:0.2,b:0.8}"
      budget.num_tokens: 100_000,200_000,400_000,800_000
      seed: 0,1,2
"""
CORPUS = ["corpus=own", *(f"+corpus.domains.{d}={{kind:local,path:{d}.jsonl}}" for d in "ab"), "budget.max_epochs=null"]


@pytest.fixture
def compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compose:
    """Composes sweeps of a folder with two domains and the sweep `tiny`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["scaling"])
    for domain in "ab":
        (tmp_path / f"{domain}.jsonl").write_text('{"text": "some words of a document"}\n', encoding="utf-8")
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "tiny.yaml").write_text(SWEEP, encoding="utf-8")
    return lambda *arguments: compose_points(list(arguments))


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["schedule=cosine", "filters=gopher", "degraders=ocr_noise"],
        ["quality=random", "dedup=near", "optimizer.learning_rate=3e-3", "seeds.subset=7", "model=mini"],
    ],
)
def test_the_proposed_sweep_composes_into_the_proposed_runs(
    compose: Compose, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that is not size, mixture and seed is as planned, so runs that were planned keep their fingerprints."""
    planned = [point.spec for point in compose("+sweeps=tiny", *CORPUS, *options)]
    write_plan(tmp_path / "plan.json", planned)
    argv = ["design", str(tmp_path), "--noise-sd", "0.005", "--out", "sweeps/next.yaml", "--json", "design.json"]
    assert main(argv) == 0
    assert "Stated: the loss of one run varies by 0.50 %" in capsys.readouterr().out
    found = json.loads(Path("design.json").read_text(encoding="utf-8"))
    wanted = {(r["recipe"], r["tokens"], tuple(sorted(r["seeds"].items()))) for r in found["next_runs"]["runs"]}
    made = [point.spec for point in compose("+sweeps=next")]
    assert len(made) == len(wanted)
    sizes = {(s.num_steps * s.batch.num_tokens, tuple(sorted(s.seeds.model_dump().items()))) for s in made}
    assert sizes == {(tokens, seeds) for _, tokens, seeds in wanted}
    known = {fingerprint(spec) for spec in planned}
    assert {fingerprint(s) for s in made if s.seeds.init <= 2} <= known  # budgets are whole batches of the same steps
    assert {tuple(s.recipe.mixture.weights.values()) for s in made} <= {(0.7, 0.3), (0.2, 0.8)}  # type: ignore[union-attr]


@pytest.mark.parametrize("options", [[], ["schedule=cosine"], ["hyperparameters=scaled"], ["order=length"]])
def test_a_plan_shares_trunks_as_training_does(compose: Compose, options: list[str], tmp_path: Path) -> None:
    specs = [point.spec for point in compose("+sweeps=tiny", *CORPUS, *options)]
    write_plan(tmp_path / "plan.json", specs)
    plan = plan_of(None, read_plan(tmp_path / "plan.json"))
    taken = sorted(run.num_tokens - own for run, own in zip(plan.runs, own_tokens(plan.runs), strict=True))
    assert taken == sorted(tokens_from_trunks(specs))


def logged(tmp_path: Path, **how: Any) -> Path:
    return write_study(tmp_path / "runs", demo_trees(), **how)


def test_logged_runs_tell_the_floor_and_what_to_run_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = logged(tmp_path, seed_sd=0.006, point_sd=0.003)
    argv = ["design", str(runs), "--question", "multiplier", "--budget", "1e13", "--json", str(tmp_path / "d.json")]
    assert main(argv) == 0
    assert "Measured: the loss of one run varies by" in capsys.readouterr().out
    found = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
    assert found["noise_floor"]["sd"] == pytest.approx(math.hypot(0.006, 0.003), rel=0.6)  # four degrees of freedom
    proposed = found["next_runs"]
    assert proposed["flops"] <= 1e13
    assert proposed["after"]["half_width"] < proposed["before"]["half_width"]
    there = {(run.recipe, run.num_tokens, run.seeds) for run in plan_of(build_study(read_runs([str(runs)]))).runs}
    assert not {(r["recipe"], r["tokens"], tuple(sorted(r["seeds"].items()))) for r in proposed["runs"]} & there


def test_the_report_proposes_runs_for_its_own_question(tmp_path: Path) -> None:
    study = build_study(read_runs([str(logged(tmp_path))]))
    shown = section(study, answer(study))
    assert shown is not None
    assert {table.name for table in shown.tables} == {"forecasts", "next_runs"}
    assert all(isinstance(row[-1], int) for row in shown.tables[0].rows)  # degrees of freedom
    assert "`" not in " ".join(shown.paragraphs)
    assert len(re.findall(r"\d\.\d+e\+\d\d FLOPs", " ".join((*shown.paragraphs, *shown.points)))) == 2
    facts: Any = shown.facts
    assert facts["forecasts"][0]["kind"] == "gap"
    assert facts["next_runs"]["after"]["half_width"] < facts["next_runs"]["before"]["half_width"]


def test_the_report_of_single_seeds_asks_for_repeats_first(tmp_path: Path) -> None:
    study = build_study(read_runs([str(write_study(tmp_path / "runs", demo_trees(num_seeds=1)))]))
    shown = section(study, answer(study))
    assert shown is not None
    assert shown.paragraphs[0].startswith("Repeat a seed of pretraining first")
    assert not shown.tables


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--noise-sd", "0"], "--noise-sd must be above 0"),
        (["--noise-sd", "0.01", "--trunk-share", "2"], "--trunk-share must be from 0 to 1, got 2"),
        (["--noise-sd", "0.01", "--a", "nobody"], "no recipe 'nobody'"),
        (["--noise-sd", "0.01", "--half-width", "-1"], "half-width of a gap must be above 0, got -1"),
        (["--noise-sd", "0.01", "--question", "multiplier", "--half-width", "0.9"], "must be above 1, got 0.9"),
        (["--noise-sd", "0.01", "--half-width", "0.1", "--budget", "1e9"], "not both"),
        (["--noise-sd", "0.01", "--sizes", "1"], "tokens) at least, got 1"),
        (["--noise-sd", "0.01", "--assume", "E=1,B=-2,beta=1"], "--assume must be"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["design", str(logged(tmp_path)), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize("option", ["--at", "--sizes"])
def test_a_number_of_tokens_that_is_none_is_said_to_be(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["design", "runs", option, "3x"])
    assert f"{option}: wanted a number of tokens, got '3x'" in capsys.readouterr().err


def test_without_a_noise_floor_or_a_plan_it_says_what_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = write_study(tmp_path / "runs", demo_trees(num_seeds=1))
    assert main(["design", str(single)]) == 2
    assert "--noise-sd 0.005" in capsys.readouterr().err
    assert main(["design", str(tmp_path)]) == 2
    (tmp_path / "plan.json").write_text('{"schema": 1, "runs": [{"name": 3}]}', encoding="utf-8")
    assert main(["design", str(tmp_path / "plan.json"), "--noise-sd", "0.01"]) == 2
    assert "runs[0].name" in capsys.readouterr().err


def test_hostile_text_is_inert_in_a_sweep(tmp_path: Path) -> None:
    """Neither an interpolation, nor a line of its own, nor a key of Hydra's language comes out of a log."""
    evil = "x ${oc.env:HOME} \\${oc.env:HOME}\nhydra: {run: {dir: /}}"
    trees = [spec(size, 0, RICH) for size in (62_500, 125_000)]
    for tree in trees:
        tree["study"] = {**tree["study"], "question": evil}
        tree["recipe"]["corpus"]["domains"]["docs"]["part"] = evil
    study = build_study(read_runs([str(write_study(tmp_path / "runs", trees))]))
    plan: Plan = plan_of(study)
    text = sweep_yaml(plan, [run.at(run.num_tokens, (("init", 9), ("order", 9), ("subset", 0))) for run in plan.runs])
    assert set(yaml.safe_load(text)["hydra"]) == {"mode", "sweeper"}
    config = OmegaConf.create(yaml.safe_load(text))
    assert config.study.question == evil
    assert config.point.same.corpus.domains.docs.part == evil


def test_a_seed_with_an_odd_name_is_refused(tmp_path: Path) -> None:
    study = build_study(read_runs([str(logged(tmp_path))]))
    plan = plan_of(study)
    with pytest.raises(AnalysisError, match="no name that a sweep can hold"):
        sweep_yaml(plan, [plan.runs[0].at(125_000, (("a: 1}, hydra", 0),))])
