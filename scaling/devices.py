"""The GPUs of this machine, and how the runs of a sweep share them. Torch is not asked: it would start CUDA."""

from __future__ import annotations

import os
import shutil
import subprocess

from scaling.placement import Placement


def gpus() -> list[str]:
    """The GPUs that a process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    lines = listed.stdout.splitlines() if listed.returncode == 0 else []
    return [str(number) for number, line in enumerate(lines) if line.startswith("GPU ")]


def seats(placement: Placement) -> list[str | None]:
    """Where runs may compute side by side: the CUDA_VISIBLE_DEVICES of each; None: as this process.

    The ranks of a run take a GPU each, so g GPUs are g / ranks groups, each with `runs_per_device` runs. Where there
    are fewer GPUs than ranks, or none, or the run takes other machines, too, runs share what there is.
    """
    found = [] if placement.device == "cpu" or placement.nodes > 1 else gpus()
    ranks = placement.ranks
    groups: list[str | None] = [",".join(found[i : i + ranks]) for i in range(0, len(found) - ranks + 1, ranks)]
    return (groups or [None]) * placement.runs_per_device
