"""A run that is asked to stop writes a checkpoint within one step, says so, and goes on to the same bits."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from lab import Lab, SpecMaker, newest_step, points, record_of, wait_for, wandb_files

from scaling.launch import launch, run_warnings
from scaling.status import read_status
from scaling.train.checkpoint import checkpoint_steps
from scaling.train.preemption import EXIT_CODE, SIGNALS, PreemptedError, Stop, deaf_children

LOOP = "scaling.train.pretrain"
COSINE = {"kind": "cosine", "warmup_tokens": 512}
"""Nothing is shared through a trunk, so that the resumed run has its own checkpoint alone."""


def preempted(lab: Lab, run: Any, run_dir: Path) -> None:
    """Start a run that gets a signal, and see that it ends as it should."""
    process = lab.start(run, run_dir)
    process.join(90)
    assert process.exitcode == EXIT_CODE, (run_dir / "log.txt").read_text()[-3000:]
    status = read_status(run_dir)
    assert (status.state, status.error) == ("preempted", "asked to stop; the same command goes on")


@pytest.mark.parametrize(
    ("ranks", "trap"),
    [
        pytest.param(1, {"signal": signal.SIGTERM}, id="term"),
        pytest.param(2, {"signal": signal.SIGUSR1, "whose": "parent"}, id="usr1-to-the-agent-of-2"),
        pytest.param(1, {"signal": signal.SIGUSR1}, id="usr1", marks=pytest.mark.slow),
        pytest.param(2, {"signal": signal.SIGTERM, "whose": "parent"}, id="term-to-the-agent", marks=pytest.mark.slow),
        pytest.param(2, {"signal": signal.SIGTERM, "rank": 1}, id="term-to-rank-1", marks=pytest.mark.slow),
        pytest.param(2, {"signal": signal.SIGUSR1, "rank": 0}, id="usr1-to-rank-0", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_asked_to_stop_leaves_a_checkpoint_within_one_step_and_goes_on_to_the_same_bits(
    lab: Lab, spec: SpecMaker, tmp_path: Path, ranks: int, trap: dict[str, Any]
) -> None:
    run = spec({"schedule": COSINE, "placement.ranks": ranks})
    learning_rate = lab.trap(LOOP, "learning_rate_factor", count=38, **trap)  # asked for before each step
    preempted(learning_rate, run, tmp_path / "run")
    # the agent passes a signal on while the ranks train: a step of these takes it a millisecond
    assert newest_step(tmp_path / "run") == 38 or (ranks > 1 and newest_step(tmp_path / "run") >= 38)
    assert read_status(tmp_path / "run").tokens == newest_step(tmp_path / "run") * 128
    assert len(points(tmp_path / "run")) == newest_step(tmp_path / "run") // 16
    lab.complete(run, tmp_path / "run")
    lab.complete(run, tmp_path / "unbroken")
    assert record_of(tmp_path / "run", lab) == record_of(tmp_path / "unbroken", lab)
    assert [file.summary["state"] for file in wandb_files(tmp_path / "run")] == ["preempted", "complete"]


def test_a_run_that_is_asked_during_an_evaluation_ends_it_first(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    run = spec({"schedule": COSINE})
    preempted(lab.trap(LOOP, "evaluate", count=2, signal=signal.SIGTERM), run, tmp_path / "run")
    assert checkpoint_steps(tmp_path / "run" / "checkpoints") == [32]
    assert [point.tokens for point in points(tmp_path / "run")] == [16 * 128, 32 * 128]
    lab.complete(run, tmp_path / "run")
    lab.complete(run, tmp_path / "unbroken")
    assert record_of(tmp_path / "run", lab) == record_of(tmp_path / "unbroken", lab)


def test_a_run_whose_log_ends_before_it_is_asked_to_stop_is_preempted_all_the_same(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    """A scheduler signals every process of a job, and the service of W&B dies of it."""
    run = spec({"schedule": COSINE, "budget.num_tokens": 2000 * 128, "budget.max_epochs": None})
    process = lab.start(run, tmp_path / "run")
    wait_for(lambda: read_status(tmp_path / "run").tokens > 0, process)
    services = [child for child in psutil.Process(process.pid).children() if "wandb" in " ".join(child.cmdline())]
    assert services
    for each in (*services, process):
        os.kill(each.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == EXIT_CODE
    assert read_status(tmp_path / "run").state == "preempted"
    assert newest_step(tmp_path / "run") > 0


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (LOOP, "find_start"),
        ("scaling.train.plain", "PlainEngine.accumulate"),
        pytest.param("scaling.launch", "read_spec", marks=pytest.mark.slow),
        pytest.param(LOOP, "prepare", marks=pytest.mark.slow),
        pytest.param("scaling.tracking", "wandb.init", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_asked_before_its_first_step_ends_at_once(
    lab: Lab, spec: SpecMaker, tmp_path: Path, module: str, function: str
) -> None:
    preempted(lab.trap(module, function, signal=signal.SIGUSR2), spec(), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert points(tmp_path / "run") == []
    lab.complete(spec(), tmp_path / "run")


def test_a_run_of_two_ranks_that_is_asked_before_its_first_step_trains_none(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    trap = lab.trap(LOOP, "prepare", signal=signal.SIGTERM, rank=1)
    preempted(trap, spec({"placement.ranks": 2}), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_run_that_waits_for_another_process_of_itself_can_be_asked_to_stop(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    run = spec({"budget.num_tokens": 230 * 128})
    first = lab.start(run, tmp_path / "run")
    wait_for(lambda: read_status(tmp_path / "run").tokens > 0, first)
    second = launch(lab.context, run, tmp_path / "run", lab.cache)
    second.terminate()
    second.join(20)
    assert second.exitcode == EXIT_CODE
    first.join(60)
    assert read_status(tmp_path / "run").state == "complete"
    assert not run_warnings(tmp_path / "run")


# ---- the object -------------------------------------------------------------------------------------


@pytest.fixture
def stop() -> Any:
    """One that listens in this process, which then is as before."""
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job, as a CI may be, ignores it
    stop = Stop()
    stop.listen()
    stop.listen_to_ctrl_c()
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_is_remembered_and_raised_while_nothing_is_lost_by_it(stop: Stop) -> None:
    with pytest.raises(PreemptedError):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.is_requested
    os.kill(os.getpid(), signal.SIGTERM)  # once is enough


def test_a_signal_is_only_remembered_where_something_would_be_lost(stop: Stop) -> None:
    stop.raises = False
    os.kill(os.getpid(), signal.SIGUSR1)
    assert stop.is_requested


def test_ctrl_c_asks_to_stop_where_something_would_be_lost_and_ends_the_second_time(stop: Stop) -> None:
    stop.raises = False
    os.kill(os.getpid(), signal.SIGINT)
    assert (stop.is_requested, stop.is_interrupted) == (True, True)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_at_once_while_nothing_is_lost_by_it(stop: Stop) -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert not stop.is_requested


def test_ctrl_c_ends_at_once_what_a_scheduler_has_asked_to_stop(stop: Stop) -> None:
    stop.raises = False
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert not stop.is_interrupted


def test_ctrl_c_stays_ignored_in_a_background_job(stop: Stop) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop.listen_to_ctrl_c()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_what_a_server_forks_hears_later_what_came_before_it_listened(stop: Stop) -> None:
    stop.raises = False
    with deaf_children():
        os.kill(os.getpid(), signal.SIGTERM)
    wait_for(lambda: stop.is_requested, seconds=5)


def test_no_handling_of_errors_swallows_that_a_run_is_preempted() -> None:
    assert not issubclass(PreemptedError, Exception)
    assert PreemptedError().code == 143
