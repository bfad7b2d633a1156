"""One run on its processes: whatever happens to them, a status is left and nothing lives on."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import pytest
from lab import CANARY, Lab, Saboteur, SpecMaker, newest_step, points, wait_for, wandb_files

from scaling import launch
from scaling.child import AnySpec
from scaling.launch import DISK_EXIT_CODE
from scaling.spec import RunSpec
from scaling.status import is_locked, read_status
from scaling.study import plan_runs, run_study
from scaling.train.preemption import Stop


def processes_of(run_dir: Path) -> set[int]:
    """Processes that have a file of the run open."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            targets = [os.readlink(link) for link in (folder / "fd").iterdir()]
        except OSError:
            continue
        if any(target.startswith(f"{run_dir}/") for target in targets):
            found.add(int(folder.name))
    return found


@pytest.mark.parametrize(
    ("how", "ranks", "error"),
    [
        ("exception", 1, "RuntimeError: the cat ate it"),
        ("exit", 1, "SystemExit: 3"),
        ("rank 1 dies", 2, "LostRankError: rank 1 was killed by signal 9"),
        pytest.param(
            "rank 1 dies, rank 0 is deaf", 2, "LostRankError: rank 1 was killed by signal 9", marks=pytest.mark.slow
        ),
        ("exception", 2, "LostRankError: rank . ended with exit code 1"),
    ],
)
def test_a_run_that_fails_leaves_a_one_line_error(
    lab: Lab, spec: SpecMaker, tmp_path: Path, how: str, ranks: int, error: str
) -> None:
    saboteur = Lab(Saboteur(lab.context, {0: how}), lab.cache)  # type: ignore[arg-type]
    process = saboteur.start(spec({"placement.ranks": ranks}), tmp_path / "run")
    process.join(60)
    assert process.exitcode not in (0, None)
    status = read_status(tmp_path / "run")
    assert status.state == "failed"
    assert re.fullmatch(error, status.error or "")
    wait_for(lambda: not processes_of(tmp_path / "run"), seconds=10)


def loaded(queue: SimpleQueue[list[str]]) -> None:
    queue.put([name for name in ("torchao", "transformers.modeling_utils", "deepspeed") if name in sys.modules])


def test_the_server_loads_nothing_that_starts_cuda(lab: Lab) -> None:
    """Torchao does, and `transformers` imports it where it is installed: the forks could use no GPU any more."""
    queue: SimpleQueue[list[str]] = lab.context.SimpleQueue()
    process = lab.context.Process(target=loaded, args=(queue,))
    process.start()
    assert queue.get() == ["transformers.modeling_utils", "deepspeed"]
    process.join()


def test_ctrl_c_while_the_server_loads_modules_ends_without_a_traceback() -> None:
    code = """
import sys, time
from scaling.launch import start_server
start_server(["this"])
try:
    print("up", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as sweep:
        assert sweep.stdout is not None
        assert sweep.stdout.readline() == "up\n"
        time.sleep(0.5)
        os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does
        _, errors = sweep.communicate(timeout=60)  # until the server, too, has ended
    assert sweep.returncode == 130
    assert "Traceback" not in errors
    assert "KeyboardInterrupt" not in errors


def name_of_a_lock(spec: RunSpec, run_dir: Path, cache: Path) -> None:
    """A run that does nothing but to make a lock, as libraries do, and to write down its name."""

    def make(spec: AnySpec, run_dir: Path, cache: Path, stop: Stop) -> None:
        name = multiprocessing.RLock()._semlock.name  # type: ignore[attr-defined]
        (run_dir / "lock").write_text(str(name), encoding="utf-8")

    launch._run_to_an_end = make
    launch.run_process(spec, run_dir, cache)


def test_locks_of_libraries_have_no_names_that_a_killed_run_would_leave_behind(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    process = lab.context.Process(target=name_of_a_lock, args=(spec(), tmp_path, lab.cache))
    process.start()
    process.join(60)
    assert (tmp_path / "lock").read_text(encoding="utf-8") == "None"


def test_a_run_that_diverges_says_so_and_where(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    status = lab.train(spec({"optimizer.learning_rate": 1e30}), tmp_path / "run")
    assert status.state == "diverged"
    assert re.fullmatch(r"step 2, sequences 4 to 7: the loss is \S+, the norm of its gradient nan", status.error or "")
    summary = wandb_files(tmp_path / "run")[0].summary
    assert (summary["state"], summary["error"]) == ("diverged", status.error)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_killed_run_leaves_no_process_and_no_lock(lab: Lab, spec: SpecMaker, tmp_path: Path, ranks: int) -> None:
    """The W&B service, the ranks and the agent, all end with it."""
    often = {"placement.checkpoint_seconds": 0, "placement.ranks": ranks, "budget.num_tokens": 4000 * 128}
    often["budget.max_epochs"] = None
    process = lab.start(spec(often), tmp_path / "run")
    wait_for(lambda: (tmp_path / "run" / "checkpoints").exists(), process)
    assert is_locked(tmp_path / "run")
    assert read_status(tmp_path / "run").state == "running"
    wait_for(lambda: len(processes_of(tmp_path / "run")) > ranks, process)
    process.kill()
    wait_for(lambda: not processes_of(tmp_path / "run"), seconds=10)
    assert not is_locked(tmp_path / "run")
    status = read_status(tmp_path / "run")
    assert (status.state, status.error) == ("interrupted", "cut off; the same command goes on")


def test_two_processes_of_one_run_train_it_once(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    first, second = (lab.start(spec(), tmp_path / "run") for _ in range(2))
    for process in (first, second):
        process.join(60)
        assert process.exitcode == 0
    assert read_status(tmp_path / "run").state == "complete"
    assert len(wandb_files(tmp_path / "run")) == 1
    assert len(points(tmp_path / "run")) == 4


def test_one_that_waits_for_a_run_takes_over_when_the_other_is_killed(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    run = spec({"placement.checkpoint_seconds": 0})
    standing = lab.trap("scaling.train.pretrain", "learning_rate_factor", count=50, signal=signal.SIGSTOP)
    first = standing.start(run, tmp_path / "run")
    wait_for(lambda: newest_step(tmp_path / "run") == 40, first)
    second = lab.start(run, tmp_path / "run")
    first.kill()
    second.join(60)
    assert read_status(tmp_path / "run").state == "complete"
    looks = (row for row in wandb_files(tmp_path / "run")[-1].history if "train/loss" in row)
    assert next(looks)["tokens"] == 60 * 128  # it went on from step 40


def test_a_full_disk_ends_a_run_with_a_one_line_error_and_its_checkpoint_stays_good(
    lab: Lab, spec: SpecMaker, small_disk: Path
) -> None:
    run_dir = small_disk / "run"
    run = spec({"placement.checkpoint_seconds": 0, "budget.num_tokens": 230 * 128, "schedule.decay_frac": 1.0})
    lab.kill_after_checkpoint(run, run_dir)
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    ballast.write_bytes(bytes(free - 150_000))
    status = lab.train(run, run_dir)
    assert status.state == "failed"
    assert (status.error or "").startswith("disk: ")
    assert "cannot write checkpoint" in (status.error or "")
    assert "\n" not in (status.error or "")
    assert not list(run_dir.glob("checkpoints/.writing-*"))
    ballast.unlink()
    assert lab.train(run, run_dir).state == "complete"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk, and not everywhere")
    yield place
    end = time.monotonic() + 20  # the W&B service takes a moment to let go
    while subprocess.run(["umount", str(place)], capture_output=True).returncode and time.monotonic() < end:
        time.sleep(0.2)


def remount(place: Path, how: str) -> None:
    """As soon as nobody writes there any more: the W&B service takes a moment to let go."""
    wait_for(lambda: subprocess.run(["mount", "-o", f"remount,{how}", str(place)]).returncode == 0, seconds=20)


def test_checkpoints_on_a_read_only_disk_end_a_run_and_it_goes_on_when_they_can_be_written(
    lab: Lab, spec: SpecMaker, small_disk: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "checkpoints").symlink_to(small_disk)
    run = spec({"placement.checkpoint_seconds": 0, "budget.num_tokens": 230 * 128, "schedule.decay_frac": 1.0})
    lab.kill_after_checkpoint(run, run_dir)
    before = newest_step(run_dir)
    remount(small_disk, "ro")
    process = lab.start(run, run_dir)
    process.join(60)
    assert process.exitcode == DISK_EXIT_CODE
    status = read_status(run_dir)
    assert status.state == "failed"
    assert re.fullmatch(r"disk: .*cannot write checkpoint .*Read-only file system.*", status.error or "")
    assert newest_step(run_dir) == before
    remount(small_disk, "rw")
    assert lab.train(run, run_dir).state == "complete"


@pytest.mark.parametrize("how", ["read-only", "full"])
def test_a_disk_that_cannot_even_hold_the_status_is_told_to_the_sweep(
    lab: Lab, spec: SpecMaker, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    run = spec({"placement.checkpoint_seconds": 0, "budget.num_tokens": 230 * 128, "schedule.decay_frac": 1.0})
    runs = tmp_path / "runs" / "tiny"
    runs.mkdir(parents=True)
    (planned,) = plan_runs([run], runs)
    planned.run_dir.symlink_to(small_disk)
    lab.kill_after_checkpoint(run, planned.run_dir)
    if how == "full":
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        (small_disk / "ballast").write_bytes(bytes(free))
    else:
        remount(small_disk, "ro")
    assert run_study([run], "run", runs, lab.cache) == 1
    assert f"disk: cannot write to {planned.run_dir}" in capsys.readouterr().out.replace("\n", "")
    (small_disk / "ballast").unlink() if how == "full" else remount(small_disk, "rw")
    assert run_study([run], "run", runs, lab.cache) == 0


def test_no_key_of_the_user_is_in_any_file_of_a_run(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    """Every run of these tests has the canary in its environment; here a complete and a failed one are searched."""
    lab.complete(spec(), tmp_path / "runs" / "complete")
    saboteur = Lab(Saboteur(lab.context, {0: "exception"}), lab.cache)  # type: ignore[arg-type]
    assert saboteur.train(spec({"name": "failed"}), tmp_path / "runs" / "failed").state == "failed"
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
