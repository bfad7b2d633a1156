"""How much a loss moves between seeds: the noise floor that all intervals of a study rest on.

Points of one trunk (one recipe, one set of seeds) rise and fall together, so the unit that is drawn at random
is the trunk, not the point. For a quantity that is linear in the points' log losses, the values that the
single trunks would give have a variance that needs no model of how the noise runs along a trunk, and a t
interval over trunks is exact for Gaussian noise. Two or three seeds per recipe leave few degrees of freedom,
so the variance is pooled over comparable recipes (one objective, model, tokenizer and text), on the assumption
that their log losses are equally noisy.

The recipes of a sweep have the same seeds. If a seed moves all recipes alike, R recipes tell no more about the
noise than one. The degrees of freedom of one curve are therefore F / (1 + (F / S - 1) |r|), with F = trunks less
recipes, S those of the distinct seeds, and r the correlation between recipes, estimated from the same values: F
where seeds act independently, S where they act alike. A difference of two recipes needs none of that: what they
share cancels. With two recipes it is left in both variances, which is exact at r = 0 and too wide above; with
three or more that have the same seeds, the shared part is taken out (`of_differences`), which costs little.

Measured, 1500 draws each, nominal 95 %, r from 0 to 1, recipes x seeds: one curve 2 x 3, 95 to 98 %; 2 x 2, 95
to 98 %; 5 x 2, 93 to 97 %; 5 x 3, 95 to 97 % (with F alone 91 % at 2 x 3 and 84 % at 5 x 2, r = 0.9).
Differences: two recipes 95 to 100 %, five 94 to 95 %. Pairing two recipes with 3 seeds would be wider unless
r > 0.58; between the two mixtures of the demo r was -0.15 to 0.12.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.laws.law import Array
from analysis.runs.points import Point, Study
from analysis.runs.recipes import Recipe

MIN_DEGREES = 2
"""Degrees of freedom below which seeds say too little: with one, t is 12.7 and an interval says nothing."""
MIN_PAIRS = 5
"""Seeds from which on two recipes are paired by them: with 5, pairing is narrower where seeds correlate above .31."""
POOLED_WITHIN = ("objective", "model", "tokenizer")
"""What recipes must have in common for their losses to be taken as equally noisy, apart from the text."""


@dataclass(frozen=True)
class SeedNoise:
    """Deviations of each trunk's log losses from the mean of its recipe at the same D.

    sizes: the D of the columns. deviations: trunks x sizes, 0 where a trunk has no point, scaled so that the sum
    of squares of a column over `degrees` is the variance at that size; nan at a size where no recipe repeats a
    seed. recipes, seeds: of each row. degrees: those that the variance is divided by.
    """

    sizes: tuple[int, ...]
    deviations: Array
    recipes: tuple[str, ...]
    seeds: tuple[Hashable, ...]
    degrees: int

    @property
    def is_known(self) -> bool:
        return self.degrees >= MIN_DEGREES

    @property
    def lack(self) -> str | None:
        """Why nothing can be decided on this noise, for summary.json; None if it is known."""
        if self.is_known:
            return None
        return "too_few_repeated_seeds" if self.degrees else "no_repeated_seeds"

    @property
    def sd(self) -> float:
        """Standard deviation of one log loss between seeds, over the sizes where it is known; nan where none is."""
        known = ~np.isnan(self.deviations).any(axis=0)
        if self.degrees < 1 or not known.any():
            return float("nan")
        return float(np.sqrt((self.deviations[:, known] ** 2).sum() / known.sum() / self.degrees))

    def half_width(self, weights: Mapping[int, float], counts: Mapping[int, int], confidence: float) -> float:
        """Half-width of the t interval of sum over D of weights[D] x (mean log loss at D); inf if not known.

        counts: runs behind the mean at each D. A size where no seed is repeated counts with the variance that is
        pooled over the other sizes, moving with the rest at worst.
        """
        if not self.is_known:
            return math.inf
        columns = np.array([weights.get(size, 0.0) / math.sqrt(counts.get(size, 1)) for size in self.sizes])
        known = ~np.isnan(self.deviations).any(axis=0)
        values = self.deviations[:, known] @ columns[known]
        sd = math.sqrt(float((values**2).sum()) / self.degrees)
        blind = float(np.abs(columns[~known]).sum())
        if blind:
            sd += blind * self.sd
        return self._t(values, confidence) * sd

    def single(self, confidence: float) -> float:
        """Half-width of the t interval of one log loss at any size, from the variance over all sizes."""
        known = ~np.isnan(self.deviations).any(axis=0)
        return self._t(self.deviations[:, known].sum(axis=1), confidence) * self.sd

    def of_differences(self) -> SeedNoise:
        """The noise of a difference of two recipes, see above: no correction for shared seeds is needed in it."""
        own = tuple(range(len(self.seeds)))
        order = sorted(range(len(self.seeds)), key=lambda i: (self.recipes[i], repr(self.seeds[i])))
        names = sorted(set(self.recipes))
        sets = {name: [repr(self.seeds[i]) for i in order if self.recipes[i] == name] for name in names}
        few = 3 if len(set(map(repr, self.seeds))) < MIN_PAIRS else 2
        if len(names) < few or len({tuple(seeds) for seeds in sets.values()}) > 1:
            return replace(self, seeds=own)
        table = self.deviations[order].reshape(len(names), -1, len(self.sizes))
        degrees = (len(names) - 1) * (table.shape[1] - 1)
        if degrees < MIN_DEGREES:
            return replace(self, seeds=own)
        rest = (table - table.mean(axis=0)).reshape(self.deviations.shape)
        return SeedNoise(self.sizes, rest, tuple(self.recipes[i] for i in order), own, degrees)

    def _t(self, values: Array, confidence: float) -> float:
        """Student's two-sided quantile for a quantity that takes `values` in the trunks (deviations, (k,))."""
        return float(special.stdtrit(self._effective_degrees(values), 0.5 + confidence / 2))

    def _effective_degrees(self, values: Array) -> float:
        rows, places, distinct = self._layout
        if distinct >= self.degrees or not np.any(values):
            return float(min(distinct, self.degrees) if distinct else self.degrees)
        table = np.zeros((rows.max() + 1, places.max() + 1))
        table[rows, places] = values
        squares = float((table**2).sum())
        shared = float((table.sum(axis=0) ** 2).sum()) - squares
        r = min(1.0, abs(shared) / max(1, len(table) - 1) / squares)
        return self.degrees / (1 + (self.degrees / distinct - 1) * r)

    @cached_property  # asked for at every point of every band
    def _layout(self) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
        """The recipe and the seed of each trunk, as numbers from 0, and S, the degrees of freedom of distinct seeds."""
        names = {name: i for i, name in enumerate(sorted(set(self.recipes)))}
        numbers = {seed: i for i, seed in enumerate(dict.fromkeys(self.seeds))}
        rows = np.array([names[recipe] for recipe in self.recipes], dtype=np.intp)
        places = np.array([numbers[seed] for seed in self.seeds], dtype=np.intp)
        centring = np.zeros((len(rows), len(numbers)))
        centring[np.arange(len(rows)), places] = 1.0
        for row in range(len(names)):
            mine = np.flatnonzero(rows == row)
            centring[np.ix_(mine, places[mine])] -= 1 / len(mine)
        return rows, places, int(np.linalg.matrix_rank(centring))


def seed_noise(points: Sequence[Point]) -> SeedNoise:
    """Pool the deviations between seeds over the recipes in `points` (one domain, comparable recipes)."""
    sizes = tuple(sorted({point.tokens for point in points}))
    column = {size: i for i, size in enumerate(sizes)}
    rows: list[Array] = []
    tables: list[Array] = []
    recipes: list[str] = []
    seeds: list[Hashable] = []
    degrees, free = 0, np.zeros(len(sizes))
    for recipe in sorted({point.recipe for point in points}):
        own = [point for point in points if point.recipe == recipe]
        trunks = sorted({point.seeds for point in own})
        table = np.full((len(trunks), len(sizes)), np.nan)
        for point in own:
            table[trunks.index(point.seeds), column[point.tokens]] = np.log(point.loss)
        count = (~np.isnan(table)).sum(axis=0)
        # Recipes that came to the same text have the same runs: those tell of the noise once.
        if not (count > 1).any() or any(np.array_equal(table, other, equal_nan=True) for other in tables):
            continue
        tables.append(table)
        mean = np.where(count > 0, np.nansum(table, axis=0) / np.maximum(count, 1), 0.0)
        rows.append(np.nan_to_num(np.where(count > 1, table - mean, 0.0)))
        recipes += [recipe] * len(trunks)
        seeds += trunks
        degrees += int(count.max()) - 1
        free += np.maximum(count - 1, 0)
    if not rows:
        return SeedNoise(sizes, np.zeros((0, len(sizes))), (), (), 0)
    scale = np.sqrt(np.where(free > 0, degrees / np.maximum(free, 1), np.nan))
    return SeedNoise(sizes, np.concatenate(rows) * scale, tuple(recipes), tuple(seeds), degrees)


def pool_of(study: Study, recipe: Recipe, domain: str) -> tuple[str, ...]:
    """The recipes whose losses on a domain are taken as equally noisy, this one among them."""
    return equally_noisy(study.recipes, recipe, domain, study.target)


def equally_noisy(recipes: Sequence[Recipe], recipe: Recipe, domain: str, target: str) -> tuple[str, ...]:
    """The labels of those of `recipes` whose noise on a domain is pooled with that of one."""
    roots = (*POOLED_WITHIN, f"content.{domain}", f"content.{target}")
    own = recipe.subtree(*roots)
    return tuple(r.label for r in recipes if r.subtree(*roots) == own)


def noise_of(study: Study, recipe: Recipe, domain: str) -> SeedNoise:
    """The noise of a recipe on a domain, pooled over the recipes that are comparable with it."""
    return pooled_noise(study, pool_of(study, recipe, domain), domain)


@lru_cache(maxsize=64)
def pooled_noise(study: Study, pool: tuple[str, ...], domain: str) -> SeedNoise:
    """The noise of the recipes of a pool: the same for all of them, so it is computed once."""
    return seed_noise([p for p in study.points if p.domain == domain and p.recipe in set(pool)])
