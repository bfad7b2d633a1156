"""Which task needs how much data of which domain: tokens and labels to reach a stated level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.downstream.cells import Cell, Z, test_sd_of
from analysis.downstream.curves import TaskCells, TaskCurve, curve_of
from analysis.downstream.metric_curve import Amount, Level, MetricCurve
from analysis.downstream.row_noise import row_sd, stacked
from analysis.fitting.result import Estimate

SHARE_OF_BEST = 0.95
FROM_SCRATCH, BASELINE, NEAR_BEST = "from_scratch", "baseline", "near_best"


@dataclass(frozen=True)
class Demand:
    """What one task needs of one recipe to reach a level.

    level: from_scratch (the same model without pretraining), baseline, near_best (95 % of the best mean). tokens: of
    pretraining, with `labels_at` labels; None where one size was measured. labels: with `tokens_at` tokens of
    pretraining; None where one number was measured. by_domain: what the tokens are of, by the weights of the recipe.
    labels_from_scratch: labels that the same model needs without pretraining.
    """

    task: str
    metric: str
    level: str
    value: float
    line: str
    tokens: Amount | None
    labels_at: int
    tokens_measured: tuple[int, int]
    by_domain: Mapping[str, float]
    labels: Amount | None
    tokens_at: int
    labels_measured: tuple[int, int]
    labels_from_scratch: Amount | None


def demands(cells: TaskCells, over_tokens: Sequence[TaskCurve], over_labels: Sequence[TaskCurve]) -> tuple[Demand, ...]:
    """A row per task, level and recipe of pretraining."""
    found = []
    for task in cells.study.tasks:
        lines = dict.fromkeys(cell.setting.line for cell in cells.of(task, start="pretrained"))
        for line in (line for line in cells.study.starts("pretrained") if line in lines):
            own = cells.of(task, line=line)
            labels_at, tokens_at = cells.most_labels(task), max(c.setting.tokens for c in own)
            by_tokens = curve_of(over_tokens, task, line, cells.main_method, labels_at)
            by_labels = curve_of(over_labels, task, line, cells.main_method, tokens_at)
            if by_tokens is None and by_labels is None:
                continue
            reference = next((c for c in own if c.setting.labels == labels_at), own[0])
            scratch = _scratch_curve(cells, over_labels, reference)
            for name, level in levels(cells, task, reference).items():
                tokens = by_tokens.curve.reaches(level) if by_tokens else None
                at = tokens.value if tokens and math.isfinite(tokens.value) else math.nan
                found.append(
                    Demand(
                        task, cells.study.metric(task), name, level.value, line, tokens, labels_at,
                        _span(by_tokens.curve if by_tokens else None),
                        {domain: at * share for domain, share in shares_of(own).items()},
                        by_labels.curve.reaches(level) if by_labels else None,
                        tokens_at, _span(by_labels.curve if by_labels else None),
                        scratch.curve.reaches(level) if scratch and name != FROM_SCRATCH else None,
                    )
                )  # fmt: skip
    return tuple(found)


def levels(cells: TaskCells, task: str, reference: Cell) -> dict[str, Level]:
    """The levels of a task that are known, at the labels of a setting."""
    found: dict[str, Level] = {}
    scratch = cells.reference(reference)
    if scratch is not None:
        found[FROM_SCRATCH] = level_of(scratch)
    baseline = baseline_of(reference)
    if baseline is not None:
        found[BASELINE] = baseline.level
    best = max((c.mean for c in cells.of(task) if c.setting.start == "pretrained"), default=math.nan)
    if best > 0:
        found[NEAR_BEST] = Level(SHARE_OF_BEST * best)
    return found


def level_of(cell: Cell) -> Level:
    """What a setting measured, as a level."""
    return Level(cell.mean, cell.seed_half, cell.test_sd, cell.replicates)


@dataclass(frozen=True)
class Baseline:
    """A model that was pretrained on nothing, and is none of ours, on the same rows. level: its mean over subsets."""

    name: str
    level: Level

    @property
    def estimate(self) -> Estimate:
        half = math.hypot(self.level.seed_half, Z * row_sd(self.level))
        return Estimate(self.level.value, self.level.value - half, self.level.value + half)


def baseline_of(cell: Cell) -> Baseline | None:
    """The best baseline of a setting, on its deciding metric; None where none was run."""
    metric = cell.runs[0].metric
    names = sorted({name for run in cell.runs for name, scores in run.baselines.items() if metric in scores})
    found = []
    for name in names:
        runs = [run for run in cell.runs if metric in run.baselines.get(name, {})]
        scores = [run.baselines[name][metric] for run in runs]
        values = np.array([score.value for score in scores])
        # one value per subset of labels: their spread is that of a mean over subsets
        half = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
        replicates = stacked([[(run.baseline_replicates.get(name), run.num_items)] for run in runs])
        found.append(Baseline(name, Level(float(values.mean()), half, test_sd_of(scores), replicates)))
    return max(found, key=lambda baseline: baseline.level.value, default=None)


def shares_of(cells: Sequence[Cell]) -> dict[str, float]:
    """The share of each domain in what the pretraining of some settings read, by the ledger of the largest."""
    largest = max(cells, key=lambda cell: cell.setting.tokens)
    origin = largest.runs[0].origin
    return {} if origin is None else {name: seen.realised_weight for name, seen in origin.domains.items()}


def _scratch_curve(cells: TaskCells, over_labels: Sequence[TaskCurve], cell: Cell) -> TaskCurve | None:
    """The curve over labels of the same model without pretraining."""
    base = cells.study.base_of[cell.setting.line]
    return next(
        (
            curve for curve in over_labels
            if curve.start == "initial" and cells.study.base_of[curve.line] == base
            and (curve.task, curve.method) == (cell.setting.task, cell.setting.method)
        ),
        None,
    )  # fmt: skip


def _span(curve: MetricCurve | None) -> tuple[int, int]:
    return (0, 0) if curve is None else (int(curve.amounts[0]), int(curve.amounts[-1]))


# ---- effective data transferred ----------------------------------------------------------------------


@dataclass(frozen=True)
class Transferred:
    """What pretraining is worth in labels (Hernandez et al. 2021, arXiv 2102.01293).

    labels: those that were given; score: the metric with them. needed: the labels with which the same model, from
    scratch, comes to that metric; inf where none that was measured does. Data transferred: needed less given.
    """

    task: str
    line: str
    tokens: int
    labels: int
    score: Estimate
    needed: Amount
    largest_from_scratch: int

    @property
    def times(self) -> Estimate:
        """needed / labels."""
        lo, value, hi = (end / self.labels for end in (self.needed.lo, self.needed.value, self.needed.hi))
        return Estimate(value, lo, hi)

    @property
    def replaced(self) -> Amount:
        """Labels that pretraining stands for; below 0 where it does harm."""
        lo, value, hi = (end - self.labels for end in (self.needed.lo, self.needed.value, self.needed.hi))
        return Amount(value, lo, hi, self.needed.up_to - self.labels)


def transferred(cells: TaskCells, over_labels: Sequence[TaskCurve]) -> tuple[Transferred, ...]:
    """A row per pretrained setting that a curve from scratch can be held against."""
    found = []
    for task in cells.study.tasks:
        for cell in cells.of(task, start="pretrained"):
            scratch = _scratch_curve(cells, over_labels, cell)
            if scratch is None:
                continue
            s = cell.setting
            needed = scratch.curve.reaches(level_of(cell))
            largest = int(scratch.curve.amounts[-1])
            found.append(Transferred(task, s.line, s.tokens, s.labels, cell.estimate, needed, largest))
    return tuple(found)
