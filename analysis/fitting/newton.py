"""Descent for any law with exact first derivatives: damped Newton, many starts or resamples at once.

The same steps as the compiled kernel takes for posynomials (kernel.py); the second derivatives of the law are
differences of its exact gradients, the rest of the Hessian is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.laws.law import Array, Columns, Law

MAX_STEPS = 300
WIDE_STEPS = 3
"""Newton steps at a width of Huber's that is only passed through."""
MAX_NUMBERS = 500_000
"""Doubles in the largest array of an evaluation, within a processor's cache: so many resamples go at once."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A law at n rows in its p free coordinates: logarithms of the parameters that are_log, the others themselves.

    base: all coordinates, given ones at their values; free: which of them are sought. goal: log y, or y where is_raw.
    """

    law: Law
    at: Columns
    goal: Array
    is_raw: bool
    base: Array
    free: NDArray[np.int64]
    low: Array
    high: Array

    def theta(self, phi: Array) -> Array:
        """Parameters (..., all) at free coordinates (..., p)."""
        full = np.broadcast_to(self.base, (*phi.shape[:-1], len(self.base))).copy()
        full[..., self.free] = phi
        return np.where(self.law.is_log, np.exp(np.where(self.law.is_log, full, 0.0)), full)

    def coordinates(self, theta: Array) -> Array:
        """Free coordinates (..., p) of parameters (..., all)."""
        with np.errstate(all="ignore"):
            return np.where(self.law.is_log, np.log(np.where(self.law.is_log, theta, 1.0)), theta)[..., self.free]

    def loss(self, phi: Array) -> Array:
        """(..., n); nan where the law has no value."""
        with np.errstate(all="ignore"):
            return self.law.loss(self.theta(phi), self.at)

    def slope(self, phi: Array) -> Array:
        """d loss / d phi, (..., n, p)."""
        return self.loss_and_slope(phi)[1]

    def loss_and_slope(self, phi: Array) -> tuple[Array, Array]:
        """(..., n) and (..., n, p)."""
        theta = self.theta(phi)
        with np.errstate(all="ignore"):
            loss, gradient = self.law.loss_and_gradient(theta, self.at)
            chain = np.where(self.law.is_log, theta, 1.0)
            return loss, (gradient * chain[..., None, :])[..., self.free]

    def residual(self, loss: Array) -> Array:
        """log predicted - log measured, or predicted - measured; nan where the prediction has no logarithm."""
        if self.is_raw:
            return loss - self.goal
        return np.log(np.where(loss > 0, loss, np.nan)) - self.goal


@dataclass(frozen=True, eq=False)
class _Local:
    """Derivatives of the objective at s places: gradient (s, p), Hessian and a positive majoriser of it (s, p, p)."""

    gradient: Array
    hessian: Array
    majoriser: Array

    def take(self, rows: NDArray[np.int64]) -> _Local:
        return _Local(self.gradient[rows], self.hessian[rows], self.majoriser[rows])

    def put(self, rows: NDArray[np.int64], new: _Local) -> None:
        self.gradient[rows], self.hessian[rows], self.majoriser[rows] = new.gradient, new.hessian, new.majoriser


def descend(surface: Surface, starts: Array, weights: Array, delta: float) -> tuple[Array, Array, NDArray[np.bool_]]:
    """The minimum of the Huber objective in the basin of each start (s, p), with its weights (s, n).

    Returns coordinates (s, p), values (s,) (inf where a start has none) and whether each converged (s,).
    """
    per_place = 2 * starts.shape[1] * weights.shape[1] * len(surface.base)
    size = max(1, MAX_NUMBERS // max(1, per_place))
    parts = [_descend(surface, starts[i : i + size], weights[i : i + size], delta) for i in range(0, len(starts), size)]
    return (
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        np.concatenate([part[2] for part in parts]),
    )


def _descend(surface: Surface, starts: Array, weights: Array, delta: float) -> tuple[Array, Array, NDArray[np.bool_]]:
    residual = np.abs(surface.residual(surface.loss(starts)))
    mean = (weights * np.minimum(residual, 1e6)).sum(axis=1) / weights.sum(axis=1)
    usable = np.isfinite(mean)
    phi, values, converged = starts.copy(), np.full(len(starts), np.inf), np.zeros(len(starts), bool)
    rows = np.flatnonzero(usable)
    if len(rows):
        width = np.maximum(delta, 2 * mean[rows])
        stage = 0
        while (width > delta).any():
            tolerance = 1e-2 if stage < 8 else 1e-6
            phi[rows], _, _ = _newton(surface, phi[rows], weights[rows], width, tolerance, WIDE_STEPS)
            # once few rows are inside (least absolute deviations), the rest is to sharpen
            width = np.maximum(delta, width / (4.0 if stage < 8 else 10.0))
            stage += 1
        phi[rows], values[rows], converged[rows] = _newton(surface, phi[rows], weights[rows], width, 1e-13, MAX_STEPS)
    return phi, values, converged


def sharpen(surface: Surface, phi: Array, weights: Array, delta: float) -> tuple[Array, Array, NDArray[np.bool_]]:
    """As `descend`, at the final width of Huber's from the first step on."""
    return _newton(surface, phi, weights, np.full(len(phi), delta), 1e-13, MAX_STEPS)


def curvature(surface: Surface, phi: Array, weights: Array, delta: float) -> Array:
    """A positive majoriser of the Hessian at one place phi (p,), (p, p)."""
    return _local(surface, phi[None], weights, np.array([delta])).majoriser[0]


def value_at(surface: Surface, phi: Array, weights: Array, delta: Array) -> Array:
    """The objective at s places (s, p), (s,); inf where the law has no value."""
    size = np.abs(surface.residual(surface.loss(phi)))
    inner = np.minimum(size, delta[:, None])
    value = (weights * (0.5 * inner * inner + delta[:, None] * (size - inner))).sum(axis=1)
    return np.where(np.isfinite(value), value, np.inf)


def _local(surface: Surface, phi: Array, weights: Array, delta: Array) -> _Local:
    loss, slope = surface.loss_and_slope(phi)
    residual = surface.residual(loss)
    size = np.abs(residual)
    pull = weights * np.clip(residual, -delta[:, None], delta[:, None])
    bend = np.where(size <= delta[:, None], weights, 0.0)
    if not surface.is_raw:
        bend = bend - pull
        pull = pull / loss
    gradient = np.einsum("sn,snp->sp", pull, slope)
    own = slope if surface.is_raw else slope / loss[:, :, None]
    reweighted = weights * delta[:, None] / np.maximum(size, delta[:, None])
    majoriser = np.einsum("sn,snp,snq->spq", reweighted, own, own)
    hessian = np.einsum("sn,snp,snq->spq", bend, own, own) + _second(surface, phi, pull, own)
    return _Local(gradient, hessian, majoriser)


def _second(surface: Surface, phi: Array, pull: Array, own: Array) -> Array:
    """sum_i pull_i d2 loss_i / d phi2, (s, p, p), by differences within the bounds."""
    num = phi.shape[1]
    typical = np.sqrt((own**2).mean(axis=1)) + 1e-300
    width = np.minimum(1e-4 / typical, 1e-4 * np.maximum(1.0, np.abs(phi)))
    up, down = np.minimum(phi + width, surface.high), np.maximum(phi - width, surface.low)
    places = np.repeat(phi[:, None, :], 2 * num, axis=1)
    for j in range(num):
        places[:, 2 * j, j], places[:, 2 * j + 1, j] = up[:, j], down[:, j]
    slopes = np.einsum("sn,sknp->skp", pull, surface.slope(places))
    second = (slopes[:, 0::2] - slopes[:, 1::2]) / np.maximum(up - down, 1e-300)[:, :, None]
    second = np.where(np.isfinite(second), second, 0.0)
    return 0.5 * (second + second.transpose(0, 2, 1))


def _newton(
    surface: Surface, phi: Array, weights: Array, delta: Array, tolerance: float, max_steps: int
) -> tuple[Array, Array, NDArray[np.bool_]]:
    phi = phi.copy()
    value = value_at(surface, phi, weights, delta)
    converged = np.zeros(len(phi), bool)
    damping = np.zeros(len(phi))
    rounding = 1e-29 * weights.sum(axis=1) * max(1.0, float(np.abs(surface.goal).max())) ** 2
    active = np.flatnonzero(np.isfinite(value))
    local = _local(surface, phi, weights, delta)
    for _ in range(max_steps):
        if not len(active):
            break
        step, promised, damping[active] = _steps(surface, phi[active], local.take(active), damping[active])
        trial = np.clip(phi[active] + step, surface.low, surface.high)
        new = value_at(surface, trial, weights[active], delta[active])
        old = value[active]
        last = promised * (1 + damping[active]) <= tolerance * old + rounding[active]
        below_rounding = (new >= old) & (new - old < 1e-14 * old) & (promised <= 1e-11 * old)
        better = new < old
        with np.errstate(all="ignore"):  # what ends a descent may promise nothing at all
            ratio = np.where(better, (old - new) / np.maximum(promised, 1e-300), 0.0)
        own = damping[active]
        own = np.where(ratio > 0.75, np.where(own > 1e-4, 0.2 * own, 0.0), own)
        own = np.where(better & (ratio < 0.25), np.maximum(3 * own, 1e-2), own)
        own = np.where(better, own, np.maximum(8 * own, 1e-2))
        damping[active] = own
        moved = active[better]
        phi[moved], value[moved] = trial[better], new[better]
        done = last | below_rounding | (value[active] <= rounding[active])
        converged[active[done]] = True
        going = moved[~converged[moved]]
        if len(going):
            local.put(going, _local(surface, phi[going], weights[going], delta[going]))
        active = active[~done & (own < 1e13)]
    return phi, value, converged


def _steps(surface: Surface, phi: Array, local: _Local, damping: Array) -> tuple[Array, Array, Array]:
    """Damped Newton steps within the bounds (s, p), the decreases they promise (s,), the damping that they took (s,).

    Coordinates that a step would carry past a bound go to the bound, and the others are solved for again.
    """
    num = phi.shape[1]
    identity = np.eye(num)
    gradient, scale = local.gradient, np.sqrt(np.einsum("saa->sa", local.majoriser))
    held = (phi <= surface.low) & (gradient >= 0) | (phi >= surface.high) & (gradient <= 0) | ~(scale > 0)
    scale = np.where(scale > 0, scale, 1.0)
    both = scale[:, :, None] * scale[:, None, :]
    step = np.zeros_like(phi)
    for _ in range(num + 1):
        kept = ~held
        block = kept[:, :, None] & kept[:, None, :]
        metric = np.where(block, local.majoriser / both, identity) + 1e-12 * identity
        curved = np.where(block, local.hessian / both, identity)
        root = np.linalg.inv(np.linalg.cholesky(metric))
        eigenvalues, vectors = np.linalg.eigh(root @ curved @ root.transpose(0, 2, 1))
        least = eigenvalues[:, 0]
        damping = np.where(least + damping > 1e-10, damping, np.maximum(damping, 1e-2 - 1.5 * least))
        coupled = np.einsum("sab,sb->sa", local.hessian + damping[:, None, None] * local.majoriser, step * held)
        right = np.where(kept, (-gradient - coupled) / scale, 0.0)
        turned = np.einsum("sba,sb->sa", vectors, np.einsum("sab,sb->sa", root, right))
        turned /= eigenvalues + damping[:, None]
        solved = np.einsum("sba,sb->sa", root, np.einsum("sab,sb->sa", vectors, turned)) / scale
        step = np.where(kept, solved, step)
        under, over = kept & (phi + step < surface.low), kept & (phi + step > surface.high)
        if not (under | over).any():
            break
        step = np.where(under, surface.low - phi, np.where(over, surface.high - phi, step))
        held = held | under | over
    matrix = local.hessian + damping[:, None, None] * local.majoriser
    promised = -np.einsum("sa,sa->s", gradient, step) - 0.5 * np.einsum("sa,sab,sb->s", step, matrix, step)
    return step, promised, damping
