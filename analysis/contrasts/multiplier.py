"""The token multiplier between two curves, its interval, and its change with scale.

The multiplier m at a loss is D_b / D_a: how many tokens recipe b needs for each token of recipe a to reach
that loss. It is read at the loss which the weaker recipe has at D tokens, so nothing is extrapolated as long
as the stronger one reaches that loss within its own sizes.

The interval of m holds every m for which the gap L_a(D_a) - L_b(D_b) is not distinguishable from 0, the
intervals of the two curves being combined by the method of variance estimates recovery (Zou and Donner 2008,
Statistics in Medicine 27), which keeps their asymmetry. So m excludes 1 exactly when the gap
between the two curves at D excludes 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import brentq

from analysis.contrasts.curves import Band, Curve
from analysis.contrasts.fit import Fit
from analysis.fitting.result import Estimate
from analysis.laws.law import Array

MIN_SLOPE = 1e-6
"""A log loss that falls by less than this per unit of log D stands still: no D can be read off there."""


@dataclass(frozen=True, eq=False)
class Trace:
    """The multiplier along the curves: tokens D of the weaker recipe, multiplier with interval; one shape.

    It is read off the bands when it is first asked for: of many contrasts few are drawn.
    """

    bands: tuple[Band, Band]
    tokens: Array

    @cached_property
    def _estimates(self) -> list[Estimate]:
        return [multiplier_at(self.bands, float(D)) for D in self.tokens]

    @property
    def multiplier(self) -> Array:
        return np.array([m.value for m in self._estimates])

    @property
    def lo(self) -> Array:
        return np.array([m.lo for m in self._estimates])

    @property
    def hi(self) -> Array:
        return np.array([m.hi for m in self._estimates])


def trace_multiplier(bands: tuple[Band, Band], low: float, high: float) -> Trace:
    """The multiplier at 25 sizes of the weaker recipe from low to high."""
    return Trace(bands, np.geomspace(low, high, 25))


def _weaker(curves: Sequence[Curve], D: float) -> int:
    """Index of the curve with the higher loss at D."""
    return int(float(curves[1].loss(D)) > float(curves[0].loss(D)))


def smallest_shared(curves: tuple[Curve, Curve], span: tuple[float, float]) -> float | None:
    """The D at which the weaker recipe reaches the other's loss at the smallest size, if within span."""
    low, high = span
    weak = curves[_weaker(curves, low)]
    target = min(float(curve.loss(low)) for curve in curves)
    if float(weak.loss(high)) > target:
        return None
    return _root(lambda D: weak.loss(D) - target, np.geomspace(low, high, 200))


def multiplier(curves: tuple[Curve, Curve], D: float) -> float:
    """D_b / D_a at the loss that the weaker recipe has at D; inf or 0 where the other never has that loss."""
    weak = _weaker(curves, D)
    target, moved = float(curves[weak].loss(D)), curves[1 - weak]
    if isinstance(moved, Fit):
        assert moved.law is not None
        reached = moved.law.tokens(target)
    else:
        reached = _root(lambda x: moved.loss(x) - target, np.geomspace(*moved.span, 200))
    return _over(D, reached) if weak == 1 else reached / D


def multiplier_at(bands: tuple[Band, Band], D: float) -> Estimate:
    """The multiplier at the loss that the weaker recipe has at D tokens, with its interval.

    The interval holds all D' of the stronger recipe at which the gap L'(D') - L(D) may be 0.
    """
    curves = bands[0].curve, bands[1].curve
    weak = _weaker(curves, D)
    moved = bands[1 - weak]
    loss, lo, hi = (float(end) for end in bands[weak].at(D))

    def least_gap(x: Array | float) -> Array:
        value, lower, _ = moved.at(x)
        return value - loss - np.hypot(value - lower, hi - loss)

    def most_gap(x: Array | float) -> Array:
        value, _, upper = moved.at(x)
        return value - loss + np.hypot(upper - value, loss - lo)

    value = multiplier(curves, D)
    ends = _root(least_gap, moved.grid), _root(most_gap, moved.grid)
    if weak == 1:
        return Estimate(value, _over(D, ends[1]), _over(D, ends[0]))
    return Estimate(value, ends[0] / D, ends[1] / D)


def _over(D: float, tokens: float) -> float:
    return D / tokens if tokens > 0 else math.inf


def _root(falling: Callable[[Array | float], Array], grid: Array) -> float:
    """Where a falling function is 0 on a grid; 0 if below from the start, inf if it never gets there."""
    below = np.flatnonzero(falling(grid) <= 0)
    if not len(below):
        return math.inf
    i = int(below[0])
    if i == 0:
        return float(grid[0]) if float(falling(float(grid[0]))) > -1e-12 else 0.0
    x = brentq(lambda x: float(falling(math.exp(x))), math.log(grid[i - 1]), math.log(grid[i]), xtol=1e-13)
    return math.exp(float(x))


def growth(curves: tuple[Curve, Curve], low: float, high: float, confidence: float) -> Estimate | None:
    """Multiplier at `high` over multiplier at `low` (tokens of the weaker recipe), with a t interval.

    log m moves with the two log losses by -d(log L_a - log L_b) / |slope of the curve that is read off|. None
    where that curve stands still or rises, or where one of the multipliers is not known: then so is the change.
    """
    totals: list[dict[int, float]] = [{}, {}]
    logs = []
    for D, sign in ((high, 1.0), (low, -1.0)):
        weak = _weaker(curves, D)
        m = multiplier(curves, D)
        if not (math.isfinite(m) and m > 0):
            return None
        at = (D / m, D) if weak == 1 else (D, D * m)
        slope = curves[1 - weak].slope(at[1 - weak])
        if not slope < -MIN_SLOPE:
            return None
        logs.append(math.log(m))
        for i, side in ((0, -1.0), (1, 1.0)):
            for size, weight in curves[i].response(at[i]).items():
                totals[i][size] = totals[i].get(size, 0.0) + sign * side * weight / -slope
    half = math.hypot(*(curve.half_width(total, confidence) for curve, total in zip(curves, totals, strict=True)))
    centre = logs[0] - logs[1]
    return Estimate(math.exp(centre), math.exp(centre - half), math.exp(min(centre + half, 700.0)))
