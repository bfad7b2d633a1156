"""The reader of W&B's binary run files, proved on files that wandb itself wrote."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import wandb
from planted import log_bytes

from analysis.runs.wandb_file import HEADER, read_frames, read_log_file

LONG = "x" * 40_000  # longer than a block of 32 KiB: the record is split into frames


@pytest.fixture(scope="session")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real offline run."""
    folder = tmp_path_factory.mktemp("genuine")
    settings = wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True, silent=True)
    with wandb.init(
        mode="offline", project="scaling", name="n1", id="abc12345", dir=folder, settings=settings,
        config={"schema": 1, "spec": {"recipe": {"mixture": {"weights": {"docs": 0.8}}}}, "nothing": None},
    ) as run:  # fmt: skip
        run.define_metric("*", step_metric="tokens")
        for i in range(4):
            run.log({"tokens": 100 * i, "eval/docs/sum_nats": 12.5 - i, "eval/at_decay_end": i == 3, "long": LONG})
        run.config.update({"num_params": 5})
        run.summary.update({"state": "complete", "ledger/docs/weight": 0.8, "gone": 1, "nest": {"a": 1, "b": 2}})
        run.summary["nest"]["a"] = 5
        del run.summary["gone"]
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    until = time.monotonic() + 30  # on a busy machine wandb's own process still writes when `finish` returns
    while not read_log_file(path).has_ended and time.monotonic() < until:
        time.sleep(0.1)
    return path


def test_a_genuine_file_gives_back_what_was_logged(genuine: Path) -> None:
    log = read_log_file(genuine)
    assert (log.run_id, log.name, log.has_ended, log.warning) == ("abc12345", "n1", True, None)
    assert log.config["spec"] == {"recipe": {"mixture": {"weights": {"docs": 0.8}}}}
    assert log.config["num_params"] == 5
    assert log.config["nothing"] is None
    assert [row["tokens"] for row in log.history] == [0, 100, 200, 300]
    assert [row["eval/docs/sum_nats"] for row in log.history] == [12.5, 11.5, 10.5, 9.5]
    assert [row["eval/at_decay_end"] for row in log.history] == [False, False, False, True]
    assert all(row["long"] == LONG for row in log.history)
    assert log.summary["state"] == "complete"
    assert log.summary["ledger/docs/weight"] == 0.8
    assert log.summary["nest"] == {"a": 5, "b": 2}
    assert "gone" not in log.summary
    assert log.start_seconds > 1e9


def test_a_file_cut_off_anywhere_gives_a_prefix_of_its_records_and_a_warning(genuine: Path) -> None:
    data = genuine.read_bytes()
    whole, warning = read_frames(data)
    assert warning is None
    blocks = range(32768, len(data), 32768)
    cuts = {*range(60), *(b + i for b in blocks for i in range(-9, 10)), *range(60, len(data), 997), len(data) - 1}
    for cut in sorted(cuts):
        records, warning = read_frames(data[:cut])
        assert records == whole[: len(records)]
        if len(records) < len(whole) and cut > len(HEADER):
            # a cut exactly between two frames, or in padding, cannot be told from a file still being written
            assert warning is None or "cut off" in warning


def test_a_cut_off_file_reads_as_a_run_that_has_not_ended(genuine: Path, tmp_path: Path) -> None:
    data = genuine.read_bytes()
    short = tmp_path / genuine.name
    short.write_bytes(data[: len(data) // 2])
    log = read_log_file(short)
    assert not log.has_ended
    assert log.config["schema"] == 1
    assert 0 < len(log.history) < 4
    assert log.warning is not None
    assert "cut off at byte" in log.warning


@pytest.mark.parametrize("at", [8, 200, 40_000, 70_000, -40])
def test_a_flipped_bit_stops_the_reading_there(genuine: Path, at: int) -> None:
    data = bytearray(genuine.read_bytes())
    whole, _ = read_frames(bytes(data))
    data[at] ^= 0x10
    records, warning = read_frames(bytes(data))
    assert len(records) < len(whole)
    assert records == whole[: len(records)]
    assert warning is not None


def test_a_file_of_another_format_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "run-x.wandb"
    path.write_bytes(b"SQLite format 3\x00" + bytes(100))
    assert read_log_file(path).warning == "is not a W&B run file, or one of a newer version"


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run-x.wandb"
    path.touch()
    log = read_log_file(path)
    assert log.run_id == "x"
    assert not log.history


def test_the_planted_framing_is_that_of_wandb(genuine: Path) -> None:
    """The other tests write logs with their own framing; byte for byte it is wandb's."""
    data = genuine.read_bytes()
    is_same = log_bytes(read_frames(data)[0]) == data
    assert is_same
