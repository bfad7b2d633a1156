"""Compiled descent for posynomials: damped Newton with the exact Hessian, delta continued from wide to narrow.

Everything is in the coordinates in which the terms are linear (analysis/laws/posynomial.py), parameters that are
given taken out. Rows are the inner loops, so that they run several at a time: for 240 rows and five parameters a
value with gradient and Hessian takes about 5 microseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from analysis.laws.law import Array

MAX_STEPS = 300
WIDE_STEPS = 3
"""Newton steps at a width of Huber's that is only passed through."""
MAX_LAST = 4
"""So many times MAX_STEPS at the last width: a valley along a bound, as of losses that do not fall, takes many."""
COARSE_STAGES = 8
"""Widths that are a quarter of the one before; then a tenth."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compiled on its first call and kept on disk: beside the module, in the user's cache where that is read-only.

    Where neither can be written it is compiled in every process. Sums may be reordered (several rows at a time), but
    nan and inf stay what they are.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder for its cache
        return njit(**options)(function)


def is_compiled() -> bool:
    """Whether an earlier process has left its compiled code on disk."""
    place = descend_resamples.stats.cache_path
    return place is not None and any(Path(place).glob("kernel.*.nbi"))


class Problem(NamedTuple):
    """A posynomial at n rows, in its p free coordinates; goal: log y, or y where is_raw.

    Term k is exp(offset[k] + sum_q phi[coordinate[q]] design[q]) over q from first[k] to first[k + 1].
    has_floor: phi[0] is E; else E is `floor`.
    """

    has_floor: bool
    floor: float
    offset: Array  # (k, n)
    design: Array  # (q, n)
    first: NDArray[np.int64]  # (k + 1,)
    coordinate: NDArray[np.int64]  # (q,)
    goal: Array  # (n,)
    is_raw: bool
    low: Array  # (p,)
    high: Array  # (p,)


class Space(NamedTuple):
    """Room for one evaluation."""

    term: Array  # (k, n)
    loss: Array  # (n,)
    slope: Array  # (p, n): of the residual
    bend: Array  # (n,): factor of slope slope' in the Hessian
    reweighted: Array  # (n,): the same in the majoriser
    pull: Array  # (n,): factor of the second derivatives of the loss
    gradient: Array  # (p,)
    hessian: Array  # (p, p)
    majoriser: Array  # (p, p)


@compiled
def _space(num_terms, num_rows, num_free):  # type: ignore[no-untyped-def]
    return Space(
        np.empty((num_terms, num_rows)),
        np.empty(num_rows),
        np.zeros((num_free, num_rows)),
        np.empty(num_rows),
        np.empty(num_rows),
        np.empty(num_rows),
        np.empty(num_free),
        np.empty((num_free, num_free)),
        np.empty((num_free, num_free)),
    )


@compiled
def _residuals(problem, phi, space):  # type: ignore[no-untyped-def]
    """Fill space.term, space.loss and, in space.pull, the residuals."""
    loss, residual = space.loss, space.pull
    loss[:] = phi[0] if problem.has_floor else problem.floor
    for k in range(len(problem.first) - 1):
        term, offset = space.term[k], problem.offset[k]
        for i in range(len(term)):
            term[i] = offset[i]
        for q in range(problem.first[k], problem.first[k + 1]):
            x, value = problem.design[q], phi[problem.coordinate[q]]
            for i in range(len(term)):
                term[i] += value * x[i]
        for i in range(len(term)):
            term[i] = np.exp(term[i])
            loss[i] += term[i]
    goal = problem.goal
    if problem.is_raw:
        for i in range(len(goal)):
            residual[i] = loss[i] - goal[i]
    else:
        for i in range(len(goal)):
            residual[i] = np.log(loss[i]) - goal[i]


@compiled
def evaluate(problem, phi, weights, delta, space):  # type: ignore[no-untyped-def]
    """The objective at phi; its gradient, its Hessian and a positive majoriser of it are left in `space`."""
    _residuals(problem, phi, space)
    loss, pull, bend, reweighted = space.loss, space.pull, space.bend, space.reweighted
    num_rows, num_free = len(loss), len(phi)
    is_raw = problem.is_raw
    value = 0.0
    for i in range(num_rows):
        r = pull[i]
        size = abs(r)
        inner = min(size, delta)
        value += weights[i] * (0.5 * inner * inner + delta * (size - inner))
        reweighted[i] = weights[i] * min(1.0, delta / max(size, 1e-300))
        signed = weights[i] * (inner if r >= 0 else -inner)
        curvature = weights[i] if size <= delta else 0.0
        if is_raw:
            bend[i] = curvature
            pull[i] = signed
        else:
            bend[i] = curvature - signed
            pull[i] = signed / loss[i]
    slope, gradient, hessian, majoriser = space.slope, space.gradient, space.hessian, space.majoriser
    slope[:] = 0.0
    hessian[:] = 0.0
    majoriser[:] = 0.0
    if problem.has_floor:
        slope[0, :] = 1.0
    for k in range(len(problem.first) - 1):
        term = space.term[k]
        for q in range(problem.first[k], problem.first[k + 1]):
            x, own = problem.design[q], slope[problem.coordinate[q]]
            for i in range(num_rows):
                own[i] += term[i] * x[i]
            for q2 in range(problem.first[k], q + 1):
                x2 = problem.design[q2]
                total = 0.0
                for i in range(num_rows):
                    total += pull[i] * term[i] * x[i] * x2[i]
                a, b = problem.coordinate[q], problem.coordinate[q2]
                hessian[a, b] += total
                if a != b:
                    hessian[b, a] += total
    for a in range(num_free):
        own = slope[a]
        total = 0.0
        for i in range(num_rows):
            total += pull[i] * own[i]
        gradient[a] = total
        if not is_raw:
            for i in range(num_rows):
                own[i] /= loss[i]
        for b in range(a + 1):
            other = slope[b]
            exact = 0.0
            positive = 0.0
            for i in range(num_rows):
                both = own[i] * other[i]
                exact += bend[i] * both
                positive += reweighted[i] * both
            hessian[a, b] += exact
            majoriser[a, b] = positive
            if a != b:
                hessian[b, a] += exact
                majoriser[b, a] = positive
    return value


@compiled
def _solve(matrix, right, is_free, solution):  # type: ignore[no-untyped-def]
    """Solve for the free coordinates by Cholesky; False where the matrix is not safely positive."""
    num = len(right)
    scale = np.empty(num)
    root = np.zeros((num, num))
    for a in range(num):
        if is_free[a]:
            if not matrix[a, a] > 0:
                return False
            scale[a] = 1.0 / np.sqrt(matrix[a, a])
    for a in range(num):
        if not is_free[a]:
            continue
        for b in range(a + 1):
            if not is_free[b]:
                continue
            total = matrix[a, b] * scale[a] * scale[b]
            for c in range(b):
                if is_free[c]:
                    total -= root[a, c] * root[b, c]
            if a == b:
                if not total > 1e-14:
                    return False
                root[a, a] = np.sqrt(total)
            else:
                root[a, b] = total / root[b, b]
    for a in range(num):
        if is_free[a]:
            total = right[a] * scale[a]
            for c in range(a):
                if is_free[c]:
                    total -= root[a, c] * solution[c]
            solution[a] = total / root[a, a]
    for a in range(num - 1, -1, -1):
        if is_free[a]:
            total = solution[a]
            for c in range(a + 1, num):
                if is_free[c]:
                    total -= root[c, a] * solution[c]
            solution[a] = total / root[a, a]
    for a in range(num):
        if is_free[a]:
            solution[a] *= scale[a]
    return True


@compiled
def _step(problem, phi, space, damping, step):  # type: ignore[no-untyped-def]
    """The damped Newton step within the bounds; the decrease that it promises, or -1 where there is no such step.

    Coordinates that the step would carry past a bound go to the bound, and the others are solved for again.
    """
    num = len(phi)
    gradient = space.gradient
    matrix = np.empty((num, num))
    is_free = np.ones(num, np.bool_)
    for a in range(num):
        step[a] = 0.0
        for b in range(num):
            matrix[a, b] = space.hessian[a, b] + damping * space.majoriser[a, b]
        pushed_out = (phi[a] <= problem.low[a] and gradient[a] >= 0) or (phi[a] >= problem.high[a] and gradient[a] <= 0)
        if pushed_out or space.majoriser[a, a] <= 0:
            is_free[a] = False
    for _ in range(num):
        right = np.empty(num)
        for a in range(num):
            right[a] = -gradient[a]
            for b in range(num):
                if not is_free[b]:
                    right[a] -= matrix[a, b] * step[b]
        if not _solve(matrix, right, is_free, step):
            return -1.0
        again = False
        for a in range(num):
            if is_free[a]:
                if phi[a] + step[a] < problem.low[a]:
                    step[a], is_free[a], again = problem.low[a] - phi[a], False, True
                elif phi[a] + step[a] > problem.high[a]:
                    step[a], is_free[a], again = problem.high[a] - phi[a], False, True
        if not again:
            break
    promised = 0.0
    for a in range(num):
        promised -= gradient[a] * step[a]
        for b in range(num):
            promised -= 0.5 * matrix[a, b] * step[a] * step[b]
    return promised


@compiled
def newton(problem, phi, weights, delta, tolerance, max_steps, space, other):  # type: ignore[no-untyped-def]
    """Descend from phi (changed in place) at one delta: the value, and whether no step promises more than `tolerance`.

    tolerance: of the promised decrease, relative to the value. One call of each function: every further one would be
    compiled into this one again.
    """
    num = len(phi)
    step, trial = np.zeros(num), phi.copy()
    rounding = 0.0
    for i in range(len(weights)):
        rounding += 1e-29 * weights[i] * max(1.0, problem.goal[i] ** 2)
    value = promised = np.inf
    damping = 0.0
    is_last = False
    for _ in range(max_steps):
        new = evaluate(problem, trial, weights, delta, other)
        is_first = value == np.inf
        if is_first and not np.isfinite(new):
            return np.inf, False
        if new < value:
            ratio = (value - new) / promised
            value = new
            phi[:] = trial
            space, other = other, space
            if not is_first:
                if ratio > 0.75:
                    damping = 0.2 * damping if damping > 1e-4 else 0.0
                elif ratio < 0.25:
                    damping = max(3 * damping, 1e-2)
        elif new - value < 1e-14 * value and promised <= 1e-11 * value:
            return value, True  # what is left to gain is below rounding
        else:
            damping = max(8 * damping, 1e-2)
        if value <= rounding:  # an exact fit
            return value, True
        if is_last:  # that step was free of charge: where it goes down it doubles the digits
            return value, True
        promised = -1.0
        while damping < 1e13:
            promised = _step(problem, phi, space, damping, step)
            if promised >= 0:
                break
            damping = max(4 * damping, 1e-2)
        if promised < 0:
            return value, False
        is_last = promised * (1 + damping) <= tolerance * value + rounding
        for a in range(num):
            trial[a] = min(max(phi[a] + step[a], problem.low[a]), problem.high[a])
    return value, False


@compiled
def descend(problem, phi, weights, delta, is_narrow, space, other):  # type: ignore[no-untyped-def]
    """The minimum in the basin of phi (changed in place).

    From a delta of the size of the residuals down to `delta`, unless is_narrow.
    """
    _residuals(problem, phi, space)
    mean = 0.0
    total = 0.0
    for i in range(len(weights)):
        mean += weights[i] * min(abs(space.pull[i]), 1e6)
        total += weights[i]
    mean /= total
    width = delta if is_narrow else max(delta, 2 * mean)
    stage = more = 0
    while True:
        is_last = width <= delta
        tolerance = 1e-13 if is_last else (1e-2 if stage < COARSE_STAGES else 1e-6)
        value, converged = newton(
            problem, phi, weights, width, tolerance, MAX_STEPS if is_last else WIDE_STEPS, space, other
        )
        if is_last:
            more += 1
            if converged or more == MAX_LAST or not np.isfinite(value):
                return value, converged
        # once few rows are inside (least absolute deviations), the rest is to sharpen
        width = max(delta, width / (4.0 if stage < COARSE_STAGES else 10.0))
        stage += 1


@compiled
def _rows(problem, counts):  # type: ignore[no-untyped-def]
    """The problem of the rows that count, and their weights."""
    rows = np.flatnonzero(counts)
    offset = np.empty((problem.offset.shape[0], len(rows)))
    design = np.empty((problem.design.shape[0], len(rows)))
    goal = np.empty(len(rows))
    weights = np.empty(len(rows))
    for n, i in enumerate(rows):
        for k in range(len(offset)):
            offset[k, n] = problem.offset[k, i]
        for q in range(len(design)):
            design[q, n] = problem.design[q, i]
        goal[n] = problem.goal[i]
        weights[n] = counts[i]
    return offset, design, goal, weights


@compiled
def _order(problem, starts, weights, delta, num_tried, space):  # type: ignore[no-untyped-def]
    """Which starts to descend from: the first one, and the best of the others as they stand."""
    values = np.empty(len(starts))
    for s in range(len(starts)):
        _residuals(problem, starts[s], space)
        value = 0.0
        for i in range(len(weights)):
            size = abs(space.pull[i])
            inner = min(size, delta)
            value += weights[i] * (0.5 * inner * inner + delta * (size - inner))
        values[s] = value if np.isfinite(value) else np.inf
    values[0] = -1.0
    chosen = np.empty(num_tried, np.int64)
    for t in range(num_tried):
        chosen[t] = np.argmin(values)
        values[chosen[t]] = np.inf
    return chosen


@compiled
def descend_resamples(problem, starts, counts, delta, num_tried):  # type: ignore[no-untyped-def]
    """The lowest minimum from s starts (s, p) for each of b weightings (b, n): where (b, p), values, convergence.

    num_tried: from how many of the starts to descend. A start with E at its lower bound is descended there first, and
    freed then: towards E = 0 lies a bent valley that takes many steps.
    """
    num_free = starts.shape[1]
    found = np.empty((len(counts), num_free))
    values = np.full(len(counts), np.inf)
    converged = np.zeros(len(counts), np.bool_)
    num_terms = len(problem.first) - 1
    phi = np.empty(num_free)
    high = problem.high.copy()
    for b in range(len(counts)):
        offset, design, goal, weights = _rows(problem, counts[b])
        space = _space(num_terms, len(weights), num_free)
        other = _space(num_terms, len(weights), num_free)
        part = Problem(
            problem.has_floor,
            problem.floor,
            offset,
            design,
            problem.first,
            problem.coordinate,
            goal,
            problem.is_raw,
            problem.low,
            high,
        )
        found[b] = starts[0]
        for s in _order(part, starts, weights, max(delta, 1e-2), min(num_tried, len(starts)), space):
            phi[:] = starts[s]
            is_at_floor = problem.has_floor and phi[0] <= problem.low[0]
            for is_free in range(0 if is_at_floor else 1, 2):
                if is_free == 0:
                    high[0] = problem.low[0]
                value, done = descend(part, phi, weights, delta, is_at_floor and is_free == 1, space, other)
                if problem.has_floor:
                    high[0] = problem.high[0]
            if value < values[b]:
                values[b], converged[b] = value, done
                found[b] = phi
    return found, values, converged
