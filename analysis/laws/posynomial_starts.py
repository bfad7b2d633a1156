"""Where the search for the minimum of a posynomial begins: exponents on a grid, the rest solved linearly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.laws.law import Array, Param

if TYPE_CHECKING:
    from analysis.laws.posynomial import Term

NODES_PER_EXPONENT = {1: 64, 2: 24, 3: 10}
"""How fine the grid is, by the number of exponents; more are sampled (Sobol)."""
NUM_SAMPLED = 1024
NUM_KEPT = 8
FEW_ROWS, MOST_KEPT = 1000, 60
"""Few rows have many minima far apart, and are quickly descended: FEW_ROWS / n are kept, 8 to 60.
With 8, one table in 60 of 6 to 20 rows ended above the global minimum; with 24 none did."""
EFFECTS = (0.1, 15.0)
"""Nats by which a term changes over the rows: exponents are sought between these over the range of their column."""
FLOORS = np.array([0.0, 0.3, 0.5, 0.65, 0.75, 0.82, 0.88, 0.92, 0.95, 0.97, 0.985, 0.995])
"""E as shares of the least loss, where a law has one term."""


def starts(params: Sequence[Param], terms: Sequence[Term], y: Array) -> Array:
    """Parameter vectors (s, p) for measurements y (n,) above 0, best first.

    A parameter whose bounds are equal is given: the others are sought beside it.
    """
    low, high = (np.array([_coordinate(p, getattr(p, side)) for p in params]) for side in ("low", "high"))
    found = [_by_floors(params, terms[0], y)] if len(terms) == 1 else []
    if all(_factor(params, term) is not None for term in terms):
        found.append(_by_grid(params, terms, y))
    if not found:
        raise ValueError(
            "every term of a posynomial with several needs a factor: a column of ones, of a parameter is_log"
        )
    phi = np.clip(np.concatenate(found), low, high)
    is_log = np.array([p.is_log for p in params])
    return np.where(is_log, np.exp(np.where(is_log, phi, 0.0)), phi)


def _coordinate(param: Param, value: float) -> float:
    return float(np.log(value)) if param.is_log else value


def _given(params: Sequence[Param], positions: Sequence[int]) -> Array:
    """The coordinates of the parameters that are given, nan for the others."""
    return np.array(
        [_coordinate(params[j], params[j].low) if params[j].low == params[j].high else np.nan for j in positions]
    )


def _by_floors(params: Sequence[Param], term: Term, y: Array) -> Array:
    """One term: for each of several E, log(L - E) is linear in the rest."""
    floors = np.unique(np.concatenate([FLOORS * y.min(), FLOORS[4:] * np.quantile(y, 0.2)]))
    floors = floors[floors >= params[0].low] if params[0].low < params[0].high else np.array([params[0].low])
    given = _given(params, term.params)
    is_free = np.isnan(given)
    known = term.design[:, ~is_free] @ given[~is_free]
    phi = np.zeros((len(floors), len(params)))
    phi[:, 0] = floors
    for row, floor in zip(phi, floors, strict=True):
        above = np.maximum(y - floor, 1e-3 * y)
        weight = np.where(y > floor, above / y, 1e-6)  # so that residuals are those of log L, to first order
        goal = (np.log(above) - known) * weight
        row[np.array(term.params)[is_free]] = np.linalg.lstsq(
            term.design[:, is_free] * weight[:, None], goal, rcond=1e-10
        )[0]
    return phi


def _by_grid(params: Sequence[Param], terms: Sequence[Term], y: Array) -> Array:
    """Nodes of a grid of exponents, with E and the factors of the terms by least squares of relative residuals."""
    exponents, ranges = _exponents(params, terms)
    nodes = _nodes([params[j] for j in exponents], ranges)
    bases, where, heights = [1 / y[None, :]], [np.zeros(len(nodes), int)], [np.zeros(len(nodes))]
    for term in terms:
        slopes = _slopes(term)
        own, index = np.unique(nodes[:, [exponents.index(term.params[j]) for j in slopes]], axis=0, return_inverse=True)
        height = own @ term.design[:, slopes].T
        top = height.max(axis=1)  # scaled to a largest value of 1, so that nothing overflows
        bases.append(np.exp(height - top[:, None]) / y)
        where.append(index.reshape(-1))
        heights.append(top[index.reshape(-1)])
    factors = [term.params[_the(_factor(params, term))] for term in terms]
    given = np.concatenate([_given(params, [0]), np.exp(_given(params, factors))])
    with_floor = _linear(bases, where, heights, given)
    without = _linear(bases, where, heights, np.concatenate([[0.0], given[1:]])) if np.isnan(given[0]) else with_floor
    found = []
    num_kept = max(NUM_KEPT, min(FEW_ROWS // len(y), MOST_KEPT))
    for (size, cost), kept in ((with_floor, num_kept), (without, num_kept // 4)):
        best = np.argsort(cost, kind="stable")[:kept]
        phi = np.zeros((len(best), len(params)))
        phi[:, exponents] = nodes[best]
        phi[:, 0] = size[best, 0]
        for k, factor in enumerate(factors, start=1):
            phi[:, factor] = np.log(size[best, k]) - heights[k][best]
        found.append(phi)
    return np.concatenate(found)


def _the(factor: int | None) -> int:
    assert factor is not None
    return factor


def _factor(params: Sequence[Param], term: Term) -> int | None:
    """The column of a term that is its factor: ones, of a parameter that is_log."""
    return next((j for j, at in enumerate(term.params) if params[at].is_log and (term.design[:, j] == 1).all()), None)


def _slopes(term: Term) -> list[int]:
    """The columns of a term that are more than marks: those of 0 and 1 are left to the descent, from no effect."""
    is_mark = ((term.design == 0) | (term.design == 1)).all(axis=0)
    return [j for j in range(len(term.params)) if not is_mark[j]]


def _exponents(params: Sequence[Param], terms: Sequence[Term]) -> tuple[list[int], list[float]]:
    """Positions of the parameters to search on a grid, and the range of the column of each."""
    ranges = {term.params[j]: float(np.ptp(term.design[:, j])) for term in terms for j in _slopes(term)}
    return sorted(ranges), [ranges[j] for j in sorted(ranges)]


def _nodes(params: Sequence[Param], ranges: Sequence[float]) -> Array:
    axes = []
    free = [param for param in params if param.low < param.high]
    count = NODES_PER_EXPONENT.get(len(free), 32)
    for param, spread in zip(params, ranges, strict=True):
        size = np.geomspace(*EFFECTS, count) / max(spread, 1e-9)
        both = size if param.low >= 0 else np.concatenate([-size[::-1][::2], size[::2]])
        axes.append(np.unique(np.clip(both, param.low, param.high)))
    if not free or len(free) in NODES_PER_EXPONENT:
        return np.array(list(product(*axes)), float).reshape(-1, len(params))
    from scipy.stats import qmc  # here: it takes a quarter of a second to load

    sampled = qmc.Sobol(len(params), seed=0).random(NUM_SAMPLED)
    return np.stack([np.interp(u, np.linspace(0, 1, len(a)), a) for u, a in zip(sampled.T, axes, strict=True)], axis=1)


def _linear(
    bases: Sequence[Array], where: Sequence[NDArray[np.int64]], heights: Sequence[Array], given: Array
) -> tuple[Array, Array]:
    """Least squares of 1 on the bases at every node, kept above 0: coefficients (g, m) and costs (g,).

    Base k at node g: bases[k][where[k][g]], (n,), which is to be multiplied by exp(heights[k][g]). given: (m,), nan
    where sought.
    """
    count, m = len(where[0]), len(bases)
    gram, right = np.empty((count, m, m)), np.empty((count, m))
    for a in range(m):
        right[:, a] = bases[a].sum(axis=1)[where[a]]
        for b in range(a + 1):
            gram[:, a, b] = gram[:, b, a] = (bases[a] @ bases[b].T)[where[a], where[b]]
    size = np.stack(
        [np.exp(np.minimum(top, 700.0)) * (0.0 if np.isnan(c) else c) for top, c in zip(heights, given, strict=True)], 1
    )
    free = np.flatnonzero(np.isnan(given))
    if len(free):
        scale = np.sqrt(np.einsum("gaa->ga", gram))[:, free]
        normal = gram[:, free][:, :, free] / (scale[:, :, None] * scale[:, None, :]) + 1e-10 * np.eye(len(free))
        rest = right[:, free] - np.einsum("gab,gb->ga", gram[:, free], size)
        solved = np.linalg.solve(normal, (rest / scale)[:, :, None])[:, :, 0] / scale
        # a factor must stay above 0 to have a logarithm
        least = np.stack(
            [np.zeros(count) if k == 0 else 1e-3 / bases[k].max(axis=1)[where[k]] for k in free.tolist()], axis=1
        )
        size[:, free] = np.maximum(solved, least)
    cost = bases[0].shape[1] - 2 * (size * right).sum(1) + np.einsum("ga,gab,gb->g", size, gram, size)
    return size, np.where(np.isfinite(cost), cost, np.inf)
