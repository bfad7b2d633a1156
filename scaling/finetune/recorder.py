"""The record of a child while it is made: W&B, `scores.jsonl` and `status.json`, kept by rank 0 alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from scaling.child import ChildSpec, pretraining_of, task_of
from scaling.ranks import device_of, this_rank
from scaling.record import Measurement, append_point, read_measurements, restart_measurements
from scaling.status import State, Status, failure, read_status, write_status
from scaling.tracking import Tracker
from scaling.train.batches import Batch
from scaling.train.environment import environment
from scaling.train.meter import Phase, Phases, memory_bytes
from scaling.train.preemption import PreemptedError, Stop, deaf_children
from scaling.train.recorder import DivergedError

log = logging.getLogger(__name__)

SECONDS_BETWEEN_STATUS = 1.0
SECONDS_TO_HEAR = 1.0
"""How long a signal that one process of a job has heard may take to the next."""


class Recorder:
    """Records what happens; on ranks other than 0, nothing.

    measurements: of the validation so far, those of attempts that were cut off among them; on every rank.
    """

    def __init__(self, spec: ChildSpec, run_dir: Path, stop: Stop) -> None:
        """Open the record of a run."""
        self.is_active = this_rank() == 0
        self._spec, self._run_dir, self._stop = spec, run_dir, stop
        self._task = task_of(spec)
        self._status = Status(state="running")
        self._started = self._status_written = self._checkpointed = time.monotonic()
        self._phases = Phases()
        self._paced: tuple[int, float] | None = None  # rows, and seconds of training, that the pace is counted from
        self._device = device_of(spec)
        self._seconds_before = read_status(run_dir).seconds  # of attempts that were cut off
        self.measurements: list[Measurement] = []
        if self.is_active:
            write_status(run_dir, self._status)
            with deaf_children():  # the W&B service
                facts = {"num_params": pretraining_of(spec).num_params, "environment": environment()}
                self._tracker = Tracker(spec, run_dir, facts)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """An exception ends the run as `diverged`, `preempted` or `failed`, with its message as one line."""
        if isinstance(error, DivergedError):
            self._finish("diverged", {}, str(error))
        elif isinstance(error, PreemptedError):
            self._finish("preempted", {}, str(error))
        elif isinstance(error, Exception):
            self._finish("failed", {}, failure(error))

    def goes_on(self, step: int, num_sequences: int) -> None:
        """The run goes on after so many steps: what was measured up to there stands. Every rank calls it."""
        path = self._run_dir / "scores.jsonl"
        self.measurements = restart_measurements(path, step) if self.is_active else read_measurements(path, step)
        self._status = self._status.model_copy(update={"tokens": step * num_sequences})
        if self.is_active:
            for measurement in self.measurements:
                self._tracker.measurement(self._task.name, measurement)

    def config(self, facts: dict[str, Any]) -> None:
        """What is known by now of the run, JSON, for W&B's config."""
        if self.is_active:
            self._tracker.config(facts)

    def during(self, phase: Phase) -> AbstractContextManager[None]:
        """What is done inside counts as this phase."""
        return self._phases.during(phase)

    def steps(self, batches: Iterable[Batch], num_sequences: int) -> Iterator[Batch]:
        """The batches as they come. The wait for each is a phase; asking for the second ends the start of the run."""
        coming = iter(batches)
        while True:
            with self.during("data"):
                batch = next(coming, None)
            if batch is None:
                return
            yield batch
            if self._paced is None:
                self._phases.enter("train")
                self._paced = (batch.step + 1) * num_sequences, self._training_seconds()

    def training(self, examples: int, loss: float, learning_rate: float, grad_norm: float) -> None:
        """The loss of the last batch, and the pace since the last look."""
        if not self.is_active:
            return
        facts = {"train/loss": loss, "train/lr": learning_rate, "train/grad_norm": grad_norm}
        if self._paced is not None:
            examples_before, seconds_before = self._paced
            self._paced = examples, self._training_seconds()
            pace = (examples - examples_before) / max(self._paced[1] - seconds_before, 1e-9)
            facts["perf/examples_per_second"] = pace
            self._status = self._status.model_copy(update={"tokens_per_second": pace})
        if (memory := memory_bytes(self._device)) is not None:
            facts["perf/memory_bytes"] = memory
        with self._in_wandb():
            self._tracker.training(examples, facts | self._phase_facts())
        self._update(tokens=examples)

    def measured(self, measurement: Measurement) -> None:
        """Keep what validation came to: on disk first, then in W&B. Every rank calls it."""
        self.measurements.append(measurement)
        if not self.is_active:
            return
        append_point(self._run_dir / "scores.jsonl", measurement)
        with self._in_wandb():
            self._tracker.measurement(self._task.name, measurement)
        self._update(scores=measurement.metrics)

    def checkpoint_is_due(self) -> bool:
        return time.monotonic() - self._checkpointed > self._spec.placement.checkpoint_seconds

    def checkpoint_written(self) -> None:
        self._checkpointed = time.monotonic()

    def complete(self, facts: dict[str, Any], scores: dict[str, float]) -> None:
        """The run has done what it was to do. facts: for the summary. scores: of test, by metric, for the status."""
        self._status = self._status.model_copy(update={"scores": scores})
        self._finish("complete", facts, None)

    @contextmanager
    def _in_wandb(self) -> Iterator[None]:
        """The W&B service dies of SIGTERM, if it gets it, too; the restart repeats what it may have lost."""
        try:
            yield
        except Exception as error:
            time.sleep(SECONDS_TO_HEAR)
            if not self._stop.is_requested:
                raise
            log.info("W&B has ended before this run: %s", error)

    def _finish(self, state: State, facts: dict[str, Any], error: str | None) -> None:
        if not self.is_active:
            return
        seconds = self._seconds_before + time.monotonic() - self._started
        summary = {"state": state, "seconds": seconds, **self._phase_facts(), **facts}
        if error is not None:
            summary["error"] = error
        try:
            self._tracker.finish(summary)
        except Exception:
            if state == "complete":
                raise
            log.warning("the end of the run is not in W&B", exc_info=True)  # what ended it may have ended that, too
        self._status = self._status.model_copy(update={"state": state, "error": error, "seconds": seconds})
        write_status(self._run_dir, self._status)

    def _training_seconds(self) -> float:
        seconds = self._phases.seconds()
        return seconds["train"] + seconds["data"]

    def _phase_facts(self) -> dict[str, float]:
        return {f"phase/{phase}": seconds for phase, seconds in self._phases.seconds().items()}

    def _update(self, **changes: Any) -> None:
        seconds = self._seconds_before + time.monotonic() - self._started
        self._status = self._status.model_copy(update={**changes, "seconds": seconds})
        if time.monotonic() - self._status_written > SECONDS_BETWEEN_STATUS:
            write_status(self._run_dir, self._status)
            self._status_written = time.monotonic()
