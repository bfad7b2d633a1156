"""Figures of contrasts and decisions: the forest of gaps, the odds of being best, what smaller runs would have told."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from analysis.contrasts.contrast import Contrast
from analysis.contrasts.decision import Decisions, SmallScale
from analysis.contrasts.verdict import Decision, chance
from analysis.fitting.result import Estimate
from analysis.page.axes import label_ends, plain_log_axis, token_axis, wrapped
from analysis.page.figures import FAINT, GREY, INK, PALETTE, STYLE, colours
from analysis.page.labels import count_text
from analysis.page.language import say
from analysis.runs.points import Study

MAX_ROWS = 30
"""Of many contrasts, those with the largest gaps are drawn."""


def forest_figure(study: Study, contrasts: Sequence[Contrast]) -> Figure | None:
    """The loss gap of each contrast with its interval, and its token multiplier; None without two to compare.

    Grey where it cannot tell. At most 30, those with the largest gaps.
    """
    known = [c for c in contrasts if c.gap is not None and c.refused is None]
    if len(known) < 2:
        return None
    largest = sorted(known, key=lambda c: -abs(c.gap.value) if c.gap else 0.0)[:MAX_ROWS]
    rows = [c for c in known if c in largest]
    colour_of = colours(study)
    has_multiplier = any(c.multiplier and _is_number(c.multiplier) for c in rows)
    with matplotlib.rc_context(STYLE):
        lines = [max(1, wrapped(_name(c, contrasts), 38).count("\n") + 1) for c in rows]
        figure = Figure(figsize=(9.2 if has_multiplier else 7.4, 1.2 + 0.2 * sum(lines) + 0.14 * len(rows)))
        figure.set_layout_engine("constrained")
        ratios = [3, 2][: 1 + has_multiplier]
        panels = figure.subplots(1, len(ratios), squeeze=False, sharey=True, width_ratios=ratios)[0]
        for y, c in enumerate(rows):
            assert c.gap is not None
            named = colour_of.get(c.a, GREY)
            colour = FAINT if c.decision is Decision.CANNOT_TELL else INK if named == GREY else named
            _bar(panels[0], c.gap, y, colour)
            if has_multiplier and c.multiplier and _is_number(c.multiplier):
                _bar(panels[1], c.multiplier, y, colour)
            if c.probability is not None:
                panels[0].annotate(
                    chance(c.probability), (1, y), xycoords=("axes fraction", "data"), xytext=(4, 0),
                    textcoords="offset points", fontsize=8, va="center", color=INK, annotation_clip=False,
                )  # fmt: skip
        panels[0].set_yticks(range(len(rows)), [wrapped(_name(c, contrasts), 38) for c in rows])
        panels[0].set_ylim(len(rows) - 0.4, -0.6)
        panels[0].tick_params(axis="y", length=0)
        panels[0].axvline(0, color=FAINT, linewidth=1)
        _limits(panels[0], [c.gap for c in rows if c.gap])
        panels[0].set_xlabel(say("loss gap A - B on {domain} [nats per token]", domain=study.target))
        if any(c.probability is not None for c in rows):
            panels[0].annotate(
                say("P(A better)"), (1, 1), xycoords="axes fraction", xytext=(4, 4), textcoords="offset points",
                fontsize=8, color="#666666", annotation_clip=False,
            )  # fmt: skip
        if has_multiplier:
            values = [c.multiplier for c in rows if c.multiplier and _is_number(c.multiplier)]
            _multiplier_axis(panels[1], values)
    return figure


def decision_figure(study: Study, found: Decisions) -> Figure | None:
    """The probability that each recipe is the best, and how often smaller scales order recipes as the target does.

    None where neither is known.
    """
    small = [one for one in found.small if one.scale.num_params is None]
    panels = [bool(found.odds), found.orders_pairs and len({one.scale for one in small}) > 1]
    if not any(panels):
        return None
    with matplotlib.rc_context(STYLE):
        shown = sorted(found.odds, key=lambda one: -one.best)[:12]
        height = max(3.2 if panels[1] else 1.8, 1.2 + 0.3 * len(shown))
        figure = Figure(figsize=(9.4 if all(panels) else 6.0, height), layout="constrained")
        drawn = list(figure.subplots(1, sum(panels), squeeze=False)[0])
        if panels[0]:
            axes, colour_of = drawn.pop(0), colours(study)
            for y, one in enumerate(shown):
                colour = colour_of.get(one.recipe, GREY)
                axes.barh([y], [100 * one.best], height=0.62, color=colour)
                axes.annotate(
                    chance(one.best), (100 * one.best, y), xytext=(4, 0), textcoords="offset points", fontsize=8,
                    va="center", color=INK,
                )  # fmt: skip
            axes.set_yticks(range(len(shown)), [wrapped(one.recipe, 30) for one in shown])
            axes.set_ylim(len(shown) - 0.4, -0.6)
            axes.set_xlim(0, 112)
            axes.set_xticks(range(0, 101, 25))
            axes.tick_params(axis="y", length=0)
            axes.set_xlabel(
                say("probability of the lowest loss on {domain} [%]", domain=found.domain)
            )  # fmt: skip
        if panels[1]:
            _accuracy(drawn[0], small, found.scale.tokens)
    return figure


def _accuracy(axes: Axes, small: Sequence[SmallScale], target: float) -> None:
    """Share of pairs in the order of the target against D, by the losses there and by laws through all up to there."""
    ends = []
    for by, name, colour, shift in (
        ("loss", say("by the losses there"), PALETTE[0], 0.985),
        ("law", say("by laws up to there"), PALETTE[1], 1.015),
    ):
        line = [one for one in small if one.by == by]
        if not line:
            continue
        D = np.array([one.scale.tokens for one in line]) * shift
        value, lo, hi = (100 * np.array([getattr(one.accuracy, end) for one in line]) for end in ("value", "lo", "hi"))
        axes.vlines(D, lo, hi, color=colour, linewidth=1.2, alpha=0.55)
        axes.plot(D, value, color=colour, marker="o" if by == "loss" else "s", markersize=5, linewidth=1.6)
        ends.append((float(D[-1]), float(value[-1]), name, colour))
    token_axis(axes, [*(one.scale.tokens for one in small), target])
    axes.axhline(50, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_ylim(-3, 106)
    axes.yaxis.set_major_locator(FixedLocator(range(0, 101, 25)))
    axes.set_ylabel(say("pairs ordered as at {tokens} tokens [%]", tokens=count_text(target)))
    label_ends(axes, ends)


def _name(c: Contrast, contrasts: Sequence[Contrast]) -> str:
    """A alone where all have the same reference, which the caption names."""
    return c.a if len({other.b for other in contrasts}) == 1 else say("{a} against {b}", a=c.a, b=c.b)


def _bar(axes: Axes, estimate: Estimate, y: int, colour: str) -> None:
    lo, hi = estimate.lo, estimate.hi
    if math.isfinite(lo) or math.isfinite(hi):
        ends = [end if math.isfinite(end) else estimate.value for end in (lo, hi)]
        axes.plot(ends, [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
    axes.plot([estimate.value], [y], "o", color=colour, markersize=5.5)


def _is_number(m: Estimate) -> bool:
    return math.isfinite(m.value) and m.value > 0


def _limits(axes: Axes, gaps: Sequence[Estimate]) -> None:
    """Room for all gaps and for 0; an interval much wider than they lie apart leaves the figure."""
    values = [gap.value for gap in gaps]
    ends = [end for gap in gaps for end in (gap.lo, gap.hi) if math.isfinite(end)]
    spread = max(max(map(abs, values)), 1e-6)
    low = max(min([0.0, *values, *ends]), min([0.0, *values]) - 3 * spread)
    high = min(max([0.0, *values, *ends]), max([0.0, *values]) + 3 * spread)
    room = 0.06 * (high - low)
    axes.set_xlim(low - room, high + room)


def _multiplier_axis(axes: Axes, values: Sequence[Estimate]) -> None:
    ends = [end for m in values for end in (m.value, m.lo, m.hi) if math.isfinite(end) and 0.02 < end < 50]
    low, high = min([1 / 1.1, *ends]) / 1.06, max([1.1, *ends]) * 1.06
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    plain_log_axis(axes.xaxis, low, high, "x")
    kept = [1.0]  # and outwards from there, as far apart as their labels need
    for tick in sorted(axes.xaxis.get_major_locator()(), key=lambda tick: abs(math.log(tick))):
        if all(abs(math.log(tick / other)) > math.log(high / low) / 6 for other in kept):
            kept.append(float(tick))
    axes.xaxis.set_major_locator(FixedLocator(sorted(kept)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}x"))
    axes.axvline(1, color=FAINT, linewidth=1)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(say("token multiplier (log scale)"))
