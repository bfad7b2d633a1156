"""Figures of tasks: a panel per task, a recipe in the colour that it has everywhere, lines named at their ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.downstream.curves import TaskCurve
from analysis.downstream.downstream import Downstream
from analysis.downstream.level_lines import GREY_TEXT, End, baseline_at, draw_baselines, draw_levels, lighter
from analysis.downstream.metric_curve import Axis, amount_of
from analysis.downstream.task_study import start_text
from analysis.page.axes import label_ends, plain_log_axis, token_axis, wrapped
from analysis.page.figures import FAINT, INK, MARKERS, PALETTE, STYLE
from analysis.page.labels import count_text
from analysis.page.language import say
from analysis.runs.points import Study

LIGHTER = (0.0, 0.3, 0.5)
"""How much white is in the colour of a recipe's further lines: fewer labels, or fewer tokens."""
MAX_TASKS = 9


def recipe_colours(found: Downstream, study: Study) -> dict[str, str]:
    """By line: of a recipe the colour of the study's other figures, black without pretraining."""
    order = [recipe.label for recipe in (study.recipes or found.study.recipes)]
    order += [recipe.label for recipe in found.study.recipes if recipe.label not in order]
    colours = {label: PALETTE[i % (len(PALETTE) - 1)] for i, label in enumerate(order)}
    return {line: colours.get(line, INK) for line in found.study.base_of}


def tokens_figure(found: Downstream, study: Study) -> Figure | None:
    """The metric against tokens of pretraining, with the most labels; of one recipe alone also with fewer."""
    curves = [c for c in found.over_tokens if c.method == found.cells.main_method]
    return _curves_figure(found, study, curves, "tokens")


def labels_figure(found: Downstream, study: Study) -> Figure | None:
    """The metric against labels, of the largest pretraining and from scratch; of one recipe alone also of smaller."""
    curves = [c for c in found.over_labels if c.method == found.cells.main_method]
    return _curves_figure(found, study, curves, "labels")


def _curves_figure(found: Downstream, study: Study, curves: Sequence[TaskCurve], axis: Axis) -> Figure | None:
    tasks = [task for task in found.study.tasks if any(c.task == task for c in curves)][:MAX_TASKS]
    if not tasks:
        return None
    colours = recipe_colours(found, study)

    def draw(axes: Axes, task: str) -> None:
        own = [c for c in curves if c.task == task]
        shown = _shown(own)
        ends: list[End] = []
        amounts = np.concatenate([c.curve.amounts for c in shown])
        values: list[float] = []
        for curve, light in shown.items():
            colour = lighter(colours[curve.line], light)
            values += _draw_curve(axes, curve, colour, list(colours).index(curve.line))
            text = _name(curve, axis, shown)
            ends.append((float(amounts.max()), float(curve.curve.value([curve.curve.amounts[-1]])[0]), text, colour))
        right = float(amounts.max())
        if axis == "tokens":
            own_labels = list({c.at: light for c, light in shown.items()}.items())
            levels, more = draw_levels(axes, found, task, right, own_labels)
        else:
            levels, more = draw_baselines(axes, found, task, right)
        ends, values = ends + more, values + levels
        axes.set_title(task)
        axes.set_ylabel(found.study.metric(task))
        _limits(axes, values, len(ends))
        token_axis(axes, amounts, max_ticks=6)
        axes.set_xlabel(say("tokens of pretraining D") if axis == "tokens" else say("labels"))
        right = axes.get_xlim()[1]
        label_ends(axes, [(right, value, text, colour) for _, value, text, colour in ends])

    return _panels(tasks, draw)


def _panels(tasks: Sequence[str], draw: Callable[[Axes, str], None], height: float = 3.5) -> Figure:
    """height: of a row of panels, in inches."""
    columns = 1 if len(tasks) == 1 else 2
    rows = math.ceil(len(tasks) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4 if columns == 1 else 11.6, 0.4 + height * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(tasks) :]:
            axes.set_visible(False)
        for axes, task in zip(grid.flat, tasks, strict=False):
            draw(axes, task)
    return figure


def _shown(curves: Sequence[TaskCurve]) -> dict[TaskCurve, float]:
    """The curves of a panel, each with how light it is: per line the fullest, of one recipe alone up to three."""
    lines = list(dict.fromkeys(c.line for c in curves if c.start == "pretrained"))
    shown: dict[TaskCurve, float] = {}
    for line in dict.fromkeys(c.line for c in curves):
        own = sorted((c for c in curves if c.line == line), key=lambda c: -c.at)
        few = own if len(lines) == 1 and own[0].start == "pretrained" else own[:1]
        if len(few) > len(LIGHTER):
            few = [few[0], few[len(few) // 2], few[-1]]
        shown |= dict(zip(few, LIGHTER, strict=False))
    return shown


def _name(curve: TaskCurve, axis: Axis, shown: Mapping[TaskCurve, float]) -> str:
    """What sets a line apart in its panel."""
    is_one = len({c.line for c in shown if c.start == "pretrained"}) < 2 and curve.start == "pretrained"
    if axis == "tokens":
        text = say("{labels} labels", labels=f"{curve.at:,}")
        return text if is_one and len(shown) > 1 else say("pretrained") if is_one else curve.line
    if curve.start != "pretrained":
        return start_text(curve.line)
    if not is_one and len({c.at for c in shown if c.start == "pretrained"}) == 1:
        return curve.line
    text = say("{tokens} tokens", tokens=count_text(curve.at))
    return text if is_one else say("{recipe}, {tokens} tokens", recipe=curve.line, tokens=count_text(curve.at))


def _draw_curve(axes: Axes, curve: TaskCurve, colour: str, place: int) -> list[float]:
    """A law with the band of its seeds, or the joined means; a mark per setting. Returns what must be in sight."""
    own = curve.curve
    x = np.union1d(np.geomspace(own.amounts[0], own.amounts[-1], 60), own.amounts)
    below, above = own.half_widths(x)
    in_sight: list[float] = []
    if np.isfinite(below).all() and np.isfinite(above).all():
        middle = own.value(x)
        axes.fill_between(x, middle - below, middle + above, color=colour, alpha=0.14, linewidth=0)
        in_sight += [float((middle - below).min()), float((middle + above).max())]
    is_dashed = curve.start != "pretrained"
    axes.plot(x, own.value(x), color=colour, linewidth=1.7, linestyle=(0, (4, 2)) if is_dashed else "-")
    at = [amount_of(cell, own.axis) for cell in own.cells]
    for cell, amount in zip(own.cells, at, strict=True):
        values = list(cell.values.values())
        axes.plot([amount] * len(values), values, "o", color=colour, markersize=2.6, alpha=0.55, linewidth=0)
    means = [cell.mean for cell in own.cells]
    axes.plot(at, means, MARKERS[place % len(MARKERS)], color=colour, markersize=5.5, linewidth=0, zorder=3)
    return in_sight + [value for cell in own.cells for value in cell.values.values()]


def _limits(axes: Axes, values: Sequence[float], num_names: int) -> None:
    """num_names: at the right, beside the panel even where all lines end at its top."""
    wide = max(max(values) - min(values), 0.02)
    axes.set_ylim(min(values) - 0.08 * wide, max(values) + 0.03 * max(3, 1 + num_names) * wide)


def scores_figure(found: Downstream, study: Study) -> Figure:
    """Per task, what each start and recipe scored, with its interval: where neither tokens nor labels vary."""
    colours = recipe_colours(found, study)

    def draw(axes: Axes, task: str) -> None:
        labels = found.cells.most_labels(task)
        own = sorted(found.cells.of(task, labels=labels), key=lambda cell: cell.mean)
        for y, cell in enumerate(own):
            score, colour = cell.estimate, colours[cell.setting.line]
            if math.isfinite(score.lo) and math.isfinite(score.hi):
                axes.plot([score.lo, score.hi], [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
            axes.plot([score.value], [y], "o", color=colour, markersize=6)
        if baseline := baseline_at(found, task, labels):
            axes.axvline(baseline.level.value, color=FAINT, linewidth=1.4, linestyle=(0, (1, 2)), zorder=1)
            axes.annotate(
                baseline.name,
                (baseline.level.value, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8.5,
                color=GREY_TEXT,
            )
        means = [cell.mean for cell in own] + ([baseline.level.value] if baseline else [])
        axes.update_datalim([(value + side * 0.01, 0) for value in means for side in (-1, 1)])
        axes.autoscale_view(scaley=False)
        names = [wrapped(start_text(cell.setting.line), 34) for cell in own]
        axes.set_yticks(range(len(own)), names)
        axes.set_ylim(-0.6, len(own) - 0.4)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(found.study.metric(task))
        axes.set_title(task)

    tasks = found.study.tasks[:MAX_TASKS]
    most = max(len(found.cells.of(task, labels=found.cells.most_labels(task))) for task in tasks)
    return _panels(tasks, draw, height=1.1 + 0.42 * most)


def upstream_figure(found: Downstream, study: Study) -> Figure | None:
    """The metric against the validation loss that tells it best, with the logistic law."""
    best = {u.task: u for u in reversed(found.upstream)}
    tasks = [task for task in found.study.tasks if task in best][:MAX_TASKS]
    if not tasks:
        return None
    colours = recipe_colours(found, study)

    def draw(axes: Axes, task: str) -> None:
        own = best[task]
        ends: list[End] = []
        if own.fit is not None:
            L = np.linspace(own.losses.min(), own.losses.max(), 60)
            axes.plot(L, own.fit.predict({"L": L}), color=FAINT, linewidth=1.6, zorder=1)
        left = float(own.losses.min())
        lines = list(dict.fromkeys(own.lines))
        for line in lines:
            at = [i for i, name in enumerate(own.lines) if name == line]
            place = list(colours).index(line)
            for i in at:
                half = own.cells[i].seed_half
                _bar(axes, own.losses[i], own.means[i] - half, own.means[i] + half, colours[line])
            axes.plot(own.losses[at], own.means[at], MARKERS[place % len(MARKERS)], color=colours[line], markersize=6)
            nearest = min(at, key=lambda i: own.losses[i])
            ends.append((left, float(own.means[nearest]), line if len(lines) > 1 else say("pretrained"), colours[line]))
        axes.set_title(task)
        axes.set_ylabel(found.study.metric(task))
        axes.set_xlabel(wrapped(say("validation loss on {domain} [nats per token]", domain=own.domain), 48))
        axes.invert_xaxis()
        label_ends(axes, ends)

    return _panels(tasks, draw)


def tradeoff_figure(found: Downstream, study: Study) -> Figure | None:
    """The metric against the bytes of a model, before and after compression, of the largest D of each recipe."""
    rows = [c for c in found.compressions if "bytes" in c.cost and "bytes" in c.original_cost]
    tasks = [task for task in found.study.tasks if any(c.cell.setting.task == task for c in rows)][:MAX_TASKS]
    if not tasks:
        return None
    colours = recipe_colours(found, study)
    names = dict.fromkeys(c.cell.setting.compress for c in rows)
    marker_of = dict(zip(names, cycle(MARKERS[1:])))

    def draw(axes: Axes, task: str) -> None:
        own = [c for c in rows if c.cell.setting.task == task]
        largest = {line: max(c.cell.setting.tokens for c in own if c.cell.setting.line == line) for line in
                   {c.cell.setting.line for c in own}}  # fmt: skip
        own = [c for c in own if c.cell.setting.tokens == largest[c.cell.setting.line]]
        sizes = [c.cost["bytes"] / 2**20 for c in own] + [c.original_cost["bytes"] / 2**20 for c in own]
        for c in own:
            line, name = c.cell.setting.line, c.cell.setting.compress
            colour = colours[line]
            before, after = (c.original_cost["bytes"] / 2**20, c.original), (c.cost["bytes"] / 2**20, c.cell.mean)
            axes.plot(*zip(before, after, strict=True), color=lighter(colour, 0.6), linewidth=1.0, zorder=1)
            axes.plot(*before, "o", color=colour, markersize=7, markerfacecolor="white", zorder=3)
            axes.plot(*after, marker_of[name], color=colour, markersize=6, zorder=3)
            _bar(axes, after[0], c.original + c.change.gap.lo, c.original + c.change.gap.hi, colour)
        axes.set_xscale("log")
        axes.set_xlim(min(sizes) / 1.4, max(sizes) * 1.25)
        plain_log_axis(axes.xaxis, min(sizes) / 1.4, max(sizes) * 1.25)
        axes.set_xlabel(say("size [MiB]; hollow: uncompressed"))
        axes.set_ylabel(found.study.metric(task))
        axes.set_title(task)
        if len(largest) > 1:
            top = max(sizes)
            label_ends(axes, [
                (top, max(c.original for c in own if c.cell.setting.line == line), line, colours[line])
                for line in largest
            ])  # fmt: skip

    figure = _panels(tasks, draw)
    signs = [Line2D([], [], linestyle="", marker=marker_of[name], color=INK, label=name) for name in names]
    figure.legend(handles=signs, loc="outside lower center", ncols=min(3, len(signs)), frameon=False, fontsize=8.5)
    return figure


def _bar(axes: Axes, x: float, lo: float, hi: float, colour: str) -> None:
    """An interval as an upright line, where there is one."""
    if math.isfinite(lo) and math.isfinite(hi):
        axes.plot([x, x], [lo, hi], color=colour, linewidth=1.2, zorder=2)
