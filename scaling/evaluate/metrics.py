"""What a model is worth on a task: a value with a bootstrap interval over the test rows, for each metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

INTERVAL = (2.5, 97.5)
"""Per cent of the resamples that lie below the ends of an interval: 95 % lie within."""
CHUNK_NUMBERS = 2**23
"""Weights [resamples, rows] that are in memory at once."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The answers to some rows, in the form that every resample of the rows can be measured from.

    stats [rows, k]: what each row adds to k sums. metrics: from sums [..., k] to values [...], by name.
    by_weight: metrics that are no function of sums (a rank correlation), from the weight of each row [..., rows].
    details: what else there is to say, as JSON: per-class report, confusion, alert.
    """

    stats: Numbers
    metrics: Mapping[str, Callable[[Numbers], Numbers]]
    by_weight: Mapping[str, Callable[[Numbers], Numbers]] = field(default_factory=dict)
    details: Mapping[str, object] = field(default_factory=dict)

    def values(self, weights: Numbers) -> dict[str, Numbers]:
        """Each metric [...] where rows count as often as `weights` [..., rows] says."""
        sums = weights @ self.stats
        found = {name: metric(sums) for name, metric in self.metrics.items()}
        return found | {name: metric(weights) for name, metric in self.by_weight.items()}


@dataclass(frozen=True, slots=True)
class Score:
    """A metric of all rows, and its 95 % interval over resamples of the rows (percentiles; Efron 1979).

    It is the noise of the test rows alone: that of training is the spread over seeds. Where no row is answered wrong
    it has no width.
    """

    value: float
    lo: float
    hi: float


def scores(measured: Measured, num_resamples: int, seed: int) -> dict[str, Score]:
    """Each metric with its interval."""
    drawn = replicates(measured, num_resamples, seed)
    found = {}
    for name, value in measured.values(np.ones(len(measured.stats))).items():
        lo, hi = np.percentile(drawn[name], INTERVAL)
        found[name] = Score(float(value), float(lo), float(hi))
    return found


def replicates(measured: Measured, num_resamples: int, seed: int) -> dict[str, Numbers]:
    """Each metric of each resample of the rows [resamples].

    Resample i is the same draw for every model that answered the same rows: so the spread of the differences between
    two models is the noise of the rows in what one has over the other, whatever the metric.
    """
    num_rows = len(measured.stats)
    if num_rows == 0:
        raise ValueError("a task is measured on at least one row, got none")
    drawn = [measured.values(weights) for weights in resamples(num_rows, num_resamples, seed)]
    return {name: np.concatenate([of_chunk[name] for of_chunk in drawn]) for name in drawn[0]}


def resamples(num_rows: int, num_resamples: int, seed: int) -> Iterator[Numbers]:
    """How often each row was drawn [resamples of a chunk, rows], rows drawn with replacement."""
    generator = np.random.default_rng([seed, num_rows])
    per_chunk = max(1, CHUNK_NUMBERS // num_rows)
    for start in range(0, num_resamples, per_chunk):
        count = min(per_chunk, num_resamples - start)
        rows = generator.integers(num_rows, size=(count, num_rows))
        rows += np.arange(count)[:, None] * num_rows
        yield np.bincount(rows.ravel(), minlength=count * num_rows).reshape(count, num_rows).astype(np.float64)


def share(part: Numbers, whole: Numbers) -> Numbers:
    """part / whole, and 0 where the whole is 0: a label that was never given has no right answer."""
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole > 0)
