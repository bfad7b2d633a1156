"""Where a run begins: at its own last checkpoint, at a trunk, or from nothing."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from scaling.identity import fingerprint
from scaling.ranks import any_rank, from_rank_0, min_over_ranks, this_rank
from scaling.spec import RunSpec
from scaling.status import read_status, write_status
from scaling.train.checkpoint import checkpoint_path, newest_checkpoint
from scaling.train.engine import TrainState
from scaling.train.preemption import PreemptedError, Stop
from scaling.train.trunk import Trunk

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.5


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


def find_start(spec: RunSpec, run_dir: Path, trunk: Trunk, stop: Stop) -> Start:
    """The furthest start; the same on every rank, which must all call it.

    Waits while another run extends the trunk towards a state that this one can use. Raises PreemptedError.
    """
    here = trunk.numerics
    own = newest_checkpoint(run_dir / "checkpoints", fingerprint(spec), at_most=spec.num_steps)
    is_early = own is None or (own.step < trunk.branch and own.numerics == here)
    if trunk.branch and from_rank_0(is_early):
        _wait(trunk, run_dir, stop)
    start = _furthest(spec, run_dir, trunk, own, here, at_most=spec.num_steps)
    step = from_rank_0(start.step)
    if step != start.step:  # a trunk was left between the looks of two ranks
        own = newest_checkpoint(run_dir / "checkpoints", fingerprint(spec), at_most=step)
        start = _furthest(spec, run_dir, trunk, own, here, at_most=step)
    if min_over_ranks(start.step) != step:
        raise RuntimeError(f"rank {this_rank()} finds the state of step {start.step}, rank 0 that of step {step}")
    if step and this_rank() == 0:
        is_own = own is not None and own.step == step
        source = f"the checkpoint {checkpoint_path(run_dir, step).name}" if is_own else "its trunk"
        log.info("resumed at step %d of %d, from %s", step, spec.num_steps, source)
    if start.numerics is None:
        log.warning("goes on from step %d under another placement: equal to float tolerance, not in bits", step)
    else:
        trunk.begin(step)
    return start


def _wait(trunk: Trunk, run_dir: Path, stop: Stop) -> None:
    """Wait for the trunk, and say so in the status. Every rank calls it."""
    if this_rank() == 0:
        trunk.want()
    while not from_rank_0(this_rank() == 0 and trunk.may_go()):
        if any_rank(stop.is_requested):
            raise PreemptedError
        if this_rank() == 0 and (status := read_status(run_dir)).note is None:
            write_status(run_dir, status.model_copy(update={"note": "waits for a run that trains the same trunk"}))
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _furthest(spec: RunSpec, run_dir: Path, trunk: Trunk, own: TrainState | None, here: str, at_most: int) -> Start:
    shared = trunk.take(at_most)
    before = read_status(run_dir)
    if shared is not None and (own is None or shared.step > own.step):
        tokens = shared.step * spec.batch.num_tokens
        # Before it was cut off, the run itself may have left this state: then it owes it nothing more.
        return Start(shared, before.trunk_tokens if tokens <= before.tokens else tokens, here)
    if own is None:
        return Start(None, 0, here)
    return Start(own, before.trunk_tokens, here if own.numerics == here else None)
