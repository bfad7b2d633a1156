"""Logs that were read before: cache/logs/<digest>.parquet, one per run file, found by what that file holds.

Only whole files of ended runs are remembered: one that is still being written holds something else next time. An
entry is written beside and renamed, so that several readers may work at once; one that does not verify is read anew
from its log and replaced. Deleting the folder loses nothing but time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.page.writing import write_whole
from analysis.runs.wandb_file import named_by_path, parse_log

FORMAT = 1
"""Raised when Reading, or what is read from a log, changes; part of every digest."""

LOOKS = ("perf/tokens_per_second", "perf/mfu")
"""What is read of the looks at a training."""


@dataclass(frozen=True)
class Reading:
    """What the analysis needs of one run file.

    history: its rows that hold an evaluation. looks: the values of each of LOOKS. warning: as in LogFile.
    """

    run_id: str
    name: str
    job_type: str
    start_seconds: float
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    looks: Mapping[str, Sequence[float]]
    has_ended: bool
    warning: str | None


FACTS = ("run_id", "name", "job_type", "start_seconds", "has_ended", "warning")
PARTS = ("facts", "config", "summary", "looks")
"""Of an entry, a row each; a row of history each after them."""


def log_cache() -> Path:
    """The folder of remembered logs: in `SCALING_CACHE` if set, else in the user's cache folder."""
    if chosen := os.environ.get("SCALING_CACHE"):
        return Path(chosen).expanduser().absolute() / "logs"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "scaling" / "logs"


def read_log(path: Path, cache: Path) -> Reading:
    """Read one run file, or find in `cache` what was read of it before; OSError if it cannot be read."""
    data = path.read_bytes()
    entry = cache / f"{_digest(path, data)}.parquet"
    remembered = _remembered(entry)
    if remembered is not None:
        return remembered
    log = parse_log(path, data, _is_read)
    history, looks = sift(log.history)
    facts = {fact: getattr(log, fact) for fact in FACTS}
    reading = Reading(config=log.config, summary=log.summary, history=history, looks=looks, **facts)
    if log.has_ended and log.warning is None:
        with contextlib.suppress(OSError):  # a cache that cannot be written, or a full disk, costs time alone
            write_whole(entry, _entry_bytes(reading))
    return reading


def sift(rows: Iterable[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], dict[str, list[float]]]:
    """Of the history of a run: its rows that hold an evaluation, and the values of its looks."""
    history: list[Mapping[str, Any]] = []
    looks: dict[str, list[float]] = {key: [] for key in LOOKS}
    for row in rows:
        for key in LOOKS:
            if isinstance(value := row.get(key), int | float):
                looks[key].append(float(value))
        if any(key.startswith("eval/") for key in row):
            history.append(row)
    return history, looks


def _is_read(key: str) -> bool:
    return key in LOOKS or key == "tokens" or key.startswith("eval/")


def _digest(path: Path, data: bytes) -> str:
    about = json.dumps([FORMAT, *named_by_path(path)])  # a file may leave its run's name to its path
    return hashlib.sha256(about.encode() + b"\n" + data).hexdigest()


def _entry_bytes(log: Reading) -> bytes:
    """A log as parquet: rows of a part's name and its JSON, whose digest stands in the schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = {fact: getattr(log, fact) for fact in FACTS}
    told = dict(zip(PARTS, (facts, log.config, log.summary, log.looks), strict=True))
    rows = [*told.items(), *(("history", row) for row in log.history)]
    parts, texts = [part for part, _ in rows], [json.dumps(value, separators=(",", ":")) for _, value in rows]
    columns = {"part": pa.array(parts, pa.string()), "json": pa.array(texts, pa.string())}
    table = pa.table(columns).replace_schema_metadata({"sha256": _sum(parts, texts)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_statistics=False)
    return bytes(sink.getvalue())


def _remembered(entry: Path) -> Reading | None:
    """The log that an entry holds; None if there is no entry, or not one that verifies."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.BufferReader(entry.read_bytes())) as file:
            table = file.read(use_threads=False)
        parts, texts = table.column("part").to_pylist(), table.column("json").to_pylist()
        if table.schema.metadata.get(b"sha256", b"").decode() != _sum(parts, texts):
            return None
        values = json.loads("[" + ",".join(texts) + "]")
        facts, config, summary, looks = (values[parts.index(part)] for part in PARTS)
        return Reading(config=config, summary=summary, history=values[len(PARTS) :], looks=looks, **facts)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, pa.ArrowException):  # absent or damaged
        return None


def _sum(parts: Iterable[str], texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join([*parts, *texts]).encode()).hexdigest()
