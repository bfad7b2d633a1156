"""Figures of the data axes: dose-response, the ranking of many recipes with what they are made of, learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.contrasts.dose import Dose, DoseResponse
from analysis.contrasts.lr_check import Line, LrCheck, rate_text
from analysis.contrasts.ranking import Ranking
from analysis.fitting.result import Estimate
from analysis.page.axes import plain_log_axis, wrapped
from analysis.page.figures import FAINT, GREY, INK, MARKERS, PALETTE, STYLE, colours
from analysis.page.labels import count_text
from analysis.page.language import say
from analysis.runs.points import Study

WIDEST = 20.0
"""Intervals that reach a factor of this beyond the estimates leave the figure."""
LOG_RANGE = 20.0
"""Doses over a wider range than this, none of them 0, are drawn on a log axis."""
PALE = ("#77AADD", "#EE8866", "#EEDD88", "#FFAABB", "#99DDFF", "#44BB99", "#BBCC33")
"""Of domains, so that they are not taken for recipes: the light scheme of Tol (2021), fit for colour-blind readers."""
MAX_SHARES = len(PALE)
"""Domains that a bar of weights has room for."""


def dose_figure(dose: DoseResponse) -> Figure:
    """Left, what each dose does against the reference; right, the loss at the largest common size."""
    effects = [at.effect for line in dose.lines for at in line.doses if at.effect]
    multipliers = [effect.multiplier for effect in effects]
    as_multiplier = all(m is not None and math.isfinite(m.value) and m.value > 0 for m in multipliers)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 4.0), layout="constrained")
        left, right = figure.subplots(1, 2)

        def effect_of(at: Dose) -> Estimate | None:
            if at.effect is None:
                return Estimate(1.0, 1.0, 1.0) if as_multiplier else Estimate(0.0, 0.0, 0.0)
            return at.effect.multiplier if as_multiplier else at.effect.gap

        _draw_lines(left, dose, effect_of)
        left.axhline(1.0 if as_multiplier else 0.0, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        if as_multiplier:
            low, high = _range([m for m in multipliers if m], 1.0)
            left.set_yscale("log")
            left.set_ylim(low / 1.08, high * 1.08)
            plain_log_axis(left.yaxis, low / 1.08, high * 1.08, "x")
            left.set_ylabel(say("token multiplier against\n{recipe}", recipe=wrapped(dose.reference, 40)))
            left.set_title(say("What the dose does (above 1 is better)"))
        else:
            left.set_ylabel(say("loss gap to {recipe}\n[nats per token]", recipe=wrapped(dose.reference, 34)))
            left.set_title(say("What the dose does (below 0 is better)"))
        _draw_lines(right, dose, lambda at: at.loss)
        right.set_ylabel(wrapped(say("validation loss on {domain} [nats per token]", domain=dose.domain), 48))
        right.set_title(say("Loss at {tokens} tokens", tokens=count_text(dose.tokens)))
        for axes in (left, right):
            _dose_axis(axes, dose)
        if len(dose.lines) > 1:
            lines = enumerate(dose.lines)
            signs = [
                Line2D([], [], color=PALETTE[i % len(PALETTE)], marker=MARKERS[i % len(MARKERS)], label=line.name)
                for i, line in lines
            ]
            figure.legend(handles=signs, loc="outside upper center", ncols=len(signs), frameon=False)
    return figure


def _draw_lines(axes: Axes, dose: DoseResponse, of: Callable[[Dose], Estimate | None]) -> None:
    """Points with intervals where there are any, joined dose by dose; lines stand a little apart."""
    for i, line in enumerate(dose.lines):
        found = [(at, value) for at in line.doses if (value := of(at)) is not None]
        x = [at.value for at, _ in found]
        y = [value.value for _, value in found]
        colour = PALETTE[i % len(PALETTE)] if len(dose.lines) > 1 else INK  # of one recipe is the colour elsewhere
        axes.plot(x, y, color=colour, linewidth=1.4, zorder=2)
        for at, value in found:
            is_known = math.isfinite(value.lo) or math.isfinite(value.hi)
            if is_known and value.lo < value.hi:
                lo = value.lo if math.isfinite(value.lo) and value.lo > 0 else value.value / 1e3
                hi = value.hi if math.isfinite(value.hi) else abs(value.value) * 1e3
                lo = value.lo if value.value <= 0 or value.lo < 0 else lo
                axes.plot([at.value, at.value], [lo, hi], color=colour, linewidth=1.4, zorder=3)
            is_reference = at.effect is None
            axes.plot(
                [at.value], [value.value], MARKERS[i % len(MARKERS)], color=colour, markersize=6, zorder=4,
                markerfacecolor="white" if is_reference else colour,
            )  # fmt: skip


def _range(estimates: Sequence[Estimate], *also: float) -> tuple[float, float]:
    """The span of estimates and of the ends of their intervals, as far as these are not endlessly far."""
    values = [e.value for e in estimates] + list(also)
    low, high = min(values) / WIDEST, max(values) * WIDEST
    ends = [end for e in estimates for end in (e.lo, e.hi) if math.isfinite(end) and low <= end <= high]
    return min([*values, *ends]), max([*values, *ends])


def _dose_axis(axes: Axes, dose: DoseResponse) -> None:
    doses = {at.value: at.text for line in dose.lines for at in line.doses}
    values = sorted(doses)
    if values[0] > 0 and values[-1] / values[0] >= LOG_RANGE:
        axes.set_xscale("log")
        axes.set_xlim(values[0] / 1.3, values[-1] * 1.3)
    else:
        room = 0.06 * (values[-1] - values[0])
        axes.set_xlim(values[0] - room, values[-1] + room)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(_apart(values, axes)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: doses.get(value, f"{value:g}")))
    axes.set_xlabel(dose.what)


def _apart(values: Sequence[float], axes: Axes) -> list[float]:
    """Those of the doses whose ticks do not touch."""
    is_log = axes.get_xscale() == "log"
    at = [math.log(value) if is_log else value for value in values]
    low, high = (math.log(end) if is_log else end for end in axes.get_xlim())
    kept = [0]
    for i in range(1, len(values)):
        if (at[i] - at[kept[-1]]) / (high - low) >= 0.09:
            kept.append(i)
    return [values[i] for i in kept]


def lr_figure(check: LrCheck, target: str) -> Figure:
    """Loss over learning rate, a panel per size (the two largest), a line per recipe; a ring marks the best of each."""
    sizes = sorted({line.tokens for line in check.lines})[-2:]
    names = list(dict.fromkeys(line.name for line in check.lines))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4 if len(sizes) > 1 else 7.0, 4.3), layout="constrained")
        panels = figure.subplots(1, len(sizes), squeeze=False, sharey=True)[0]
        for axes, size in zip(panels, sizes, strict=True):
            lines = [line for line in check.lines if line.tokens == size]
            for line in lines:
                i = names.index(line.name) % len(PALETTE)
                _draw_rates(axes, line, PALETTE[i], MARKERS[i])
            rates = sorted({trial.rate for line in lines for trial in line.trials})
            axes.set_xscale("log")
            axes.set_xlim(rates[0] / 1.25, rates[-1] * 1.25)
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_locator(FixedLocator(rates))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: rate_text(value)))
            axes.set_xlabel(say("learning rate"))
            axes.set_title(say("{count} tokens", count=count_text(size)))
        panels[0].set_ylabel(wrapped(say("validation loss on {domain} [nats per token]", domain=target), 48))
        signs = [
            Line2D([], [], color=PALETTE[i % len(PALETTE)], marker=MARKERS[i % len(MARKERS)], label=wrapped(name, 60))
            for i, name in enumerate(names)
        ]
        figure.legend(handles=signs, loc="outside upper center", ncols=min(2, len(signs)), frameon=False)
    return figure


def _draw_rates(axes: Axes, line: Line, colour: str, marker: str) -> None:
    axes.plot(
        [trial.rate for trial in line.trials], [trial.loss.value for trial in line.trials],
        color=colour, marker=marker, markersize=5, linewidth=1.4, zorder=3,
    )  # fmt: skip
    for trial in line.trials:
        if math.isfinite(trial.loss.lo) and math.isfinite(trial.loss.hi):
            axes.plot([trial.rate] * 2, [trial.loss.lo, trial.loss.hi], color=colour, linewidth=1.4, zorder=2)
    best = line.best
    axes.plot([best.rate], [best.loss.value], "o", color=colour, markersize=13, markerfacecolor="none", zorder=4)


def ranking_figure(study: Study, ranking: Ranking) -> Figure:
    """Recipes from best to worst: loss with its interval, and, where they differ, the weights of their mixture."""
    rows = ranking.rows
    weights = {recipe.label: recipe.weights or {} for recipe in study.recipes}
    domains = sorted({d for row in rows for d, w in weights[row.recipe].items() if w > 0})
    differs = len({tuple(round(weights[row.recipe].get(d, 0.0), 3) for d in domains) for row in rows}) > 1
    has_bars = differs and 1 < len(domains) <= MAX_SHARES
    with matplotlib.rc_context(STYLE):
        height = 1.3 + 0.3 * len(rows)
        figure = Figure(figsize=(10.4 if has_bars else 8.0, height), layout="constrained")
        panels = figure.subplots(
            1, 2 if has_bars else 1, squeeze=False, sharey=True, width_ratios=[3, 2][: 1 + has_bars]
        )[0]
        axes = panels[0]
        colour_of = {label: FAINT if colour == GREY else colour for label, colour in colours(study).items()}
        are_told = any(row.is_told_from_best for row in rows)
        for y, row in enumerate(rows):
            loss = row.losses[ranking.target]
            is_reference = row.recipe == study.recipes[0].label
            colour = colour_of[row.recipe]
            if math.isfinite(loss.lo) and math.isfinite(loss.hi):
                axes.plot([loss.lo, loss.hi], [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
            axes.plot(
                [loss.value], [y], "o", color=colour, markersize=6, markerfacecolor="white" if is_reference else colour
            )
        axes.set_yticks(range(len(rows)), [wrapped(row.recipe, 46) for row in rows])
        for label, row in zip(axes.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if are_told and not row.is_told_from_best else "normal")
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        _loss_limits(axes, [row.losses[ranking.target] for row in rows])
        axes.set_xlabel(
            say(
                "validation loss on {domain} at {tokens} tokens [nats per token]",
                domain=ranking.target,
                tokens=count_text(ranking.tokens),
            )
        )
        _say(axes, _signs(study, ranking))
        if has_bars:
            _draw_weights(panels[1], [weights[row.recipe] for row in rows], domains, ranking.target)
    return figure


def _signs(study: Study, ranking: Ranking) -> str:
    """What the signs of a ranking mean, of those that are drawn."""
    said = []
    if any(row.is_told_from_best for row in ranking.rows):
        said.append(say("bold: not told from the best"))
    if study.recipes[0].label in {row.recipe for row in ranking.rows}:
        said.append(say("hollow: the reference"))
    if all(math.isfinite(row.losses[ranking.target].hi) for row in ranking.rows):
        said.append(say("bars: 95 % intervals"))
    return "; ".join(said)


def _say(axes: Axes, text: str) -> None:
    axes.annotate(
        text, (0, 1), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points", fontsize=8, color="#666666"
    )


def _loss_limits(axes: Axes, losses: Sequence[Estimate]) -> None:
    """Room for all losses; an interval much wider than they lie apart leaves the figure."""
    values = [loss.value for loss in losses]
    spread = max(max(values) - min(values), 0.01 * max(values))
    ends = [end for loss in losses for end in (loss.lo, loss.hi) if math.isfinite(end)]
    low = max(min([*values, *ends]), min(values) - 2 * spread)
    high = min(max([*values, *ends]), max(values) + 2 * spread)
    axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def _draw_weights(axes: Axes, mixtures: Sequence[Mapping[str, float]], domains: Sequence[str], target: str) -> None:
    """A bar per recipe, cut into the weights of its domains; the target domain first."""
    ordered = sorted(domains, key=lambda domain: (domain != target, domain))
    left = np.zeros(len(mixtures))
    for i, domain in enumerate(ordered):
        share = np.array([100 * weights.get(domain, 0.0) for weights in mixtures])
        axes.barh(range(len(mixtures)), share, left=left, color=PALE[i], height=0.72, label=domain)
        left += share
    axes.set_xlim(0, 100)
    axes.grid(False)
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.set_xlabel(say("weights in the mixture [%]"))
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, frameon=False, fontsize=8, handlelength=0.9,
        columnspacing=1.0, borderaxespad=0.2,
    )  # fmt: skip
