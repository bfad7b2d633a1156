"""Losses of recipes at scales: what decisions are made from, whether runs of ours or of others."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.contrasts.contrast import noise_of_differences
from analysis.contrasts.fit import CONFIDENCE
from analysis.contrasts.noise import MIN_DEGREES, pool_of
from analysis.contrasts.ranking import Ranking
from analysis.contrasts.table_contrast import Cell, cells_of
from analysis.laws.law import Array
from analysis.page.labels import count_text
from analysis.runs.points import Study
from analysis.runs.run_table import RunTable


@dataclass(frozen=True)
class Scale:
    """Where recipes are compared: N (None where there is one) and D."""

    num_params: float | None
    tokens: float

    @property
    def work(self) -> float:
        """What a run there costs, but for a constant."""
        return (self.num_params or 1.0) * self.tokens

    @property
    def text(self) -> str:
        """N and D for people."""
        if self.num_params is None:
            return count_text(self.tokens)
        return f"N = {count_text(self.num_params)}, D = {count_text(self.tokens)}"


@dataclass(frozen=True, eq=False)
class Board:
    """Losses of recipes at scales, the target last.

    log_loss: (r, s) means over seeds of log losses, nan where not measured. count: (r, s) runs. sd: (s,) standard
    deviation of one log loss as it enters a difference of recipes. degrees: of freedom behind sd; lack: why it is not
    known, if it is not.
    """

    recipes: tuple[str, ...]
    scales: tuple[Scale, ...]
    log_loss: Array
    count: Array
    sd: Array
    degrees: int
    lack: str | None


def board_of_study(study: Study, ranking: Ranking) -> Board:
    """The ranked recipes at all sizes up to that of the ranking."""
    by_label = {recipe.label: recipe for recipe in study.recipes}
    recipes = tuple(by_label[row.recipe] for row in ranking.rows)
    logs: dict[tuple[str, int], list[float]] = {}
    for p in study.points:
        if p.domain == study.target and p.tokens <= ranking.tokens:
            logs.setdefault((p.recipe, p.tokens), []).append(math.log(p.loss))
    sizes = sorted({tokens for _, tokens in logs})
    noise = noise_of_differences(study, pool_of(study, recipes[0], study.target), study.target)
    table = [[logs.get((recipe.label, size), []) for size in sizes] for recipe in recipes]
    quantile = float(special.stdtrit(max(1, noise.degrees), 0.5 + CONFIDENCE / 2))
    return Board(
        tuple(recipe.label for recipe in recipes),
        tuple(Scale(None, float(size)) for size in sizes),
        np.array([[np.mean(cell) if cell else math.nan for cell in row] for row in table]),
        np.array([[len(cell) for cell in row] for row in table], float),
        np.array([noise.half_width({size: 1.0}, {size: 1}, CONFIDENCE) / quantile for size in sizes]),
        noise.degrees,
        noise.lack,
    )


def board_of_table(table: RunTable) -> Board:
    """The recipes of a table at their (N, D), up to the largest that most of them have.

    The noise is that between runs of one recipe at one (N, D).
    """
    recipes = tuple(str(name) for name in np.unique(table.recipe))
    logs: dict[tuple[str, Cell], list[float]] = {}
    for recipe, cell, y in zip(table.recipe, cells_of(table), table.y, strict=True):
        logs.setdefault((str(recipe), cell), []).append(math.log(y))
    holders = Counter(cell for _, cell in logs)
    scales = {cell: Scale(cell[0], cell[1]) for cell in holders}
    target = max(holders, key=lambda cell: (holders[cell], scales[cell].work, cell[1]))
    cells = [cell for cell in sorted(holders, key=lambda cell: (scales[cell].work, cell[1]))]
    cells = [cell for cell in cells if scales[cell].work < scales[target].work] + [target]
    groups = [[logs.get((recipe, cell), []) for cell in cells] for recipe in recipes]
    repeated = [np.array(group) for row in groups for group in row if len(group) > 1]
    degrees = sum(len(group) - 1 for group in repeated)
    is_known = degrees >= MIN_DEGREES
    sd = math.sqrt(sum(float(((g - g.mean()) ** 2).sum()) for g in repeated) / degrees) if is_known else math.nan
    return Board(
        recipes,
        tuple(scales[cell] for cell in cells),
        np.array([[np.mean(group) if group else math.nan for group in row] for row in groups]),
        np.array([[len(group) for group in row] for row in groups], float),
        np.full(len(cells), sd),
        degrees,
        None if is_known else "too_few_repeated_seeds" if degrees else "no_repeated_seeds",
    )
