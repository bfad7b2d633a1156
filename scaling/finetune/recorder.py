"""The record of a child while it is made: W&B, `scores.jsonl` and `status.json`, kept by rank 0 alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from scaling.child import ChildSpec, pretraining_of, task_of
from scaling.record import Measurement, append_point, read_measurements, restart_measurements
from scaling.status import Status, failure
from scaling.train.attempt import Attempt
from scaling.train.batches import Batch
from scaling.train.meter import Phase
from scaling.train.preemption import PreemptedError, Stop
from scaling.train.recorder import DivergedError


class Recorder:
    """Records what happens; on ranks other than 0, nothing.

    measurements: of the validation so far, those of attempts that were cut off among them; on every rank.
    """

    def __init__(self, spec: ChildSpec, run_dir: Path, stop: Stop) -> None:
        """Open the record of a run."""
        self._run_dir, self._task = run_dir, task_of(spec)
        self.measurements: list[Measurement] = []
        facts = {"num_params": pretraining_of(spec).num_params}
        self._attempt = Attempt(spec, run_dir, stop, Status(state="running"), facts, "examples")
        self.is_active = self._attempt.is_active

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """An exception ends the run as `diverged`, `preempted` or `failed`, with its message as one line."""
        if isinstance(error, DivergedError):
            self._attempt.finish("diverged", {}, str(error))
        elif isinstance(error, PreemptedError):
            self._attempt.finish("preempted", {}, str(error))
        elif isinstance(error, Exception):
            self._attempt.finish("failed", {}, failure(error))

    def goes_on(self, step: int, num_sequences: int) -> None:
        """The run goes on after so many steps: what was measured up to there stands. Every rank calls it."""
        path = self._run_dir / "scores.jsonl"
        self.measurements = restart_measurements(path, step) if self.is_active else read_measurements(path, step)
        if self.is_active:
            self._attempt.update(tokens=step * num_sequences)
            for measurement in self.measurements:
                self._attempt.tracker.measurement(self._task.name, measurement)

    def config(self, facts: dict[str, Any]) -> None:
        """What is known by now of the run, JSON, for W&B's config."""
        if self.is_active:
            self._attempt.tracker.config(facts)

    def during(self, phase: Phase) -> AbstractContextManager[None]:
        """What is done inside counts as this phase."""
        return self._attempt.during(phase)

    def steps(self, batches: Iterable[Batch], num_sequences: int) -> Iterator[Batch]:
        """The batches as they come. The wait for each is a phase; asking for the second ends the start of the run."""
        return self._attempt.steps(batches, num_sequences)

    def training(self, examples: int, loss: float, learning_rate: float, grad_norm: float) -> None:
        """The loss of the last batch, and the pace since the last look."""
        if self.is_active:
            facts = {"train/loss": loss, "train/lr": learning_rate, "train/grad_norm": grad_norm}
            self._attempt.look(examples, facts)

    def measured(self, measurement: Measurement) -> None:
        """Keep what validation came to: on disk first, then in W&B. Every rank calls it."""
        self.measurements.append(measurement)
        if not self.is_active:
            return
        append_point(self._run_dir / "scores.jsonl", measurement)
        with self._attempt.in_wandb():
            self._attempt.tracker.measurement(self._task.name, measurement)
        self._attempt.update(scores=measurement.metrics)

    def checkpoint_is_due(self) -> bool:
        return self._attempt.checkpoint_is_due()

    def checkpoint_written(self) -> None:
        self._attempt.checkpoint_written()

    def complete(self, facts: dict[str, Any], scores: dict[str, float]) -> None:
        """The run has done what it was to do. facts: for the summary. scores: of test, by metric, for the status."""
        self._attempt.status = self._attempt.status.model_copy(update={"scores": scores})
        self._attempt.finish("complete", facts, None)
