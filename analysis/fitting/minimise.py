"""The global minimum of an objective over the parameters of a law.

Every start of the law is descended by damped Newton with Huber's delta continued from the size of the residuals down
to what the objective says: wide, the objective is close to least squares and has few minima; least absolute
deviations are the limit of a tiny delta. Posynomials take a compiled kernel, other laws one in NumPy with the same
steps. All is done in the unit in which the largest measured value is 1: what a start, a step or rounding is does not
depend on whether losses are in nats or millinats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.fitting import least_absolute
from analysis.fitting.neighbours import improve
from analysis.fitting.newton import Surface, descend, value_at
from analysis.fitting.objective import AbsoluteDeviation, Huber, Objective, in_unit
from analysis.fitting.valley import along_valley
from analysis.laws import posynomial_starts
from analysis.laws.law import Array, Columns, Law, Param
from analysis.laws.posynomial import Posynomial

WIDEST, NARROWEST = 1e150, 1e-12
"""Deltas that stand for least squares and, relative to the response, for least absolute deviations."""
NUM_PILOT, NUM_TRIED = 64, 5
"""Resamples that show whether one start is enough for a table, and starts for each where it is not."""
MAX_STARTS = 24
"""Of a law that is not compiled: more are first compared where they are, for a descent costs hundreds of values."""
MANY_ROWS, NUM_WORTH = 600, 3
"""Of such a law, more rows are first thinned to so many: they show which minima are worth a descent with all rows."""


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where it lies. theta: (p,). value: the objective there, summed over rows. at_bound: names of parameters."""

    theta: Array
    value: float
    converged: bool
    at_bound: tuple[str, ...]


def minimise(
    law: Law,
    at: Columns,
    y: Array,
    objective: Objective,
    *,
    weights: Array | None = None,
    fixed: Mapping[str, float] | None = None,
) -> Minimum:
    """The global minimum of sum_i weights_i objective(residual_i); fixed: parameters that stay at a value.

    Raises ValueError for a fixed parameter that the law has not. theta is nan where no start has a value.
    """
    unit, given = law.unit_of(y), fixed or {}
    y, fixed, (objective, times) = y / unit, _fixed(law, given, unit), in_unit(objective, unit)
    surface = _surface(law, at, y, objective, fixed)
    counts = (np.ones(len(y)) if weights is None else np.asarray(weights, float))[None, :]
    starts = _inside(surface, _starts(law, at, y, fixed))
    num_tried = len(starts) if isinstance(law, Posynomial) else MAX_STARTS
    theta, values, converged = _lowest(surface, starts, counts, objective, num_tried)
    best, value, is_found = theta[0], float(values[0]), bool(converged[0])
    if isinstance(objective, AbsoluteDeviation) and len(surface.free) and np.isfinite(value):
        phi, value, is_found = least_absolute.finish(surface, surface.coordinates(best), counts[0])
        best = surface.theta(phi)
    names = [law.params[i].name for i in surface.free]
    is_at_bound = _is_at_bound(surface, best, _units(surface, best))
    at_bound = tuple(name for name, here in zip(names, is_at_bound, strict=True) if here)
    return Minimum(_as_given(law, law.rescaled(best, unit), given), value * times, is_found, at_bound)


def minimise_resamples(
    law: Law,
    at: Columns,
    y: Array,
    objective: Objective,
    counts: NDArray[np.float64],
    start: Array,
    *,
    fixed: Mapping[str, float] | None = None,
) -> tuple[Array, Array]:
    """The minimum for each of b weightings of the rows, counts (b, n): thetas (b, p) and values (b,).

    start: (p,), the minimum for equal weights. Each weighting is descended from there; those that end at a bound or
    do not converge, and some of the others, from the law's best starts too. If one of these others is lower, all are.
    """
    unit, given = law.unit_of(y), fixed or {}
    y, start, (objective, times) = y / unit, law.rescaled(start, 1 / unit), in_unit(objective, unit)
    fixed = _fixed(law, given, unit)
    surface = _surface(law, at, y, objective, fixed)
    counts = np.asarray(counts, float)
    starts = _inside(surface, np.concatenate([start[None, :], _starts(law, at, y, fixed)]))
    theta, values, converged = _lowest(surface, starts[:1], counts, objective, 1)
    pilot = np.unique(np.linspace(0, len(counts) - 1, NUM_PILOT).round().astype(int))
    again = ~converged | _is_at_bound(surface, theta, _units(surface, start)).any(axis=1)
    again[pilot] = True
    # least absolute deviations have many minima that differ by nothing to speak of
    much = 1e-4 if isinstance(objective, AbsoluteDeviation) else 1e-9
    for _ in range(2):
        chosen = np.flatnonzero(again)
        others = _lowest(surface, starts, counts[chosen], objective, NUM_TRIED)
        is_lower = others[1] < values[chosen]
        is_much_lower = others[1] < values[chosen] * (1 - much) - 1e-25
        theta[chosen[is_lower]], values[chosen[is_lower]] = others[0][is_lower], others[1][is_lower]
        if again.all() or not is_much_lower[np.isin(chosen, pilot)].any():
            break
        again = ~again  # one start is not enough for this table
    return _as_given(law, law.rescaled(theta, unit), given), values * times


def _fixed(law: Law, given: Mapping[str, float], unit: float) -> dict[str, float]:
    """The given values beside measurements that are divided by a unit.

    Raises ValueError for a parameter that the law has not, and for a value that has no logarithm where it needs one.
    """
    names = [param.name for param in law.params]
    for name, value in given.items():
        if name not in names:
            raise ValueError(f"fixed: {law.name} has no parameter {name!r}; it has {', '.join(names)}")
        if law.is_log[names.index(name)] and not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")
    values = law.rescaled(np.array([given.get(name, 1.0) for name in names]), 1 / unit)
    return {name: float(value) for name, value in zip(names, values, strict=True) if name in given}


def _as_given(law: Law, theta: Array, given: Mapping[str, float]) -> Array:
    """Parameters (..., p) with the given ones to the last digit."""
    for i, param in enumerate(law.params):
        theta[..., i] = np.where(np.isnan(theta[..., i]), np.nan, given.get(param.name, theta[..., i]))
    return theta


def _starts(law: Law, at: Columns, y: Array, fixed: Mapping[str, float]) -> Array:
    if not isinstance(law, Posynomial):
        return law.starts(at, y)
    given = (replace(p, low=fixed[p.name], high=fixed[p.name]) if p.name in fixed else p for p in law.params)
    return posynomial_starts.starts(tuple(given), law.terms(at), y)


def _lowest(
    surface: Surface, starts: Array, counts: Array, objective: Objective, num_tried: int
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """The lowest minimum from s starts (s, p) for b weightings (b, n): thetas, values, whether each converged.

    num_tried: from how many starts to descend for each weighting.
    """
    delta = _delta(objective, surface.goal)
    if not len(surface.free):
        phi, converged = np.zeros((len(counts), 0)), np.ones(len(counts), bool)
        reached = value_at(surface, phi, counts, np.full(len(counts), delta))
    elif isinstance(surface.law, Posynomial):
        from analysis.fitting import kernel  # here: compiled code takes half a second to load

        problem = _problem(kernel, surface)
        phi, reached, converged = kernel.descend_resamples(problem, starts, counts, delta, num_tried)
    else:
        if len(starts) > num_tried:
            equal, wide = np.ones((len(starts), len(surface.goal))), np.full(len(starts), max(delta, 1e-2))
            order = np.argsort(value_at(surface, starts[1:], equal[1:], wide[1:]), kind="stable")
            starts = starts[np.concatenate([[0], 1 + order[: num_tried - 1]])]
        if len(surface.goal) > MANY_ROWS and len(starts) > NUM_TRIED:  # resamples begin at no more
            starts = _lowest_of_thinned(surface, starts, delta)
        all_starts, all_counts = np.tile(starts, (len(counts), 1)), np.repeat(counts, len(starts), axis=0)
        found, reached, done = descend(surface, all_starts, all_counts, delta)
        best = reached.reshape(len(counts), -1).argmin(axis=1) + len(starts) * np.arange(len(counts))
        phi, reached, converged = found[best], reached[best], done[best]
        if len(counts) == 1 and np.isfinite(reached[0]):
            if not converged[0] and not isinstance(objective, AbsoluteDeviation):
                lower = along_valley(surface, phi, counts, delta)
                if lower[1][0] < reached[0]:
                    phi, reached, converged = lower
            if _is_sharp(surface, phi[0], delta):
                phi[0], reached[0] = improve(surface, phi[0], float(reached[0]), counts, delta)
    if isinstance(objective, AbsoluteDeviation):
        residual = np.abs(surface.residual(surface.loss(phi)))
        reached = np.where(np.isfinite(reached), (counts * residual).sum(axis=1), np.inf)
    return np.where(np.isfinite(reached)[:, None], surface.theta(phi), np.nan), reached, converged


def _lowest_of_thinned(surface: Surface, starts: Array, delta: float) -> Array:
    """The lowest different minima of a random MANY_ROWS rows, at most NUM_WORTH: where to begin with all rows."""
    rows = np.sort(np.random.default_rng(0).permutation(len(surface.goal))[:MANY_ROWS])
    at = {name: column[rows] for name, column in surface.at.items()}
    thinned = replace(surface, at=at, goal=surface.goal[rows])
    found, reached, _ = descend(thinned, starts, np.ones((len(starts), MANY_ROWS)), delta)
    best = np.unique(reached.astype(np.float32), return_index=True)[1][:NUM_WORTH]  # equal but for rounding: once
    return found[best]


def _is_sharp(surface: Surface, phi: Array, delta: float) -> bool:
    """Whether delta is so small that the objective is nearly least absolute deviations."""
    return delta < float(np.median(np.abs(surface.residual(surface.loss(phi)))))


def _surface(law: Law, at: Columns, y: Array, objective: Objective, fixed: Mapping[str, float]) -> Surface:
    names = [param.name for param in law.params]
    base = np.array([_coordinate(param, fixed.get(param.name, param.low)) for param in law.params])
    free = np.array([i for i, name in enumerate(names) if name not in fixed], int)
    low = np.array([_coordinate(param, param.low) for param in law.params])
    high = np.array([_coordinate(param, param.high) for param in law.params])
    is_raw = objective.scale == "raw"
    return Surface(law, at, y if is_raw else np.log(y), is_raw, base, free, low[free], high[free])


def _coordinate(param: Param, value: float) -> float:
    return float(np.log(value)) if param.is_log else float(value)


def _inside(surface: Surface, theta: Array) -> Array:
    """Free coordinates (s, p) of parameter vectors (s, all), within the bounds; those without a value left out."""
    phi = surface.coordinates(theta)
    phi = np.ascontiguousarray(phi[~np.isnan(phi).any(axis=1)])
    if not len(phi):
        raise ValueError(f"{surface.law.name}: no start is a number")
    return np.clip(phi, surface.low, surface.high)


def _delta(objective: Objective, goal: Array) -> float:
    if isinstance(objective, Huber):
        return objective.delta
    if isinstance(objective, AbsoluteDeviation):
        return NARROWEST * max(1.0, float(np.abs(goal).mean()))
    return WIDEST


def _problem(kernel, surface: Surface):  # type: ignore[no-untyped-def]
    """The kernel's view of a posynomial."""
    assert isinstance(surface.law, Posynomial)
    terms = surface.law.terms(surface.at)
    position = {int(j): i for i, j in enumerate(surface.free)}
    offset, design, coordinate, first = np.zeros((len(terms), len(surface.goal))), [], [], [0]
    for k, term in enumerate(terms):
        for column, j in zip(term.design.T, term.params, strict=True):
            if j in position:
                design.append(column)
                coordinate.append(position[j])
            else:
                offset[k] += column * surface.base[j]
        first.append(len(coordinate))
    return kernel.Problem(
        0 in position,
        float(surface.base[0]),
        offset,
        np.ascontiguousarray(np.array(design, float).reshape(-1, len(surface.goal))),
        np.array(first, np.int64),
        np.array(coordinate, np.int64),
        np.ascontiguousarray(surface.goal, float),
        surface.is_raw,
        surface.low,
        surface.high,
    )


def _units(surface: Surface, theta: Array) -> Array:
    """Of the free coordinates, (p,): 1, or less where predictions at theta would move by more than themselves.

    A factor on a column in billions may well be 1e-11, far from 0.
    """
    phi = surface.coordinates(theta)
    with np.errstate(all="ignore"):
        moved = np.abs(surface.slope(phi)).mean(axis=0) / np.abs(surface.loss(phi)).mean()
    return 1 / np.fmax(moved, 1.0)


def _is_at_bound(surface: Surface, theta: Array, unit: Array) -> NDArray[np.bool_]:
    """Which free parameters stopped at a bound, (..., p): within rounding of it, in the coordinate that is fitted.

    Rounding is 1e-9 of the coordinate, or of `unit` (p,).
    """
    phi = surface.coordinates(theta)
    near = 1e-9 * np.maximum(unit, np.abs(phi))
    return (phi <= surface.low + near) | (phi >= surface.high - near)
