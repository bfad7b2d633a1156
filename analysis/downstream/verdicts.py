"""What is said of each task: does pretraining beat its absence, does it beat the baseline, which recipe is best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.contrasts.odds import draw_losses, odds
from analysis.downstream.cells import MIN_DEGREES, Cell, Gap, Z, gap
from analysis.downstream.curves import TaskCells
from analysis.downstream.demand import Baseline, baseline_of
from analysis.downstream.row_noise import row_gap_sd, shared_variance
from analysis.fitting.result import Estimate

SURE = 0.95


@dataclass(frozen=True, eq=False)
class TaskVerdict:
    """One recipe on one task, at one D and number of labels.

    over_scratch: the gain over the same model from its first weights; over_checkpoint: over a checkpoint as it was;
    over_baseline: over the baseline; None where that was not run. scratch_over_baseline: the same of the model from
    scratch.
    """

    task: str
    metric: str
    cell: Cell
    scratch: Cell | None
    over_scratch: Gap | None
    checkpoint: Cell | None
    over_checkpoint: Gap | None
    baseline: Baseline | None
    over_baseline: Gap | None
    scratch_over_baseline: Gap | None


def verdicts(cells: TaskCells) -> tuple[TaskVerdict, ...]:
    """A row per task and recipe, at its largest D and the most labels; of a task without pretraining, one per start."""
    found = []
    for task in cells.study.tasks:
        own = cells.of(task, labels=cells.most_labels(task))
        pretrained = {line: [c for c in own if c.setting.line == line] for line in cells.study.starts("pretrained")}
        largest = [max(group, key=lambda c: c.setting.tokens) for group in pretrained.values() if group]
        found += [_verdict(cells, cell) for cell in largest or own]
    return tuple(found)


def by_size(cells: TaskCells) -> tuple[TaskVerdict, ...]:
    """A row per task, recipe, number of labels and D, each rising."""
    order = cells.study.starts("pretrained")
    found = []
    for task in cells.study.tasks:
        own = [(cell.setting, cell) for cell in cells.of(task, start="pretrained")]
        own.sort(key=lambda item: (order.index(item[0].line), item[0].labels, item[0].tokens))
        found += [_verdict(cells, cell) for _, cell in own]
    return tuple(found)


def _verdict(cells: TaskCells, cell: Cell) -> TaskVerdict:
    s = cell.setting
    scratch = cells.reference(cell) if s.start == "pretrained" else None
    there = cells.of(s.task, labels=s.labels, start="checkpoint")
    checkpoint = next((other for other in there if other is not cell), None)
    baseline = baseline_of(cell)
    return TaskVerdict(
        s.task, cells.study.metric(s.task), cell,
        scratch, gap(cell, scratch) if scratch else None,
        checkpoint, gap(cell, checkpoint) if checkpoint else None,
        baseline, over(cell, baseline) if baseline else None,
        over(scratch, baseline) if baseline and scratch else None,
    )  # fmt: skip


@dataclass(frozen=True)
class ClearFrom:
    """The sizes at which the gain over scratch is beyond the noise: `tokens` and all larger ones; None: none.

    below: the largest measured size that is smaller, where it is not yet; None where the smallest is enough.
    """

    tokens: int | None
    below: int | None


def clear_from(every: Sequence[TaskVerdict], at: TaskVerdict) -> ClearFrom | None:
    """For the recipe and labels of a verdict, read off `by_size`; None where one size was measured, or no gain."""
    s = at.cell.setting
    own = [v for v in every if (v.task, v.cell.setting.line, v.cell.setting.labels) == (s.task, s.line, s.labels)]
    if len(own) < 2 or at.over_scratch is None:
        return None
    tokens = None
    for v in sorted(own, key=lambda v: -v.cell.setting.tokens):
        if v.over_scratch is None or v.over_scratch.verdict != "better":
            return ClearFrom(tokens, v.cell.setting.tokens)
        tokens = v.cell.setting.tokens
    return ClearFrom(tokens, None)


def leading(every: Sequence[TaskVerdict]) -> tuple[TaskVerdict, ...]:
    """Per task the verdict on its best recipe."""
    best: dict[str, TaskVerdict] = {}
    for verdict in every:
        if verdict.task not in best or verdict.cell.mean > best[verdict.task].cell.mean:
            best[verdict.task] = verdict
    return tuple(best.values())


def not_shown(every: Sequence[TaskVerdict]) -> set[tuple[str, str]]:
    """Tasks and recipes of which it was measured, and not shown, that pretraining beats its absence."""
    return {
        (v.task, v.cell.setting.line)
        for v in every
        if v.over_scratch is not None and v.over_scratch.verdict != "better"
    }


def over(cell: Cell, baseline: Baseline) -> Gap:
    """What a setting has over a baseline, paired by rows where both have replicates."""
    seeds = math.hypot(cell.seed_half, baseline.level.seed_half)
    half = math.hypot(seeds, Z * row_gap_sd(cell, baseline.level))
    value = cell.mean - baseline.level.value
    return Gap(Estimate(value, value - half, value + half))


@dataclass(frozen=True)
class Candidate:
    """A recipe among others. probability: that its metric is the highest; nan where nothing is known of chance."""

    line: str
    score: Estimate
    probability: float


@dataclass(frozen=True)
class BestRecipe:
    """The recipes of a task at one D and number of labels, the highest mean first.

    best: the one whose probability is at least 95 %; None: cannot tell.
    """

    task: str
    tokens: int
    labels: int
    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> str | None:
        first = self.candidates[0]
        return first.line if first.probability >= SURE else None


def best_recipes(cells: TaskCells) -> tuple[BestRecipe, ...]:
    """Per task with two recipes or more, at the largest D and number of labels that all have."""
    found = []
    for task in cells.study.tasks:
        own = cells.of(task, start="pretrained")
        lines = sorted({cell.setting.line for cell in own})
        sizes = [{(c.setting.labels, c.setting.tokens) for c in own if c.setting.line == line} for line in lines]
        common = set.intersection(*sizes) if len(lines) > 1 else set()
        if not common:
            continue
        labels, tokens = max(common)
        there = [c for c in own if (c.setting.labels, c.setting.tokens) == (labels, tokens)]
        found.append(BestRecipe(task, tokens, labels, _candidates(there)))
    return tuple(found)


def _candidates(cells: Sequence[Cell]) -> tuple[Candidate, ...]:
    """By falling mean. Seeds are paired where all recipes have the same, rows where all have replicates."""
    cells = sorted(cells, key=lambda cell: (-cell.mean, cell.setting.line))
    noise = cells[0].noise
    paired = len({frozenset(cell.values) for cell in cells}) == 1 and noise.paired_degrees >= MIN_DEGREES
    sd, degrees = (noise.paired_sd, noise.paired_degrees) if paired else (noise.sd, noise.degrees)
    if degrees < MIN_DEGREES:
        return tuple(Candidate(cell.setting.line, cell.estimate, math.nan) for cell in cells)
    rows = _row_sds(cells, paired)
    se = np.array([math.hypot(sd / math.sqrt(len(c.values)), own) for c, own in zip(cells, rows, strict=True)])
    draws = draw_losses(-np.array([cell.mean for cell in cells]), np.maximum(se, 1e-9), degrees)
    chances = odds(tuple(cell.setting.line for cell in cells), draws)
    return tuple(
        Candidate(cell.setting.line, cell.estimate, chance.best) for cell, chance in zip(cells, chances, strict=True)
    )


def _row_sds(cells: Sequence[Cell], is_paired: bool) -> list[float]:
    """The standard error that the test rows make in each, beyond what they do to all alike where that is known.

    About the mean of all, and as if each were on its own: of two, the squares add up to that of their difference.
    """
    told = [cell.replicates for cell in cells]
    first = told[0]
    if len(cells) < 2 or first is None or not all(one is not None and one.pairs_with(first) for one in told):
        return [cell.row_sd for cell in cells]
    seeds = sorted(cells[0].values, key=str) if is_paired else []
    own = [
        one.values[[list(cell.values).index(seed) for seed in seeds]] if is_paired else one.values
        for cell, one in zip(cells, told, strict=True)
        if one is not None
    ]
    middle = np.mean(own, axis=0) if is_paired else np.mean([values.mean(axis=0) for values in own], axis=0)
    share = len(cells) / (len(cells) - 1)
    return [math.sqrt(share * shared_variance(values - middle)) for values in own]
