"""Quality against cost: what compression keeps, what it saves, and how much data buys back what it loses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from analysis.downstream.cells import Cell, Gap, Z, cells_of, t_quantile, test_sd_of
from analysis.downstream.curves import TaskCells, TaskCurve
from analysis.downstream.demand import level_of
from analysis.downstream.metric_curve import Amount, metric_curve
from analysis.downstream.score_range import score_interval
from analysis.downstream.task_study import TaskStudy
from analysis.fitting.result import Estimate

COSTS = ("bytes", "latency_ms_batch1", "latency_ms_batch32", "rows_per_second_batch1", "rows_per_second_batch32",
         "peak_memory_bytes", "num_params", "nonzero_params")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Compressed:
    """One compression of the models of one setting.

    original: the mean metric before. change: what the metric gained (below 0: lost), paired by run. cost,
    original_cost: medians over runs, by name.
    """

    cell: Cell
    original: float
    change: Gap
    cost: Mapping[str, float]
    original_cost: Mapping[str, float]

    @property
    def kept(self) -> float:
        """The metric as a share of that before."""
        return self.cell.mean / self.original if self.original else math.nan

    @property
    def share_kept(self) -> Estimate:
        """`kept` with the interval of the change, within what the metric can be."""
        if not self.original:
            return Estimate(math.nan, math.nan, math.nan)
        gap = self.change.gap
        after = score_interval(self.cell.mean, gap.hi - gap.value, self.cell.bounds)
        return Estimate(self.kept, after.lo / self.original, after.hi / self.original)

    def ratio(self, name: str) -> float | None:
        """A cost as a share of that before, the median over runs, each of which measures both; None if none tells."""
        told = [run.compressed for run in self.cell.runs if run.compressed]
        pairs = [(each.original_cost.get(name), each.cost.get(name)) for each in told]
        shares = [after / before for before, after in pairs if before and after is not None]
        return median(shares) if shares else None


@dataclass(frozen=True)
class BoughtBack:
    """The pretraining with which a compressed model is as good as the uncompressed one is at `tokens`.

    original: what that scores. needed: the D of the compressed one; inf where none that was measured is enough. times:
    needed / tokens.
    """

    task: str
    line: str
    compress: str
    labels: int
    tokens: int
    original: Estimate
    needed: Amount

    @property
    def times(self) -> Estimate:
        lo, value, hi = (end / self.tokens for end in (self.needed.lo, self.needed.value, self.needed.hi))
        return Estimate(value, lo, hi)


def compressions(study: TaskStudy) -> tuple[Compressed, ...]:
    """A row per task, setting and compression; only those whose fine-tuning is known, or whose log tells of it."""
    runs = [run for run in study.compressions if run.labels is not None]
    runs.sort(key=lambda r: (r.task, study.line(r), r.tokens, r.labels or 0, study.compress_of[r.fingerprint], r.seed))
    found = []
    for cell in cells_of(study, runs):
        metric = cell.runs[0].metric
        before = [run.compressed.original.get(metric) for run in cell.runs if run.compressed]
        if not all(value is not None for value in before):
            continue
        pairs = [(run.score.value, float(value or 0.0)) for run, value in zip(cell.runs, before, strict=True)]
        found.append(
            Compressed(
                cell, float(np.mean([b for _, b in pairs])), _change(pairs, cell.test_sd, _row_sd(cell)),
                medians([run.compressed.cost for run in cell.runs if run.compressed]),
                medians([run.compressed.original_cost for run in cell.runs if run.compressed]),
            )
        )  # fmt: skip
    return tuple(found)


def _row_sd(cell: Cell) -> float | None:
    """The standard error that the test rows make in what changed, as the runs resampled it; None where none did."""
    told = [run.compressed.difference.get(run.metric) for run in cell.runs if run.compressed]
    return test_sd_of(d for d in told if d is not None) if told and all(d is not None for d in told) else None


def _change(pairs: Sequence[tuple[float, float]], test_sd: float, row_sd: float | None) -> Gap:
    """After less before, of the same models on the same rows. row_sd: its standard error over rows, where it is told.

    Where it is not: two models of one fine-tuning err on nearly the same rows. Where their metrics differ by d, at
    least a share |d| of the rows changed sides; a mean over rows of which so many moved has the standard error
    test_sd sqrt(|d| / (p (1 - p))) for a metric p that is a share of rows. Rows that moved to and fro beyond that show
    in the spread between seeds. Of one model alone, whose rows were resampled, the interval is over these.
    """
    moved = np.array([after - before for after, before in pairs])
    mean, before = float(moved.mean()), float(np.mean([b for _, b in pairs]))
    spread = before * (1 - before)
    test = test_sd * math.sqrt(min(2.0, abs(mean) / spread)) if 0 < before < 1 else test_sd
    test = test if row_sd is None else row_sd
    seeds = (
        t_quantile(len(moved) - 1) * float(moved.std(ddof=1)) / math.sqrt(len(moved)) if len(moved) > 1 else math.inf
    )
    half = Z * test if len(moved) == 1 and row_sd is not None else math.hypot(seeds, Z * test)
    return Gap(Estimate(mean, mean - half, mean + half))


def medians(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each cost, over those that tell it."""
    names = [name for name in COSTS if any(name in cost for cost in costs)]
    return {name: float(median(cost[name] for cost in costs if name in cost)) for name in names}


def bought_back(
    cells: TaskCells, rows: Sequence[Compressed], over_tokens: Sequence[TaskCurve]
) -> tuple[BoughtBack, ...]:
    """Per task, recipe and compression measured at two D or more: at the largest D that a known D of those buys back.

    Where there is none, at the smallest: there the most data more was measured. The noise of the two is taken as
    independent, though they are of the same fine-tunings: on the safe side.
    """
    grouped: dict[tuple[str, str, str, str, int], list[Cell]] = {}
    for row in rows:
        s = row.cell.setting
        if s.start == "pretrained":
            grouped.setdefault((s.task, s.line, s.method, s.compress, s.labels), []).append(row.cell)
    found = []
    for (task, line, method, compress, labels), own in grouped.items():
        curve = metric_curve(own, "tokens")
        whole = [c for c in cells.of(task, method=method, line=line, labels=labels) if c.setting.tokens]
        if curve is None or not whole:
            continue
        tries = [
            BoughtBack(task, line, compress, labels, c.setting.tokens, c.estimate, curve.reaches(level_of(c)))
            for c in sorted(whole, key=lambda cell: -cell.setting.tokens)
        ]
        largest = float(curve.amounts[-1])
        found.append(next((t for t in tries if t.needed.value <= largest and t.needed.has_limits), tries[-1]))
    return tuple(found)
