"""The record of a run while it is made: W&B, `points.jsonl` and `status.json`, kept by rank 0 alone."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from scaling.data.card import run_card
from scaling.data.ledger import Ledger
from scaling.data.prepare import Prepared
from scaling.data.stream import MixtureStream
from scaling.identity import trunk_identity
from scaling.record import EvalPoint, append_point, restart_points
from scaling.spec import RunSpec
from scaling.status import State, Status, read_status, write_status
from scaling.tracking import Tracker
from scaling.train.start import Start

SECONDS_BETWEEN_STATUS = 1.0


class DivergedError(RuntimeError):
    """The loss is no number any more."""


class Recorder:
    """Records what happens; on ranks other than 0, nothing."""

    def __init__(self, spec: RunSpec, run_dir: Path, start: Start) -> None:
        """Open the record of a run that begins, or goes on, at `start`."""
        self.is_active = torch.distributed.get_rank() == 0
        self._spec, self._run_dir, self._start = spec, run_dir, start
        tokens = start.step * spec.batch.num_tokens
        self._status = Status(state="running", tokens=tokens, trunk_tokens=start.trunk_tokens)
        self._started = self._status_written = self._looked = self._checkpointed = time.monotonic()
        self._looked_tokens = tokens
        self._seconds_before = read_status(run_dir).seconds  # of attempts that were cut off
        if self.is_active:
            write_status(run_dir, self._status)
            self._tracker = Tracker(spec, run_dir, _facts(spec))
            for point in restart_points(run_dir / "points.jsonl", tokens):
                self._tracker.point(point)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """An exception ends the run as `diverged` or `failed`, with its message as one line."""
        if isinstance(error, DivergedError):
            self._finish("diverged", {}, str(error))
        elif isinstance(error, Exception):
            self._finish("failed", {}, f"{type(error).__name__}: {error}".splitlines()[0])

    def data(self, prepared: Prepared, stream: MixtureStream) -> None:
        """The data card of the run."""
        if self.is_active:
            self._tracker.data_card(run_card(self._spec, prepared, stream))

    def training(self, tokens: int, loss: float, learning_rate: float, grad_norm: float) -> None:
        """The mean nats per token of the last batch, and the pace since the last look."""
        if not self.is_active:
            return
        now = time.monotonic()
        pace = (tokens - self._looked_tokens) / max(now - self._looked, 1e-9)
        self._looked, self._looked_tokens = now, tokens
        self._tracker.training(tokens, loss, learning_rate, grad_norm, pace)
        self._update(tokens=tokens, tokens_per_second=pace)

    def point(self, point: EvalPoint) -> None:
        """Keep a measurement: on disk first, then in W&B."""
        if not self.is_active:
            return
        append_point(self._run_dir / "points.jsonl", point)
        self._tracker.point(point)
        self._looked = time.monotonic()  # the time of an evaluation is not the pace of training
        self._update(loss={domain: sums.loss for domain, sums in point.domains.items()})

    def checkpoint_is_due(self) -> bool:
        return time.monotonic() - self._checkpointed > self._spec.placement.checkpoint_seconds

    def checkpoint_written(self) -> None:
        self._checkpointed = self._looked = time.monotonic()

    def complete(self, ledger: Ledger) -> None:
        """The run has trained its budget."""
        tokens = self._spec.num_steps * self._spec.batch.num_tokens
        self._finish("complete", {**ledger.flat(), "flops": self._spec.flops_per_token * tokens}, None)

    def _finish(self, state: State, facts: dict[str, Any], error: str | None) -> None:
        if not self.is_active:
            return
        seconds = self._seconds()
        summary = {
            "state": state,
            "seconds": seconds,
            "trunk/start_tokens": self._start.trunk_tokens,
            "elastic": self._start.numerics is None,
            **facts,
        }
        if error is not None:
            summary["error"] = error
        if (trunk := trunk_identity(self._spec)) is not None:
            summary["trunk/key"] = trunk[:16]
        self._tracker.finish(summary)
        self._status = self._status.model_copy(update={"state": state, "error": error, "seconds": seconds})
        write_status(self._run_dir, self._status)

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


def environment() -> dict[str, str]:
    """Versions and hardware, for the record's provenance."""
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": f"{os.cpu_count()} x {platform.processor() or platform.machine()}",
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": str(torch.get_num_threads()),
        **{name: version(name) for name in ("torch", "transformers", "deepspeed", "datasets", "wandb")},
        "scaling": version("data-scaling"),
    }
