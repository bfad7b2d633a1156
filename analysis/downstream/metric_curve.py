"""A task's metric over an amount of data (tokens of pretraining, or labels): the law that predicts best, and where it
reaches a level.

Two laws are tried on the runs of all but the largest amount: an error that falls as a power towards a floor
(`ceiling`), and a logistic curve in the logarithm of the amount. The one that is nearer to the largest is fitted to
all. Where there are too few amounts for either, or chance hides its course, the means are joined by straight lines
over the logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator

from analysis.downstream.cells import Cell, Z
from analysis.downstream.row_noise import Replicates, row_gap_sd, row_sd
from analysis.fitting.law_fit import LawFit, fit_law
from analysis.fitting.minimise import minimise
from analysis.fitting.objective import Huber
from analysis.fitting.result import Estimate
from analysis.laws.ceiling import Ceiling
from analysis.laws.law import Array, Columns, Law
from analysis.laws.logistic import Logistic
from analysis.runs.run_table import RunTable

Axis = Literal["tokens", "labels"]
OBJECTIVE = Huber(delta=0.02, scale="raw")
"""In units of the metric: a run further off than two points of accuracy, such as a fine-tuning that failed, counts
less."""
LOG_ORIGIN = 60.0
"""The logistic law reads L = 60 - log amount: above 0 for any amount, and falling as the amount grows."""
FAR = 4.0
"""A fitted law is asked for so many times the largest amount at most."""
GRID = 400
"""Amounts at which levels are sought."""


@dataclass(frozen=True)
class Amount(Estimate):
    """An amount of data with its interval.

    inf: not reached; then lo is an amount that is not enough, where that is sure. 0: the smallest is more than enough.
    up_to: the largest that was looked at.
    """

    up_to: float = math.inf

    @property
    def has_limits(self) -> bool:
        """Whether the data set it one: else nothing is known of it."""
        return self.lo > 0 or math.isfinite(self.hi)


@dataclass(frozen=True)
class Level:
    """A value of the metric, and how sure that is: half its interval from seeds, its standard error from test rows.

    replicates: of the models that it is of; None where not all have them.
    """

    value: float
    seed_half: float = 0.0
    test_sd: float = 0.0
    replicates: Replicates | None = None


@dataclass(frozen=True, eq=False)
class MetricCurve:
    """One curve. law: its name, or `measured` where none is fitted. errors: of each at the largest amount, held out."""

    axis: Axis
    cells: tuple[Cell, ...]
    law: str
    fit: LawFit | None
    errors: Mapping[str, float]

    @property
    def amounts(self) -> Array:
        """Those measured, rising."""
        return np.array([amount_of(cell, self.axis) for cell in self.cells], float)

    @property
    def reach(self) -> float:
        """The largest amount that is asked for."""
        return float(self.amounts[-1]) * (FAR if self.fit else 1.0)

    @property
    def row_sd(self) -> float:
        """The standard error that the test rows make, of a setting in the middle."""
        return float(np.median([cell.row_sd for cell in self.cells]))

    def _row_gap_sd(self, level: Level) -> float:
        """That of what the curve has over a level: paired by rows where all have replicates."""
        if level.replicates is None or any(cell.replicates is None for cell in self.cells):
            return math.hypot(self.row_sd, row_sd(level))
        return float(np.median([row_gap_sd(cell, level) for cell in self.cells]))

    @property
    def ceiling(self) -> float | None:
        """What the law tends to; None without one."""
        if self.fit is None:
            return None
        return 1 - float(self.fit.theta[0]) if self.law == Ceiling.name else float(self.fit.theta[1])

    def value(self, amount: ArrayLike) -> Array:
        """The metric at each amount, (n,)."""
        x = np.asarray(amount, float)
        if self.fit is None:
            return np.interp(np.log(x), np.log(self.amounts), [cell.mean for cell in self.cells])
        return self.fit.predict(_columns(self.law, x))

    def half_widths(self, amount: ArrayLike) -> tuple[Array, Array]:
        """What seeds leave open at each amount, below and above, (n,) each; inf where the data set no limit.

        Of a law, smooth in the logarithm of the amount: each end is a profile, found at a few amounts (`_knots`).
        """
        x = np.asarray(amount, float)
        if self.fit is None:
            half = np.interp(np.log(x), np.log(self.amounts), [cell.seed_half for cell in self.cells])
            return half, half
        at, below, above = self._knots
        return _smooth(np.log(x), np.log(at), below), _smooth(np.log(x), np.log(at), above)

    @cached_property
    def _knots(self) -> tuple[Array, Array, Array]:
        """The measured amounts and two beyond, with what seeds leave open there, below and above."""
        assert self.fit is not None
        at = np.r_[self.amounts, self.amounts[-1] * np.sqrt(FAR), self.reach]
        lo, hi = self.fit.interval(_columns(self.law, at))
        if self.law == Ceiling.name:
            lo, hi = _rising(at, lo, hi)
        value = self.value(at)
        return at, value - lo, hi - value

    def band(self, amount: ArrayLike) -> tuple[Array, Array]:
        """The 95 % interval of the metric at each amount, from seeds and test rows: lower and upper, (n,) each."""
        value, test = self.value(amount), Z * self.row_sd
        below, above = self.half_widths(amount)
        return value - np.hypot(below, test), value + np.hypot(above, test)

    @cached_property
    def _grid(self) -> tuple[Array, Array, Array, Array]:
        """Amounts, the metric there, and what seeds leave open, below and above."""
        x = np.geomspace(self.amounts[0], self.reach, GRID)
        return x, self.value(x), *self.half_widths(x)

    def reaches(self, level: Level) -> Amount:
        """The amount at which the curve comes to a level and stays above it; as an interval, where it may do so.

        An end beyond what the curve is asked for is inf.
        """
        x, value_at, below, above = self._grid
        over = value_at - level.value
        known = math.hypot(level.seed_half, Z * self._row_gap_sd(level))
        lo = _first(x, over + np.hypot(above, known))
        value = _last(x, over)
        hi = max(_last(x, over - np.hypot(below, known)), value, self.amounts[0])
        return Amount(value, min(lo, value), hi, self.reach)


def _smooth(x: Array, at: Array, half: Array) -> Array:
    """Half of an interval between those at some places, without kinks or overshoot; inf beyond those that are known."""
    known = np.isfinite(half)
    if known.sum() < 2:
        return np.full(np.shape(x), math.inf)
    inside = np.clip(x, at[0], at[-1])  # the first and last amount, but for rounding
    found = np.asarray(PchipInterpolator(at[known], half[known], extrapolate=False)(inside), float)
    return np.where(np.isfinite(found), found, math.inf)


def _rising(x: Array, lo: Array, hi: Array) -> tuple[Array, Array]:
    """The ends of an interval at each amount, of a law that rises: so do they, for they are of curves of that law.

    Where the search for one stopped short of it, its neighbours tell.
    """
    order = np.argsort(x)
    lo, hi = lo.copy(), hi.copy()
    lo[order] = np.minimum.accumulate(lo[order][::-1])[::-1]
    hi[order] = np.maximum.accumulate(hi[order])
    return lo, hi


def _first(x: Array, over: Array) -> float:
    """The first amount above a level: between two, along a line. 0 where the smallest is, inf where none is."""
    above = np.flatnonzero(over >= 0)
    if not len(above):
        return float(x[-1])  # all that was asked for is not enough: the amount is larger
    return 0.0 if above[0] == 0 else _between(x, over, int(above[0]))


def _last(x: Array, over: Array) -> float:
    """The amount from which on a curve stays above a level."""
    under = np.flatnonzero(~(over >= 0))
    if not len(under):
        return 0.0
    return math.inf if under[-1] == len(x) - 1 else _between(x, over, int(under[-1]) + 1)


def _between(x: Array, over: Array, i: int) -> float:
    with np.errstate(invalid="ignore"):  # an end of an interval may be inf on both sides
        rise = over[i] - over[i - 1]
    share = over[i] / rise if 0 < rise < math.inf else 0.0
    return float(np.exp(np.log(x[i]) - share * (np.log(x[i]) - np.log(x[i - 1]))))


def amount_of(cell: Cell, axis: Axis) -> int:
    """Of a setting, the amount of data on an axis."""
    return cell.setting.tokens if axis == "tokens" else cell.setting.labels


def metric_curve(cells: Sequence[Cell], axis: Axis, floor: float | None = None) -> MetricCurve | None:
    """The curve through the settings of one line; None for fewer than two amounts. floor: what no data at all gives."""
    cells = tuple(sorted((c for c in cells if amount_of(c, axis) > 0), key=lambda cell: amount_of(cell, axis)))
    if len(cells) < 2:
        return None
    laws: dict[str, tuple[Law, dict[str, float]]] = {
        Ceiling.name: (Ceiling(), {}),
        Logistic.name: (Logistic(), {} if floor is None else {"floor": floor}),
    }
    errors: dict[str, float] = {}
    for name, (law, fixed) in laws.items():
        error = held_out_error(law, _table(cells[:-1], axis, name), _table(cells[-1:], axis, name), fixed)
        if math.isfinite(error):
            errors[name] = error
    for name in sorted(laws, key=lambda name: (errors.get(name, math.inf), name)):
        law, fixed = laws[name]
        fit = fit_law(_table(cells, axis, name), law, objective=OBJECTIVE, fixed=fixed)
        places = np.log([amount_of(cell, axis) for cell in cells])
        if is_step(fit, places) if name == Logistic.name else _is_jump(fit, places):
            continue
        if fit.working is not None and np.isfinite(fit.predict(_columns(name, [amount_of(cells[0], axis)]))).all():
            curve = MetricCurve(axis, cells, name, fit, errors)
            # a law that the noise leaves without an interval where it was measured tells nothing between
            if not cells[0].noise.is_known or np.isfinite(curve.half_widths(curve.amounts)).all():
                return curve
    return MetricCurve(axis, cells, "measured", None, errors)


def held_out_error(law: Law, seen: RunTable, unseen: RunTable, fixed: Mapping[str, float]) -> float:
    """The mean absolute error on rows that a law did not see; nan where it cannot be fitted to the others."""
    free = len(law.params) - len(fixed)
    if len(np.unique(seen.columns[law.columns[0]])) < free + 1:
        return math.nan
    found = minimise(law, seen.columns, seen.y, OBJECTIVE, fixed=fixed)
    with np.errstate(all="ignore"):
        return float(np.abs(law.loss(found.theta, unseen.columns) - unseen.y).mean()) if found.converged else math.nan


def is_step(fit: LawFit, places: ArrayLike) -> bool:
    """Whether a logistic curve rises between two neighbours of what was measured: of such a jump nothing is known."""
    k = float(fit.theta[2])
    gaps = np.diff(np.unique(np.asarray(places, float)))
    return not (math.isfinite(k) and 4 / k >= float(np.median(gaps)))  # 4 / k: from 12 to 88 % of the way


def _is_jump(fit: LawFit, places: Array) -> bool:
    """Whether a power law has come 99 % of the way by the second amount: the smallest alone tells of its rise."""
    return not float(fit.theta[2]) * (places[1] - places[0]) < math.log(100)


def _columns(law: str, amount: ArrayLike) -> Columns:
    x = np.asarray(amount, float)
    return {"D": x} if law == Ceiling.name else {"L": LOG_ORIGIN - np.log(x)}


def _table(cells: Sequence[Cell], axis: Axis, law: str) -> RunTable:
    """A row per setting and seed; what is drawn at random is the seed, whose subset and order all amounts share."""
    rows = [(amount_of(cell, axis), str(seed), value) for cell in cells for seed, value in cell.values.items()]
    count = len(rows)
    return RunTable(
        columns=_columns(law, [row[0] for row in rows]),
        y=np.array([row[2] for row in rows]),
        recipe=np.full(count, ""),
        run=np.array([row[1] for row in rows], dtype=np.str_),
        seed=np.array([row[1] for row in rows], dtype=np.str_),
        row=np.arange(1, count + 1),
        response="metric",
    )
