"""Lines that the curves of a task are held against: the same model without pretraining, and the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from analysis.downstream.demand import Baseline, baseline_of
from analysis.downstream.downstream import Downstream
from analysis.downstream.task_study import start_text
from analysis.fitting.result import Estimate
from analysis.page.figures import FAINT, INK
from analysis.page.language import say

GREY_TEXT = "#6a6a6a"
End = tuple[float, float, str, str]
"""Of a line: where it ends, its name and its colour."""


def draw_levels(
    axes: Axes, found: Downstream, task: str, right: float, lights: Sequence[tuple[int, float]]
) -> tuple[list[float], list[End]]:
    """Without pretraining, and the baseline: lines to compare with. lights: labels, and how light they are drawn.

    The baseline, and what is shaded, are of the most labels alone.
    """
    values: list[float] = []
    ends: list[End] = []

    def name(text: str, labels: int) -> str:
        return text if len(lights) == 1 else say("{text}, {labels} labels", text=text, labels=f"{labels:,}")

    for labels, light in lights:
        for cell in (c for c in found.cells.of(task, labels=labels) if c.setting.start != "pretrained"):
            colour = lighter(INK, light)
            axes.axhline(cell.mean, color=colour, linewidth=1.2, linestyle=(0, (4, 2)), zorder=1)
            if light == 0:
                _shade(axes, cell.estimate, INK)
            values.append(cell.mean)
            ends.append((right, cell.mean, name(start_text(cell.setting.line), labels), colour))
    labels = found.cells.most_labels(task)
    if baseline := baseline_at(found, task, labels):
        value = baseline.level.value
        axes.axhline(value, color=FAINT, linewidth=1.2, linestyle=(0, (1, 2)), zorder=1)
        _shade(axes, baseline.estimate, FAINT, 0.12)
        values.append(value)
        ends.append((right, value, name(baseline.name, labels), GREY_TEXT))
    return values, ends


def draw_baselines(axes: Axes, found: Downstream, task: str, right: float) -> tuple[list[float], list[End]]:
    """The baseline with each number of labels."""
    numbers = sorted({cell.setting.labels for cell in found.cells.of(task)})
    own = [(labels, b) for labels in numbers if (b := baseline_at(found, task, labels)) is not None]
    if not own:
        return [], []
    values = [baseline.level.value for _, baseline in own]
    lo, hi = ([getattr(baseline.estimate, end) for _, baseline in own] for end in ("lo", "hi"))
    at = [labels for labels, _ in own]
    axes.plot(at, values, color=FAINT, linewidth=1.2, linestyle=(0, (1, 2)), zorder=1)
    axes.fill_between(at, lo, hi, color=FAINT, alpha=0.12, linewidth=0, zorder=0.5)
    return values, [(right, values[-1], own[-1][1].name, GREY_TEXT)]


def baseline_at(found: Downstream, task: str, labels: int) -> Baseline | None:
    """That of the settings of a task with so many labels; None where none was run."""
    own = found.cells.of(task, labels=labels)
    return next((b for cell in own if (b := baseline_of(cell)) is not None), None)


def _shade(axes: Axes, estimate: Estimate, colour: str, alpha: float = 0.05) -> None:
    if math.isfinite(estimate.lo) and math.isfinite(estimate.hi):
        axes.axhspan(estimate.lo, estimate.hi, color=colour, alpha=alpha, linewidth=0, zorder=0.5)


def lighter(colour: str, share: float) -> str:
    """A colour with a share of white in it."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    return matplotlib.colors.to_hex(rgb + share * (1 - rgb))
