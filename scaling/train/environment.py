"""With what and on what a run is made, for its record."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

VERSIONS = {
    **{name: version(name) for name in ("torch", "transformers", "deepspeed", "datasets", "wandb")},
    "scaling": version("data-scaling"),
}
"""Looked up, 20 ms each, when this is imported: once for all runs that are forked from one server."""

SOURCES = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()
"""Hash of this package, read as it is loaded: a file may change while the runs of a sweep are forked."""


def environment() -> dict[str, str]:
    """Versions and hardware."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": f"{os.cpu_count()} x {platform.processor() or platform.machine()}",
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": str(torch.get_num_threads()),
        **VERSIONS,
    }
