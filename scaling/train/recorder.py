"""The record of a run while it is made: W&B, `points.jsonl` and `status.json`, kept by rank 0 alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from scaling.data.card import run_card
from scaling.data.ledger import Ledger
from scaling.data.prepare import Prepared
from scaling.data.stream import MixtureStream
from scaling.files import write_json
from scaling.identity import fingerprint, trunk_identity
from scaling.ranks import device_of, num_ranks, this_rank
from scaling.record import EvalPoint, append_point, restart_points
from scaling.spec import RunSpec
from scaling.status import State, Status, failure, read_status, write_status
from scaling.tracking import Tracker
from scaling.train.batches import Batch
from scaling.train.environment import environment
from scaling.train.meter import Phase, Phases, memory_bytes, peak_flops
from scaling.train.preemption import PreemptedError, Stop, deaf_children
from scaling.train.schedule import ScheduleError, audit
from scaling.train.start import Start

log = logging.getLogger(__name__)

SECONDS_BETWEEN_STATUS = 1.0
SECONDS_TO_HEAR = 1.0
"""How long a signal that one process of a job has heard may take to the next."""


class DivergedError(RuntimeError):
    """The loss is no number any more."""


class Recorder:
    """Records what happens; on ranks other than 0, nothing."""

    def __init__(self, spec: RunSpec, run_dir: Path, start: Start, stop: Stop) -> None:
        """Open the record of a run that begins, or goes on, at `start`."""
        self._stop = stop
        self.is_active = this_rank() == 0
        self._spec, self._run_dir, self._start = spec, run_dir, start
        tokens = start.step * spec.batch.num_tokens
        self._status = Status(state="running", tokens=tokens, trunk_tokens=start.trunk_tokens)
        self._started = self._status_written = self._checkpointed = time.monotonic()
        self._looked_tokens, self._learning_rate = tokens, 0.0  # as of the last look
        self._phases = Phases()
        self._paced: tuple[int, float] | None = None  # tokens, and seconds of training, that the pace is counted from
        self._device = device_of(spec)
        self._peak_flops = peak_flops(self._device, spec.precision)  # of each rank's device
        self._seconds_before = read_status(run_dir).seconds  # of attempts that were cut off
        if self.is_active:
            write_status(run_dir, self._status)
            with deaf_children():  # the W&B service
                self._tracker = Tracker(spec, run_dir, _facts(spec))
            for point in restart_points(run_dir / "points.jsonl", tokens):
                self._tracker.point(point)

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
            self._tracker.data_card(run_card(self._spec, prepared, stream))

    def during(self, phase: Phase) -> AbstractContextManager[None]:
        """What is done inside counts as this phase."""
        return self._phases.during(phase)

    def steps(self, batches: Iterable[Batch]) -> Iterator[Batch]:
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
                self._paced = (batch.step + 1) * self._spec.batch.num_tokens, self._training_seconds()

    def training(self, tokens: int, loss: float, learning_rate: float, grad_norm: float) -> None:
        """The mean nats per token of the last batch, and the pace since the last look."""
        if not self.is_active:
            return
        self._looked_tokens, self._learning_rate = tokens, learning_rate
        facts = {"train/loss": loss, "train/lr": learning_rate, "train/grad_norm": grad_norm}
        if self._paced is not None:
            tokens_before, seconds_before = self._paced
            self._paced = tokens, self._training_seconds()
            pace = (tokens - tokens_before) / max(self._paced[1] - seconds_before, 1e-9)
            facts["perf/tokens_per_second"] = pace
            if self._peak_flops is not None:
                facts["perf/mfu"] = pace * self._spec.flops_per_token / (self._peak_flops * num_ranks())
            self._status = self._status.model_copy(update={"tokens_per_second": pace})
        if (memory := memory_bytes(self._device)) is not None:
            facts["perf/memory_bytes"] = memory
        with self._in_wandb():
            self._tracker.training(tokens, facts | self._phase_facts())
        self._update(tokens=tokens)

    def point(self, point: EvalPoint) -> None:
        """Keep a measurement: on disk first, then in W&B."""
        if not self.is_active:
            return
        append_point(self._run_dir / "points.jsonl", point)
        with self._in_wandb():
            self._tracker.point(point)
        self._update(loss={domain: sums.loss for domain, sums in point.domains.items()})

    @contextmanager
    def _in_wandb(self) -> Iterator[None]:
        """The W&B service dies of SIGTERM, if it gets it, too; the restart repeats the points that it may have lost."""
        try:
            yield
        except Exception as error:
            time.sleep(SECONDS_TO_HEAR)
            if not self._stop.is_requested:
                raise
            log.info("W&B has ended before this run: %s", error)

    def reached(self, tokens: int) -> None:
        """Say at once how far the run is: it must know later that what it now leaves for others is its own."""
        if self.is_active:
            self._status = self._status.model_copy(update={"tokens": tokens, "seconds": self._seconds()})
            write_status(self._run_dir, self._status)

    def checkpoint_is_due(self) -> bool:
        return time.monotonic() - self._checkpointed > self._spec.placement.checkpoint_seconds

    def checkpoint_written(self) -> None:
        self._checkpointed = time.monotonic()

    def complete(self, ledger: Ledger, num_left_out: int) -> None:
        """The run has trained its budget, but for steps left out. ScheduleError if its schedule ends elsewhere."""
        if not self.is_active:
            return
        tokens = self._looked_tokens
        facts = audit(self._spec, tokens, self._learning_rate)
        facts["steps_left_out"] = num_left_out
        seen = {**ledger.flat(), "flops": self._spec.flops_per_token * tokens}
        losses = {f"loss/{domain}": loss for domain, loss in self._status.loss.items()}
        # For the runs that go on from this one; written before the status that lets them start.
        write_json(self._run_dir / "ledger.json", {"fingerprint": fingerprint(self._spec), **seen, **losses})
        self._finish("complete", {**facts, **seen}, None)

    def _finish(self, state: State, facts: dict[str, Any], error: str | None) -> None:
        if not self.is_active:
            return
        seconds = self._seconds()
        summary = {
            "state": state,
            "seconds": seconds,
            "trunk/start_tokens": self._start.trunk_tokens,
            "elastic": self._start.numerics is None,
            **self._phase_facts(),
            **facts,
        }
        if error is not None:
            summary["error"] = error
        if (trunk := trunk_identity(self._spec)) is not None:
            summary["trunk/key"] = trunk[:16]
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

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _update(self, **changes: Any) -> None:
        self._status = self._status.model_copy(update={**changes, "seconds": self._seconds()})
        if time.monotonic() - self._status_written > SECONDS_BETWEEN_STATUS:
            write_status(self._run_dir, self._status)
            self._status_written = time.monotonic()


def _facts(spec: RunSpec) -> dict[str, Any]:
    return {
        "num_params": spec.num_params,
        "flops_per_token": spec.flops_per_token,
        "environment": environment(),
    }
