"""Runs that differ in nothing but their seeds, and what their spread says of chance.

Two things move a measured metric. Seeds: the spread between runs of one setting, which falls with their number. The
test set: it has so many rows, and all runs are measured on the same ones, so more runs do not help; each run's own
bootstrap over rows tells how much. The interval of a mean has both, as variances that add.

A difference is paired twice. By rows, where both settings have replicates: models err on the same rows, and what a
resample of them does to both cancels (row_noise.py). Older logs have none: there the errors of the test set are taken
as independent between the two models, which is on the safe side. By seeds, where both settings have the same ones (a
seed is the same subset of labels, the same head and order of rows): a seed that moves all settings alike then cancels.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Literal

import numpy as np
from scipy import special

from analysis.downstream.row_noise import Replicates, row_gap_sd, row_sd, stacked
from analysis.downstream.score_range import SHARE, Range, range_of, score_interval
from analysis.downstream.task_run import TaskRun
from analysis.downstream.task_study import TaskStudy
from analysis.fitting.result import Estimate
from analysis.page.labels import canonical

Covers = Literal["seeds and rows", "rows", "nothing"]
Z = 1.959963984540054
MIN_DEGREES = 2
"""Of freedom, below which seeds say too little of chance (as in analysis.contrasts.noise)."""


@dataclass(frozen=True)
class Setting:
    """What runs of one setting have in common. line: what they began from; tokens: D; compress: empty without."""

    task: str
    method: str
    line: str
    start: str
    tokens: int
    labels: int
    compress: str = ""


@dataclass(frozen=True)
class Noise:
    """How much a metric varies between the seeds of a setting. paired: after what a seed does to all settings alike."""

    sd: float
    degrees: int
    paired_sd: float
    paired_degrees: int

    @property
    def is_known(self) -> bool:
        return self.degrees >= MIN_DEGREES


@dataclass(frozen=True)
class Gap:
    """a less b, in units of the metric, with its 95 % interval (no ends where seeds are not repeated)."""

    gap: Estimate

    @property
    def verdict(self) -> str:
        """better, worse, or cannot tell."""
        return "better" if self.gap.lo > 0 else "worse" if self.gap.hi < 0 else "cannot tell"


@dataclass(frozen=True, eq=False)
class Cell:
    """The runs of one setting. values: the deciding metric by seed. test_sd: of one run, from its test rows alone.

    replicates: a model per seed, in the order of values; None where not all runs have them. bounds: of the metric.
    """

    setting: Setting
    runs: tuple[TaskRun, ...]
    values: Mapping[Hashable, float]
    test_sd: float
    noise: Noise
    replicates: Replicates | None = None
    bounds: Range = SHARE

    @cached_property
    def mean(self) -> float:
        return float(np.mean(list(self.values.values())))

    @property
    def seed_half(self) -> float:
        """Half of the 95 % interval of the mean that seeds make; inf where they are not repeated."""
        if not self.noise.is_known:
            return math.inf
        return t_quantile(self.noise.degrees) * self.noise.sd / math.sqrt(len(self.values))

    @cached_property
    def row_sd(self) -> float:
        """The standard error of the mean that the test rows make, beyond what shows between seeds."""
        return row_sd(self)

    @property
    def covers(self) -> Covers:
        """What the interval of `estimate` is over."""
        if self.noise.is_known:
            return "seeds and rows"
        return "rows" if self.model_row_sd > 0 else "nothing"

    @cached_property
    def model_row_sd(self) -> float:
        """The standard error that the test rows make in the mean of these very models."""
        return self.test_sd if self.replicates is None else float(self.replicates.values.mean(axis=0).std(ddof=1))

    @property
    def estimate(self) -> Estimate:
        """The mean with its interval: of seeds and test rows; where too few seeds are repeated, of the rows alone, for
        these very models. Nothing is decided by the latter."""
        half = math.hypot(self.seed_half, Z * self.row_sd)
        if self.covers == "rows":
            half = Z * self.model_row_sd
        return score_interval(self.mean, half, self.bounds)


def t_quantile(degrees: float) -> float:
    """Of Student's t, for a two-sided interval of 95 %."""
    return float(special.stdtrit(degrees, 0.975))


def test_sd_of(scores: Iterable[Estimate]) -> float:
    """The standard error that the rows of the test set make, from the intervals of runs; 0 where none is told."""
    widths = [(s.hi - s.lo) / (2 * Z) for s in scores if math.isfinite(s.lo) and math.isfinite(s.hi)]
    return median(widths) if widths else 0.0


def cells_of(study: TaskStudy, runs: Sequence[TaskRun]) -> tuple[Cell, ...]:
    """The settings of some runs, ordered as the runs are; noise is pooled over those of one task and labels."""
    of_parents = _seeds_of_parents(runs)
    grouped: dict[Setting, dict[Hashable, list[TaskRun]]] = {}
    for run in runs:
        if run.labels is None:
            continue
        setting = Setting(
            run.task, study.method_of[run.fingerprint], study.line(run), run.start, run.tokens, run.labels,
            study.compress_of.get(run.fingerprint, ""),
        )  # fmt: skip
        unit: Hashable = run.seed if of_parents is None else of_parents[_parent_seeds(run)]
        grouped.setdefault(setting, {}).setdefault(unit, []).append(run)
    values = {
        setting: {unit: float(np.mean([run.score.value for run in own])) for unit, own in units.items()}
        for setting, units in grouped.items()
    }
    pools: dict[tuple[str, int, str], list[Mapping[Hashable, float]]] = {}
    for setting, own in values.items():
        pools.setdefault(_pool(setting), []).append(own)
    noises = {pool: noise_of(members) for pool, members in pools.items()}
    found = []
    for setting, units in grouped.items():
        own_runs = tuple(run for unit in units.values() for run in unit)
        test_sd = test_sd_of(run.score for run in own_runs)
        replicates = stacked([[(run.replicates, run.num_items) for run in unit] for unit in units.values()])
        bounds = range_of(own_runs[0].metric)
        found.append(Cell(setting, own_runs, values[setting], test_sd, noises[_pool(setting)], replicates, bounds))
    return tuple(found)


def _pool(setting: Setting) -> tuple[str, int, str]:
    """Settings that are taken as equally noisy: what labels a task has counts most for its noise."""
    return setting.task, setting.labels, setting.compress


def _parent_seeds(run: TaskRun) -> str:
    return canonical(run.parent.get("seeds"))


def _seeds_of_parents(runs: Sequence[TaskRun]) -> dict[str, Hashable] | None:
    """Where pretraining was repeated, its seed is the unit: fine-tunings of one pretraining share its luck.

    Returns the unit by the seeds of the parent (that of its first weights, where they tell all apart); None where the
    seed of the fine-tuning is the unit.
    """
    seeds: dict[str, Hashable] = {_parent_seeds(run): run.parent["seeds"].get("init", 0) for run in runs}
    pretrained = {_parent_seeds(run) for run in runs if run.start == "pretrained"}
    if len(pretrained or seeds) < 2:
        return None
    return seeds if len(set(seeds.values())) == len(seeds) else {key: key for key in seeds}


def is_pretraining_repeated(runs: Sequence[TaskRun]) -> bool:
    """Whether a recipe was pretrained with several seeds."""
    return len({_parent_seeds(run) for run in runs if run.start == "pretrained"}) > 1


def noise_of(cells: Sequence[Mapping[Hashable, float]]) -> Noise:
    """The spread between seeds, pooled over settings: within each, and after the effect that a seed has on all.

    The second needs settings with the same seeds, two or more of each; the most common set of seeds counts.
    """
    squares, degrees = 0.0, 0
    for cell in cells:
        own = np.array(list(cell.values()))
        squares += float(((own - own.mean()) ** 2).sum())
        degrees += len(own) - 1
    sd = math.sqrt(squares / degrees) if degrees else math.nan
    by_seeds: dict[frozenset[Hashable], list[Mapping[Hashable, float]]] = {}
    for cell in cells:
        by_seeds.setdefault(frozenset(cell), []).append(cell)
    alike = max(by_seeds.values(), key=lambda group: (len(group) - 1) * (len(group[0]) - 1), default=[])
    if len(alike) < 2 or len(alike[0]) < 2:
        return Noise(sd, degrees, math.nan, 0)
    seeds = sorted(alike[0], key=str)
    table = np.array([[cell[seed] for seed in seeds] for cell in alike])
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    paired = (len(alike) - 1) * (len(seeds) - 1)
    return Noise(sd, degrees, math.sqrt(float((left**2).sum()) / paired), paired)


def gap(a: Cell, b: Cell) -> Gap:
    """What a has over b, paired by seeds where both have the same, and by rows where both have replicates."""
    value = a.mean - b.mean
    noise, order = a.noise, None
    if noise == b.noise and set(a.values) == set(b.values) and noise.paired_degrees >= MIN_DEGREES:
        half = t_quantile(noise.paired_degrees) * noise.paired_sd * math.sqrt(2 / len(a.values))
        order = [list(b.values).index(seed) for seed in a.values]
    elif noise == b.noise and noise.is_known:
        half = t_quantile(noise.degrees) * noise.sd * math.sqrt(1 / len(a.values) + 1 / len(b.values))
    elif noise.is_known and b.noise.is_known:
        half = math.hypot(a.seed_half, b.seed_half)
    else:
        half = math.inf
    whole = math.hypot(half, Z * row_gap_sd(a, b, order))
    return Gap(Estimate(value, value - whole, value + whole))
