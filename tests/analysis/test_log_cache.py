"""Logs that were read before: the same as read anew, whatever happens to the cache."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from planted import SIZES, eval_row, log_bytes, log_records, spec, summary_of, write_log, write_study

from analysis.runs import log_cache
from analysis.runs.log_cache import read_log
from analysis.runs.records import read_runs

LOSSES = {"docs": 4.0, "code": 3.0}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with two evaluations and a look at the training, with values that text could spoil."""
    tree = spec(1000, 0)
    look = {"tokens": 400, "train/loss": 5.0, "perf/mfu": 0.1 + 0.2, "perf/tokens_per_second": 1e5 / 3}
    rows = [look, eval_row(500, {"docs": 1 / 3, "code": float("nan")}, False), eval_row(1000, LOSSES)]
    return write_log(tmp_path / "runs", tree, rows, summary_of(tree) | {"error": "ä \u2028 \U0001f600 <script>"})


def entries(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.parquet"))


def test_a_remembered_log_is_the_log_to_the_last_digit(log: Path, tmp_path: Path) -> None:
    first, again = read_log(log, tmp_path / "cache"), read_log(log, tmp_path / "cache")
    assert len(entries(tmp_path / "cache")) == 1
    assert repr(again) == repr(first)  # nan is not equal to itself, its text is
    assert again.looks == {"perf/tokens_per_second": [1e5 / 3], "perf/mfu": [0.1 + 0.2]}
    assert [row["tokens"] for row in again.history] == [500, 1000]
    assert again.history[0]["eval/docs/sum_nats"] == 1 / 3 * 20_000


def test_a_remembered_log_is_not_parsed_again(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_log(log, tmp_path / "cache")
    monkeypatch.setattr(log_cache, "parse_log", lambda *_: pytest.fail("parsed again"))
    assert repr(read_log(log, tmp_path / "cache")) == repr(first)


def test_a_log_that_changed_is_read_anew(log: Path, tmp_path: Path) -> None:
    read_log(log, tmp_path / "cache")
    tree = spec(1000, 0)
    records = log_records("run", {"fingerprint": "other"}, [eval_row(1000, LOSSES)], summary_of(tree))
    log.write_bytes(log_bytes([record.SerializeToString() for record in records]))
    assert read_log(log, tmp_path / "cache").config == {"fingerprint": "other"}
    assert len(entries(tmp_path / "cache")) == 2


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text", "another schema"])
def test_a_damaged_entry_is_read_anew_and_replaced(log: Path, tmp_path: Path, damage: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cache = tmp_path / "cache"
    first = read_log(log, cache)
    (entry,) = entries(cache)
    good = entry.read_bytes()
    if damage == "another schema":
        pq.write_table(pa.table({"part": ["facts"], "other": [1]}), entry)
    else:
        middle = len(good) // 3
        flipped = good[:middle] + bytes([good[middle] ^ 0x10]) + good[middle + 1 :]
        entry.write_bytes({"empty": b"", "cut": good[:-20], "flipped": flipped, "text": b"PAR1 no"}[damage])
    assert repr(read_log(log, cache)) == repr(first)
    assert entry.read_bytes() == good


def test_every_flipped_bit_of_an_entry_is_noticed(log: Path, tmp_path: Path) -> None:
    """What an entry says is believed only if its digest agrees: a flip may be harmless, never a wrong number."""
    cache = tmp_path / "cache"
    first = repr(read_log(log, cache))
    (entry,) = entries(cache)
    good = entry.read_bytes()
    for at in range(4, len(good), 37):
        entry.write_bytes(good[:at] + bytes([good[at] ^ 0x04]) + good[at + 1 :])
        assert repr(read_log(log, cache)) == first


def test_a_log_that_has_not_ended_is_not_remembered(log: Path, tmp_path: Path) -> None:
    data = log.read_bytes()
    log.write_bytes(data[: len(data) * 2 // 3])
    assert not read_log(log, tmp_path / "cache").has_ended
    assert not entries(tmp_path / "cache")


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(log: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read_log(log, tmp_path / "file" / "logs").has_ended


def test_two_runs_that_their_paths_alone_name_are_told_apart(tmp_path: Path) -> None:
    """Equal files without a name in them: each run is named by its own folder."""
    tree = spec(1000, 0)
    records = log_records("run", {}, [], summary_of(tree))
    records[0].run.display_name = ""
    names = []
    for folder in ("one", "two"):
        path = tmp_path / folder / "wandb" / "offline-run-x" / "run-x.wandb"
        path.parent.mkdir(parents=True)
        path.write_bytes(log_bytes([record.SerializeToString() for record in records]))
        names.append(read_log(path, tmp_path / "cache").name)
    assert names == ["one", "two"]


def _read(places: tuple[str, str]) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALING_CACHE", places[1])
        return repr(read_runs([places[0]]))


def test_readers_at_once_read_the_same(tmp_path: Path) -> None:
    write_study(tmp_path / "runs", [spec(size, seed) for size in SIZES for seed in range(3)])
    places = (str(tmp_path / "runs"), str(tmp_path / "cache"))
    # a fork server would be the one of all runs of this process, and let SIGTERM through to them
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(_read, [places] * 4, chunksize=1)
    assert set(found) == {_read(places)}
    assert len(entries(tmp_path / "cache" / "logs")) == 18
    assert not list((tmp_path / "cache" / "logs").glob(".*"))  # nothing half-written is left
