"""The study's answer in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.caveats import find_caveats
from analysis.contrast import Contrast, Decision, compare, contrasts
from analysis.curves import Curve, measured_curve
from analysis.dose import DoseResponse, dose_response
from analysis.fit import Fit, HeldOut, fit_power_law
from analysis.fitting.result import Estimate
from analysis.labels import count_text
from analysis.lr_check import LrCheck, lr_check
from analysis.noise import noise_of
from analysis.points import Study
from analysis.ranking import MANY, Ranking, none_of, rank, unknown
from analysis.recipes import Recipe
from analysis.table import estimate_text, number_text

MOST_NAMED = 4
"""So many recipes are named in the headline; more are counted."""


@dataclass(frozen=True)
class Answer:
    """All results of a study.

    headline: the answer in one sentence. test: how well the held-out size was predicted. main: the contrast
    behind it, if it is one. caveats: one sentence each. dose, ranking, lr_check: of the recipes, where they have them.
    """

    headline: str
    test: str | None
    main: Contrast | None
    fits: tuple[Fit, ...]
    contrasts: tuple[Contrast, ...]
    caveats: tuple[str, ...]
    dose: DoseResponse | None = None
    ranking: Ranking | None = None
    lr_check: LrCheck | None = None

    @property
    def full_fits(self) -> tuple[Fit, ...]:
        """The fits to all points that the contrasts tried, each once, where they saw more or less than `fits`."""
        seen = {(fit.recipe, fit.domain, fit.num_points) for fit in self.fits}
        found = {(f.recipe, f.domain, f.num_points): f for c in self.contrasts for f in c.fits}
        return tuple(fit for key, fit in found.items() if key not in seen)


def answer(study: Study) -> Answer:
    """Fit every curve, contrast the recipes on every domain, say what came out."""
    fits, by_label = [], {recipe.label: recipe for recipe in study.recipes}
    for domain in study.domains:
        for recipe in by_label.values():
            if points := study.points_of(recipe.label, domain):
                fits.append(fit_power_law(points, noise_of(study, recipe, domain)))
    if (check := lr_check(study)) is None:
        found = [c for domain in study.domains for c in contrasts(study, domain)]
    else:  # at one learning rate each: across them a contrast would be of the data and of the learning rate
        pairs = [(by_label[a], by_label[b]) for a, b in check.matched]
        found = [compare(study, a, b, domain) for domain in study.domains for a, b in pairs]
    on_target = [c for c in found if c.domain == study.target]
    fits_on_target = [fit for fit in fits if fit.domain == study.target]
    ranking = rank(study)
    headline, main = _headline(study, fits_on_target, on_target, ranking)
    if check is not None:
        headline = check.headline
    test = _test_sentence(study, fits_on_target)
    caveats = tuple(find_caveats(study, fits, found))
    dose = dose_response(study) if check is None else None  # a learning rate is no dose of anything
    return Answer(headline, test, main, tuple(fits), tuple(found), caveats, dose, ranking, check)


def _headline(
    study: Study, fits: Sequence[Fit], on_target: Sequence[Contrast], ranking: Ranking | None
) -> tuple[str, Contrast | None]:
    """The sentence, and the contrast that it rests on."""
    if not on_target:
        return _doubling(study, fits), None
    if ranking is None:
        c = next((c for c in on_target if not c.refused), on_target[0])
        if not c.refused:
            return _pair_sentence(c) + ".", c
        return f"Cannot tell: {c.a} and {c.b} may not be compared, because {c.refused}.", None
    first, second = _main_pair(study, ranking)
    main = compare(study, first, second, study.target, ranking.confidence)
    if ranking.lack:
        return _undecided(ranking, ranking.lack, main), main
    if len(ranking.rows) == 2:
        return _pair_sentence(main) + ".", main
    return _best_of_many(ranking, main), main


def _main_pair(study: Study, ranking: Ranking) -> tuple[Recipe, Recipe]:
    """The two recipes of the headline, in the study's order: the best and the reference, or the best two."""
    by_label = {recipe.label: recipe for recipe in study.recipes}
    order = list(by_label)
    labels = [row.recipe for row in ranking.rows]
    reference = min(labels, key=order.index)
    best, other = labels[0], reference if reference != labels[0] else labels[1]
    a, b = (best, other) if order.index(best) > order.index(other) else (other, best)
    return by_label[a], by_label[b]


def _undecided(ranking: Ranking, lack: str, main: Contrast) -> str:
    """What was measured, where nothing is known of how much of it is chance."""
    best = ranking.rows[0].recipe
    other = main.a if main.b == best else main.b
    gap = next(row.gap for row in ranking.rows if row.recipe == other)
    assert gap is not None
    is_pair = len(ranking.rows) == 2
    return (
        f"Cannot tell {unknown(lack)}: at {count_text(ranking.tokens)} tokens {best} had the "
        f"{'lower' if is_pair else 'lowest'} loss on {ranking.target}, {number_text(gap.value, 2)} nats per token "
        f"below {other}{', measured once each' if lack == 'no_repeated_seeds' else ''}; repeat "
        f"{'both' if is_pair else 'the best few'} with other seeds."
    )


def _best_of_many(ranking: Ranking, main: Contrast) -> str:
    """The best of three or more recipes, or those that lead; intervals allow for all comparisons with the best."""
    count, leaders = len(ranking.rows), [row.recipe for row in ranking.leaders]
    best, at = leaders[0], f"on {ranking.target} at {count_text(ranking.tokens)} tokens"
    if not ranking.behind:
        return f"Cannot tell: {none_of(count - 1)} be told from {best}, which has the lowest loss {at}."
    other = main.a if main.b == best else main.b
    worth = _worth(main) if main.decision is not Decision.CANNOT_TELL else None
    if len(leaders) == 1:
        second, gap = ranking.rows[1].recipe, ranking.rows[1].gap
        text = f"Of {count} recipes, {best} is best on {ranking.target}"
        text += f": {worth}" if worth else ""
        if second == other or gap is None:
            return text + "."
        return f"{text}; the next, {second}, is {estimate_text(gap)} nats per token behind."
    text = f"Of {count} recipes, {best} has the lowest loss {at}, but {_some(leaders[1:])} cannot be told from it"
    if worth and other not in leaders:
        return f"{text}. {best} is better than {other}: {worth}."
    behind = [row.recipe for row in ranking.behind]
    return f"{text}; {_some(behind)} {'is' if len(behind) == 1 else 'are'} behind."


def _some(names: Sequence[str]) -> str:
    """Recipes by name where they are few, else how many."""
    if len(names) > MOST_NAMED:
        return f"{len(names)} others"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _pair_sentence(c: Contrast) -> str:
    """One contrast, without the full stop."""
    assert c.gap is not None
    if c.decision is Decision.CANNOT_TELL:
        text = (
            f"Cannot tell whether {c.a} or {c.b} is better on {c.domain} at {count_text(c.tokens or 0)} tokens: "
            f"the gap is {estimate_text(c.gap)} nats per token"
        )
        if c.multiplier is None or not (math.isfinite(c.multiplier.value) and c.multiplier.value > 0):
            return text
        worth = f"a token of the first is worth {_times(c.multiplier)} tokens of the second"
        return f"{text}, and {worth} (95 % interval {_range(c.multiplier)})"
    better = c.a if c.decision is Decision.A_BETTER else c.b
    return f"{better} is better on {c.domain}: {_worth(c)}"


def _worth(c: Contrast) -> str:
    """What the better recipe of a decided contrast is worth, as seen from it: "it reaches ..."."""
    assert c.gap is not None
    is_a = c.decision is Decision.A_BETTER
    worse = c.b if is_a else c.a
    gap = Estimate(-c.gap.value, -c.gap.hi, -c.gap.lo) if is_a else c.gap
    lower = f"at equal tokens its loss is {estimate_text(gap)} nats per token lower"
    if c.multiplier is None:
        return f"{lower} than that of {worse}, at {count_text(c.tokens or 0)} tokens; of one size there is no curve"
    m = c.multiplier if is_a else inverse(c.multiplier)
    if not m.value > 1:  # the curves do not pass through the mean losses that decide
        return f"{lower} than that of {worse}, at {count_text(c.tokens or 0)} tokens"
    if not math.isfinite(m.lo):
        return f"no measured amount of {worse} reaches the loss that it has at its smallest size, and {lower}"
    text = (
        f"it reaches the loss that {worse} has at {count_text(c.tokens or 0)} tokens with {_times(m)} times fewer "
        f"tokens (95 % interval {_range(m)}), and {lower}"
    )
    if c.growth is None or c.at_smallest is None:
        return text
    start = c.at_smallest if is_a else inverse(c.at_smallest)
    first, last = (count_text(tokens or 0) for tokens in (c.at_smallest_tokens, c.tokens))
    was = f"{_times(start)} at {first} tokens, {_times(m)} at {last}"
    grows, shrinks = (c.growth.lo > 1, c.growth.hi < 1) if is_a else (c.growth.hi < 1, c.growth.lo > 1)
    if grows or shrinks:
        return f"{text}; the factor {'grows' if grows else 'shrinks'} with corpus size ({was})"
    return f"{text}; whether the factor changes with corpus size cannot be told ({was})"


def inverse(m: Estimate) -> Estimate:
    """1 / m with its interval: the multiplier seen from the other recipe."""
    over = [math.inf if x == 0 else 1 / x for x in (m.value, m.hi, m.lo)]
    return Estimate(over[0], over[1], over[2])


def _times(m: Estimate) -> str:
    return f"{m.value:.2f}" if math.isfinite(m.value) else f"more than {m.lo:.2f}"


def _range(m: Estimate) -> str:
    has_lo, has_hi = math.isfinite(m.lo) and m.lo > 0, math.isfinite(m.hi)
    if has_lo and has_hi:
        return f"{m.lo:.2f} to {m.hi:.2f}"
    return f"above {m.lo:.2f}" if has_lo else f"below {m.hi:.2f}" if has_hi else "without limit"


def _doubling(study: Study, fits: Sequence[Fit]) -> str:
    """For one recipe: what the last doubling of D bought, and how well the held-out size was predicted."""
    fit = fits[0]
    curve: Curve = fit if fit.holds else measured_curve(study.points_of(fit.recipe, fit.domain), fit.noise)
    top = curve.span[1]
    if top / 2 < curve.span[0]:
        return f"Cannot tell what more tokens bring: the sizes on {fit.domain} span less than a doubling."
    at_half, at_top = float(curve.loss(top / 2)), float(curve.loss(top))
    weights = {size: weight * at_half for size, weight in curve.response(top / 2).items()}
    for size, weight in curve.response(top).items():
        weights[size] = weights.get(size, 0.0) - weight * at_top
    gain, half = at_half - at_top, curve.half_width(weights)
    interval = f"95 % interval {gain - half:.3f} to {gain + half:.3f}"
    if not curve.noise.is_known:
        interval = "no interval without repeated seeds"
    text = (
        f"Doubling the tokens from {count_text(top / 2)} to {count_text(top)} lowers the loss on "
        f"{fit.domain} by "
        f"{gain:.3f} nats per token ({interval})"
    )
    if not (fit.holds and fit.held_out):
        return text + "."
    test = fit.held_out[-1]
    return f"{text}; the held-out {count_text(test.tokens)} tokens were predicted within {_percent(test.error)}."


def _percent(share: float) -> str:
    return f"{number_text(100 * abs(share), 2)} %"


def _test_sentence(study: Study, fits: Sequence[Fit]) -> str | None:
    """How well the largest held-out size of the target domain was predicted, recipe by recipe."""
    tests = [(fit.recipe, fit.held_out[-1]) for fit in fits if fit.holds and fit.held_out]
    if not tests:
        return None
    tokens = max(test.tokens for _, test in tests)
    there = [(recipe, test) for recipe, test in tests if test.tokens == tokens]
    said = f"Held out and predicted on {study.target} at {count_text(tokens)} tokens"
    if len(there) > MANY:
        recipe, worst = max(there, key=lambda item: abs(item[1].error))
        inside = sum(_is_inside(test) for _, test in there)
        return (
            f"{said}: {inside} of {len(there)} recipes lie within the interval of their prediction; furthest off is "
            f"{recipe}, {_verdict(worst)}."
        )
    return f"{said}: {', '.join(f'{recipe} {_verdict(test)}' for recipe, test in there)}."


def _verdict(test: HeldOut) -> str:
    """A prediction whose interval misses the measurement is a miss, however close."""
    return (
        f"within {_percent(test.error)}"
        if _is_inside(test)
        else f"missed by {_percent(test.error)}, beyond its interval"
    )


def _is_inside(test: HeldOut) -> bool:
    return test.predicted.lo <= test.loss <= test.predicted.hi
