"""Where a fine-tuning goes on: its own last checkpoint."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from scaling.child import FinetuneSpec
from scaling.identity import fingerprint
from scaling.ranks import min_over_ranks, this_rank
from scaling.train.checkpoint import checkpoint_path, newest_checkpoint
from scaling.train.engine import TrainState
from scaling.train.trunk import numerics

log = logging.getLogger(__name__)

BEST, METHOD = "best/", "method/"
"""What a checkpoint holds besides the state of training: the best weights so far, and what the method remembers."""


@torch.no_grad()
def load(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Set what learns to what was kept."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(weights[name])


def remembered(kept: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What was kept under this prefix, by its names behind it."""
    return {name.removeprefix(prefix): value for name, value in kept.items() if name.startswith(prefix)}


@dataclass(frozen=True, slots=True)
class Start:
    """The state to go on from, None for nothing. numerics: where and with what all steps of the run are computed, None
    if the state was computed elsewhere."""

    state: TrainState | None
    numerics: str | None

    @property
    def step(self) -> int:
        """Optimiser steps already taken."""
        return self.state.step if self.state else 0


def find_start(spec: FinetuneSpec, run_dir: Path, num_steps: int, owner: str | None = None) -> Start:
    """The run's last checkpoint; the same on every rank, which must all call it.

    owner: the fingerprint of the run, where it is not that of the spec by which it trains.
    """
    here = numerics(spec)
    own = newest_checkpoint(run_dir / "checkpoints", owner or fingerprint(spec), at_most=num_steps)
    step = own.step if own else 0
    if min_over_ranks(step) != step or -min_over_ranks(-step) != step:
        raise RuntimeError(f"rank {this_rank()} finds the state of step {step}, and another rank another")
    if own is None:
        return Start(None, here)
    if this_rank() == 0:
        log.info(
            "resumed at step %d of %d, from the checkpoint %s", step, num_steps, checkpoint_path(run_dir, step).name
        )
    if own.numerics != here:
        log.warning("goes on from step %d under another placement: equal to float tolerance, not in bits", step)
    return Start(own, here if own.numerics == here else None)
