"""Two kinds of curve that a contrast can be computed from, and their bands."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator

from analysis.contrasts.fit import CONFIDENCE, Fit
from analysis.contrasts.noise import SeedNoise
from analysis.laws.law import Array
from analysis.runs.points import Point

GRID = 64
REACH = 8.0
"""A law's band is computed up to this factor beyond the sizes it saw; a crossing further off is not given."""


@dataclass(frozen=True, eq=False)
class MeasuredCurve:
    """Mean log losses at the measured sizes, interpolated: no law, no extrapolation.

    D, log_loss: (k,) sizes, ascending, and mean log losses. counts: runs by size.
    """

    D: Array
    log_loss: Array
    counts: Mapping[int, int]
    noise: SeedNoise

    def loss(self, D: Array | float) -> Array:
        """Loss by monotone cubic interpolation of log loss over log D; nan beyond the measured sizes."""
        near = np.clip(D, self.D[0] * (1 - 1e-9), self.D[-1] * (1 + 1e-9))
        inside = np.isclose(near, D, rtol=1e-8)
        return np.where(inside, np.exp(self._spline(np.log(np.clip(D, self.D[0], self.D[-1])))), np.nan)

    @cached_property  # a root is looked for at hundreds of D
    def _spline(self) -> PchipInterpolator:
        return PchipInterpolator(np.log(self.D), self.log_loss, extrapolate=False)

    @property
    def span(self) -> tuple[float, float]:
        return float(self.D[0]), float(self.D[-1])

    def response(self, D: float) -> dict[int, float]:
        """How log L(D) answers to the mean log loss at each size: linear interpolation's weights."""
        at = float(np.clip(np.interp(np.log(D), np.log(self.D), np.arange(len(self.D))), 0, len(self.D) - 1))
        left = min(int(at), len(self.D) - 2)
        return {int(self.D[left]): 1 - (at - left), int(self.D[left + 1]): at - left}

    def half_width(self, weights: Mapping[int, float], confidence: float = CONFIDENCE) -> float:
        """Half-width from the noise between seeds; inf where no seeds are repeated."""
        return self.noise.half_width(weights, self.counts, confidence)

    def interval(self, D: Array, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
        """Pointwise interval of the loss at each of D."""
        half = np.array([self.half_width(self.response(float(d)), confidence) for d in D])
        return self.loss(D) * np.exp(-half), self.loss(D) * np.exp(half)

    def slope(self, D: float) -> float:
        """d log L / d log D between the two measured sizes about D.

        That of the chord, as in `response`: the spline's own slope is 0 beside a size where the loss stands still.
        """
        right = min(max(int(np.searchsorted(self.D, D * (1 - 1e-9))), 1), len(self.D) - 1)
        rise = self.log_loss[right] - self.log_loss[right - 1]
        return float(rise / np.log(self.D[right] / self.D[right - 1]))


Curve = Fit | MeasuredCurve


def measured_curve(points: Sequence[Point], noise: SeedNoise) -> MeasuredCurve:
    """Mean log losses of one recipe over its seeds, by size."""
    sizes = sorted({p.tokens for p in points})
    means = [float(np.mean([math.log(p.loss) for p in points if p.tokens == size])) for size in sizes]
    return MeasuredCurve(np.array(sizes, float), np.array(means), Counter(p.tokens for p in points), noise)


@dataclass(frozen=True)
class Band:
    """A curve with its interval on a grid over D, interpolated in log D: profiles are computed once.

    below, above: log distance of the ends from the curve at each of `grid`; inf where the data set no limit.
    """

    curve: Curve
    grid: Array
    below: Array
    above: Array

    def at(self, D: Array | float) -> tuple[Array, Array, Array]:
        """Loss, lower end and upper end at D."""
        loss, x = self.curve.loss(D), np.log(self.grid)
        below, above = (np.interp(np.log(D), x, side) for side in (self.below, self.above))
        return loss, loss * np.exp(-below), loss * np.exp(above)


@lru_cache(maxsize=512)  # 64 profile intervals each: most of the time that a contrast takes
def band(curve: Curve, confidence: float = CONFIDENCE) -> Band:
    """The band of a curve over the sizes where it may be read: those measured, for a law also some beyond.

    Without limits where the noise between seeds is not known: how recipes differ then cannot be told.
    """
    low, high = curve.span
    if isinstance(curve, Fit):
        low, high = low / REACH, high * REACH
    grid = np.geomspace(low, high, GRID)
    if not curve.noise.is_known:
        return Band(curve, grid, np.full(GRID, math.inf), np.full(GRID, math.inf))
    lower, upper = curve.interval(grid, confidence)
    loss = curve.loss(grid)
    return Band(
        curve,
        grid,
        below=np.log(loss / np.where(lower > 0, lower, 1e-300)),
        above=np.log(np.where(np.isfinite(upper), upper, 1e300) / loss),
    )
