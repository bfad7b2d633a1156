"""What a run costs while it is made: the time of its phases, the share of its device's peak, memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import torch

Phase = Literal["start", "data", "train", "evaluate", "checkpoint"]

PEAK_TERAFLOPS = {
    "B200": (2250.0, 80.0),
    "H200": (989.4, 66.9),
    "H100 PCIe": (756.0, 51.2),
    "H100 NVL": (835.0, 60.0),
    "H100": (989.4, 66.9),
    "A100": (312.0, 19.5),
    "L40S": (362.1, 91.6),
    "L4": (121.0, 30.3),
    "RTX 4090": (165.2, 82.6),
    "RTX 3090": (71.0, 35.6),
}
"""Dense peak in 16 bits (tensor cores, accumulated in 32) and in 32 (no TF32), from NVIDIA's data sheets and, for RTX,
architecture whitepapers; data sheets print twice as much for sparse matrices. The first name that fits counts."""


class Phases:
    """Where the time goes, in seconds since this was made; each moment belongs to one phase.

    Steps are only handed to a device, so what a phase takes is right where the device is waited for at its ends.
    """

    def __init__(self) -> None:
        self._ended: dict[Phase, float] = dict.fromkeys(get_args(Phase), 0.0)
        self._current: Phase = "start"
        self._since = time.monotonic()

    def enter(self, phase: Phase) -> Phase:
        """Begin a phase; the one before."""
        before, now = self._current, time.monotonic()
        self._ended[before] += now - self._since
        self._current, self._since = phase, now
        return before

    @contextmanager
    def during(self, phase: Phase) -> Iterator[None]:
        """A phase that interrupts another."""
        before = self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def seconds(self) -> dict[Phase, float]:
        """So far."""
        self.enter(self._current)
        return dict(self._ended)


def peak_flops(device: torch.device, precision: str) -> float | None:
    """What a device could do in a second; None where that is not known."""
    if device.type != "cuda":
        return None
    words = set(torch.cuda.get_device_name(device).replace("-", " ").split())
    for known, (in_16_bits, in_32_bits) in PEAK_TERAFLOPS.items():
        if set(known.split()) <= words and "Laptop" not in words:
            return 1e12 * (in_32_bits if precision == "fp32" else in_16_bits)
    return None


def memory_bytes(device: torch.device) -> int | None:
    """The most that was in use so far: allocated on a GPU, or resident in this process; None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:  # not getrusage, whose peak is inherited from the process that this one was forked from
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
