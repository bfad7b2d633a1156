"""The record of a run while it is made: W&B, `points.jsonl` and `status.json`, kept by rank 0 alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from scaling.data.card import run_card
from scaling.data.ledger import Ledger
from scaling.data.prepare import Prepared
from scaling.data.stream import MixtureStream
from scaling.files import write_json
from scaling.identity import fingerprint, trunk_identity
from scaling.ranks import device_of, num_ranks
from scaling.record import EvalPoint, append_point, restart_points
from scaling.spec import RunSpec
from scaling.status import State, Status, failure
from scaling.train.attempt import Attempt
from scaling.train.batches import Batch
from scaling.train.meter import Phase, peak_flops
from scaling.train.preemption import PreemptedError, Stop
from scaling.train.schedule import ScheduleError, audit
from scaling.train.start import Start


class DivergedError(RuntimeError):
    """The loss is no number any more."""


class Recorder:
    """Records what happens; on ranks other than 0, nothing."""

    def __init__(self, spec: RunSpec, run_dir: Path, start: Start, stop: Stop) -> None:
        """Open the record of a run that begins, or goes on, at `start`."""
        self._spec, self._run_dir, self._start = spec, run_dir, start
        tokens = start.step * spec.batch.num_tokens
        self._looked_tokens, self._learning_rate = tokens, 0.0  # as of the last look
        peak = peak_flops(device_of(spec), spec.precision)  # of each rank's device
        self._peak_per_token = None if peak is None else spec.flops_per_token / (peak * num_ranks())
        status = Status(state="running", tokens=tokens, trunk_tokens=start.trunk_tokens)
        facts = {"num_params": spec.num_params, "flops_per_token": spec.flops_per_token}
        self._attempt = Attempt(spec, run_dir, stop, status, facts, "tokens")
        self.is_active = self._attempt.is_active
        if self.is_active:
            for point in restart_points(run_dir / "points.jsonl", tokens):
                self._attempt.tracker.point(point)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """An exception ends the run as `diverged`, `preempted` or `failed`, with its message as one line."""
        if isinstance(error, DivergedError):
            self._finish("diverged", {}, str(error))
        elif isinstance(error, ScheduleError):
            self._finish("failed", error.facts, f"ScheduleError: {error}")
        elif isinstance(error, PreemptedError):
            self._finish("preempted", {}, str(error))
        elif isinstance(error, Exception):
            self._finish("failed", {}, failure(error))

    def data(self, prepared: Prepared, stream: MixtureStream) -> None:
        """The data card of the run."""
        if self.is_active:
            self._attempt.tracker.data_card(run_card(self._spec, prepared, stream))

    def during(self, phase: Phase) -> AbstractContextManager[None]:
        """What is done inside counts as this phase."""
        return self._attempt.during(phase)

    def steps(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches as they come. The wait for each is a phase; asking for the second ends the start of the run."""
        return self._attempt.steps(batches, self._spec.batch.num_tokens)

    def training(self, tokens: int, loss: float, learning_rate: float, grad_norm: float) -> None:
        """The mean nats per token of the last batch, and the pace since the last look."""
        if not self.is_active:
            return
        self._looked_tokens, self._learning_rate = tokens, learning_rate
        facts = {"train/loss": loss, "train/lr": learning_rate, "train/grad_norm": grad_norm}
        self._attempt.look(tokens, facts, self._peak_per_token)

    def point(self, point: EvalPoint) -> None:
        """Keep a measurement: on disk first, then in W&B."""
        if not self.is_active:
            return
        append_point(self._run_dir / "points.jsonl", point)
        with self._attempt.in_wandb():
            self._attempt.tracker.point(point)
        self._attempt.update(loss={domain: sums.loss for domain, sums in point.domains.items()})

    def reached(self, tokens: int) -> None:
        """Say at once how far the run is: it must know later that what it now leaves for others is its own."""
        if self.is_active:
            self._attempt.update_now(tokens=tokens)

    def checkpoint_is_due(self) -> bool:
        return self._attempt.checkpoint_is_due()

    def checkpoint_written(self) -> None:
        self._attempt.checkpoint_written()

    def complete(self, ledger: Ledger, num_left_out: int) -> None:
        """The run has trained its budget, but for steps left out. ScheduleError if its schedule ends elsewhere."""
        if not self.is_active:
            return
        tokens = self._looked_tokens
        facts = audit(self._spec, tokens, self._learning_rate)
        facts["steps_left_out"] = num_left_out
        seen = {**ledger.flat(), "flops": self._spec.flops_per_token * tokens}
        losses = {f"loss/{domain}": loss for domain, loss in self._attempt.status.loss.items()}
        # For the runs that go on from this one; written before the status that lets them start.
        write_json(self._run_dir / "ledger.json", {"fingerprint": fingerprint(self._spec), **seen, **losses})
        self._finish("complete", {**facts, **seen}, None)

    def _finish(self, state: State, facts: dict[str, Any], error: str | None) -> None:
        begun = {"trunk/start_tokens": self._start.trunk_tokens, "elastic": self._start.numerics is None}
        trunk = trunk_identity(self._spec)
        of_trunk = {} if trunk is None else {"trunk/key": trunk[:16]}
        self._attempt.finish(state, {**begun, **facts, **of_trunk}, error)
