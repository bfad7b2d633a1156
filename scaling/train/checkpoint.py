"""Checkpoints: written beside, flushed, read back, renamed; hashed; only what verifies is read.

A checkpoint is a folder `step-00000123` with `weights.safetensors`, `exp_avg.safetensors`, `exp_avg_sq.safetensors`,
of a fine-tuning also `besides.safetensors`, and, written last, `manifest.json`: step, owner, numerics, the numbers of
loss scaling, every file's SHA-256, its own SHA-256. Nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from scaling.files import as_json, file_sha256, flush, write_json
from scaling.identity import digest
from scaling.train.engine import TrainState

log = logging.getLogger(__name__)

TENSORS = ("weights", "exp_avg", "exp_avg_sq")
STEPS = "step-" + 8 * "[0-9]"
PIECE_BYTES = 2**26


def save_checkpoint(folder: Path, state: TrainState, owner: str) -> Path:
    """Write one checkpoint under `folder`; a reader never sees half of it. OSError if it cannot be written."""
    final = checkpoint_path(folder, state.step)
    if newest_checkpoint(folder, owner, at_most=state.step, at_least=state.step) is not None:
        return final  # the state of a step is one
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-", ignore_cleanup_errors=True) as name:
            beside = Path(name)
            hashes = {}
            for part in (*TENSORS, *(("besides",) if state.besides else ())):
                file = beside / f"{part}.safetensors"
                hashes[file.name] = _write(file, getattr(state, part))
            manifest = {
                "step": state.step,
                "owner": owner,
                "numerics": state.numerics,
                "scaler": state.scaler,
                "sha256": hashes,
            }
            write_json(beside / "manifest.json", {**manifest, "own_sha256": digest(manifest)})
            flush(beside)
            if final.exists():  # a torn or foreign one of the same step: the reader refused it
                shutil.rmtree(final)
            os.rename(beside, final)
        flush(folder)
        log.info("checkpoint of step %d written, %s", state.step, final)
        return final
    except OSError as error:
        raise OSError(error.errno or errno.EIO, f"cannot write checkpoint {final}: {error}") from error


def _write(path: Path, tensors: dict[str, Any]) -> str:
    """Write tensors, flush them to disk and read them back. Returns their file's SHA-256."""
    data = save(tensors)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    with path.open("rb") as file:
        pieces = (data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES))
        if not all(file.read(PIECE_BYTES) == piece for piece in pieces):
            raise OSError(errno.EIO, f"{path.name} does not read back as it was written")
    return hashlib.sha256(data).hexdigest()


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints under `folder`, ascending, whether they verify or not."""
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob(STEPS))


def newest_checkpoint(folder: Path, owner: str, at_most: int, at_least: int = 0) -> TrainState | None:
    """The furthest checkpoint of `owner` within these steps that verifies; what fails is named and passed over."""
    for step in reversed(checkpoint_steps(folder)):
        if not at_least <= step <= at_most:
            continue
        path = checkpoint_path(folder, step)
        try:
            return _read(path, owner)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("checkpoint %s is refused: %s", path, error)
    return None


def _read(path: Path, owner: str) -> TrainState:
    """A checkpoint that is whole and `owner`'s; OSError, ValueError, KeyError or TypeError otherwise."""
    manifest = _read_manifest(path / "manifest.json")
    if manifest["owner"] != owner:
        raise ValueError(f"manifest.json: it belongs to {manifest['owner'][:8]}, not to {owner[:8]}")
    if path.name != f"step-{manifest['step']:08d}":
        raise ValueError(f"manifest.json says step {manifest['step']}")
    parts = [*TENSORS, *(["besides"] if "besides.safetensors" in manifest["sha256"] else [])]
    names = {f"{name}.safetensors" for name in parts}
    if found := {file.name for file in path.iterdir()} ^ names ^ {"manifest.json"}:
        raise ValueError(f"it lacks, or should not have, {', '.join(sorted(found))}")
    tensors = {}
    for name in parts:
        file = path / f"{name}.safetensors"
        if file_sha256(file) != manifest["sha256"][file.name]:
            raise ValueError(f"the hash of {file.name} does not match its manifest")
        try:
            tensors[name] = load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file.name} holds no tensors: {error}") from error
    return TrainState(manifest["step"], **tensors, numerics=manifest["numerics"], scaler=manifest["scaler"])


def _read_manifest(path: Path) -> dict[str, Any]:
    """A manifest as it was written, to the bit."""
    try:
        text = path.read_text(encoding="utf-8")
        manifest = json.loads(text)
        own = manifest.pop("own_sha256")
        is_ours = own == digest(manifest) and text == as_json({**manifest, "own_sha256": own})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"manifest.json cannot be read: {error!r}") from error
    if not is_ours:
        raise ValueError("manifest.json does not match its own hash")
    return manifest


def keep_newest(folder: Path, count: int) -> None:
    """Remove all but the newest `count` checkpoints, and what a killed writer left behind."""
    for path in [*sorted(folder.glob(STEPS))[:-count], *folder.glob(".writing-*")]:
        shutil.rmtree(path, ignore_errors=True)
