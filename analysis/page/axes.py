"""Readable axes: ticks in plain numbers on log scales, names at the ends of lines."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.page.labels import count_text
from analysis.page.language import say

LABEL_CHARS = 26
LABEL_LINES = 4


def wrapped(label: str, chars: int = LABEL_CHARS) -> str:
    """A name in a few short lines, so that a long one does not take the room of the curves."""
    label = re.sub(r"(\d) % (\S)", "\\1\u00a0%\u00a0\\2", label)  # a share and what it is of stay on one line
    return "\n".join(textwrap.wrap(label, chars, max_lines=LABEL_LINES, placeholder=" ...")) or label


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Name each line right of its end, moved apart where they would overlap."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)  # settles the layout, so that places in pixels are final
    to_pixels = axes.transData.transform
    line = 13 * figure.dpi / 72
    top = -math.inf  # of the label below
    for D, value, label, colour in sorted(ends, key=lambda end: end[1]):
        _, y = to_pixels((D, value))
        text = wrapped(label)
        half = line * (text.count("\n") + 1) / 2
        height = max(y, top + half)
        top = height + half
        axes.annotate(
            text,
            (D, value),
            xytext=(9, (height - y) * 72 / figure.dpi),
            textcoords="offset points",
            color=colour,
            fontsize=9,
            fontweight="bold",
            va="center",
            annotation_clip=False,
        )


def token_axis(axes: Axes, sizes: Sequence[float] | np.ndarray, max_ticks: int = 8) -> None:
    """A log axis over D with a tick at each size where they are few, and never so close that the labels touch.

    A range without two round numbers has its ends.
    """
    axes.set_xscale("log")
    low, high = float(min(sizes)), float(max(sizes))
    axes.set_xlim(low / 1.12, high * 1.12)
    axes.set_xlabel(say("tokens D"))
    measured = sorted({float(s) for s in sizes})
    chosen = measured if len(measured) <= 8 else _round_ticks(low, high)
    ticks = _apart(chosen if len(chosen) > 1 else [low, high], low, high, max_ticks)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_text(value)))


def _apart(ticks: Sequence[float], low: float, high: float, most: int) -> list[float]:
    """The largest tick, and below it those that are at least 1 / most of the axis apart."""
    room = math.log(high * 1.12**2 / low) / (most + 1)
    kept: list[float] = []
    for tick in sorted(ticks, reverse=True):
        if not kept or math.log(kept[-1] / tick) >= room:
            kept.append(tick)
    return kept[::-1]


def _round_ticks(low: float, high: float) -> list[float]:
    """Round numbers within a range, few enough to be read on a log axis."""
    for mantissas in (
        (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8),
        (1, 1.5, 2, 3, 4, 5, 7),
        (1, 2, 3, 5),
        (1, 2, 5),
        (1, 3),
        (1,),
    ):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [m * 10.0**e for e in decades for m in mantissas if low <= m * 10.0**e <= high]
        if len(ticks) <= 8:
            return ticks
    return ticks


def plain_log_axis(axis: matplotlib.axis.Axis, low: float, high: float, unit: str = "") -> None:
    """Ticks of a log axis in plain numbers; evenly spaced ones where the range is less than a factor of 2."""
    ticks = _round_ticks(low, high)
    if len(ticks) < 4:
        step = 10.0 ** math.floor(math.log10(high - low))
        step = next(s for s in (step / 5, step / 2, step, 2 * step) if (high - low) / s <= 8)
        ticks = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}{unit}"))
