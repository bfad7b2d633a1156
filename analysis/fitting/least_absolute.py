"""The last digits of least absolute deviations, where the objective has an edge at the minimum.

Newton's method with a tiny delta comes close and may stop at an edge. From there linear programs go on: the residuals
are taken as linear within a trust region, and the sum of their sizes is minimised exactly. Only residuals that may
change sign within the region cost the program a row: of large tables it holds no more than MAX_ROWS of them.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from analysis.fitting.newton import Surface
from analysis.laws.law import Array

MAX_PROGRAMS = 300
MAX_ROWS = 500
NUM_WITHOUT_GAIN = 8
"""So many programs that together gain nothing end it too: a minimum that is bent has no edge to stop at."""
TOLERANCE = 1e-10
"""What is nothing: of the decrease that a program promises or the last ones made, relative to the value."""


def finish(surface: Surface, phi: Array, weights: Array) -> tuple[Array, float, bool]:
    """From coordinates (p,) with weights (n,): the minimum near them, its value, and whether it is one."""
    residual = surface.residual(surface.loss(phi))
    value = float((weights * np.abs(residual)).sum())
    radius, history = np.inf, [np.inf] * NUM_WITHOUT_GAIN
    for _ in range(MAX_PROGRAMS):
        slope = surface.slope(phi) if surface.is_raw else surface.slope(phi) / surface.loss(phi)[:, None]
        step, promised = _program(surface, phi, residual, slope, weights, radius)
        is_idle = history[-NUM_WITHOUT_GAIN] - value <= TOLERANCE * value
        if is_idle or promised <= TOLERANCE * value + 1e-14 * weights.sum():
            return phi, value, True
        history.append(value)
        trial = np.clip(phi + step, surface.low, surface.high)
        new_residual = surface.residual(surface.loss(trial))
        new = float((weights * np.abs(new_residual)).sum())
        size = float(np.abs(step * _scale(slope)).max())
        if new < value:
            radius = 2 * size if value - new > 0.75 * promised else size
            phi, value, residual = trial, new, new_residual
        else:
            radius = 0.25 * size
    return phi, value, False


def _scale(slope: Array) -> Array:
    """How much a coordinate moves the residuals, (p,): in these units the trust region is a cube."""
    size = np.abs(slope).mean(axis=0)
    return np.where(size > 0, size, 1.0)


def _program(
    surface: Surface, phi: Array, residual: Array, slope: Array, weights: Array, radius: float
) -> tuple[Array, float]:
    """The step (p,) that minimises sum_i weights_i |residual_i + slope_i . step|, and by how much it promises to."""
    scale = _scale(slope)
    moved = (np.abs(slope) / scale).sum(axis=1)  # by a step of radius 1, at most
    turns = np.where(weights > 0, np.abs(residual) / np.maximum(moved, 1e-300), np.inf)
    if len(turns) > MAX_ROWS:
        radius = min(radius, float(np.partition(turns, MAX_ROWS)[MAX_ROWS]))
    rows = turns < radius
    count = int(rows.sum())
    kept = weights * np.sign(residual) * ~rows
    low = np.maximum((surface.low - phi) * scale, -radius)
    high = np.minimum((surface.high - phi) * scale, radius)
    found = linprog(
        np.concatenate([kept @ slope / scale, weights[rows], weights[rows]]),
        A_eq=np.hstack([slope[rows] / scale, -np.eye(count), np.eye(count)]),
        b_eq=-residual[rows],
        bounds=[*zip(low.tolist(), high.tolist(), strict=True), *[(0.0, None)] * (2 * count)],
        method="highs",
    )
    if found.x is None:
        return np.zeros(len(phi)), 0.0
    step = found.x[: len(phi)] / scale
    return step, float((weights * np.abs(residual)).sum() - (weights * np.abs(residual + slope @ step)).sum())
