"""The report's figures: each function draws one from results and returns it; part.py turns it into bytes.

Colours are those of Okabe and Ito (2008), told apart by colour-blind readers; a recipe has one colour
everywhere. Lines are labelled where they end rather than in a legend.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from analysis.contrasts.contrast import Contrast, Decision
from analysis.contrasts.fit import Fit
from analysis.contrasts.ranking import MANY, highlighted
from analysis.page.axes import label_ends, plain_log_axis, token_axis, wrapped
from analysis.page.fonts import fonts
from analysis.page.language import say
from analysis.runs.points import Point, Study

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, FAINT, GREY = "#222222", "#8a8a8a", "#c4c4c4"

MAX_RESIDUAL_PANELS = 9

STYLE = {
    "font.family": fonts(),
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,  # a recipe's name is text, whatever dollar signs it holds
    "svg.hashsalt": "data-scaling",
    "svg.fonttype": "path",
    "figure.dpi": 100,
}


def colours(study: Study) -> dict[str, str]:
    """One colour per recipe, by its place in the study; of many recipes, only of those that figures name."""
    if len(study.recipes) <= MANY:
        return {recipe.label: PALETTE[i] for i, recipe in enumerate(study.recipes)}
    named = highlighted(study)
    return {r.label: PALETTE[named.index(r.label)] if r.label in named else GREY for r in study.recipes}


def markers(study: Study) -> dict[str, str]:
    """One marker per recipe: a second sign where colour fails."""
    return {recipe.label: MARKERS[i % len(MARKERS)] for i, recipe in enumerate(study.recipes)}


def headline_figure(study: Study, fits: Sequence[Fit], contrast: Contrast | None) -> Figure:
    """Curves of the target domain, with the token multiplier of the main contrast as an arrow."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        _draw_curves(axes, study, [fit for fit in fits if fit.domain == study.target], study.target, labels=True)
        if contrast is not None and contrast.refused is None and contrast.decision is not Decision.CANNOT_TELL:
            _draw_multiplier(axes, contrast, colours(study))
        _note(axes, study, [fit for fit in fits if fit.domain == study.target])
    return figure


def domain_figure(study: Study, fits: Sequence[Fit], domain: str) -> Figure:
    """Curves of one domain."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.8), layout="constrained")
        axes = figure.add_subplot()
        _draw_curves(axes, study, [fit for fit in fits if fit.domain == domain], domain, labels=True)
    return figure


def residual_figure(study: Study, fits: Sequence[Fit]) -> Figure | None:
    """Relative residuals of the target domain over D, a panel per recipe; None if no law was fitted.

    Of many recipes, those whose law fits worst.
    """
    drawn = [fit for fit in fits if fit.domain == study.target and fit.holds]
    if not drawn:
        return None
    if len(drawn) > MAX_RESIDUAL_PANELS:
        drawn = sorted(drawn, key=lambda fit: (-fit.residual_sd, fit.recipe))[:MAX_RESIDUAL_PANELS]
    colour_of = {label: FAINT if colour == GREY else colour for label, colour in colours(study).items()}
    with matplotlib.rc_context(STYLE):
        columns = min(3, len(drawn))
        rows = math.ceil(len(drawn) / columns)
        figure = Figure(figsize=(1.2 + 3.4 * columns, 0.6 + 2.5 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes in grid.flat[len(drawn) :]:
            axes.set_visible(False)
        for i, (axes, fit) in enumerate(zip(grid.flat, drawn, strict=False)):
            points = study.points_of(fit.recipe, fit.domain)
            off = [100 * (p.loss / float(fit.loss(p.tokens)) - 1) for p in points]
            _scatter(axes, points, off, colour_of[fit.recipe], markers(study)[fit.recipe])
            axes.axhline(0, color=FAINT, linewidth=0.8)
            axes.set_title(wrapped(fit.recipe, 34), color=colour_of[fit.recipe])
            token_axis(axes, [p.tokens for p in points], max_ticks=5)
            is_lowest = i + columns >= len(drawn)
            axes.tick_params(labelbottom=is_lowest)
            axes.set_xlabel(say("tokens D") if is_lowest else "")
        widest = max(abs(y) for axes in grid.flat for y in axes.get_ylim())
        grid.flat[0].set_ylim(-widest, widest)
        for axes in grid[:, 0]:
            axes.set_ylabel(say("measured / predicted - 1 [%]"))
    return figure


def multiplier_figure(study: Study, contrasts: Sequence[Contrast]) -> Figure | None:
    """Token multiplier against the size of the weaker recipe, with bands; None if no contrast has a trace."""
    traced = [c for c in contrasts if c.trace is not None]
    if not traced:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.add_subplot()
        ends: list[tuple[float, float, str, str]] = []
        seen: list[float] = [1.0]
        colour_of = colours(study)
        for contrast in traced:
            trace, colour = contrast.trace, colour_of[contrast.a]
            assert trace is not None
            if colour == GREY:
                axes.plot(trace.tokens, trace.multiplier, color=GREY, linewidth=0.9, zorder=1.5)
                seen += [y for y in trace.multiplier if 0.02 < y < 50]
                continue
            bounded = (trace.lo > 0) & np.isfinite(trace.hi)  # where the data set a limit on both sides
            lo, hi = trace.lo[bounded], trace.hi[bounded]
            axes.fill_between(trace.tokens[bounded], lo, hi, color=colour, alpha=0.16, linewidth=0)
            axes.plot(trace.tokens, trace.multiplier, color=colour, linewidth=1.8)
            ends.append((float(trace.tokens[-1]), float(trace.multiplier[-1]), contrast.a, colour))
            seen += [y for y in (*lo, *hi, *trace.multiplier) if 0.02 < y < 50]
        axes.axhline(1, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_yscale("log")
        axes.set_ylim(min(seen) / 1.06, max(seen) * 1.06)
        plain_log_axis(axes.yaxis, min(seen) / 1.06, max(seen) * 1.06, "x")
        axes.set_ylabel(
            say("token multiplier against\n{recipe}", recipe=wrapped(traced[0].b, 40))
            if len({c.b for c in traced}) == 1
            else say("token multiplier")
        )
        token_axis(axes, np.concatenate([c.trace.tokens for c in traced if c.trace is not None]))
        axes.set_xlabel(say("tokens D of the weaker recipe"))
        label_ends(axes, ends)
    return figure


# ---- parts of a figure ---------------------------------------------------------------------------


def _draw_curves(axes: Axes, study: Study, fits: Sequence[Fit], domain: str, labels: bool) -> None:
    by_recipe = {fit.recipe: fit for fit in fits}
    colour_of = colours(study)
    shown = [p for p in study.points if p.domain == domain]
    ends = []
    for recipe in study.recipes:
        points = [p for p in shown if p.recipe == recipe.label]
        if not points:
            continue
        colour = colour_of[recipe.label]
        fit = by_recipe.get(recipe.label)
        sizes = [p.tokens for p in points]
        if colour == GREY:
            axes.plot(*_means(points), color=GREY, linewidth=0.9, zorder=1.5)
            continue
        if fit is not None and fit.holds:
            D = np.geomspace(min(sizes), max(sizes), 60)
            lo, hi = fit.interval(D)
            axes.fill_between(D, lo, hi, color=colour, alpha=0.16, linewidth=0)
            last = fit.span[1]
            axes.plot(D[last * 1.001 >= D], fit.loss(D[last * 1.001 >= D]), color=colour, linewidth=1.8)
            axes.plot(
                D[last * 0.999 <= D],
                fit.loss(D[last * 0.999 <= D]),
                color=colour,
                linewidth=1.4,
                linestyle=(0, (4, 2)),
            )
        else:
            axes.plot(*_means(points), color=colour, linewidth=1.2)
        _scatter(axes, points, [p.loss for p in points], colour, markers(study)[recipe.label])
        at_end = [p.loss for p in points if p.tokens == max(sizes)]
        ends.append((float(max(sizes)), float(np.mean(at_end)), recipe.label, colour))
    losses = [p.loss for p in shown]
    axes.set_yscale("log")
    axes.set_ylim(min(losses) / 1.05, max(losses) * 1.05)
    plain_log_axis(axes.yaxis, min(losses) / 1.05, max(losses) * 1.05)
    axes.set_ylabel(wrapped(say("validation loss on {domain} [nats per token]", domain=domain), 48))
    token_axis(axes, [p.tokens for p in shown])
    axes.set_xlabel(say("tokens D trained on"))
    if labels:
        label_ends(axes, ends)


def _means(points: Sequence[Point]) -> tuple[list[int], list[float]]:
    """Sizes and the mean loss (over logs) at each."""
    sizes = sorted({p.tokens for p in points})
    return sizes, [float(np.exp(np.mean([np.log(p.loss) for p in points if p.tokens == s]))) for s in sizes]


def _scatter(axes: Axes, points: Sequence[Point], values: Sequence[float], colour: str, marker: str) -> None:
    for is_held_out in (False, True):
        chosen = [(p.tokens, v) for p, v in zip(points, values, strict=True) if p.is_held_out is is_held_out]
        if chosen:
            axes.scatter(
                [tokens for tokens, _ in chosen],
                [value for _, value in chosen],
                s=26,
                marker=marker,
                facecolor="white" if is_held_out else colour,
                edgecolor=colour,
                linewidth=1.2,
                zorder=3,
            )


def _draw_multiplier(axes: Axes, contrast: Contrast, colour_of: Mapping[str, str]) -> None:
    """An arrow at equal loss, from the weaker recipe's largest D to where the other one is as good."""
    m = contrast.multiplier
    if m is None or contrast.tokens is None or contrast.loss is None or not math.isfinite(m.value) or m.value <= 0:
        return
    ratio = max(m.value, 1 / m.value)
    better = contrast.a if m.value >= 1 else contrast.b
    low, _ = axes.get_xlim()
    start, end = contrast.tokens, contrast.tokens / ratio
    if ratio < 1.08 or end < low:
        return
    axes.annotate(
        "",
        (end, contrast.loss),
        (start, contrast.loss),
        arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.1, "shrinkA": 5, "shrinkB": 0},
        zorder=4,
    )
    axes.annotate(
        say("{times}x fewer tokens", times=f"{ratio:.2f}"),
        (start, contrast.loss),  # below its start: nowhere are the two curves further apart
        xytext=(-5, -5),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=9,
        fontweight="bold",
        color=INK,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        zorder=5,
    )
    axes.plot([end], [contrast.loss], marker="|", color=colour_of[better], markersize=9, zorder=5)


def _note(axes: Axes, study: Study, fits: Sequence[Fit]) -> None:
    """What the signs mean, of those that are drawn."""
    has_held_out = any(
        p.is_held_out and p.domain == study.target and p.recipe in highlighted(study) for p in study.points
    )
    fits = [fit for fit in fits if fit.recipe in highlighted(study)]
    has_band = any(fit.holds for fit in fits)
    is_known = all(fit.noise.is_known for fit in fits)
    band = say("band: 95 % interval of the curve") if is_known else say("band: within-trunk interval only")
    said = [band] * has_band + [say("hollow: held out of the fit")] * has_held_out
    said += [say("dashed: predicted")] * any(fit.holds and fit.held_out for fit in fits)
    others = len(study.recipes) - len(highlighted(study))
    said += [say("grey: the other {count} recipes", count=others)] * (others > 0)
    axes.annotate(
        "; ".join(said),
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 6),
        textcoords="offset points",
        fontsize=8,
        color="#666666",
    )
