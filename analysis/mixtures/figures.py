"""The mixture surface as a figure: a ternary plot for three domains, a curve for two, bars beyond."""

from __future__ import annotations

import math
from itertools import pairwise

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.laws.law import Array
from analysis.mixtures.optimum import Optimum
from analysis.mixtures.surface import MixtureSurface, columns_of
from analysis.page.axes import wrapped
from analysis.page.figures import FAINT, INK, PALETTE, STYLE
from analysis.page.labels import count_text
from analysis.page.language import say

FAR = 0.25
"""Between tried weights further apart than this part of the mixture, a curve is more assumed than measured."""
LATTICE = 60
HEIGHT = math.sqrt(3) / 2


def mixture_figure(surface: MixtureSurface, best: Optimum) -> Figure:
    """Predicted loss at the budget of `best` over the mixtures, with those tried, the reference and the best."""
    draw = {2: _curve, 3: _ternary}.get(len(surface.domains), _bars)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4 if draw is not _bars else 1.4 + 0.34 * len(surface.domains)))
        figure.set_layout_engine("constrained")
        draw(figure, surface, best)
    return figure


def _losses(surface: MixtureSurface, best: Optimum, weights: Array) -> Array:
    return surface.law.loss(surface.fit.theta, columns_of(weights * best.tokens, surface.offered))


def _weights(best: Optimum) -> Array:
    return np.array([estimate.value for estimate in best.weights.values()])


def _tried(surface: MixtureSurface) -> Array:
    """The mixtures of the runs, (r, m), as the fit saw them."""
    _, first = np.unique(surface.fit.table.recipe, return_index=True)
    return surface.fit.table.columns["w"][first]


def far_apart(surface: MixtureSurface) -> list[tuple[float, float]]:
    """Of two domains, neighbours among the tried weights of the first that are far apart."""
    if len(surface.domains) != 2:
        return []
    tried = np.unique(_tried(surface)[:, 0]).tolist()
    return [(left, right) for left, right in pairwise(tried) if right - left > FAR]


def _ternary(figure: Figure, surface: MixtureSurface, best: Optimum) -> None:
    axes = figure.add_subplot()
    grid = np.array([(i, j, LATTICE - i - j) for i in range(LATTICE + 1) for j in range(LATTICE + 1 - i)]) / LATTICE
    losses, (x, y) = _losses(surface, best, grid), _places(grid)
    top = float(np.max(_losses(surface, best, _tried(surface))))  # beyond what was tried one colour is enough
    levels = np.linspace(best.loss, max(top, best.loss + 2 * best.noise), 13)
    filled = axes.tricontourf(x, y, losses, levels=levels, cmap="cividis", extend="both")
    axes.tricontour(x, y, losses, levels=[best.loss + best.noise], colors="white", linewidths=1.6)
    bar = figure.colorbar(filled, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label(_loss_label(surface, best))
    bar.ax.yaxis.set_major_formatter("{x:.3f}")
    corners = _places(np.eye(3))
    axes.plot(*(np.append(c, c[0]) for c in corners), color=INK, linewidth=1)
    for domain, cx, cy, (dx, dy, align) in zip(
        surface.domains, *corners, ((0, -8, "center"), (0, -8, "center"), (0, 6, "center")), strict=True
    ):
        axes.annotate(
            say("all {domain}", domain=wrapped(domain, 20)),
            (cx, cy),
            xytext=(dx, dy),
            textcoords="offset points",
            ha=align,
            va="bottom" if dy > 0 else "top",
            fontweight="bold",
            annotation_clip=False,
        )
    _ticks(axes)
    axes.scatter(*_places(surface.weights[None]), s=64, marker="D", facecolor=PALETTE[1], edgecolor="white", zorder=4)
    axes.scatter(*_places(_weights(best)[None]), s=130, marker="*", facecolor=PALETTE[5], edgecolor=INK, zorder=5)
    axes.scatter(*_places(_tried(surface)), s=20, facecolor="white", edgecolor=INK, linewidth=0.8, zorder=6)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_xlim(-0.08, 1.08)
    _key(figure, has_line=True)


def _places(weights: Array) -> tuple[Array, Array]:
    """The corner of the third domain on top, of the first on the left."""
    return weights[:, 1] + weights[:, 2] / 2, weights[:, 2] * HEIGHT


def _ticks(axes: Axes) -> None:
    """Fine lines at every quarter, each of one domain."""
    for part in (0.25, 0.5, 0.75):
        for j in range(3):
            ends = np.zeros((2, 3))
            ends[:, j] = part
            ends[0, (j + 1) % 3] = ends[1, (j + 2) % 3] = 1 - part
            axes.plot(*_places(ends), color="white", linewidth=0.5, alpha=0.6)
            (x, _), (y, _) = _places(ends)
            away = ((4, 2), (-4, 2), (0, -4))[(j + 2) % 3]
            axes.annotate(
                f"{100 * part:.0f}",
                (x, y),
                xytext=away,
                textcoords="offset points",
                ha=("left", "right", "center")[(j + 2) % 3],
                va="top" if away[1] < 0 else "bottom",
                fontsize=7.5,
                color="#666666",
            )


def _curve(figure: Figure, surface: MixtureSurface, best: Optimum) -> None:
    axes = figure.add_subplot()
    low, high = surface.tried[0]
    first = np.linspace(low, high, 41)
    grid = np.column_stack([first, 1 - first])
    losses = _losses(surface, best, grid)
    lower, upper = surface.fit.interval(columns_of(grid * best.tokens, surface.offered))
    axes.fill_between(100 * first, lower, upper, color=PALETTE[0], alpha=0.16, linewidth=0)
    assumed = np.zeros(len(first), bool)
    for left, right in far_apart(surface):
        assumed |= (left < first) & (first < right)
        inside = (left <= first) & (first <= right)
        axes.plot(100 * first[inside], losses[inside], color=PALETTE[0], linewidth=1.4, linestyle=(0, (5, 3)))
    axes.plot(100 * first, np.where(assumed, np.nan, losses), color=PALETTE[0], linewidth=1.8)
    for weights, marker, colour, size in ((surface.weights, "D", PALETTE[1], 9), (_weights(best), "*", PALETTE[5], 16)):
        loss = _losses(surface, best, weights[None])
        axes.plot([100 * weights[0]], loss, marker, color=colour, markeredgecolor=INK, markersize=size)
    tried = np.clip(_tried(surface)[:, 0], low, high)  # on top: the best or the reference is mostly one of them
    axes.plot(
        100 * tried, np.interp(tried, first, losses), "o", markersize=4, color="white", markeredgecolor=INK, zorder=6
    )
    axes.axhline(best.loss + best.noise, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set_xlabel(
        wrapped(say("share of {domain} [%], the rest {other}", domain=surface.domains[0], other=surface.domains[1]), 60)
    )
    axes.set_ylabel(_loss_label(surface, best))
    _key(figure, has_line=True, is_dotted=True)


def _bars(figure: Figure, surface: MixtureSurface, best: Optimum) -> None:
    axes = figure.add_subplot()
    order = sorted(range(len(surface.domains)), key=lambda j: (best.weights[surface.domains[j]].value, -j))
    for row, j in enumerate(order):
        estimate = best.weights[surface.domains[j]]
        axes.barh(row, 100 * estimate.value, height=0.6, color=PALETTE[4])
        axes.plot([100 * estimate.lo, 100 * estimate.hi], [row, row], color=INK, linewidth=1.2)
        axes.plot([100 * surface.weights[j]], [row], "D", color=PALETTE[1], markeredgecolor="white", markersize=7)
    axes.set_yticks(range(len(order)), [wrapped(surface.domains[j]) for j in order])
    axes.grid(axis="y", visible=False)
    axes.set_xlim(left=0)
    axes.set_xlabel(say("share of the mixture [%]"))
    _key(figure, has_line=False)


def _loss_label(surface: MixtureSurface, best: Optimum) -> str:
    text = say(
        "predicted loss on {domain} at {tokens} tokens [nats per token]",
        domain=surface.target,
        tokens=count_text(best.tokens),
    )
    return wrapped(text, 44)


def _key(figure: Figure, has_line: bool, is_dotted: bool = False) -> None:
    """What the signs mean; bars have their own."""
    reference = Line2D([], [], marker="D", linestyle="", color=PALETTE[1], markeredgecolor="white", markersize=7)
    shown = [(reference, say("reference"))]
    if has_line:
        star = Line2D([], [], marker="*", linestyle="", color=PALETTE[5], markeredgecolor=INK, markersize=12)
        ring = Line2D([], [], marker="o", linestyle="", color="white", markeredgecolor=INK, markersize=5)
        alike = Line2D([], [], color=FAINT, linewidth=1.6, linestyle=(0, (1, 2)) if is_dotted else "-")
        shown += [(star, say("best")), (ring, say("tried")), (alike, say("within one run's noise of the best"))]
    else:
        bar = Line2D([], [], color=PALETTE[4], linewidth=7)
        shown += [(bar, say("best")), (Line2D([], [], color=INK, linewidth=1.2), say("95 % interval"))]
    signs, names = zip(*shown, strict=True)
    figure.legend(signs, names, loc="outside lower center", ncols=len(shown), frameon=False, fontsize=8.5)
