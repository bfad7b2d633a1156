"""Trunks: under warmup-stable-decay, runs that differ only in budget train their stable phase once.

A run leaves its state at the step where its decay begins, its branch step; a run with a larger budget continues from
the furthest such state. The address holds all that could change a bit of it, so a branch equals a direct run.

Runs of one trunk may train at the same time, in any number of processes. In the trunk's folder lie

    step-00000045        a state, as a checkpoint
    step-00000045.lock   locked by the one run that goes on from there to its own branch step (at 0 there is no state)
    wanted/00000060      a run would like to branch there

The run that holds the lock leaves a state at every wanted step that it comes to. Others wait for theirs; one that asked
too late finds its wish struck out, and trains by itself. The lock of a run that dies is free.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from scaling.child import FinetuneSpec
from scaling.identity import digest, trunk_identity
from scaling.ranks import device_of, from_rank_0, of_all_ranks, this_rank
from scaling.spec import RunSpec
from scaling.train.checkpoint import checkpoint_path, checkpoint_steps, newest_checkpoint, save_checkpoint
from scaling.train.engine import TrainState
from scaling.train.environment import VERSIONS
from scaling.train.schedule import branch_step

BITS_STAY = {
    *("device", "threads", "micro_batch", "engine"),
    *("runs_per_device", "checkpoint_seconds", "profile", "hostfile", "port"),
}
"""Of a placement, what changes no bit, or has its effective value beside it in `numerics`."""


def numerics(spec: RunSpec | FinetuneSpec) -> str:
    """Hash of where and with what a run computes: equal numerics give equal bits.

    Every rank must ask, and all get the same, though ranks may differ, on other machines or in their threads.
    """
    each = of_all_ranks(_own_numerics(spec))
    return each[0] if len(set(each)) == 1 else digest(each)


def _own_numerics(spec: RunSpec | FinetuneSpec) -> str:
    """What this rank has to say to it."""
    device = device_of(spec)
    return digest(
        {
            "versions": {name: VERSIONS[name] for name in ("torch", "transformers")},
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "micro_batch": spec.micro_batch,
            "placement": spec.placement.model_dump(mode="json", exclude=BITS_STAY),
            "deepspeed": [VERSIONS["deepspeed"], spec.zero.model_dump(mode="json")] if spec.needs_deepspeed else None,
        }
    )


class Trunk:
    """The part that one run has in its trunk, on one rank; what every rank must call says so."""

    def __init__(self, spec: RunSpec, cache: Path) -> None:
        """Every rank makes one."""
        self.numerics = numerics(spec)
        identity = trunk_identity(spec)
        self.branch = 0 if identity is None else branch_step(spec)
        self._folder = cache / "trunks" / digest([identity, self.numerics])[:32]
        self._from = 0
        self._lock: FileLock | None = None
        self._next: int | None = None

    def may_go(self) -> bool:
        """Whether there is nothing to wait for: nobody is about to leave what this run could go on from.

        Where there is something to extend, this run then holds the lock, and others wait for it.
        """
        furthest = self._furthest()
        if furthest == self.branch:
            return True
        lock = self._try_lock(furthest)
        if lock is None:
            return not self._wish(self.branch).exists()
        if self._furthest() != furthest:  # left between the look and the lock
            lock.release()
            return False
        self._from, self._lock = furthest, lock
        return True

    def want(self) -> None:
        """Let a run that extends the trunk know where this one branches."""
        self._wish(self.branch).parent.mkdir(parents=True, exist_ok=True)
        self._wish(self.branch).touch()

    def take(self, at_most: int) -> TrainState | None:
        """The furthest state, up to step `at_most`, that an equal run left at or before this one's branch step."""
        if self.branch == 0:
            return None
        return newest_checkpoint(self._folder, self._folder.name, min(at_most, self.branch))

    def begin(self, step: int) -> None:
        """This run goes on from `step`, and leaves states. Every rank calls it; one that leaves none does not."""
        self._plan(step)

    def is_due(self, done: int) -> bool:
        """Whether a state is to be left after `done` steps; the same on every rank."""
        return done == self._next

    def look(self, done: int) -> None:
        """Hear what others want, and strike out what is behind: after `done` steps. Every rank calls it."""
        if self._next is None:
            return
        if self._lock is not None:
            for step in self._wanted():
                if self._from < step <= done:
                    self._wish(step).unlink(missing_ok=True)
        self._plan(done)

    def leave(self, state: TrainState) -> None:
        """Leave a state that is due. Every rank calls it, rank 0 writes."""
        if this_rank() == 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            held, self._lock = self._lock, None
            if state.step < self.branch:  # before others see the state, so that they wait
                self._from, self._lock = state.step, self._try_lock(state.step)
            with FileLock(self._folder / "lock"):
                for left in self._folder.glob(".writing-*"):  # by a writer that was killed
                    shutil.rmtree(left, ignore_errors=True)
                if newest_checkpoint(self._folder, self._folder.name, at_most=state.step, at_least=state.step) is None:
                    save_checkpoint(self._folder, state, self._folder.name)
            self._wish(state.step).unlink(missing_ok=True)
            if held is not None:
                held.release()
        self._plan(state.step)

    def _plan(self, done: int) -> None:
        """Settle with all ranks where the next state is due."""
        self._next = None
        if done < self.branch:
            wanted = [step for step in self._wanted() if done < step] if this_rank() == 0 else []
            self._next = from_rank_0(min([self.branch, *wanted]))

    def _furthest(self) -> int:
        return max((step for step in checkpoint_steps(self._folder) if step <= self.branch), default=0)

    def _try_lock(self, step: int) -> FileLock | None:
        """The lock of the one that goes on from `step`; None while another has it."""
        lock = FileLock(checkpoint_path(self._folder, step).with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock

    def _wish(self, step: int) -> Path:
        return self._folder / "wanted" / f"{step:08d}"

    def _wanted(self) -> list[int]:
        return [int(path.name) for path in self._folder.glob("wanted/" + 8 * "[0-9]")]
