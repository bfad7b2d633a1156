"""What was measured of a run, and the files that keep it safe between a crash and W&B."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class DomainLoss:
    """Sums over the predicted tokens of a domain's validation text; num_bytes is None where it is not exact."""

    sum_nats: float
    num_tokens: int
    num_bytes: int | None

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.sum_nats / self.num_tokens

    @property
    def bits_per_byte(self) -> float | None:
        return None if self.num_bytes is None else self.sum_nats / math.log(2) / self.num_bytes


@dataclass(frozen=True, slots=True)
class EvalPoint:
    """One measurement: tokens trained on so far, whether the learning rate has ended its decay, losses."""

    tokens: int
    at_decay_end: bool
    domains: dict[str, DomainLoss]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a task's validation came to, after so many optimiser steps and rows trained on; metrics by name."""

    step: int
    examples: int
    metrics: dict[str, float]


def append_point(path: Path, point: EvalPoint | Measurement) -> None:
    """Add a point to `points.jsonl`, or a measurement to `scores.jsonl`, and flush it to disk: before the checkpoint
    that would skip past it."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(point)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def restart_points(path: Path, tokens: int) -> list[EvalPoint]:
    """The points up to `tokens`; later ones, and a line cut off by a crash, are dropped from the file."""
    kept = [point for point in map(_point, _read(path)) if point.tokens <= tokens]
    _rewrite(path, kept)
    return kept


def restart_measurements(path: Path, step: int) -> list[Measurement]:
    """The same of `scores.jsonl`, up to an optimiser step."""
    kept = read_measurements(path, step)
    _rewrite(path, kept)
    return kept


def read_measurements(path: Path, step: int) -> list[Measurement]:
    """The measurements up to an optimiser step; none where there is no file."""
    return [measurement for row in _read(path) if (measurement := Measurement(**row)).step <= step]


def _rewrite(path: Path, kept: Sequence[EvalPoint | Measurement]) -> None:
    beside = path.with_suffix(".beside")
    with beside.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(point)) + "\n" for point in kept)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def _read(path: Path) -> Iterable[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    for line in lines:
        if line.endswith("\n"):
            yield json.loads(line)


def _point(row: dict[str, Any]) -> EvalPoint:
    domains = {name: DomainLoss(**sums) for name, sums in row["domains"].items()}
    return EvalPoint(row["tokens"], row["at_decay_end"], domains)
