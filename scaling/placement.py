"""Where and how a run computes: no part of its identity."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scaling.part import Part


class Zero(Part):
    """DeepSpeed ZeRO: what the ranks share out. 0 nothing, 1 optimiser state, 2 + gradients, 3 + weights."""

    stage: Literal[0, 1, 2, 3] = 0
    offload: Literal["none", "cpu"] = "none"


class Placement(Part):
    """Where a run computes.

    ranks: processes of one run. micro_batch: sequences per rank and pass; None: the whole share of a rank.
    runs_per_device: runs of a sweep side by side. threads: per rank; None: cores / (ranks x runs).
    checkpoint_seconds: time between checkpoints, that is, the most that a crash can cost.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    ranks: int = Field(default=1, ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    runs_per_device: int = Field(default=1, ge=1)
    checkpoint_seconds: float = Field(default=60.0, ge=0)
