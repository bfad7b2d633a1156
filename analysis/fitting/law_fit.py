"""Fit a law to a table of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.fitting.objective import Huber, Objective
from analysis.fitting.result import Estimate, Status
from analysis.laws.law import Array, Columns, Law
from analysis.run_table import RunTable


HUBER = Huber()


@dataclass(frozen=True)
class HeldOut:
    """The rows that a fit did not see. error: the mean over them of |predicted - measured| / measured.

    covered: the share of them inside their prediction intervals.
    """

    num_points: int
    error: float
    covered: float


@dataclass(frozen=True, eq=False)
class LawFit:
    """A law as estimated from a table. theta: (p,), nan where the status says that there is none.

    value: the objective at theta, summed over rows. fixed: parameters that were given. why: the status in a sentence.
    """

    law: Law
    table: RunTable
    objective: Objective
    theta: Array
    value: float
    fixed: Mapping[str, float]
    status: Status
    why: str
    params: Mapping[str, Estimate]
    held_out: HeldOut | None

    def predict(self, at: Columns) -> Array:
        """The response at rows `at`, (n,)."""
        return self.law.loss(self.theta, at)

    def interval(self, at: Columns, confidence: float = 0.95) -> tuple[Array, Array]:
        """Profile interval of the mean response at each row of `at`: lower and upper, (n,) each."""
        raise NotImplementedError

    def prediction_interval(self, at: Columns, confidence: float = 0.95) -> tuple[Array, Array]:
        """Interval for the response of one new run at each row of `at`: lower and upper, (n,) each."""
        raise NotImplementedError

    def draws(self, count: int, seed: int = 0) -> Array:
        """Parameter vectors (count, p) by resampling runs; the same for equal seeds."""
        raise NotImplementedError


def fit_law(
    table: RunTable,
    law: Law,
    *,
    objective: Objective = HUBER,
    fixed: Mapping[str, float] | None = None,
    hold_out: int = 0,
) -> LawFit:
    """Fit a law to a table; hold_out: so many of the largest scales are predicted instead.

    Never raises for what the data are: the status says what went wrong.
    """
    raise NotImplementedError
