"""Upstream loss against downstream metric: which validation loss of pretraining tells how well a task goes.

A logistic law of each domain's loss (Bhagia et al. 2024), over all recipes and sizes together: what counts is the loss,
not how it was come by. The runs of the largest pretraining are held out and predicted; the domain that predicts them
best is the one to look at; of those that seeds alone may set apart, the one that ranks all settings best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from analysis.downstream.cells import Cell, t_quantile
from analysis.downstream.curves import TaskCells
from analysis.downstream.metric_curve import OBJECTIVE, held_out_error, is_step
from analysis.fitting.law_fit import LawFit, fit_law
from analysis.laws.law import Array
from analysis.laws.logistic import Logistic
from analysis.runs.run_table import RunTable

MIN_SETTINGS = 4


@dataclass(frozen=True, eq=False)
class Upstream:
    """One domain's loss as what tells a task's metric.

    error: mean absolute error on the held-out settings, in units of the metric; nan where no law could be fitted
    without them. flat_error: that of the mean of the others, which knows nothing of the loss. noise: what seeds alone
    may make of the latter, in 95 of 100 studies; inf without repeated seeds. correlation: Spearman's, over settings.
    floor: the metric without pretraining. losses, means: of each setting, (n,).
    """

    task: str
    domain: str
    losses: Array
    means: Array
    lines: tuple[str, ...]
    error: float
    flat_error: float
    noise: float
    correlation: float
    floor: float | None
    cells: tuple[Cell, ...]

    @property
    def tells(self) -> bool | None:
        """Whether the loss tells the metric better than the mean of the others does; None: cannot tell from chance."""
        if self.flat_error - self.error > self.noise:
            return True
        return False if self.error >= self.flat_error > self.noise else None

    @cached_property
    def fit(self) -> LawFit | None:
        """The law of all settings, with as many free parameters as there are losses for."""
        table = _table(self.cells, self.domain)
        for fixed in _ends(self.floor):
            if len(np.unique(table.columns["L"])) >= len(Logistic().params) - len(fixed) + 1:
                fit = fit_law(table, Logistic(), objective=OBJECTIVE, fixed=fixed)
                if fit.working is not None and not is_step(fit, self.losses):
                    return fit
        return None


def upstream(cells: TaskCells) -> tuple[Upstream, ...]:
    """A row per task and domain with enough settings, the domain that predicts best first."""
    found: list[Upstream] = []
    for task in cells.study.tasks:
        own = [c for c in cells.of(task, start="pretrained", labels=cells.most_labels(task)) if _losses(c)]
        if len(own) < MIN_SETTINGS:
            continue
        domains = sorted(set.intersection(*(set(_losses(cell)) for cell in own)))
        scratch = cells.reference(own[0])
        floor = None if scratch is None else min(scratch.mean, min(cell.mean for cell in own) - 1e-3)
        found += _ranked([_tried(task, domain, own, floor) for domain in domains])
    return tuple(found)


def _ranked(every: Sequence[Upstream]) -> list[Upstream]:
    """The domain that predicts best first: of those that seeds alone may set apart, that which ranks settings best."""
    least = min((u.error for u in every if math.isfinite(u.error)), default=math.inf)

    def place(own: Upstream) -> tuple[bool, bool, float, float, str]:
        rank = own.correlation if math.isfinite(own.correlation) else 0.0
        return math.isnan(own.error), not own.error <= least + own.noise, rank, own.error, own.domain

    return sorted(every, key=place)


def _losses(cell: Cell) -> dict[str, float]:
    """The mean over the pretrainings of a setting of each domain's last loss."""
    found: dict[str, list[float]] = {}
    for run in cell.runs:
        for domain, loss in (run.origin.losses if run.origin else {}).items():
            found.setdefault(domain, []).append(loss)
    return {domain: float(np.mean(losses)) for domain, losses in found.items() if len(losses) == len(cell.runs)}


def _tried(task: str, domain: str, cells: Sequence[Cell], floor: float | None) -> Upstream:
    losses = np.array([_losses(cell)[domain] for cell in cells])
    means = np.array([cell.mean for cell in cells])
    largest = max(cell.setting.tokens for cell in cells)
    out = np.array([cell.setting.tokens == largest for cell in cells])
    if out.all():  # one size of several recipes: that with the lowest loss
        out = losses == losses.min()
    seen = [cell for cell, is_out in zip(cells, out, strict=True) if not is_out]
    table, unseen = _table(seen, domain), _means(losses[out], means[out])
    errors = (held_out_error(Logistic(), table, unseen, fixed) for fixed in _ends(floor))
    error = next((error for error in errors if math.isfinite(error)), math.nan)
    flat = float(np.abs(table.y.mean() - unseen.y).mean())
    lines, noise = tuple(cell.setting.line for cell in cells), _noise(seen, [c for c in cells if c not in seen])
    return Upstream(
        task, domain, losses, means, lines, error, flat, noise, spearman(losses, means), floor, tuple(cells)
    )


def _noise(seen: Sequence[Cell], unseen: Sequence[Cell]) -> float:
    """Half of the 95 % interval of a mean less that of others, of seeds alone: all are measured on the same rows."""
    noise = unseen[0].noise
    if not noise.is_known:
        return math.inf
    runs = [sum(len(cell.values) for cell in cells) for cells in (seen, unseen)]
    return t_quantile(noise.degrees) * noise.sd * math.sqrt(1 / runs[0] + 1 / runs[1])


def spearman(a: Array, b: Array) -> float:
    """The correlation of the ranks of two columns, (n,) each; nan where one of them does not vary."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Array) -> Array:
    """Places from the smallest, equal values at the mean of theirs; scipy.stats takes long to load."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Array = (ends - (counts - 1) / 2)[place]
    return ranks


def _ends(floor: float | None) -> tuple[dict[str, float], ...]:
    """What is given of the law: nothing, else the ends that a task gives, where there are few losses."""
    known = {} if floor is None else {"floor": floor}
    return {}, known, {**known, "ceiling": 1.0}


def _table(cells: Sequence[Cell], domain: str) -> RunTable:
    """A row per setting and seed."""
    rows = [(_losses(cell)[domain], str(seed), value) for cell in cells for seed, value in cell.values.items()]
    return _rows([row[0] for row in rows], [row[2] for row in rows], [row[1] for row in rows])


def _means(losses: Array, means: Array) -> RunTable:
    """A row per setting."""
    return _rows(losses, means, [""] * len(means))


def _rows(losses: ArrayLike, values: ArrayLike, seeds: Sequence[str]) -> RunTable:
    count, names = len(seeds), np.array(seeds, dtype=np.str_)
    return RunTable(
        columns={"L": np.asarray(losses, float)}, y=np.asarray(values, float), recipe=np.full(count, ""), run=names,
        seed=names, row=np.arange(1, count + 1), response="metric",
    )  # fmt: skip
