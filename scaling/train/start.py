"""Where a run begins: at its own last checkpoint, at a trunk, or from nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from scaling.identity import fingerprint
from scaling.spec import RunSpec
from scaling.status import read_status
from scaling.train.checkpoint import newest_checkpoint
from scaling.train.engine import TrainState, from_rank_0
from scaling.train.trunk import numerics, take_trunk

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """The state to go on from, None for nothing.

    trunk_tokens: the tokens of it that were taken over from a trunk.
    numerics: where and with what all steps of the run are computed, None if the state was computed elsewhere.
    """

    state: TrainState | None
    trunk_tokens: int
    numerics: str | None

    @property
    def step(self) -> int:
        """Optimiser steps already taken."""
        return self.state.step if self.state else 0


def find_start(spec: RunSpec, run_dir: Path, cache: Path) -> Start:
    """The furthest start; the same on every rank, which must all call it."""
    start = _furthest(spec, run_dir, cache, at_most=spec.num_steps)
    step = from_rank_0(start.step)
    if step != start.step:  # a trunk was left between the looks of two ranks
        start = _furthest(spec, run_dir, cache, at_most=step)
    if start.numerics is None:
        log.warning("goes on from step %d under another placement: equal to float tolerance, not in bits", step)
    return start


def _furthest(spec: RunSpec, run_dir: Path, cache: Path, at_most: int) -> Start:
    here = numerics(spec)
    own = newest_checkpoint(run_dir / "checkpoints", fingerprint(spec), at_most)
    trunk = take_trunk(spec, cache, at_most)
    if trunk is not None and (own is None or trunk.step > own.step):
        tokens, before = trunk.step * spec.batch.num_tokens, read_status(run_dir)
        # Before it was cut off, the run itself may have left this trunk: then it owes it nothing more.
        return Start(trunk, before.trunk_tokens if tokens <= before.tokens else tokens, here)
    if own is None:
        return Start(None, 0, here)
    return Start(own, read_status(run_dir).trunk_tokens, here if own.numerics == here else None)
