"""What the rows of a test set leave open, from resamples of them that all models share.

A run logs its metric on resamples of the test rows, and resample i is the same draw of rows for every model that
answered the same ones. So what two models have in common there (a hard row is hard for both) cancels in the difference
of their resamples, whatever the metric.

Runs of one setting err on some rows in common, and on others each by itself. The latter is in the spread between their
seeds already: what the rows add to it is the covariance between runs, not the variance of each (the two-way random
effects of rows and seeds). Where one run alone tells, it is its variance, which is on the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from analysis.laws.law import Array


@dataclass(frozen=True, eq=False)
class Replicates:
    """The deciding metric of resamples of the test rows, of some models [models, resamples]. num_items: rows."""

    values: Array
    num_items: int

    def pairs_with(self, other: Replicates) -> bool:
        """Whether resample i is the same draw for both, as far as is known: as many rows, as many resamples."""
        return self.num_items == other.num_items and self.values.shape[1] == other.values.shape[1]


class OnRows(Protocol):
    """What was measured on test rows. test_sd: the standard error that they make, of one model alone."""

    @property
    def test_sd(self) -> float: ...

    @property
    def replicates(self) -> Replicates | None: ...


def row_sd(one: OnRows) -> float:
    """The standard error that the rows make in a mean over models, beyond the spread between these."""
    return one.test_sd if one.replicates is None else math.sqrt(shared_variance(one.replicates.values))


def row_gap_sd(a: OnRows, b: OnRows, order: Sequence[int] | None = None) -> float:
    """The standard error that the rows make in a less b: taken as independent where not both have replicates.

    order: the model of b that belongs to each of a, where what is known of seeds is of differences within pairs.
    """
    if a.replicates is None or b.replicates is None or not a.replicates.pairs_with(b.replicates):
        return math.hypot(row_sd(a), row_sd(b))
    first, second = a.replicates.values, b.replicates.values
    if order is not None:
        return math.sqrt(shared_variance(first - second[list(order)]))
    both = float(np.cov(first.mean(axis=0), second.mean(axis=0))[0, 1])
    return math.sqrt(max(0.0, shared_variance(first) + shared_variance(second) - 2 * both))


def shared_variance(values: Array) -> float:
    """What resamples move all models alike, of values [models, resamples]: their mean covariance, 0 or more.

    Of one model, its variance.
    """
    count = len(values)
    of_mean = float(values.mean(axis=0).var(ddof=1))
    if count == 1:
        return of_mean
    return max(0.0, (count * of_mean - float(values.var(axis=1, ddof=1).mean())) / (count - 1))


def mixed(a: Replicates | None, b: Replicates | None, share: float) -> Replicates | None:
    """Those of (1 - share) a + share b, model by model where both have as many, else of the two means.

    None where they are not of the same draws of rows.
    """
    if a is None or b is None or not a.pairs_with(b):
        return None
    first, second = a.values, b.values
    if len(first) != len(second):
        first, second = first.mean(axis=0, keepdims=True), second.mean(axis=0, keepdims=True)
    return Replicates((1 - share) * first + share * second, a.num_items)


def stacked(units: Sequence[Sequence[tuple[tuple[float, ...] | None, int | None]]]) -> Replicates | None:
    """Replicates by unit, each the mean over its runs, from the resamples and the rows of each run.

    None unless all runs have as many resamples of as many rows.
    """
    runs = [run for unit in units for run in unit]
    if len({(replicates and len(replicates), rows) for replicates, rows in runs}) != 1:
        return None
    replicates, rows = runs[0]
    if replicates is None or rows is None:
        return None
    means = [np.mean([values for values, _ in unit if values is not None], axis=0) for unit in units]
    return Replicates(np.array(means), rows)
