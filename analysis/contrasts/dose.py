"""Dose-response: what the number in which recipes differ does to the loss, and whether it does it monotonically."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.contrasts.contrast import Contrast, compare, loss_gap
from analysis.contrasts.dose_axis import Axis, find_axis
from analysis.contrasts.noise import noise_of
from analysis.contrasts.ranking import at_largest_size, loss_at, together, unknown
from analysis.fitting.result import Estimate
from analysis.page.labels import count_text, share_text
from analysis.page.language import say
from analysis.page.table import estimate_text
from analysis.runs.points import Study
from analysis.runs.recipes import Recipe


@dataclass(frozen=True)
class Dose:
    """One recipe of a line. loss: at the study's largest common size, nats per token; None if not measured there.

    effect: its contrast with the line's reference, step: with the next lower dose; None where it is that itself.
    """

    value: float
    text: str
    recipe: str
    loss: Estimate | None
    effect: Contrast | None
    step: Contrast | None


@dataclass(frozen=True)
class Line:
    """The doses of one kind, ascending. name: empty where there is one line. verdict: is the effect monotone?"""

    name: str
    doses: tuple[Dose, ...]
    verdict: str


@dataclass(frozen=True)
class DoseResponse:
    """what: the dose in words. tokens: the size at which losses are given. is_share: the dose is a share of 1."""

    what: str
    domain: str
    tokens: int
    is_share: bool
    reference: str
    lines: tuple[Line, ...]

    @property
    def sentences(self) -> list[str]:
        """One sentence per line."""
        said = []
        for line in self.lines:
            what = say("{what} ({line})", what=self.what, line=line.name) if line.name else self.what
            said.append(say("{what}: {verdict}{worth}.", what=what, verdict=line.verdict, worth=_furthest(line)))
        return said

    @property
    def recipes(self) -> frozenset[str]:
        """All recipes that stand on a line."""
        return frozenset(at.recipe for line in self.lines for at in line.doses)


def _furthest(line: Line) -> str:
    """What the dose that is furthest from the reference's does, if its multiplier is known on both sides."""
    own = next(at for at in line.doses if at.effect is None)
    at = max(line.doses, key=lambda at: abs(at.value - own.value))
    m = at.effect.multiplier if at.effect else None
    if at.effect is None or m is None or not (math.isfinite(m.hi) and m.lo > 0 and math.isfinite(m.value)):
        return ""
    return say(
        "; a token at {dose} is worth {worth} tokens at {reference} ({recipe})",
        dose=at.text, worth=estimate_text(m), reference=own.text, recipe=at.effect.b,
    )  # fmt: skip


def dose_response(study: Study) -> DoseResponse | None:
    """The dose-response of the target domain; None if the recipes do not differ in a number with three values."""
    size, recipes = at_largest_size(study)
    axis = find_axis(recipes, study, size)
    if axis is None:
        return None
    lines = tuple(_line(study, axis, name, doses, size) for name, doses in axis.lines.items())
    return DoseResponse(axis.what, study.target, size, axis.is_share, recipes[0].label, lines)


def _line(study: Study, axis: Axis, name: str, doses: Sequence[tuple[float, Recipe]], size: int) -> Line:
    order = {recipe.label: i for i, recipe in enumerate(study.recipes)}
    reference = min((recipe for _, recipe in doses), key=lambda recipe: order[recipe.label])
    found: list[Dose] = []
    for i, (value, recipe) in enumerate(doses):
        effect = compare(study, recipe, reference, study.target) if recipe is not reference else None
        step = compare(study, recipe, doses[i - 1][1], study.target) if i else None
        text = share_text(value) if axis.is_share else count_text(value) if value >= 1000 else f"{value:g}"
        found.append(Dose(value, text, recipe.label, loss_at(study, recipe, study.target, size), effect, step))
    recipes = [recipe for _, recipe in doses]
    return Line(name, tuple(found), _verdict(study, recipes, [dose.step for dose in found if dose.step], size))


def _verdict(study: Study, recipes: Sequence[Recipe], steps: Sequence[Contrast], size: int) -> str:
    """Whether each higher dose is worse (or better), as far as the intervals tell.

    Monotone: all steps go one way, and the highest dose is clearly off the lowest. Not monotone: clear differences
    go both ways, among intervals that hold together. Measured on planted studies of 4 doses x 5 sizes x 2 seeds: of 100
    without any effect 2 were called not monotone and none monotone; of 40 where a token is worth 15 % less at the full
    dose, 39 were called monotone (noise of a trunk 0.3 %).
    """
    target = study.target
    ends = compare(study, recipes[-1], recipes[0], target)
    gaps = [step.gap for step in steps]
    if ends.gap is None or any(gap is None for gap in gaps):
        return say("cannot tell: not all doses may be compared")
    if lack := noise_of(study, recipes[0], target).lack:
        return say("cannot tell {lack}", lack=unknown(lack))
    count = sum(_way(step.gap) != 0 for step in steps)
    clear = say("adjacent differences {count} of {all} clear of zero", count=count, all=len(steps))
    sure = together(study, recipes)  # where the loss turns is found by looking, so all pairs must hold together
    pairs = [*zip(recipes[1:], recipes[:-1], strict=True), (recipes[-1], recipes[0])]
    ways = [_way(loss_gap(study, a, b, target, size, sure)) for a, b in pairs]
    values = [gap.value for gap in gaps if gap is not None]
    overall = _way(ends.gap)
    inner = _inner_extremum(values)
    at_ends = [loss_gap(study, recipes[inner], recipes[end], target, size, sure) for end in (0, -1)] if inner else []
    turns = {_way(gap) for gap in at_ends} in ({1}, {-1})
    if {1, -1} <= {*ways} or turns:
        return say("not monotone: clear differences go both ways; {clear}", clear=clear)
    if overall and all(value * overall > 0 for value in values):
        if overall > 0:
            return say("monotone: each higher dose is worse, {clear}", clear=clear)
        return say("monotone: each higher dose is better, {clear}", clear=clear)
    if not overall:
        return say("cannot tell: the highest dose cannot be told from the lowest; {clear}", clear=clear)
    against = sum(value * overall <= 0 for value in values)
    ends_are = (
        say("the highest dose is worse than the lowest")
        if overall > 0
        else say("the highest dose is better than the lowest")
    )
    told = {"ends": ends_are, "count": against, "all": len(steps), "clear": clear}
    if against == 1:
        return say(
            "cannot tell whether monotone: {ends}, but 1 of {all} steps goes the other way, not clear of zero; {clear}",
            **told,
        )
    return say(
        "cannot tell whether monotone: {ends}, but {count} of {all} steps go the other way, not clear of zero; {clear}",
        **told,
    )


def _way(gap: Estimate | None) -> int:
    """1 if recipe a is clearly worse, -1 if clearly better, 0 if it cannot be told."""
    return 0 if gap is None else int(gap.lo > 0) - int(gap.hi < 0)


def _inner_extremum(steps: Sequence[float]) -> int | None:
    """The place of the dose that is furthest from both ends, if it is beyond both; steps: from dose to dose."""
    levels = [sum(steps[:i]) for i in range(len(steps) + 1)]
    for pick in (min, max):
        at = levels.index(pick(levels))
        if 0 < at < len(steps):
            return at
    return None
