"""Fine-tuning from end to end: what it learns, what it says of it, what it leaves; broken off and gone on with."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bench import Bench, make_bench, summary
from lab import SpecMaker, wandb_files

import scaling.finetune.finetune as loop
from scaling.finetune.begin import begin
from scaling.finetune.export import read_trained
from scaling.finetune.finetune import best_measurement, evaluation_steps, learning_rate_factor
from scaling.finetune.predict import Trained
from scaling.identity import FINETUNE_VERSION
from scaling.record import Measurement, read_measurements
from scaling.train.preemption import PreemptedError, Stop
from scaling.train.recorder import DivergedError


@pytest.fixture(scope="module")
def bench(spec: SpecMaker, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    torch.set_num_threads(1)
    return make_bench(spec, shared_cache, tmp_path_factory.mktemp("bench"))


class Cut(Exception):
    """A process ends here."""


def cut_at(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, changes: Mapping[str, Any], name: str, function: str, count: int
) -> None:
    """Run until the `count`-th call of a function of the loop, and leave what a killed process leaves."""
    calls = 0
    original: Callable[..., Any] = getattr(loop, function)

    def called(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            raise Cut
        return original(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(loop, function, called)
        with pytest.raises(Cut):
            bench.run(bench.spec(changes), name)


def record(folder: Path) -> dict[str, Any]:
    """All that must not depend on how often a run was broken off."""
    files = [*sorted((folder / "model").iterdir()), folder / "scores.jsonl", folder / "predictions.jsonl"]
    found = {path.name: path.read_bytes() for path in files}
    not_of_it = ("phase/", "perf/", "seconds", "_")
    return found | {key: value for key, value in summary(folder).items() if not key.startswith(not_of_it)}


def test_a_fine_tuning_learns_its_task_and_says_all_of_it(bench: Bench) -> None:
    folder = bench.run(bench.spec(), "whole")
    status, found, log = bench.status("whole"), summary(folder), wandb_files(folder)[-1]
    assert status.state == "complete"
    assert status.scores["accuracy"] == found["task/mood/accuracy"]
    assert found["steps"] == 120
    assert found["examples"] == 960
    assert found["num_train_rows"] == 192
    assert found["task/mood/accuracy_lo"] <= found["task/mood/accuracy"] <= found["task/mood/accuracy_hi"]
    assert found["task/mood/accuracy"] > 0.9
    assert found["task/mood/num_items"] == 24
    assert found["parent/tokens"] == 8192
    assert found["parent/ledger/alpha/unique_tokens"] == 3072
    assert found["parent/loss/alpha"] == 5.5
    assert "parent/ledger/alpha/epochs" not in found
    assert found["baseline/tfidf_logreg/accuracy"] > 0.5
    assert log.config["results_version"] == FINETUNE_VERSION
    assert log.config["task_data"]["rows"]["train"] == 192
    rows = [row for row in log.history if "task/mood/validation/accuracy" in row]
    assert [row["examples"] for row in rows] == [320, 640, 960]
    assert max(row["task/mood/validation/accuracy"] for row in rows) == found["task/mood/validation/accuracy"]
    predicted = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert len(predicted) == 24
    assert len({row["id"] for row in predicted}) == 24
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize(
    "adaptation", [{"kind": "full"}, {"kind": "lora", "rank": 4}, {"kind": "adalora"}, {"kind": "adapter", "size": 4}]
)
def test_the_model_that_is_left_answers_as_it_was_measured(bench: Bench, adaptation: dict[str, Any]) -> None:
    spec = bench.spec({"method.adaptation": adaptation, "schedule.num_epochs": 1.0})
    folder = bench.run(spec, f"left-{adaptation['kind']}")
    module, kind = read_trained(spec, folder)
    opened = begin(spec, folder, bench.cache)
    model = Trained(module, torch.device("cpu"), torch.float32)
    answers = opened.answers(model, opened.test)
    said = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    found = [
        {"id": item.id, **kind.shown(item, answer)} for item, answer in zip(opened.test.items, answers, strict=True)
    ]
    assert [row["id"] for row in found] == [row["id"] for row in said]
    for one, other in zip(found, said, strict=True):
        for name, value in one.items():
            assert value == (pytest.approx(other[name], rel=1e-4) if isinstance(value, float | dict) else other[name])


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="full"),
        pytest.param({"method.adaptation": {"kind": "lora", "rank": 4}}, id="lora"),
        pytest.param({"method.adaptation": {"kind": "adalora"}, "method.dropout": 0.2}, id="adalora"),
        pytest.param({"method.adaptation": {"kind": "top_layers"}, "placement.micro_batch": 4}, id="top-micro"),
        pytest.param({"precision": "bf16"}, id="bf16"),
    ],
)
def test_a_run_that_is_broken_off_goes_on_to_the_same_bits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, changes: dict[str, Any]
) -> None:
    changes = {**changes, "placement.checkpoint_seconds": 0, "schedule.num_epochs": 3.0}
    name = request.node.callspec.id
    unbroken = bench.run(bench.spec(changes), f"unbroken-{name}")
    # at step 51, gone on from 40; then after the last measurement, gone on from 60; 24, 48, 72 are measured
    cut_at(monkeypatch, bench, changes, f"broken-{name}", "learning_rate_factor", 51)
    cut_at(monkeypatch, bench, changes, f"broken-{name}", "_measure", 1)
    broken = bench.run(bench.spec(changes), f"broken-{name}")
    assert record(broken) == record(unbroken)
    assert read_measurements(broken / "scores.jsonl", 100)[-1].step == 72


def test_a_run_that_is_asked_to_stop_keeps_where_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stop, changes = Stop(), {"schedule.num_epochs": 2.0}

    def after_step(module: object, method: object, done: int, total: int) -> None:
        stop.is_requested = stop.is_requested or done == 7

    with monkeypatch.context() as patch:
        patch.setattr(loop, "after_step", after_step)
        with pytest.raises(PreemptedError):
            bench.run(bench.spec(changes), "asked", stop)
    assert bench.status("asked").state == "preempted"
    assert [path.name for path in (bench.runs / "asked" / "checkpoints").iterdir()] == ["step-00000007"]
    with caplog.at_level("INFO", logger="scaling"):
        gone_on = bench.run(bench.spec(changes), "asked")
        assert "resumed at step 7 of 48, from the checkpoint step-00000007" in caplog.messages
        caplog.clear()
        assert record(gone_on) == record(bench.run(bench.spec(changes), "not-asked"))
        assert not any("resumed" in line for line in caplog.messages)


def test_early_stopping_keeps_the_best_and_stops_in_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation is made up: it is best at the second of six measurements."""
    told = iter([0.5, 0.7, 0.6, 0.7, 0.1, 0.1])
    seen: dict[int, dict[str, torch.Tensor]] = {}
    monkeypatch.setattr(loop, "values", lambda found: {"accuracy": next(told, 0.0)})
    original = loop.is_best

    def is_best(measurements: list[Measurement], metric: str) -> bool:
        seen[len(measurements)] = {}
        return original(measurements, metric)

    monkeypatch.setattr(loop, "is_best", is_best)
    changes = {"method.early_stopping": {"patience": 2}, "measuring.num_evaluations": 6, "schedule.num_epochs": 2.0}
    found = summary(bench.run(bench.spec(changes), "stopped"))
    assert list(seen) == [1, 2, 3, 4]
    assert found["best_step"] == 16
    assert found["steps"] == 32


def test_a_loss_that_is_no_number_ends_a_run_as_diverged(bench: Bench) -> None:
    with pytest.raises(DivergedError, match="sequences"):
        bench.run(bench.spec({"optimizer.learning_rate": 1e30, "optimizer.max_grad_norm": 1e30}), "lost")
    assert bench.status("lost").state == "diverged"


def test_a_run_without_its_parent_says_which_is_missing(bench: Bench) -> None:
    parent = bench.parent.model_copy(update={"seeds": bench.parent.seeds.model_copy(update={"init": 9})})
    with pytest.raises(ValueError, match=r"finetune.parent: wanted the complete run run-"):
        bench.run(bench.spec({"parent": parent.model_dump(mode="json")}), "orphan")
    assert bench.status("orphan").state == "failed"


def test_from_first_weights_no_parent_is_needed(bench: Bench) -> None:
    found = summary(bench.run(bench.spec({"start": "initial", "schedule.num_epochs": 1.0}), "initial"))
    assert found["state"] == "complete"
    assert found["parent/tokens"] == 0


def test_measurements_are_evenly_spaced_and_the_last_is_at_the_end(bench: Bench) -> None:
    assert evaluation_steps(bench.spec({"measuring.num_evaluations": 4}), 10) == {2, 5, 8, 10}
    assert evaluation_steps(bench.spec({"measuring.num_evaluations": 9}), 2) == {1, 2}


def test_the_learning_rate_rises_and_falls_to_nothing(bench: Bench) -> None:
    factors = [learning_rate_factor(bench.spec(), step, 20) for step in range(20)]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert factors[-1] == pytest.approx(1 / 18)
    assert all(before > after for before, after in itertools.pairwise(factors[2:]))


def test_what_is_no_number_is_never_the_best() -> None:
    measurements = [Measurement(step, step, {"pearson": value}) for step, value in enumerate([np.nan, -0.5, np.nan])]
    assert best_measurement(measurements, "pearson").step == 1


@pytest.mark.parametrize("start", ["pretrained", "initial"])
def test_each_seed_has_a_head_of_its_own(bench: Bench, start: str) -> None:
    def head(seed: int) -> torch.Tensor:
        opened = begin(bench.spec({"start": start, "seed": seed}), bench.runs / "heads", bench.cache)
        named = dict(opened.module().named_parameters())
        return next(value for name, value in named.items() if name.startswith("head") and value.ndim == 2).detach()

    assert torch.equal(head(0), head(0))
    assert not torch.equal(head(0), head(1))


def test_a_parent_whose_model_has_changed_is_refused_with_advice(spec: SpecMaker, cache: Path, tmp_path: Path) -> None:
    own = make_bench(spec, cache, tmp_path)
    (weights,) = own.runs.glob("*/model/model.safetensors")
    held = bytearray(weights.read_bytes())
    held[len(held) // 2] ^= 1
    weights.write_bytes(held)
    with pytest.raises(ValueError, match=r"damaged or changed; remove '.*', and the same command makes it again"):
        own.run(own.spec(), "child")
