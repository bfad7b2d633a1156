"""What a run is doing, from the files that it leaves."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import SpecMaker, tuned_on

from scaling import status
from scaling.child import CompressSpec
from scaling.compression import Magnitude
from scaling.files import write_json
from scaling.spec import write_spec
from scaling.status import Status, duration, failure, is_locked, main, read_status, run_lock, short, write_status


def test_a_status_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Status(state="complete", tokens=5, trunk_tokens=2, seconds=1.5, loss={"alpha": 3.25})
    write_status(tmp_path, written)
    assert read_status(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_a_run_without_a_status_is_planned(tmp_path: Path) -> None:
    assert read_status(tmp_path / "nowhere") == Status(state="planned")
    assert not (tmp_path / "nowhere").exists()


def test_a_run_is_running_while_its_lock_is_held_and_interrupted_after(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        write_status(tmp_path, Status(state="running", tokens=7))
        assert read_status(tmp_path) == Status(state="running", tokens=7)
    found = read_status(tmp_path)
    assert (found.state, found.tokens, found.error) == ("interrupted", 7, "cut off; the same command goes on")


def test_a_second_process_waits_for_the_lock(tmp_path: Path) -> None:
    """flock conflicts between two opens of a file also within one process."""
    order = []

    def second() -> None:
        with run_lock(tmp_path):
            order.append("second")

    with run_lock(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.5)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
    assert not is_locked(tmp_path)


def wrapped(error: Exception) -> Exception:
    """As a library would raise it."""
    try:
        try:
            raise error
        except Exception:
            raise RuntimeError("the library could not do it\nand more") from None
    except RuntimeError as outer:
        outer.__context__ = error
        return outer


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a"), "disk: [Errno 28] No space left on device: 'a'"),
        (OSError(errno.EROFS, "Read-only file system"), "disk: [Errno 30] Read-only file system"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk: [Errno 122] Disk quota exceeded"),
        (OSError(errno.EIO, "Input/output error"), "disk: [Errno 5] Input/output error"),
        (
            ValueError("Error while serializing\nI/O error: No space left on device (os error 28)"),
            "disk: I/O error: No space left on device (os error 28)",
        ),
        (wrapped(OSError(errno.ENOSPC, "No space left on device")), "disk: [Errno 28] No space left on device"),
        (wrapped(ValueError("bad")), "RuntimeError: the library could not do it"),
        (
            OSError(errno.ENOENT, "No such file or directory", "a"),
            "FileNotFoundError: [Errno 2] No such file or directory: 'a'",
        ),
        (RuntimeError(), "RuntimeError:"),
    ],
)
def test_a_failure_is_one_line_that_says_whether_it_was_the_disk(error: Exception, line: str) -> None:
    assert failure(error) == line


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b'{"state": "dreaming"}', b'{"state": "complete", "mood": 1}', None]
)
def test_a_status_that_cannot_be_read_is_a_failure_with_one_line(tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        (tmp_path / "status.json").mkdir()
    else:
        (tmp_path / "status.json").write_bytes(content)
    found = read_status(tmp_path)
    assert found.state == "failed"
    assert (found.error or "").startswith("status.json cannot be read")
    assert "\n" not in (found.error or "")


def test_readers_never_see_half_a_status(tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            write_status(tmp_path, Status(state="complete", error="x" * (number % 5000)))
            number += 1

    write_status(tmp_path, Status(state="complete"))
    writer = threading.Thread(target=write)
    writer.start()
    states = {read_status(tmp_path).state for _ in range(300)}
    stop.set()
    writer.join()
    assert states == {"complete"}


def test_a_status_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_status(tmp_path, Status(state="complete"))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_status(tmp_path, Status(state="failed"))
    assert read_status(tmp_path).state == "complete"
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


# ---- the command --------------------------------------------------------------------------------------

Show = Callable[..., str]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Show:
    """What `python -m scaling.status` prints."""

    def run(*arguments: object) -> str:
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setattr(sys, "argv", ["scaling.status", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return run


def leave(runs: Path, spec: SpecMaker, name: str, found: Status | None) -> Path:
    folder = runs / name
    write_spec(folder / "spec.json", spec({"name": name}))
    if found is not None:
        write_status(folder, found)
    return folder


def test_the_command_shows_every_run_with_state_tokens_loss_and_error(
    spec: SpecMaker, tmp_path: Path, show: Show
) -> None:
    leave(tmp_path, spec, "one", Status(state="complete", tokens=8192, trunk_tokens=6144, loss={"alpha": 3.25}))
    leave(tmp_path, spec, "two", Status(state="failed", tokens=640, error="RuntimeError: the cat ate it"))
    leave(tmp_path, spec, "three", None)
    leave(tmp_path, spec, "four", Status(state="running", tokens=1280))
    leave(
        tmp_path, spec, "five", Status(state="preempted", tokens=1280, error="asked to stop; the same command goes on")
    )
    lines = {line.split()[0].split("-")[0]: line for line in show(tmp_path).splitlines() if line.strip()}
    assert [word in lines["one"] for word in ("complete", "8.19k", "6.14k", "3.250")] == [True] * 4
    assert "failed" in lines["two"]
    assert "RuntimeError: the cat ate it" in lines["two"]
    assert "planned" in lines["three"]
    assert "interrupted" in lines["four"]
    assert "preempted" in lines["five"]
    assert all(f"1 {state}" in lines["pretraining:"] for state in ("complete", "failed", "planned", "interrupted"))


def test_totals_are_told_by_kind_without_what_a_trunk_gave(spec: SpecMaker) -> None:
    run = spec()
    tuned = tuned_on(run)
    small = CompressSpec(name="small", study=run.study, parent=tuned, compress=Magnitude())
    trained = [
        (run, Status(state="complete", tokens=8000, trunk_tokens=6000, seconds=60)),
        (run, Status(state="diverged", tokens=1000, seconds=5)),
    ]
    children = [(tuned, Status(state="complete", tokens=320, seconds=9)), (small, Status(state="preempted", seconds=3))]
    assert status.totals([*trained, *children]).splitlines() == [
        "pretraining: 1 complete, 1 diverged; 3k tokens, 0:01:05 of run time",
        "fine-tuning: 1 complete; 320 rows, 0:00:09 of run time",
        "compression: 1 preempted; 0:00:03 of run time",
    ]


@pytest.mark.parametrize("told", [["one", "two", "three"], None, 3])
def test_the_command_counts_the_runs_of_the_last_sweep_that_have_not_begun(
    spec: SpecMaker, tmp_path: Path, show: Show, told: object
) -> None:
    leave(tmp_path, spec, "one", Status(state="complete", tokens=8192))
    write_json(tmp_path / "study.json", {"schema": 1, "runs": told})
    assert ("to come: 2 of the last sweep" in show(tmp_path)) == isinstance(told, list)


def test_the_command_prints_once_while_a_run_is_under_way_if_it_is_not_watched(
    spec: SpecMaker, tmp_path: Path, show: Show
) -> None:
    folder = leave(tmp_path, spec, "one", None)
    with run_lock(folder):
        write_status(folder, Status(state="running", tokens=1280, tokens_per_second=12_345))
        for arguments in ((), ("--once",)):
            output = show(tmp_path, *arguments)
            assert output.endswith("\n")
            assert output.count("running") == 2  # its line, and the count
            assert "12.3k" in output


def test_what_a_run_waits_for_is_in_its_line(spec: SpecMaker, tmp_path: Path, show: Show) -> None:
    folder = leave(tmp_path, spec, "one", None)
    with run_lock(folder):
        write_status(folder, Status(state="running", note="waits for a run that trains the same trunk"))
        assert "waits for a run that trains the same trunk" in show(tmp_path)


def test_the_command_watches_a_terminal_until_no_run_is_under_way(
    spec: SpecMaker, tmp_path: Path, show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = leave(tmp_path, spec, "one", None)
    looks = []

    def later(seconds: float) -> None:
        looks.append(seconds)
        write_status(folder, Status(state="running" if len(looks) < 3 else "complete"))

    monkeypatch.setattr(status.time, "sleep", later)
    monkeypatch.setattr(status.Console, "is_terminal", True)
    with run_lock(folder):
        write_status(folder, Status(state="running"))
        show(tmp_path)
    assert len(looks) == 3


def test_the_command_says_what_it_wanted_where_there_are_no_runs(
    tmp_path: Path, show: Show, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        show(tmp_path)
    assert ended.value.code == 2
    assert "wanted a study's folder" in capsys.readouterr().err


def test_a_run_whose_spec_cannot_be_read_does_not_hide_the_others(spec: SpecMaker, tmp_path: Path, show: Show) -> None:
    leave(tmp_path, spec, "one", Status(state="complete"))
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "spec.json").write_text('{"name": "from another version"}')
    output = show(tmp_path)
    assert "complete" in output
    assert "two" in output
    assert "spec.json cannot be read" in output


def test_numbers_and_times_are_short() -> None:
    assert [short(number) for number in (0, 12, 999, 1000, 62_500, 1_500_000, 2e9, 3.14e12)] == [
        "0", "12", "999", "1k", "62.5k", "1.5M", "2B", "3.14T",
    ]  # fmt: skip
    assert [duration(seconds) for seconds in (0, 59.6, 3725)] == ["0:00:00", "0:01:00", "1:02:05"]


def test_a_number_just_below_a_unit_is_written_in_that_unit() -> None:
    assert short(999_999) == "1M"
    assert short(999.7) == "1k"
