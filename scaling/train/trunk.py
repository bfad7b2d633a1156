"""Trunks: under warmup-stable-decay, runs that differ only in budget train their stable phase once.

A run leaves its state at the step where its decay begins; a run with a larger budget continues from the
furthest such state. The address holds all that could change a bit of it, so a branch equals a direct run.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import torch
from filelock import FileLock

from scaling.identity import digest, trunk_identity
from scaling.spec import RunSpec
from scaling.train.checkpoint import newest_checkpoint, save_checkpoint
from scaling.train.engine import TrainState, device_of
from scaling.train.schedule import branch_step


def numerics(spec: RunSpec) -> str:
    """Hash of where and with what a run computes: equal numerics give equal bits."""
    device = device_of(spec)
    return digest(
        {
            "versions": {name: version(name) for name in ("torch", "transformers", "deepspeed")},
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "ranks": spec.placement.ranks,
            "micro_batch": spec.micro_batch,
            "zero": spec.zero.model_dump(),
        }
    )


def take_trunk(spec: RunSpec, cache: Path, at_most: int) -> TrainState | None:
    """The furthest state, up to step `at_most`, that an equal run left at or before this one's branch step."""
    folder = _folder(spec, cache)
    return None if folder is None else newest_checkpoint(folder, folder.name, min(at_most, branch_step(spec)))


def leave_trunk(spec: RunSpec, cache: Path, state: TrainState) -> None:
    """Leave the state at the branch point for runs with larger budgets."""
    folder = _folder(spec, cache)
    if folder is None or newest_checkpoint(folder, folder.name, at_most=state.step, at_least=state.step):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        save_checkpoint(folder, state, folder.name)


def _folder(spec: RunSpec, cache: Path) -> Path | None:
    identity = trunk_identity(spec)
    return None if identity is None else cache / "trunks" / digest([identity, numerics(spec)])[:32]
