"""The estimate that intervals rest on, and the profile of its deviance.

It is Huber's with delta = 1.5 standard deviations of the noise where the objective that was asked for is robust with a
smaller delta: a delta of 1e-3, as published fits have it, is least absolute deviations at the noise of most runs, a
third less efficient, and its profile is a staircase. Rows may be unequally noisy (unequal_noise.py), and those of one
run share noise (run_noise.py).

The minimum that was asked for may lie near an end of such an interval, or beyond it: then the noise is not what the
efficient estimate takes it for, and an end at that minimum would say that nothing beyond it fits. So an end lies at
least twice as far from the efficient estimate as the minimum on that side, in the coordinates of the fit: a minimum
within the inner half moves nothing, one at an end doubles that side. An end that would pass a bound of a parameter is
open.

Where losses hardly fall, curves of quite different parameters fit alike, and a search for an end sees only those that
it can slide to. So it begins once more at the minimum that was asked for, where that lies beyond an end and yet fits,
and at the level line, where that does. There it needs no search for parameters: any exponent fits, with a factor of
nothing, and E may be any share of the level, with an exponent of nothing. E lies below the whole curve, and so no
higher than the losses allow: a search along E may find no end where its curve can go nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from analysis.fitting.deviance import Surface
from analysis.fitting.minimise import Minimum, minimise
from analysis.fitting.objective import Huber, LeastSquares, Objective
from analysis.fitting.power_ends import has_power_ends, power_ends
from analysis.fitting.profile import Parameter, Prediction, Quantity, crossings
from analysis.fitting.run_noise import RunNoise
from analysis.fitting.unequal_noise import UnequalNoise, unequal_noise
from analysis.laws.law import Array, Columns, Law
from analysis.runs.run_table import RunTable

TUNING = 1.5
"""Huber's delta of the intervals, in standard deviations of the noise: 96 % efficient where no run is an outlier."""


@dataclass(frozen=True, eq=False)
class Working:
    """What the intervals rest on: the deviance, its minimum u (f,), and the noise about it.

    stated: (f,), the minimum of the objective that was asked for. unequal: how the noise of rows differs by scale and
    recipe. delta: Huber's; inf for least squares.
    """

    surface: Surface
    u: Array
    stated: Array
    noise: RunNoise
    unequal: UnequalNoise
    delta: float

    @property
    def theta(self) -> Array:
        """The parameters at the minimum, (p,)."""
        return self.surface.outside(self.u[None])[0]

    def ends(self, quantity: Quantity, half: Array) -> tuple[Array, Array]:
        """Where the profiles of len(half) quantities are as high as at `half` from the centre, were they parabolas."""
        which = np.arange(len(half))
        centre, gradient = quantity(self.surface, np.repeat(self.u[None], len(half), axis=0), which)
        unit = self.noise.unit_sd(gradient)
        rows = 1.0 if self.surface.scale == "log" else float(np.abs(self.surface.y).mean())
        half = np.where(half <= 1e-12 * np.maximum(np.abs(centre), rows * unit), 0.0, half)  # points without noise
        if isinstance(quantity, Prediction) and has_power_ends(self.surface):
            lo, hi, wide = centre.copy(), centre.copy(), half > 0
            least, most = power_ends(self.surface, self.u, quantity.at["D"][wide], (half[wide] / unit[wide]) ** 2)
            lo[wide], hi[wide] = np.minimum(least, centre[wide]), np.maximum(most, centre[wide])
            return lo, hi
        lo, hi = crossings(self.surface, self.u, quantity, which, half, unit)
        for begin in (self.stated, self.surface.flat(self.u)):
            if begin is None:
                continue
            fits = self._rise(begin) * unit**2 < half**2
            if begin is self.stated:
                value = quantity(self.surface, np.repeat(begin[None], len(half), axis=0), which)[0]
                fits &= (value < lo) | (value > hi)
            elif isinstance(quantity, Parameter):
                lo, hi = np.where(fits, -np.inf, lo), np.where(fits & self.surface.is_idle, np.inf, hi)
                continue
            k = np.flatnonzero(fits)
            low, high = crossings(self.surface, self.u, quantity, k, half[k], unit[k], begin)
            lo[k], hi[k] = np.minimum(lo[k], low), np.maximum(hi[k], high)
        return lo, self._below_losses(quantity, hi, half, unit)

    def _below_losses(self, quantity: Quantity, hi: Array, half: Array, unit: Array) -> Array:
        """Upper ends, that of E no higher than where all losses that lie below it miss by too much.

        The whole curve lies above E, so it misses those by more.
        """
        surface, place = self.surface, self.surface.floor
        if place is None or not isinstance(quantity, Parameter) or not 0 < half[place] < np.inf:
            return hi
        total = surface.deviance(self.u) + (half[place] / unit[place]) ** 2
        weights, least, largest = surface.weights, surface.target.min(), surface.target.max()

        def above(level: float) -> float:
            return float((weights * np.maximum(level - surface.target, 0.0) ** 2).sum()) - total

        rounding = 1e-9 * (1 + abs(largest))
        level = optimize.brentq(above, least, largest + 1.001 * np.sqrt(total / weights.sum()) + rounding)
        most = np.exp(level) if surface.scale == "log" else level
        return np.where(np.arange(len(hi)) == place, np.minimum(hi, most / surface.unit[place]), hi)

    def _rise(self, u: Array) -> float:
        """How much higher the deviance is at u (f,) than at the minimum."""
        return self.surface.deviance(u) - self.surface.deviance(self.u)

    def profile(
        self, quantity: Quantity, count: int, confidence: float, own: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """Centres and ends, (count,) each, of `count` quantities, with room about the minimum that was asked for.

        own: see RunNoise.half_widths, `variance`.
        """
        centre, gradient = quantity(self.surface, np.repeat(self.u[None], count, axis=0), np.arange(count))
        half = self.noise.half_widths(gradient, confidence)
        lo, hi = self._with_room(quantity, centre, *self.ends(quantity, half))
        hi = self._below_losses(quantity, hi, 2 * half, self.noise.unit_sd(gradient))
        if own is not None:  # a new run's own noise on top, keeping how lopsided the profile is
            wider = self.noise.half_widths(gradient, confidence, own)
            with np.errstate(divide="ignore", invalid="ignore"):
                extra = np.sqrt(np.maximum(wider**2 - half**2, 0.0))
            lo, hi = centre - np.hypot(centre - lo, extra), centre + np.hypot(hi - centre, extra)
        return centre, lo, hi

    def _with_room(self, quantity: Quantity, centre: Array, lo: Array, hi: Array) -> tuple[Array, Array]:
        """Ends at least twice as far from the centres as the quantities at the stated minimum."""
        which = np.arange(len(centre))
        stated = quantity(self.surface, np.repeat(self.stated[None], len(centre), axis=0), which)[0]
        with np.errstate(invalid="ignore"):
            twice = 2 * stated - centre
        lo, hi = np.fmin(lo, twice), np.fmax(hi, twice)  # a quantity without a value there widens nothing
        if isinstance(quantity, Parameter):
            low, high = self.surface.bounds
            lo, hi = np.where(twice < low, -np.inf, lo), np.where(twice > high, np.inf, hi)
        return lo, hi


def efficient(
    table: RunTable, law: Law, objective: Objective, theta: Array, fixed: Mapping[str, float] | None = None
) -> Working:
    """The estimate that intervals rest on, from the minimum theta (p,) of an objective."""
    fixed = fixed or {}
    at, y, scale = table.columns, table.y, objective.scale
    free = np.array([param.name not in fixed for param in law.params])
    unequal = unequal_noise(table, np.log(y) if scale == "log" else y)
    precision = unequal.precision(table)
    stated, delta = theta, np.inf
    if not isinstance(objective, LeastSquares):
        least = objective.delta if isinstance(objective, Huber) else 0.0
        delta = max(least, TUNING * _robust_sd(_misses(law, theta, at, y, scale), int(free.sum())), 1e-12)
    if delta != getattr(objective, "delta", np.inf) or (precision != 1).any():
        loss = Huber(delta, scale) if np.isfinite(delta) else objective
        again = minimise(law, at, y, loss, weights=precision, fixed=fixed)
        theta = again.theta if is_minimum(law, table, loss, again, free, precision) else theta
    off = np.abs(_misses(law, theta, at, y, scale))
    weights = precision * np.minimum(1.0, delta / np.maximum(off, 1e-300))
    surface = Surface(law, at, y, scale, weights, theta, free)
    u = surface.inside(theta)
    residuals, jacobian = surface.residuals(u[None])
    noise = RunNoise(-residuals[0], jacobian[0], weights, precision, table.run)
    return Working(surface, u, surface.inside(stated), noise, unequal, delta)


def is_minimum(
    law: Law,
    table: RunTable,
    objective: Objective,
    found: Minimum,
    free: NDArray[np.bool_],
    precision: Array | float = 1.0,
) -> bool:
    """Whether the minimiser says so, or no step promises anything.

    In a valley that is flat to rounding a minimiser may never be satisfied: that is for the profile to say.
    """
    if found.converged or not np.isfinite(found.theta).all():
        return found.converged
    delta = {Huber: getattr(objective, "delta", 0.0), LeastSquares: np.inf}.get(type(objective), 1e-9)
    off = np.abs(_misses(law, found.theta, table.columns, table.y, objective.scale))
    weights = precision * np.minimum(1.0, delta / np.maximum(off, 1e-300))
    surface = Surface(law, table.columns, table.y, objective.scale, weights, found.theta, free)
    u = surface.inside(found.theta)
    (residual,), (jacobian,) = surface.residuals(u[None])
    if not np.isfinite(jacobian).all():
        return False
    low, high = surface.bounds
    slope = (jacobian * weights[:, None]).T @ residual
    near = 1e-12 * np.maximum(1.0, np.abs(u))  # what a logarithm and back may lose
    held = ((u <= low + near) & (slope > 0)) | ((u >= high - near) & (slope < 0))
    root = np.sqrt(weights)
    design = jacobian[:, ~held] * root[:, None]
    step = np.linalg.lstsq(design, root * residual, rcond=1e-10)[0]
    return float(((design @ step) ** 2).sum()) <= 1e-6 * float((weights * residual**2).sum())


def _misses(law: Law, theta: Array, at: Columns, y: Array, scale: str) -> Array:
    predicted = law.loss(theta, at)
    return np.log(np.maximum(predicted, 1e-300)) - np.log(y) if scale == "log" else predicted - y


def _robust_sd(residuals: Array, num_params: int) -> float:
    """From the median of all but the `num_params` smallest: a fit by absolute deviations passes through those."""
    largest = np.sort(np.abs(residuals))[num_params:]
    return 1.4826 * float(np.median(largest)) if len(largest) else 0.0
