"""Read one W&B run file (`run-<id>.wandb`): what an offline run leaves on disk.

The file is a 7-byte header (":W&B", the magic 0xBEE1, a version), then a log in LevelDB's framing: blocks of
32 KiB, each holding frames of (crc32 u32, length u16, type u8, data). A record that does not fit into its
block is split into FIRST, MIDDLE and LAST frames. The checksum is the plain CRC-32 of type and data; LevelDB
masks it, W&B does not (checked against files written by wandb 0.31).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.page.language import say

HEADER = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
BLOCK_BYTES = 32 * 1024
FRAME = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass(frozen=True)
class LogFile:
    """What one run file says. `warning` tells where reading stopped, if that was before the end.

    A run killed at its very start leaves a file without a run record: run_id and name then are those of its path,
    <run dir>/wandb/offline-run-*/run-<id>.wandb; its job_type is empty.
    """

    path: Path
    run_id: str
    name: str
    job_type: str
    start_seconds: float
    config: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    has_ended: bool
    warning: str | None


def read_frames(data: bytes) -> tuple[list[bytes], str | None]:
    """Split a run file into records.

    Returns the whole records, and a warning if the file ends inside one (a killed run leaves such a file) or
    if a checksum does not match; what follows such a place is not read.
    """
    if data[: len(HEADER)] != HEADER[: len(data)]:
        return [], say("is not a W&B run file, or one of a newer version")
    records: list[bytes] = []
    begun: bytes | None = None
    at = len(HEADER)
    while at < len(data):
        left = BLOCK_BYTES - at % BLOCK_BYTES
        if left < FRAME.size:  # no frame starts here: the rest of the block is padding
            at += left
            continue
        if at + FRAME.size > len(data):
            return records, say("is cut off at byte {at} of {size}", at=at, size=len(data))
        checksum, length, kind = FRAME.unpack_from(data, at)
        piece = data[at + FRAME.size : at + FRAME.size + length]
        if len(piece) < length:
            return records, say("is cut off at byte {at} of {size}", at=at, size=len(data))
        if zlib.crc32(piece, zlib.crc32(bytes([kind]))) != checksum:
            return records, say("is damaged at byte {at} of {size} (checksum)", at=at, size=len(data))
        if (kind in (FULL, FIRST)) != (begun is None) or kind not in (FULL, FIRST, MIDDLE, LAST):
            return records, say(
                "is damaged at byte {at} of {size} (frame of type {kind})", at=at, size=len(data), kind=kind
            )
        at += FRAME.size + length
        begun = (begun or b"") + piece
        if kind in (FULL, LAST):
            records.append(begun)
            begun = None
    return records, None if begun is None else say("is cut off at byte {at} of {size}", at=at, size=len(data))


def named_by_path(path: Path) -> tuple[str, str]:
    """The id and the name of a run as the path of its file tells them."""
    run_id = path.stem.removeprefix("run-")
    is_usual = len(path.parents) > 2 and path.parents[1].name == "wandb"
    return run_id, path.parents[2].name if is_usual else run_id


def read_log_file(path: Path) -> LogFile:
    """Read one run file as far as it is whole; OSError if it cannot be read at all."""
    return parse_log(path, path.read_bytes())


def parse_log(path: Path, data: bytes, reads: Callable[[str], bool] = lambda key: True) -> LogFile:
    """What the run file at `path` says, which holds `data`. reads: which keys of its history are; the rest is left out.

    A log may hold a thousand looks at the training for every evaluation, and decoding them takes most of the time.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from wandb.proto import wandb_internal_pb2  # imports wandb, 0.6 s: only when a file is read

    records, warning = read_frames(data)
    run_id, name = named_by_path(path)
    job_type, start_seconds, has_ended = "", 0.0, False
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    for number, payload in enumerate(records, start=1):
        try:
            record = wandb_internal_pb2.Record.FromString(payload)
            kind = record.WhichOneof("record_type")
            if kind == "history":
                row: dict[str, Any] = {}
                _assign(row, [item for item in record.history.item if reads((item.nested_key or [item.key])[0])])
                history.append(row)
            elif kind == "run":
                run_id, name = record.run.run_id, record.run.display_name or name
                job_type = record.run.job_type
                start_seconds = record.run.start_time.seconds + record.run.start_time.nanos * 1e-9
                _update(config, record.run.config)
                _update(summary, record.run.summary)
            elif kind == "config":
                _update(config, record.config)
            elif kind == "summary":
                _update(summary, record.summary)
            elif kind == "exit":
                has_ended = True
        except (DecodeError, ValueError, RecursionError):  # its checksum is right: it was written like this
            warning = say("holds a record that cannot be read (number {at} of {size})", at=number, size=len(records))
            break
    return LogFile(path, run_id, name, job_type, start_seconds, config, history, summary, has_ended, warning)


def _update(tree: dict[str, Any], change: Any) -> None:
    """Apply a config or summary record: its updates, then its removals."""
    _assign(tree, change.update)
    for item in change.remove:
        *parents, last = item.nested_key or [item.key]
        branch: Any = tree
        for key in parents:
            branch = branch.get(key) if isinstance(branch, dict) else None
        if isinstance(branch, dict):
            branch.pop(last, None)


def _assign(tree: dict[str, Any], items: Iterable[Any]) -> None:
    """Set each item's value at its `key`, or at the path `nested_key`. Raises ValueError for what is no JSON."""
    items = list(items)
    values = json.loads("[" + ",".join([item.value_json for item in items]) + "]")  # at once: three times as fast
    for item, value in zip(items, values, strict=True):
        path = item.nested_key
        if len(path) < 2:
            tree[path[0] if path else item.key] = value
            continue
        *parents, last = path
        branch = tree
        for key in parents:
            child = branch.get(key)
            branch[key] = child if isinstance(child, dict) else {}
            branch = branch[key]
        branch[last] = value
