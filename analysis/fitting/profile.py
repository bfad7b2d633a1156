"""Profiles: how much worse must the fit get for a quantity to take another value?

The deviance is the weighted sum of squares of residuals, sum_i w_i (log f_i - log y_i)^2 (or raw), with the weights
that a robust fit ended with. To see what it costs to move a quantity q, the deviance plus pull (q - wanted)^2 is
minimised over all parameters: whatever the pull, the minimum is a point of the profile, for among all parameters with
its q it has the least deviance. So one solver without constraints, but for the bounds of the parameters, serves
parameters, predictions and whatever is computed from them. Batched damped Gauss-Newton over many (quantity, wanted) at
once, in the logarithms of parameters that are fitted as such; damping in the metric of the fit itself, so that A and
alpha may be as correlated as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.fitting.deviance import Surface
from analysis.laws.law import Array, Columns

Indices = NDArray[np.int64]

MAX_ENTRIES = 4_000_000
"""Numbers in one batch of derivatives: more targets than fit are profiled one batch after the other."""
NEAR = 2e-3
"""Of the threshold, in standard errors: where a profile is this near, its end is found."""
MAX_ROUNDS = 24
"""Each round at most quadruples the distance: a profile that has not passed its threshold by then never does."""


class Quantity(Protocol):
    """m quantities of the parameters."""

    def __call__(self, surface: Surface, u: Array, which: Indices) -> tuple[Array, Array]:
        """Of problem k the quantity which[k]: values (K,) and derivatives by u (K, f)."""
        ...


@dataclass(frozen=True)
class Parameter:
    """The free parameters themselves, as u has them: which = their places."""

    def __call__(self, surface: Surface, u: Array, which: Indices) -> tuple[Array, Array]:
        k = np.arange(len(u))
        gradient = np.zeros_like(u)
        gradient[k, which] = 1.0
        return u[k, which], gradient


@dataclass(frozen=True, eq=False)
class Prediction:
    """The response, or its logarithm, at rows."""

    at: Columns

    def __call__(self, surface: Surface, u: Array, which: Indices) -> tuple[Array, Array]:
        rows = np.unique(which)
        values, gradients = surface.response(u, {name: column[rows] for name, column in self.at.items()})
        k, place = np.arange(len(u)), np.searchsorted(rows, which)
        return values[k, place], gradients[k, place]


@dataclass(frozen=True, eq=False)
class Derived:
    """One quantity that a function computes from parameters (..., p); derivatives by central differences."""

    function: Callable[[Array], Array]
    steps: Array
    """Of u, (f,): small against the standard errors, so that the differences hold where the quantity is smooth."""

    def __call__(self, surface: Surface, u: Array, which: Indices) -> tuple[Array, Array]:
        value = np.asarray(self.function(surface.outside(u)), float)
        low, high = surface.bounds
        gradient = np.empty_like(u)
        for j in range(u.shape[1]):
            up, down = u.copy(), u.copy()
            up[:, j] = np.minimum(u[:, j] + self.steps[j], high[j])
            down[:, j] = np.maximum(u[:, j] - self.steps[j], low[j])
            rise = np.asarray(self.function(surface.outside(up)), float) - self.function(surface.outside(down))
            gradient[:, j] = rise / (up[:, j] - down[:, j])
        return value, gradient


def crossings(
    surface: Surface,
    u: Array,
    quantity: Quantity,
    which: Indices,
    half: Array,
    unit: Array,
    begin: Array | None = None,
) -> tuple[Array, Array]:
    """Where the profile of quantities which (m,) passes its threshold: lower and upper, (m,); inf where it never does.

    u: (f,), the minimum. half: (m,) the half-width that a quantity linear in u would have; unit: (m,) its standard
    error for residuals of unit variance. The threshold on the deviance is (half / unit)^2. begin: (f,), where to search
    from instead of the minimum, below the threshold as well.
    """
    if not len(which):
        return np.empty(0), np.empty(0)
    per_batch = max(1, MAX_ENTRIES // (2 * len(surface.y) * max(1, len(u))))
    batches = [slice(k, k + per_batch) for k in range(0, len(which), per_batch)]
    ends = [
        _crossings(surface, u, quantity, which[b], half[b], unit[b], u if begin is None else begin) for b in batches
    ]
    return np.concatenate([lo for lo, _ in ends]), np.concatenate([hi for _, hi in ends])


def _crossings(
    surface: Surface, u: Array, quantity: Quantity, which: Indices, half: Array, unit: Array, begin: Array
) -> tuple[Array, Array]:
    m = len(which)
    sign = np.repeat([-1.0, 1.0], m)
    which, half, unit = np.tile(which, 2), np.tile(half, 2), np.tile(unit, 2)
    base = np.repeat(u[None], 2 * m, axis=0)
    metric = _metric(surface, u)
    least = surface.deviance(u)
    centre = quantity(surface, base, which)[0]
    end = np.where(half > 0, np.nan, centre)
    active = np.flatnonzero(half > 0)
    # Distance along the profile and height of its root: the last point on each side of the threshold, height 1.
    below, above = np.zeros((2 * m, 2)), np.full((2 * m, 2), np.inf)
    free = np.repeat(begin[None], 2 * m, axis=0)
    if begin is not u:
        distance = sign * (quantity(surface, free, which)[0] - centre)
        height = np.sqrt(max(surface.deviance(begin) - least, 0.0)) * unit / half
        below = np.where(distance[:, None] > 0, np.stack([distance, height], axis=1), 0.0)
    wanted = below[:, 0] + half
    stuck = np.zeros(2 * m, int)
    for _ in range(MAX_ROUNDS):
        if not len(active):
            break
        k = active
        pull = 400.0 / unit[k] ** 2
        goal = centre[k] + sign[k] * wanted[k]
        reached, value, deviance = _minimise(
            surface, metric, quantity, which[k], goal, pull, free[k], 1e-4 * (half[k] / unit[k]) ** 2
        )
        distance = sign[k] * (value - centre[k])
        height = np.sqrt(np.maximum(deviance - least, 0.0)) * unit[k] / half[k]
        distance = np.where(np.isfinite(distance), distance, 0.0)
        passed = height >= 1
        free[k[~passed]] = reached[~passed]  # from beyond the threshold a descent may end at a bound, far above
        stuck[k] = np.where(~passed & (height < below[k, 1] * 1.002 + 1e-9), stuck[k] + 1, 0)
        above[k[passed]] = np.stack([distance, height], axis=1)[passed]
        below[k[~passed]] = np.stack([distance, height], axis=1)[~passed]
        close = np.abs(height - 1) < NEAR
        bracketed = np.isfinite(above[k, 0])
        with np.errstate(divide="ignore", invalid="ignore"):
            grown = wanted[k] * np.where(height > 0, np.clip(1.03 / height, 1.1, 4.0), 4.0)
            share = (1 - below[k, 1]) / (above[k, 1] - below[k, 1])
            within = below[k, 0] + share * (above[k, 0] - below[k, 0])
            short = np.clip(wanted[k] / distance, 1.0, 2.0)  # the deviance pulls back from what is wanted
            aside = below[k, 0] + np.clip(share, 0.1, 0.9) * (above[k, 0] - below[k, 0])
        wanted[k] = np.where(bracketed, aside * short, grown)
        # Between two points whose heights are this near to 1 the profile is straight.
        narrow = bracketed & ((above[k, 1] - below[k, 1] < 0.15) | (above[k, 0] - below[k, 0] < 1e-3 * half[k]))
        done = close | narrow
        settled = np.where(narrow, within, distance)
        end[k[done]] = centre[k[done]] + sign[k[done]] * settled[done]
        flat = (stuck[k] >= 4) & ~bracketed
        end[k[flat & ~done]] = sign[k[flat & ~done]] * np.inf
        active = k[~done & ~flat]
    left = active
    bracketed = np.isfinite(above[left, 0])
    end[left] = np.where(bracketed, centre[left] + sign[left] * above[left, 0], sign[left] * np.inf)
    return end[:m], end[m:]


def _metric(surface: Surface, u: Array) -> Array:
    """The Gauss-Newton matrix of the deviance at u, (f, f), with something on its diagonal."""
    J = surface.residuals(u[None])[1][0]
    normal = (J * surface.weights[:, None]).T @ J
    size = np.diag(normal)
    return normal + np.diag(1e-12 * size + 1e-24 * size.max(initial=0.0) + 1e-200)


def _minimise(
    surface: Surface,
    metric: Array,
    quantity: Quantity,
    which: Indices,
    wanted: Array,
    pull: Array,
    u: Array,
    tolerance: Array,
) -> tuple[Array, Array, Array]:
    """Minimise deviance + pull (q - wanted)^2 from u (K, f): where, the quantity there, the deviance there."""
    low, high = surface.bounds
    scale = 1 / np.sqrt(np.diag(metric))
    unit = metric * np.outer(scale, scale)
    found_u, found_q, found_d = u.copy(), np.empty(len(u)), np.empty(len(u))
    active = np.arange(len(u))
    damping = np.full(len(u), 1e-4)

    @np.errstate(all="ignore")  # a step may go where the law has no value: it is not taken
    def evaluate(u: Array) -> tuple[Array, Array, Array, Array, Array]:
        residual, J = surface.residuals(u)
        value, by_u = quantity(surface, u, which[active])
        off, strength = value - wanted[active], pull[active]
        deviance = (surface.weights * residual**2).sum(-1)
        weighted = J * surface.weights[:, None]
        gradient = (residual[:, None, :] @ weighted)[:, 0] + (strength * off)[:, None] * by_u
        hessian = weighted.swapaxes(-1, -2) @ J + strength[:, None, None] * by_u[:, :, None] * by_u[:, None, :]
        total = deviance + strength * off**2
        bad = ~(np.isfinite(total) & np.isfinite(gradient).all(-1) & np.isfinite(hessian).all((-1, -2)))
        return np.where(bad, np.inf, total), deviance, value, gradient * scale, hessian * np.outer(scale, scale)

    state = evaluate(u)
    for _ in range(100):
        total, _, _, gradient, hessian = state
        step = _step(u, gradient, hessian + damping[:, None, None] * unit, scale, low, high)
        trial = np.clip(u + step, low, high)
        tried = evaluate(trial)
        better = tried[0] <= total
        promised = np.abs(((trial - u) / scale * gradient).sum(-1))
        # a short step of a damped descent promises little, however far there is to go
        done = (better & (promised * (1 + damping) <= tolerance[active])) | (damping >= 1e8)
        u = np.where(better[:, None], trial, u)
        state = tuple(  # type: ignore[assignment]
            np.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
            for new, old in zip(tried, state, strict=True)
        )
        damping = np.where(better, np.maximum(damping / 8, 1e-12), damping * 5)
        found_u[active], found_d[active], found_q[active] = u, state[1], state[2]
        if done.all():
            break
        more = ~done  # what has converged costs no further work
        active, u, damping = active[more], u[more], damping[more]
        state = tuple(x[more] for x in state)
    return found_u, found_q, found_d


def _step(u: Array, gradient: Array, hessian: Array, scale: Array, low: Array, high: Array) -> Array:
    """Newton steps from u (K, f) within the bounds, gradient and hessian in units of scale (f,).

    Coordinates that a step would carry past a bound go to the bound, and the others are solved for again: clipped
    alone, such a step may lead uphill however short it is, and a profile along a bound ends too early.
    """
    size = u.shape[1]
    ridge = 1e-13 * np.einsum("kii->ki", hessian)[:, :, None] * np.eye(size)
    held = ((u <= low) & (gradient > 0)) | ((u >= high) & (gradient < 0))
    step = np.zeros_like(u)
    for _ in range(size):
        coupled = (hessian @ step[..., None])[..., 0]
        either = held[:, :, None] | held[:, None, :]
        solved = np.linalg.solve(
            np.where(either, np.eye(size), hessian) + ridge, np.where(held, 0.0, -gradient - coupled)[..., None]
        )[..., 0]
        step = np.where(held, step, solved)
        under, over = ~held & (u + step * scale < low), ~held & (u + step * scale > high)
        if not (under | over).any():
            break
        step = np.where(under, (low - u) / scale, np.where(over, (high - u) / scale, np.where(held, step, 0.0)))
        held = held | under | over
    return step * scale
