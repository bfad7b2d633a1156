"""Contrasts: recipe against recipe."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from analysis.contrasts.contrast import Contrast
from analysis.contrasts.contrast_words import crossing_text
from analysis.contrasts.verdict import Decision, reason_text
from analysis.page import figures, tables
from analysis.page.answer import Answer
from analysis.page.decision_figures import MAX_ROWS, forest_figure
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section

MAX_POINTS = 5
"""Crossings that are told; the table of contrasts has the rest."""


def section(study: Study, results: Answer) -> Section | None:
    """None where there is no pair."""
    if not results.contrasts:
        return None
    inner = {c.a for c in results.contrasts}  # a recipe that is itself contrasted is no reference
    on_target = [c for c in results.contrasts if c.domain == study.target and c.b not in inner]
    matches = {
        "tokens": say("tokens"),
        "unique_tokens": say("unique tokens"),
        "flops": say("FLOPs"),
        "weights": say("weights"),
    }
    how = say(
        "A against B at equal {match}. The multiplier is how many tokens B needs for each token of A to reach the loss "
        "that the weaker of the two has at D tokens: above 1, A is better. A or B is called better where the 95 % "
        "interval of the gap excludes 0, and nowhere else.",
        match=matches[study.match],
    )
    growth = tables.growth_table(results.contrasts)
    return Section(
        "contrasts",
        say("Contrasts"),
        (how, _intervals(results.contrasts)),
        tuple(_crossings(on_target)),
        tuple(_drawings(study, results, on_target)),
        (tables.contrast_table(results.contrasts), *((growth,) if growth.rows else ())),
        tuple(_reasons(results.contrasts)),
    )


def _intervals(contrasts: Sequence[Contrast]) -> str:
    """What the intervals are, or why there are none, and whether seeds pair the recipes."""
    lack = next((c.reason for c in contrasts if c.reason in ("no_repeated_seeds", "too_few_repeated_seeds")), None)
    if lack and not _have_intervals(contrasts):
        return say("{why} Hence there are no intervals, and no recipe is called better.", why=reason_text(lack))
    pairs = max(c.num_pairs for c in contrasts)
    if pairs:
        return say("Intervals are 95 %, each on its own. Recipes are paired by their {count} seeds.", count=pairs)
    return say("Intervals are 95 %, each on its own.")


def _have_intervals(contrasts: Sequence[Contrast]) -> bool:
    return any(c.gap is not None and math.isfinite(c.gap.lo) for c in contrasts)


def _crossings(contrasts: Sequence[Contrast]) -> list[str]:
    """The crossings that noise cannot have made."""
    settled = [(c, c.crossing) for c in contrasts if c.crossing and c.crossing.is_settled]
    return [
        say("{a} against {b}: {crossing}", a=c.a, b=c.b, crossing=crossing_text(c, crossing))
        for c, crossing in settled[:MAX_POINTS]
    ]


def _drawings(study: Study, results: Answer, on_target: Sequence[Contrast]) -> list[Drawing]:
    if results.lr_check is not None:  # one line per learning rate
        return []
    found = []
    if (forest := forest_figure(study, on_target)) is not None:
        references = {c.b for c in on_target}
        caption = say(
            "The gap of each contrast on {domain} and its token multiplier, with 95 % intervals; grey: cannot tell.",
            domain=study.target,
        )
        if not _have_intervals(on_target):
            caption = say(
                "The gap of each contrast on {domain} and its token multiplier; no interval is known.",
                domain=study.target,
            )
        if len(references) == 1:
            caption += " " + say("A is the recipe of the row, B is {b}.", b=next(iter(references)))
        if len(on_target) > MAX_ROWS:
            caption += " " + say("The {count} with the largest gaps.", count=MAX_ROWS)
        found.append(Drawing("contrasts", caption, forest))
    if (multiplier := figures.multiplier_figure(study, on_target)) is not None:
        caption = say("How many tokens of the reference one token of the recipe is worth, by the size of the weaker.")
        found.append(Drawing("multiplier", caption, multiplier))
    return found


def _reasons(contrasts: Sequence[Contrast]) -> list[str]:
    """Why some cannot tell or are refused, and how the others were computed: each once, with how many it is of."""
    why = Counter(c.why for c in contrasts if c.refused is None and c.decision is Decision.CANNOT_TELL)
    refused = Counter(c.refused for c in contrasts if c.refused)
    methods = Counter(c.method for c in contrasts if c.method and not c.refused)
    found = [
        say("{count} of {all} contrasts cannot tell. {why}", count=count, all=len(contrasts), why=text)
        for text, count in why.items()
    ]
    found += [
        say("{count} of {all} contrasts are refused: {why}.", count=count, all=len(contrasts), why=text)
        for text, count in refused.items()
    ]
    return found + [
        say("Method of {count} of {all} contrasts: {method}.", count=count, all=len(contrasts), method=text)
        for text, count in methods.items()
    ]
