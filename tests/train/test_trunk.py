"""Runs that differ only in budget train their stable phase once."""

from __future__ import annotations

import os
import signal
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from lab import Lab, SpecMaker, points, wait_for, wandb_files
from test_resume import assert_same_bits

from scaling.plan import tokens_from_trunks, tokens_to_train
from scaling.spec import RunSpec
from scaling.status import read_status
from scaling.study import run_study
from scaling.train.preemption import EXIT_CODE
from scaling.train.schedule import branch_step
from scaling.train.trunk import Trunk, numerics

SMALL = {"evaluation.every_tokens": None, "budget.num_tokens": 60 * 128}
LARGE = {"evaluation.every_tokens": None, "budget.num_tokens": 120 * 128}


@pytest.mark.parametrize(
    ("changes", "of_trunk"),
    [
        pytest.param({}, {}, id="stage0"),
        pytest.param({"zero.stage": 3, "placement.engine": "deepspeed"}, {}, id="stage3"),
        pytest.param({"objective.kind": "mlm"}, {}, id="mlm"),
        pytest.param({}, {"zero.stage": 1}, id="stage0-of-stage1"),
    ],
)
def test_a_branch_equals_the_direct_run_bit_for_bit(
    lab: Lab, spec: SpecMaker, tmp_path: Path, changes: dict[str, Any], of_trunk: dict[str, Any]
) -> None:
    small, large = spec({**SMALL, **changes, **of_trunk}), spec({**LARGE, **changes})
    direct = lab.train(large, tmp_path / "direct")
    assert (direct.state, direct.trunk_tokens) == ("complete", 0)
    others = lab.with_no_trunks(tmp_path)
    assert others.train(small, tmp_path / "small").trunk_tokens == 0
    branch = others.train(large, tmp_path / "branch")
    assert (branch.state, branch.trunk_tokens) == ("complete", branch_step(small) * 128)
    assert branch.trunk_tokens == tokens_from_trunks([small, large])[1]
    assert_same_bits(tmp_path / "direct", tmp_path / "branch")
    summaries = [wandb_files(tmp_path / name)[0].summary for name in ("direct", "branch")]
    assert [summary["trunk/start_tokens"] for summary in summaries] == [0, branch.trunk_tokens]
    same = {key for key in summaries[0] if key.startswith(("ledger/", "flops", "trunk/key"))}
    assert len(same) > 10
    assert {key: summaries[0][key] for key in same} == {key: summaries[1][key] for key in same}


def test_a_branch_that_is_killed_goes_on_and_still_tells_what_it_took(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    often = {"placement.checkpoint_seconds": 0}
    lab.complete(spec(SMALL), tmp_path / "small")
    lab.kill_after_checkpoint(spec({**LARGE, **often}), tmp_path / "branch", count=4)  # the trunk ends at step 45
    status = lab.train(spec({**LARGE, **often}), tmp_path / "branch")
    assert (status.state, status.trunk_tokens) == ("complete", 45 * 128)
    lab.with_no_trunks(tmp_path).complete(spec(LARGE), tmp_path / "direct")
    assert_same_bits(tmp_path / "direct", tmp_path / "branch")


def test_another_recipe_seed_rate_or_placement_takes_no_trunk(
    lab: Lab, spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.complete(spec(SMALL), tmp_path / "small")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # as in the run

    def taken(changes: dict[str, Any]) -> int | None:
        large = spec({**LARGE, **changes})
        state = Trunk(large, lab.cache).take(large.num_steps)
        return None if state is None else state.step

    assert taken({}) == taken({"zero.stage": 1}) == 45  # nothing is shared out: plain torch under either
    assert taken({"schedule.decay_frac": 0.5}) == 45
    assert taken({"schedule.decay_frac": 0.9}) is None
    assert taken({"evaluation.max_tokens": 10, "name": "other", "study.name": "other"}) == 45
    for change in (
        {"seeds.order": 1},
        {"seeds.init": 1},
        {"seeds.subset": 1},
        {"optimizer.learning_rate": 2e-2},
        {"recipe.mixture.weights": {"alpha": 0.5, "beta": 0.5}},
        {"schedule.warmup_tokens": 1024},
        {"budget.unique_tokens": 20_000},
        {"placement.engine": "deepspeed"},
        {"placement.micro_batch": 2},
        {"placement.ranks": 2},
        {"schedule": {"kind": "cosine", "warmup_tokens": 512}},
    ):
        assert taken(change) is None, change
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert taken({}) is None


def test_under_deepspeed_the_stage_is_of_the_address_and_how_it_was_asked_for_is_not(spec: SpecMaker) -> None:
    by_stage = [numerics(spec({"zero.stage": stage, "placement.engine": "deepspeed"})) for stage in range(4)]
    assert len(set(by_stage)) == 4
    offload = {"zero.stage": 2, "zero.offload_optimizer": {"device": "cpu"}}
    assert numerics(spec(offload)) == numerics(spec({**offload, "placement.engine": "deepspeed"}))


def test_a_smaller_run_takes_nothing_from_the_trunk_of_a_larger_one(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    lab.complete(spec(LARGE), tmp_path / "large")
    assert lab.train(spec(SMALL), tmp_path / "small").trunk_tokens == 0


def test_a_run_that_went_on_under_another_placement_leaves_no_trunk(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    """Its state is equal to a direct run's to float tolerance only, and a branch promises equal bits."""
    often = {**LARGE, "placement.checkpoint_seconds": 0}
    lab.kill_after_checkpoint(spec({**often, "placement.engine": "deepspeed"}), tmp_path / "large")
    lab.complete(spec(often), tmp_path / "large")
    longer = spec({**LARGE, "budget.num_tokens": 140 * 128})
    assert lab.train(longer, tmp_path / "longer").trunk_tokens == 0


# ---- several runs of one trunk at the same time ------------------------------------------------------

LOOP = "scaling.train.pretrain"


def held(lab: Lab, run: RunSpec, run_dir: Path, step: int) -> ForkServerProcess:
    """A run that stands still before `step`, until it gets SIGCONT."""
    process = lab.trap(LOOP, "learning_rate_factor", count=step + 1, signal=signal.SIGSTOP).start(run, run_dir)
    wait_for(lambda: " T " in Path(f"/proc/{process.pid}/stat").read_text(), process)
    return process


def waiting(lab: Lab, run: RunSpec, run_dir: Path) -> ForkServerProcess:
    """A run that waits for its trunk, and says so."""
    process = lab.start(run, run_dir)
    wait_for(lambda: read_status(run_dir).note == "waits for a run that trains the same trunk", process)
    assert read_status(run_dir).state == "running"
    return process


def ended(*processes: ForkServerProcess) -> None:
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def test_a_run_that_waits_gets_its_state_from_a_larger_one_that_comes_by(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    large = held(lab, spec(LARGE), tmp_path / "large", step=30)
    small = waiting(lab, spec(SMALL), tmp_path / "small")
    os.kill(large.pid, signal.SIGCONT)
    ended(large, small)
    assert [read_status(tmp_path / name).trunk_tokens for name in ("large", "small")] == [0, 45 * 128]
    assert read_status(tmp_path / "small").note is None
    alone = lab.with_no_trunks(tmp_path)
    for name, run in {"small": spec(SMALL), "large": spec(LARGE)}.items():
        alone.complete(run, tmp_path / "alone" / name)
        assert_same_bits(tmp_path / name, tmp_path / "alone" / name)


def test_a_larger_run_that_waits_goes_on_where_a_smaller_one_leaves_the_trunk(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    small = held(lab, spec(SMALL), tmp_path / "small", step=20)
    large = waiting(lab, spec(LARGE), tmp_path / "large")
    os.kill(small.pid, signal.SIGCONT)
    ended(small, large)
    assert [read_status(tmp_path / name).trunk_tokens for name in ("small", "large")] == [0, 45 * 128]


def test_when_the_run_that_trains_the_trunk_is_killed_one_that_waits_takes_over(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    first = held(lab, spec(LARGE), tmp_path / "first", step=30)
    second = waiting(lab, spec(SMALL), tmp_path / "second")
    first.kill()
    ended(second)
    assert read_status(tmp_path / "second").trunk_tokens == 0
    assert lab.train(spec(LARGE), tmp_path / "first").trunk_tokens == 45 * 128


def test_a_run_that_asks_too_late_trains_by_itself_and_nobody_waits_for_ever(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    large = held(lab, spec(LARGE), tmp_path / "large", step=50)
    small = waiting(lab, spec(SMALL), tmp_path / "small")
    os.kill(large.pid, signal.SIGCONT)
    ended(large, small)
    assert [read_status(tmp_path / name).trunk_tokens for name in ("large", "small")] == [0, 0]


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_waits_for_its_trunk_can_be_preempted(lab: Lab, spec: SpecMaker, tmp_path: Path, ranks: int) -> None:
    placed = {"placement.ranks": ranks}
    if ranks == 1:
        first = held(lab, spec({**LARGE, **placed}), tmp_path / "first", step=30)
    else:  # the agent would stand still, not its ranks
        first = lab.start(spec({**LARGE, **placed, "budget.num_tokens": 4000 * 128}), tmp_path / "first")
        wait_for(lambda: read_status(tmp_path / "first").tokens > 0, first)
    second = waiting(lab, spec({**LARGE, **placed, "budget.num_tokens": 3900 * 128}), tmp_path / "second")
    second.terminate()
    second.join(30)
    assert second.exitcode == EXIT_CODE
    assert read_status(tmp_path / "second").state == "preempted"
    first.kill()


def test_runs_that_start_from_different_states_do_not_wait_for_each_other(
    lab: Lab, spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # as in the run
    lab.complete(spec(LARGE), tmp_path / "large")  # leaves step 90
    behind, beyond = Trunk(spec(SMALL), lab.cache), Trunk(spec({**LARGE, "budget.num_tokens": 160 * 128}), lab.cache)
    for trunk in (behind, beyond):
        trunk.want()
        assert trunk.may_go()
    same = Trunk(spec(SMALL), lab.cache)
    assert not same.may_go()
    beyond.begin(90)
    beyond.look(100)
    assert not same.may_go(), "what lies before its own start is for another to strike out"
    behind.begin(0)
    behind.look(50)
    assert same.may_go()


LINEAR = [k * 20 for k in range(1, 11)]
"""Steps of ten budgets, a linear grid; the decay takes 20 % of each."""


def grid(spec: SpecMaker) -> list[RunSpec]:
    fixed = {"schedule.decay_frac": 0.2, "evaluation.every_tokens": None, "budget.max_epochs": None}
    return [spec({**fixed, "name": f"run{steps}", "budget.num_tokens": steps * 128}) for steps in LINEAR]


def test_ten_budgets_on_a_linear_grid_cost_at_most_two_fifths_of_independent_runs(spec: SpecMaker) -> None:
    assert tokens_to_train(grid(spec)) == 380 * 128
    assert tokens_to_train(grid(spec)) <= 0.40 * sum(LINEAR) * 128


@pytest.mark.slow
def test_what_ten_budgets_really_train_is_what_the_plan_says(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    runs = tmp_path / "runs" / "tiny"
    assert run_study(grid(spec), "run", runs, lab.cache) == 0
    statuses = [read_status(path.parent) for path in runs.glob("*/status.json")]
    assert len(statuses) == 10
    assert sum(status.tokens - status.trunk_tokens for status in statuses) == tokens_to_train(grid(spec))


def test_the_plan_counts_a_shared_trunk_once(spec: SpecMaker) -> None:
    runs = [spec(LARGE), spec(SMALL), spec({**SMALL, "seeds.order": 1})]
    assert tokens_from_trunks(runs) == [45 * 128, 0, 0]
    assert tokens_to_train(runs) == (120 + 60 + 60 - 45) * 128


def test_points_before_the_branch_are_those_of_the_run_that_left_the_trunk(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    """A branch measures from its branch on; what it shares is in the record of the smaller run."""
    looks = {"evaluation.every_tokens": 20 * 128}
    lab.complete(spec({**SMALL, **looks}), tmp_path / "small")
    lab.complete(spec({**LARGE, **looks}), tmp_path / "branch")
    others = lab.with_no_trunks(tmp_path)
    direct = others.complete(spec({**LARGE, **looks}), tmp_path / "direct")
    found = points(tmp_path / "branch")
    assert found == [point for point in direct if point.tokens > 45 * 128]
    assert points(tmp_path / "small")[:2] == direct[:2]
