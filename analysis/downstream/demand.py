"""Which task needs how much data of which domain: tokens and labels to reach a stated level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.downstream.cells import Cell, Z, gap, test_sd_of
from analysis.downstream.curves import TaskCells, TaskCurve, curve_of
from analysis.downstream.metric_curve import Amount, Level, MetricCurve
from analysis.downstream.row_noise import mixed, row_sd, stacked
from analysis.downstream.score_range import SHARE, Range, score_interval
from analysis.fitting.result import Estimate

SHARE_OF_GAIN = 0.9
SHARE_OF_BEST = 0.95
"""Asked only where no run from scratch says what pretraining brings: a model often comes so near without any."""
FROM_SCRATCH, BASELINE, MOST_GAIN, NEAR_BEST = "from_scratch", "baseline", "most_gain", "near_best"


@dataclass(frozen=True)
class Demand:
    """What one task needs of one recipe to reach a level.

    level: from_scratch (the same model without pretraining), baseline, most_gain (90 % of the way from the first to the
    best that pretraining brings), near_best (95 % of the best mean, where nothing was run from scratch). value: in
    units of the metric; nan where pretraining is not shown to bring anything, so no part of it can be asked for.
    tokens: of pretraining, with `labels_at` labels; None where one size was measured. labels: with `tokens_at` tokens
    of pretraining; None where one number was measured. by_domain: what the tokens are of, by the weights of the recipe.
    labels_from_scratch: labels that the same model needs without pretraining.
    """

    task: str
    metric: str
    level: str
    value: float
    line: str
    tokens: Amount | None
    labels_at: int
    by_domain: Mapping[str, float]
    labels: Amount | None
    tokens_at: int
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
            shares = shares_of(own)
            for name, level in levels(cells, over_tokens, task, reference).items():
                tokens, labels, without = (
                    None if curve is None else _amount(curve.curve, level)
                    for curve in (by_tokens, by_labels, None if name == FROM_SCRATCH else scratch)
                )
                at = tokens.value if tokens and math.isfinite(tokens.value) else math.nan
                found.append(
                    Demand(
                        task, cells.study.metric(task), name, math.nan if isinstance(level, str) else level.value,
                        line, tokens, labels_at, {domain: at * share for domain, share in shares.items()},
                        labels, tokens_at, without,
                    )
                )  # fmt: skip
    return tuple(found)


def _amount(curve: MetricCurve, level: Level | str) -> Amount:
    """What a level takes; without a gain, more than was measured where it is a loss, else nothing that is known."""
    if isinstance(level, Level):
        return curve.reaches(level)
    largest = float(curve.amounts[-1])
    return Amount(math.inf, largest, math.inf, largest) if level == "worse" else Amount(math.nan, 0.0, math.inf)


def levels(cells: TaskCells, over_tokens: Sequence[TaskCurve], task: str, reference: Cell) -> dict[str, Level | str]:
    """The levels of a task, at the labels of a setting; a verdict where there is no gain to ask for a part of."""
    found: dict[str, Level | str] = {}
    scratch = cells.reference(reference)
    if scratch is not None:
        found[FROM_SCRATCH] = level_of(scratch)
    baseline = baseline_of(reference)
    if baseline is not None:
        found[BASELINE] = baseline.level
    if scratch is not None:
        found[MOST_GAIN] = _most_gain(cells, over_tokens, scratch, reference)
        return found
    best = max((c.mean for c in cells.of(task) if c.setting.start == "pretrained"), default=math.nan)
    if best > 0:
        found[NEAR_BEST] = Level(SHARE_OF_BEST * best)
    return found


def _most_gain(cells: TaskCells, over_tokens: Sequence[TaskCurve], scratch: Cell, reference: Cell) -> Level | str:
    """90 % of the way from scratch to the best recipe at its largest D, both at the labels of a setting.

    The best is read off its curve, which one lucky size moves less than its own mean. Its noise and that of a curve
    that is held against it are taken as independent, though they may be of the same runs: on the safe side. Where the
    best is not shown to beat its absence, there is no gain: the verdict.
    """
    own, base = reference.setting, cells.study.base_of
    there = [
        cell for cell in cells.of(own.task, start="pretrained", labels=own.labels)
        if base[cell.setting.line] == base[own.line]
    ]  # fmt: skip
    largest = {cell.setting.line: cell for cell in sorted(there, key=lambda cell: cell.setting.tokens)}
    tops = {}
    for line, cell in largest.items():
        curve = curve_of(over_tokens, own.task, line, own.method, own.labels)
        tops[line] = cell.mean if curve is None else float(curve.curve.value([cell.setting.tokens])[0])
    line = max(tops, key=lambda line: tops[line])
    best, verdict = largest[line], gap(largest[line], scratch).verdict
    if verdict != "better" or tops[line] <= scratch.mean:
        return verdict

    def mix(a: float, b: float) -> tuple[float, float]:
        return (1 - SHARE_OF_GAIN) * a, SHARE_OF_GAIN * b

    return Level(
        sum(mix(scratch.mean, tops[line])), math.hypot(*mix(scratch.seed_half, best.seed_half)),
        math.hypot(*mix(scratch.test_sd, best.test_sd)), mixed(scratch.replicates, best.replicates, SHARE_OF_GAIN),
    )  # fmt: skip


def level_of(cell: Cell) -> Level:
    """What a setting measured, as a level."""
    return Level(cell.mean, cell.seed_half, cell.test_sd, cell.replicates)


@dataclass(frozen=True)
class Baseline:
    """A model that was pretrained on nothing, and is none of ours, on the same rows. level: its mean over subsets.

    bounds: of the metric.
    """

    name: str
    level: Level
    bounds: Range = SHARE

    @property
    def estimate(self) -> Estimate:
        half = math.hypot(self.level.seed_half, Z * row_sd(self.level))
        return score_interval(self.level.value, half, self.bounds)


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
        found.append(Baseline(name, Level(float(values.mean()), half, test_sd_of(scores), replicates), cell.bounds))
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
            found.append(Transferred(task, s.line, s.tokens, s.labels, cell.estimate, needed))
    return tuple(found)
