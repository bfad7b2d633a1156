from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, cast

import pytest
from lab import Lab, SpecMaker, wandb_files
from pydantic import ValidationError

from analysis.runs.points import build_study
from analysis.runs.records import read_runs
from scaling.spec import RunSpec
from scaling.train.schedule import ScheduleError, audit, branch_step, learning_rate_factor

WSD = {"kind": "wsd", "warmup_tokens": 9 * 128, "decay_frac": 0.25}
COSINE = {"kind": "cosine", "warmup_tokens": 9 * 128, "final_frac": 0.2}


def test_warmup_rises_in_equal_steps_to_the_peak(spec: SpecMaker) -> None:
    for schedule in (WSD, COSINE):
        run = spec({"schedule": schedule, "budget.num_tokens": 10_000 * 128})
        factors = [learning_rate_factor(run, step) for step in range(9)]
        assert factors == pytest.approx([(step + 1) / 10 for step in range(9)], rel=1e-4)
        assert learning_rate_factor(run, 9) == pytest.approx(1, rel=1e-4)


def test_wsd_is_constant_up_to_the_branch_and_reaches_zero_one_step_after_the_last(spec: SpecMaker) -> None:
    run = spec({"schedule": WSD})
    assert (run.num_steps, branch_step(run)) == (64, 48)
    assert {learning_rate_factor(run, step) for step in range(9, 49)} == {1.0}
    decay = [learning_rate_factor(run, step) for step in range(48, 64)]
    assert decay == pytest.approx([1 - i / 16 for i in range(16)])
    assert learning_rate_factor(run, 64) == 0


@pytest.mark.parametrize(("decay_frac", "first"), [(1.0, 0), (0.5, 32), (0.04, 61)])
def test_wsd_decays_over_its_share_of_the_budget(spec: SpecMaker, decay_frac: float, first: int) -> None:
    assert branch_step(spec({"schedule.decay_frac": decay_frac})) == first


def test_two_budgets_have_the_same_factors_up_to_the_smaller_ones_branch(spec: SpecMaker) -> None:
    small, large = spec({"schedule": WSD}), spec({"schedule": WSD, "budget.num_tokens": 300 * 128})
    shared = range(branch_step(small) + 1)  # the first step of the decay still has the peak
    assert [learning_rate_factor(small, i) for i in shared] == [learning_rate_factor(large, i) for i in shared]
    assert branch_step(small) < branch_step(large)


def test_cosine_ends_at_its_final_share_and_is_half_way_in_the_middle(spec: SpecMaker) -> None:
    run = spec({"schedule": COSINE, "budget.num_tokens": 109 * 128})
    assert learning_rate_factor(run, 108) == pytest.approx(0.2)
    assert learning_rate_factor(run, 58) == pytest.approx(0.2 + 0.8 * 0.5)
    assert learning_rate_factor(run, 33) == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert branch_step(run) == 0


def test_a_warmup_as_long_as_the_budget_never_passes_the_peak(spec: SpecMaker) -> None:
    for schedule in (WSD, COSINE):
        run = spec({"schedule": {**schedule, "warmup_tokens": 63 * 128}})
        assert all(0 < learning_rate_factor(run, step) <= 1 for step in range(run.num_steps))


def audited(run: RunSpec, last_step: int) -> dict[str, float]:
    """The audit of a run that stopped after `last_step`, counted from 0."""
    learning_rate = run.optimizer.learning_rate * learning_rate_factor(run, last_step)
    return audit(run, (last_step + 1) * run.batch.num_tokens, learning_rate)


@pytest.mark.parametrize("decay_frac", [0.03, 0.2, 1.0])
@pytest.mark.parametrize("warmup_tokens", [0, 9 * 128, 63 * 128])
def test_a_linear_decay_that_ends_with_the_budget_passes_the_audit(
    spec: SpecMaker, decay_frac: float, warmup_tokens: int
) -> None:
    run = spec({"schedule": {"kind": "wsd", "warmup_tokens": warmup_tokens, "decay_frac": decay_frac}})
    assert audited(run, 63)["schedule/ends_at_tokens"] == 64 * 128


@pytest.mark.parametrize("final_frac", [0.0, 0.1, 1.0])
def test_a_cosine_that_ends_with_the_budget_passes_the_audit(spec: SpecMaker, final_frac: float) -> None:
    run = spec({"schedule": {**COSINE, "final_frac": final_frac}, "budget.num_tokens": 64 * 128 + 127})
    assert audited(run, 63) == {
        "schedule/ends_at_tokens": 64 * 128,
        "schedule/final_lr_frac": pytest.approx(final_frac, abs=1e-9),
    }


@pytest.mark.parametrize("schedule", [WSD, COSINE], ids=["wsd", "cosine"])
@pytest.mark.parametrize("last_step", [30, 62, 70])
def test_a_run_that_stops_before_or_after_the_end_of_its_schedule_fails_the_audit(
    spec: SpecMaker, schedule: dict[str, object], last_step: int
) -> None:
    run = spec({"schedule": schedule})
    tokens = (last_step + 1) * 128
    with pytest.raises(ScheduleError, match=f"schedule ends at 8192 tokens, training ended at {tokens}") as caught:
        audited(run, last_step)
    assert caught.value.facts["schedule/ends_at_tokens"] == 8192


@pytest.mark.parametrize("schedule", [WSD, COSINE], ids=["wsd", "cosine"])
def test_a_learning_rate_that_is_not_that_of_the_end_fails_the_audit_with_both(
    spec: SpecMaker, schedule: dict[str, object]
) -> None:
    """As if the schedule of a larger budget had been followed, or the last step been left out."""
    run, longer = spec({"schedule": schedule}), spec({"schedule": schedule, "budget.num_tokens": 128 * 128})
    for wrong in (longer, run):
        factor = learning_rate_factor(wrong, 63 if wrong is longer else 62)
        with pytest.raises(ScheduleError, match=r"last step was .* of its peak, wanted") as caught:
            audit(run, 64 * 128, run.optimizer.learning_rate * factor)
        assert caught.value.facts["schedule/final_lr_frac"] == pytest.approx(factor)


def test_a_schedule_without_a_decay_is_refused(spec: SpecMaker) -> None:
    with pytest.raises(ValidationError, match=r"warmup_tokens must leave a part of the 8192 tokens .* got 8192"):
        spec({"schedule": {**WSD, "warmup_tokens": 64 * 128}})
    with pytest.raises(ValidationError, match=r"decay_frac must hold at least 2 of the 64 steps, .* got 0\.01"):
        spec({"schedule": {**WSD, "decay_frac": 0.01}})


def test_a_cosine_that_would_still_be_in_its_warmup_is_refused(spec: SpecMaker) -> None:
    assert audited(spec({"schedule": {**COSINE, "warmup_tokens": 63 * 128}}), 63)["schedule/final_lr_frac"] == 0.2
    with pytest.raises(ValidationError, match=r"warmup_tokens must leave a part of the 8192 tokens .* got 8192"):
        spec({"schedule": {**COSINE, "warmup_tokens": 64 * 128}})


@dataclass(frozen=True)
class NoDecay:
    """A forkserver whose runs never let the learning rate decay."""

    context: ForkServerContext

    def Process(self, target: Callable[..., None], args: tuple[Any, ...], name: str) -> ForkServerProcess:
        return self.context.Process(target=without_decay, args=(target, *args), name=name)


def without_decay(target: Callable[..., None], *args: Any) -> None:
    """The body of a run whose learning rate stays at its peak."""
    import scaling.train.pretrain as module

    module.learning_rate_factor = lambda spec, step: 1.0
    target(*args)


def test_the_audit_is_in_the_record_and_a_run_that_does_not_decay_fails(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    run = spec({"schedule": WSD})
    lab.complete(run, tmp_path / "run")
    summary = wandb_files(tmp_path / "run")[-1].summary
    assert summary["state"] == "complete"
    assert summary["schedule/ends_at_tokens"] == 64 * 128
    assert summary["schedule/final_lr_frac"] == pytest.approx(1 / 16)

    sabotaged = Lab(cast("ForkServerContext", NoDecay(lab.context)), lab.cache)
    status = sabotaged.train(spec({"schedule": WSD, "seeds.order": 1}), tmp_path / "bad")
    assert status.state == "failed"
    assert "last step was 1 of its peak, wanted 0.0625" in str(status.error)
    summary = wandb_files(tmp_path / "bad")[-1].summary
    assert (summary["state"], summary["schedule/final_lr_frac"]) == ("failed", 1.0)
    assert run_is_left_out(tmp_path)


def run_is_left_out(folder: Path) -> bool:
    """Whether the analysis uses the good run of two and not the other."""
    found = build_study(read_runs([str(folder)]))
    return len(found.runs) == 2 and len({point.run for point in found.points}) == 1
