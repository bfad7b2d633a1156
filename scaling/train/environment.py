"""With what and on what a run is made, for its record."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

import torch

VERSIONS = {
    **{name: version(name) for name in ("torch", "transformers", "deepspeed", "datasets", "wandb")},
    "scaling": version("data-scaling"),
}
"""Looked up, 20 ms each, when this is imported: once for all runs that are forked from one server."""


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
