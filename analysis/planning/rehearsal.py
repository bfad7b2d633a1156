"""How wide the interval of a question comes out, rehearsed: the analysis on noise that is drawn, linear about a curve.

Of a curve the analysis reports the larger of two widths, one from how trunks differ and one from the residuals about
the law (contrasts/fit.py). Both are drawn with the study, and the larger of two draws is on average above the larger of
their averages. A token multiplier is read where one curve has passed the other, and the band of a curve opens away from
the sizes that it rests on. Neither has a formula; both are cheap to draw. The draws are the same each time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.contrasts.noise import MIN_PAIRS
from analysis.laws.law import Array

DRAWS = 1000
OFFSETS = np.array([0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0])
"""How far from D the band of a curve is looked at, on either side, in half-widths of a band that does not open."""
ROBUST, MANY = 1.06, 10
"""What a Huber estimate's interval is wider by than one of least squares, with so many degrees of freedom: 1.04 to 1.14
measured with 21 to 50 points, 1.00 with 7 and 8."""

Shape = NDArray[np.bool_]
"""Of one recipe, which trunks (rows) measure which sizes (columns)."""


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """Log losses of `DRAWS` studies less their truth, for runs that vary by 1 between seeds.

    runs: of the recipes asked about. noise: theirs, (draws, trunks, sizes). deviations: (draws, recipes, trunks, sizes)
    or with all trunks under one recipe, as `SeedNoise` has them; known: the sizes where a seed is repeated; counted:
    degrees of freedom. seeds: less one, where all recipes have the same; 0 where they have not, or where what a seed
    does to all of them does not matter.
    """

    runs: tuple[Shape, ...]
    noise: tuple[Array, ...]
    deviations: Array
    known: Shape
    counted: int
    seeds: int

    def half_widths(self, recipe: int, weights: Array, gradient: Array, most: float) -> Array:
        """Half-widths of 95 % intervals of quantities that answer to the mean log losses by weights (k, m): (draws, m).

        gradient: (k, 3), of log L by the parameters. most: degrees of freedom to claim, where more are counted.
        """
        own, noise = self.runs[recipe], self.noise[recipe]
        n = own.sum(axis=0)
        column = weights / np.sqrt(np.maximum(n, 1))[:, None]
        values = self._seen @ column[self.known]  # (draws, recipes, trunks, m)
        of_trunks = np.sqrt(np.einsum("drtm,drtm->dm", values, values) / self.counted)
        of_trunks = of_trunks + self._overall[:, None] * np.abs(column[~self.known]).sum(axis=0)
        of_trunks = of_trunks * special.stdtrit(np.minimum(self._degrees(values), most), 0.975)
        free = max(1, int(n.sum()) - gradient.shape[1])
        of_points = special.stdtrit(free, 0.975) * np.sqrt(_misses(own, noise, gradient) / free)
        of_points *= ROBUST if free >= MANY else 1.0
        return np.maximum(of_trunks, of_points[:, None] * np.sqrt((column**2).sum(axis=0)))

    @cached_property
    def _seen(self) -> Array:
        """The deviations at sizes where a seed is repeated."""
        return self.deviations[..., self.known]

    @cached_property
    def _overall(self) -> Array:
        """Standard deviations over these sizes, (draws,)."""
        return np.asarray(np.sqrt((self._seen**2).sum(axis=(1, 2, 3)) / self.known.sum() / self.counted))

    def _degrees(self, values: Array) -> Array:
        """As `SeedNoise` counts them where seeds may act alike on all recipes, (draws, m)."""
        recipes = values.shape[1]
        if not self.seeds or recipes < 2:
            return np.array(float(self.counted))
        squares = (values**2).sum(axis=(1, 2))
        shared = (values.sum(axis=1) ** 2).sum(axis=1) - squares
        alike = np.minimum(1.0, np.abs(shared) / (recipes - 1) / np.maximum(squares, 1e-300))
        return np.asarray(self.counted / (1 + (self.counted / self.seeds - 1) * alike))


def rehearse(runs: Sequence[Shape], others: Sequence[Shape], trunk_share: float, is_difference: bool) -> Rehearsal:
    """Draw the noise of the recipes asked about, and of `others` that it is pooled with. Some seed must be repeated."""
    return _drawn(_hashable(runs), _hashable(others), trunk_share, is_difference)


Rows = tuple[tuple[bool, ...], ...]


def _hashable(runs: Sequence[Shape]) -> tuple[Rows, ...]:
    return tuple(tuple(map(tuple, own.tolist())) for own in runs)


@lru_cache(maxsize=8)  # pairs of a grid of recipes differ in nothing that is drawn
def _drawn(asked: tuple[Rows, ...], pooled: tuple[Rows, ...], trunk_share: float, is_difference: bool) -> Rehearsal:
    runs, others = ([np.array(own, dtype=bool) for own in each] for each in (asked, pooled))
    rng = np.random.default_rng(0)
    noise, tables, trunks = [], [], []
    free, counted = np.zeros(runs[0].shape[1]), 0
    for own in (*runs, *others):
        shared = rng.normal(size=(DRAWS, len(own), 1)) * math.sqrt(trunk_share)
        drawn = np.where(own, shared + rng.normal(size=(DRAWS, *own.shape)) * math.sqrt(1 - trunk_share), 0.0)
        noise.append(drawn)
        n = own.sum(axis=0)
        if n.max(initial=0) < 2:
            continue
        mean = drawn.sum(axis=1) / np.maximum(n, 1)
        used = np.flatnonzero(own.any(axis=1))
        tables.append(np.where(own & (n > 1), drawn - mean[:, None], 0.0)[:, used])
        trunks.append(tuple(used.tolist()))
        free += np.maximum(n - 1, 0)
        counted += int(n.max()) - 1
    scale = np.sqrt(counted / np.maximum(free, 1))
    have_same = len(set(trunks)) == 1
    deviations = (np.stack(tables, axis=1) if have_same else np.concatenate(tables, axis=1)[:, None]) * scale
    if is_difference and (left := paired_degrees(trunks)):
        deviations, counted = deviations - deviations.mean(axis=1, keepdims=True), left
    seeds = len(trunks[0]) - 1 if have_same and not is_difference else 0
    return Rehearsal(tuple(runs), tuple(noise[: len(runs)]), deviations, free > 0, counted, seeds)


def paired_degrees(trunks: Sequence[tuple[int, ...]]) -> int:
    """The degrees of freedom that are left where what a seed does to all recipes is taken out; 0: it is not.

    trunks: the seeds of each recipe that repeats some. The rule is `SeedNoise.of_differences`'s.
    """
    few = 3 if len({seed for own in trunks for seed in own}) < MIN_PAIRS else 2
    if len(trunks) < few or len(set(trunks)) > 1:
        return 0
    left = (len(trunks) - 1) * (len(trunks[0]) - 1)
    return left if left >= 2 else 0


def _misses(own: Shape, noise: Array, gradient: Array) -> Array:
    """Sum of squares about a law that is fitted to all runs alike, linear in its parameters, (draws,)."""
    n = own.sum(axis=0)
    seen = n > 0
    jacobian = gradient[seen] * np.sqrt(n[seen])[:, None]
    basis = np.linalg.qr(jacobian / np.linalg.norm(jacobian, axis=0))[0]
    explained = (noise.sum(axis=1)[:, seen] / np.sqrt(n[seen])) @ basis
    return np.asarray(np.maximum((noise**2).sum(axis=(1, 2)) - (explained**2).sum(axis=1), 0.0))
