"""The ends of the profile of a power law's loss at D tokens, found among all curves rather than by a descent.

Where data settle a power law badly, curves of quite different shapes fit nearly as well: straight ones (E = 0) and such
that fall at the first sizes and then stand still. The profile of the loss at one D may have its end on either, a
descent from the fit sees the one that it happens to roll into, and from one D to the next the ends jump. But of the
three parameters one is the level, in which the deviance of log losses is a parabola; two are left, with small domains:

    log L(D) = level + log(1 - g + g (D / D_1)^-beta)

s, how far log L falls from the smallest size D_1 to the largest D_k, settles g at each beta; beta lies between that of
a straight line, s / log(D_k / D_1), and the bound of the law. A grid over the shapes that fit well enough finds the
place of an end on the right branch, finer grids that wander on from there its value. Ends are continuous in D and in
the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import CubicSpline

from analysis.fitting.deviance import Surface
from analysis.fitting.profile import MAX_ENTRIES
from analysis.laws.law import Array
from analysis.laws.power import Power

MAX_SIZES = 200
"""More sizes are merged with their neighbours: between these curves hardly differ in how they miss the losses."""
NUM_CELLS = 48
"""Of the grid over t; over v half as many."""
WIDEST = 1.5
"""The grid is from -WIDEST to WIDEST in v; 1 would do, were the deviance a parabola in s."""
MAX_ZOOMS = 24
TIGHT = 0.7
"""The grid over t is zoomed until what is kept spans so much of it."""
NARROW = 1e-6
"""Of t: a grid over less is not zoomed, as where there is no noise."""
OFFSETS = np.stack(np.meshgrid(*[np.linspace(-1, 1, 5)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
"""The places of a finer grid about one, in its steps (25, 2)."""
FINEST = 2e-3
"""Of a cell: where no place so near is further out, an end is found."""
MAX_ROUNDS = 60
LEVEL = 0.2
"""Heights whose logarithms are as near share the grid that a search begins on."""
SECTIONS = np.linspace(0.0, 1.0, 9)
NUM_SECTIONS = 13
"""An interval of s is cut to a quarter so often: 1e-8 of it is left, in which the deviance is flat."""


def has_power_ends(surface: Surface) -> bool:
    """Whether the fit is one of a power law to log losses with all three parameters free."""
    return type(surface.law) is Power and surface.scale == "log" and bool(surface.free.all())


def power_ends(surface: Surface, u: Array, D: Array, height: Array) -> tuple[Array, Array]:
    """Least and largest log loss at each D (m,) of all curves whose deviance is at most `height` (m,) above that of u.

    u: (3,), the minimum.
    """
    if not len(D):
        return np.empty(0), np.empty(0)
    shapes = _Shapes.of(surface, u)
    own = shapes.coordinates(surface.outside(u[None])[0])
    total = float((surface.weights * surface.residuals(u[None])[0][0] ** 2).sum()) + height
    region = shapes.region(float(total.max()), own[1])
    asked, place = np.unique(np.stack([np.log(D / shapes.sizes[0]), total]), axis=1, return_inverse=True)
    per_batch = max(1, MAX_ENTRIES // (len(region.grid) * len(shapes.sizes)))
    found = [
        _ends(shapes, region, own, *asked[:, k : k + per_batch, None]) for k in range(0, asked.shape[1], per_batch)
    ]
    least, most = np.concatenate(found, axis=1)[:, place.ravel()]
    return least, most


def _ends(shapes: _Shapes, region: _Region, own: Array, log_D: Array, total: Array) -> Array:
    """Least and largest, (2, m), for the largest deviances total (m, 1). own: s and t of the minimum, (2,)."""
    rounded, which = np.unique(np.ceil(np.log(total[:, 0]) / LEVEL) * LEVEL, return_inverse=True)
    levels = np.exp(rounded)[:, None]
    _, s, t = region.inside(np.repeat(region.grid[None], len(levels), axis=0), levels)
    s, t = (np.insert(each, 0, one, axis=1) for each, one in zip((s, t), own, strict=True))
    level, deviance = (each[which] for each in shapes.fitted(s, t))  # of all places, the dearest, for a few levels
    s, t = s[which], t[which]
    middle, room = level + shapes.fall(s, t, log_D), shapes.room(deviance, total)
    value = np.concatenate([room - middle, room + middle])
    best = np.argmax(value, axis=1)[:, None]
    s, t = (np.take_along_axis(np.tile(each, (2, 1)), best, axis=1) for each in (s, t))
    sign, log_D, total = np.repeat([[-1.0], [1.0]], len(total), axis=0), np.tile(log_D, (2, 1)), np.tile(total, (2, 1))
    at = region.place(s, t, total)
    found = _climbed(shapes, region, at, np.take_along_axis(value, best, axis=1)[:, 0], log_D, total, sign)
    return (sign[:, 0] * found).reshape(2, -1)


def _climbed(
    shapes: _Shapes, region: _Region, at: Array, found: Array, log_D: Array, total: Array, sign: Array
) -> Array:
    """sign (m, 1) x the ends (m,), from places `at` (m, 2) where it is `found` (m,), by ever finer grids."""
    at, found, step, left = at.copy(), found.copy(), np.ones(len(found)), np.arange(len(found))
    for _ in range(MAX_ROUNDS):
        near, s, t = region.inside(at[left, None] + OFFSETS * region.cell * step[left, None, None], total[left])
        middle, room = shapes.reach(s, t, log_D[left], total[left])
        value = sign[left] * middle + room
        best = np.argmax(value, axis=1)
        top = value[np.arange(len(left)), best]
        better = top > found[left]
        at[left[better]], found[left[better]] = near[better, best[better]], top[better]
        step[left[~better]] /= 2
        left = left[step[left] >= FINEST]
        if not len(left):
            break
    return found


@dataclass(frozen=True, eq=False)
class _Region:
    """Shapes by v and t: s = s_best(t) + v width(t), where width is how far s may go for a deviance of `total`.

    t: (k,), ascending. best: (k, 3), at each the s of least deviance, that deviance, and half its second derivative by
    s; between, cubic splines. steepest: the largest s.
    """

    t: Array
    best: Array
    steepest: float

    @cached_property
    def _spline(self) -> CubicSpline:
        return CubicSpline(self.t, self.best)

    @property
    def cell(self) -> Array:
        """The sides of a cell of the grid, (2,)."""
        return np.array([4 * WIDEST, self.t[-1] - self.t[0]]) / NUM_CELLS

    @property
    def grid(self) -> Array:
        """v and t, (k, 2)."""
        v = np.linspace(-WIDEST, WIDEST, NUM_CELLS // 2 + 1)
        return np.stack(np.meshgrid(v, self.t, indexing="ij"), axis=-1).reshape(-1, 2)

    def _line(self, t: Array, total: Array) -> tuple[Array, Array]:
        """The best s at t, and the width."""
        s, deviance, bend = np.moveaxis(self._spline(t), -1, 0)
        return s, np.sqrt(np.maximum(total - deviance, 1e-9 * total) / np.maximum(bend, 1e-12 * self.best[:, 2].max()))

    def place(self, s: Array, t: Array, total: Array) -> Array:
        """v and t (m, 2) of s and t, (m, 1) as total is."""
        best, width = self._line(t, total)
        return np.concatenate([(s - best) / width, t], axis=-1)

    def inside(self, at: Array, total: Array) -> tuple[Array, Array, Array]:
        """The nearest v and t (m, k, 2) that a power law has, and their s and t, (m, k) each; total: (m, 1)."""
        t = np.clip(at[..., 1], self.t[0], self.t[-1])
        best, width = self._line(t, total)
        s = np.clip(best + at[..., 0] * width, 0.0, self.steepest)
        return np.stack([(s - best) / width, t], axis=-1), s, t


@dataclass(frozen=True, eq=False)
class _Shapes:
    """Power laws but for their levels, by s and t: beta = s / span + (most - s / span) t^3.

    sizes: (k,), ascending. mean: (k,), of the log losses there, and weight: (k,), theirs. scatter: the deviance about
    the means. most: the largest beta.
    """

    sizes: Array
    mean: Array
    weight: Array
    scatter: float
    most: float

    @classmethod
    def of(cls, surface: Surface, u: Array) -> _Shapes:
        """u: (3,), the minimum. Losses of sizes that are merged are moved along its curve."""
        at, target = surface.at["D"], surface.target
        sizes, place = np.unique(at, return_inverse=True)
        if len(sizes) > MAX_SIZES:
            log_D = np.log(at)
            edges = np.linspace(log_D.min(), log_D.max(), MAX_SIZES + 1)[1:-1]
            place = np.unique(np.searchsorted(edges, log_D), return_inverse=True)[1]
            sizes = np.exp(np.bincount(place, surface.weights * log_D) / np.bincount(place, surface.weights))
            there = surface.response(u[None], {"D": sizes})[0][0]
            target = there[place] - surface.residuals(u[None])[0][0]
        weight = np.bincount(place, surface.weights).astype(float)
        mean = np.bincount(place, surface.weights * target) / weight
        scatter = float((surface.weights * (target - mean[place]) ** 2).sum())
        return cls(sizes, mean, weight, scatter, float(surface.bounds[1][2]))

    @cached_property
    def log_sizes(self) -> Array:
        """log of D over the smallest size, (k,)."""
        return np.log(self.sizes / self.sizes[0])

    @property
    def steepest(self) -> float:
        """The largest s."""
        return self.most * float(self.log_sizes[-1])

    def coordinates(self, theta: Array) -> Array:
        """s and t of E, B, beta."""
        E, B, beta = theta
        first, last = (E + B * size**-beta for size in self.sizes[[0, -1]])
        s = min(max(float(np.log(first / last)), 0.0), self.steepest)
        least = s / float(self.log_sizes[-1])
        share = (beta - least) / (self.most - least) if least < self.most else 0.0
        return np.array([s, np.cbrt(min(max(share, 0.0), 1.0))])

    def fall(self, s: Array, t: Array, log_D: Array) -> Array:
        """log L at D less that at the smallest size; log_D: log of D over the smallest size."""
        span = self.log_sizes[-1]
        beta = s / span + (self.most - s / span) * t**3
        whole = -np.expm1(-beta * span)
        with np.errstate(divide="ignore", invalid="ignore"):
            g = np.where(whole > 0, np.minimum(-np.expm1(-s) / whole, 1.0), 1.0)
        return np.log(np.maximum(1 - g + g * np.exp(-beta * log_D), 1e-300))

    def fitted(self, s: Array, t: Array) -> tuple[Array, Array]:
        """The best level, as log L at the smallest size, and the deviance there."""
        off = self.mean - self.fall(s[..., None], t[..., None], self.log_sizes)
        level = off @ self.weight / self.weight.sum()
        return level, (off - level[..., None]) ** 2 @ self.weight + self.scatter

    def reach(self, s: Array, t: Array, log_D: Array, total: Array) -> tuple[Array, Array]:
        """log L at D at the best level, and how far it may go for a deviance of `total`; -inf where that is less."""
        level, deviance = self.fitted(s, t)
        return level + self.fall(s, t, log_D), self.room(deviance, total)

    def room(self, deviance: Array, total: Array) -> Array:
        """How far the level may go; -inf where a shape deviates by more than `total` already."""
        room = np.sqrt(np.maximum(total - deviance, 0.0) / self.weight.sum())
        return np.where(deviance <= total, room, -np.inf)

    def best_fall(self, t: Array) -> Array:
        """The s with the least deviance at each t, (k,)."""
        low, high, rows = np.zeros_like(t), np.full_like(t, self.steepest), np.arange(len(t))
        for _ in range(NUM_SECTIONS):
            s = low[:, None] + (high - low)[:, None] * SECTIONS
            best = np.argmin(self.fitted(s, t[:, None])[1], axis=1)
            low, high = s[rows, np.maximum(best - 1, 0)], s[rows, np.minimum(best + 1, len(SECTIONS) - 1)]
        return (low + high) / 2

    def bend(self, s: Array, t: Array) -> Array:
        """Half the second derivative of the deviance by s, to first order in the losses."""
        step = 1e-6 * self.steepest
        low, high = (self.fall(one[..., None], t[..., None], self.log_sizes) for one in (s, s + step))
        moved = (high - low) / step
        mean = moved @ self.weight / self.weight.sum()
        return (moved - mean[..., None]) ** 2 @ self.weight

    def region(self, total: float, own: float) -> _Region:
        """All shapes whose deviance is at most `total`; own: the t of one of them."""
        low, high = 0.0, 1.0
        for _ in range(MAX_ZOOMS):
            t = np.linspace(low, high, NUM_CELLS + 1)
            s = self.best_fall(t)
            deviance = self.fitted(s, t)[1]
            kept = np.append(t[deviance <= total], own)
            step = (high - low) / NUM_CELLS
            low, high = max(low, float(kept.min()) - step), min(high, float(kept.max()) + step)
            if high - low > TIGHT * NUM_CELLS * step or high - low < NARROW:
                break
        return _Region(t, np.stack([s, deviance, self.bend(s, t)], axis=-1), self.steepest)
