"""One attempt at a run, as its record tells it: W&B and `status.json`, kept by rank 0 alone; phases, pace, and the end.

Whatever is trained shares it; what else there is to record is of the recorders of pretraining and of children.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

from scaling.child import AnySpec
from scaling.ranks import device_of, this_rank
from scaling.status import State, Status, read_status, write_status
from scaling.tracking import Tracker
from scaling.train.batches import Batch
from scaling.train.environment import environment
from scaling.train.meter import Phase, Phases, memory_bytes
from scaling.train.preemption import Stop, deaf_children

log = logging.getLogger(__name__)

SECONDS_BETWEEN_STATUS = 1.0
SECONDS_TO_HEAR = 1.0
"""How long a signal that one process of a job has heard may take to the next."""


class Attempt:
    """From the opening of its log to its end; on ranks other than 0, nothing is kept.

    status: as it is now. tracker: of rank 0.
    """

    tracker: Tracker

    def __init__(
        self,
        spec: AnySpec,
        run_dir: Path,
        stop: Stop,
        status: Status,
        facts: dict[str, Any],
        unit: Literal["tokens", "examples"],
    ) -> None:
        """Open the log. facts: for W&B's config, beside the environment. unit: what progress is counted in."""
        self.is_active = this_rank() == 0
        self.status = status
        self._spec, self._run_dir, self._stop, self._unit = spec, run_dir, stop, unit
        self._started = self._status_written = self._checkpointed = time.monotonic()
        self._phases = Phases()
        self._paced: tuple[int, float] | None = None  # amount, and seconds of training, that the pace is counted from
        self._device = device_of(spec)
        self._seconds_before = read_status(run_dir).seconds  # of attempts that were cut off
        if self.is_active:
            write_status(run_dir, self.status)
            with deaf_children():  # the W&B service
                self.tracker = Tracker(spec, run_dir, {**facts, "environment": environment()})

    def during(self, phase: Phase) -> AbstractContextManager[None]:
        """What is done inside counts as this phase."""
        return self._phases.during(phase)

    def steps(self, batches: Iterable[Batch], amount: int) -> Iterator[Batch]:
        """The batches as they come, each of `amount` tokens or rows. The wait for each is a phase; asking for the
        second ends the start of the run."""
        coming = iter(batches)
        while True:
            with self.during("data"):
                batch = next(coming, None)
            if batch is None:
                return
            yield batch
            if self._paced is None:
                self._phases.enter("train")
                self._paced = (batch.step + 1) * amount, self._training_seconds()

    def look(self, amount: int, facts: dict[str, float], peak_per_unit: float | None = None) -> None:
        """Log facts of the training after so many tokens or rows, with the pace since the last look.

        peak_per_unit: the share of the device's peak that one token per second is; None where it is not known.
        """
        if self._paced is not None:
            amount_before, seconds_before = self._paced
            self._paced = amount, self._training_seconds()
            pace = (amount - amount_before) / max(self._paced[1] - seconds_before, 1e-9)
            facts = {**facts, f"perf/{self._unit}_per_second": pace}
            if peak_per_unit is not None:
                facts["perf/mfu"] = pace * peak_per_unit
            self.status = self.status.model_copy(update={"tokens_per_second": pace})
        if (memory := memory_bytes(self._device)) is not None:
            facts = {**facts, "perf/memory_bytes": memory}
        with self.in_wandb():
            self.tracker.training(amount, facts | self._phase_facts())
        self.update(tokens=amount)

    @contextmanager
    def in_wandb(self) -> Iterator[None]:
        """The W&B service dies of SIGTERM, if it gets it, too; the restart repeats what it may have lost."""
        try:
            yield
        except Exception as error:
            time.sleep(SECONDS_TO_HEAR)
            if not self._stop.is_requested:
                raise
            log.info("W&B has ended before this run: %s", error)

    def update(self, **changes: Any) -> None:
        """Change the status, and write it if that was not done a moment ago."""
        self.status = self.status.model_copy(update={**changes, "seconds": self._seconds()})
        if time.monotonic() - self._status_written > SECONDS_BETWEEN_STATUS:
            write_status(self._run_dir, self.status)
            self._status_written = time.monotonic()

    def update_now(self, **changes: Any) -> None:
        """Change the status, on disk when this returns."""
        self.status = self.status.model_copy(update={**changes, "seconds": self._seconds()})
        write_status(self._run_dir, self.status)

    def checkpoint_is_due(self) -> bool:
        return time.monotonic() - self._checkpointed > self._spec.placement.checkpoint_seconds

    def checkpoint_written(self) -> None:
        self._checkpointed = time.monotonic()

    def finish(self, state: State, facts: dict[str, Any], error: str | None) -> None:
        """The end of the attempt. facts: for the summary."""
        if not self.is_active:
            return
        seconds = self._seconds()
        summary = {"state": state, "seconds": seconds, **self._phase_facts(), **facts}
        if error is not None:
            summary["error"] = error
        try:
            self.tracker.finish(summary)
        except Exception:
            if state == "complete":
                raise
            log.warning("the end of the run is not in W&B", exc_info=True)  # what ended it may have ended that, too
        self.status = self.status.model_copy(update={"state": state, "error": error, "seconds": seconds})
        write_status(self._run_dir, self.status)

    def _training_seconds(self) -> float:
        seconds = self._phases.seconds()
        return seconds["train"] + seconds["data"]

    def _phase_facts(self) -> dict[str, float]:
        return {f"phase/{phase}": seconds for phase, seconds in self._phases.seconds().items()}

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started
