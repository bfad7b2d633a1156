"""The headline: the answer of a study in one sentence, with number, interval and decision."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.contrasts.contrast import Contrast, Decision, compare
from analysis.contrasts.fit import Fit, HeldOut
from analysis.contrasts.ranking import MANY, Ranking, none_of, unknown
from analysis.fitting.result import Estimate
from analysis.page.doubling import error_text, last_doubling
from analysis.page.labels import count_text
from analysis.page.language import listed, say
from analysis.page.table import estimate_text, number_text
from analysis.runs.points import Study
from analysis.runs.recipes import Recipe

MOST_NAMED = 4
"""So many recipes are named in the headline; more are counted."""


def headline_of(
    study: Study, fits: Sequence[Fit], on_target: Sequence[Contrast], ranking: Ranking | None
) -> tuple[str, Contrast | None]:
    """The sentence, and the contrast that it rests on."""
    if not on_target:
        return last_doubling(study, fits), None
    if ranking is None:
        c = next((c for c in on_target if not c.refused), on_target[0])
        if not c.refused:
            return _pair_headline(c), c
        return say(
            "Cannot tell: {a} and {b} may not be compared, because {reason}.", a=c.a, b=c.b, reason=c.refused
        ), None  # fmt: skip
    first, second = _main_pair(study, ranking)
    main = compare(study, first, second, study.target, ranking.confidence)
    if ranking.lack:
        return _undecided(ranking, ranking.lack, main), main
    if len(ranking.rows) == 2:
        return _pair_headline(main), main
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
    best, second = (row.recipe for row in ranking.rows[:2])
    gaps = {row.recipe: number_text(row.gap.value, 2) for row in ranking.rows if row.gap}
    told = {
        "lack": unknown(lack),
        "tokens": count_text(ranking.tokens),
        "best": best,
        "domain": ranking.target,
        "gap": gaps[second],
        "other": second,
        "once": say(", measured once each") if lack == "no_repeated_seeds" else "",
    }
    if len(ranking.rows) == 2:
        return say(
            "Cannot tell {lack}: at {tokens} tokens {best} had the lower loss on {domain}, {gap} nats per token below "
            "{other}{once}; repeat both with other seeds.",
            **told,
        )
    reference = main.a if main.b == best else main.b
    beside = (
        say(" and {gap} below the reference ({other})", gap=gaps[reference], other=reference)
        if reference != second
        else ""
    )
    return say(
        "Cannot tell {lack}: at {tokens} tokens {best} had the lowest loss on {domain}, {gap} nats per token below the "
        "next ({other}){beside}{once}; repeat the best few with other seeds.",
        beside=beside,
        **told,
    )


def _best_of_many(ranking: Ranking, main: Contrast) -> str:
    """The best of three or more recipes, or those that lead; intervals allow for all comparisons with the best."""
    count, leaders = len(ranking.rows), [row.recipe for row in ranking.leaders]
    best = leaders[0]
    told = {"best": best, "count": count, "domain": ranking.target, "tokens": count_text(ranking.tokens)}
    if not ranking.behind:
        last = ranking.rows[-1]
        assert last.gap is not None
        return say(
            "Cannot tell: {none} be told from {best}, which has the lowest loss on {domain} at {tokens} tokens; the "
            "largest gap, of {recipe}, is {gap} nats per token.",
            none=none_of(count - 1), recipe=last.recipe, gap=estimate_text(last.gap), **told,
        )  # fmt: skip
    other = main.a if main.b == best else main.b
    worth = _with_crossing(worth_text(main), main) if main.decision is not Decision.CANNOT_TELL else None
    if len(leaders) == 1:
        second, gap = ranking.rows[1].recipe, ranking.rows[1].gap
        text = say("Of {count} recipes, {best} is best on {domain}", **told)
        if worth:
            text = say("{sentence}: {more}", sentence=text, more=worth)
        if second == other or gap is None:
            return say("{sentence}.", sentence=text)
        return say(
            "{sentence}; the next, {recipe}, is {gap} nats per token behind.",
            sentence=text, recipe=second, gap=estimate_text(gap),
        )  # fmt: skip
    text = say(
        "Of {count} recipes, {best} has the lowest loss on {domain} at {tokens} tokens, but {others} cannot be told "
        "from it",
        others=_some(leaders[1:]),
        **told,
    )
    if worth and other not in leaders:
        return say(
            "{sentence}. {best} is better than {other}: {worth}.", sentence=text, best=best, other=other, worth=worth
        )
    nearest = ranking.behind[0]
    assert nearest.gap is not None
    told = {"sentence": text, "recipe": nearest.recipe, "gap": estimate_text(nearest.gap)}
    if len(ranking.behind) == 1:
        return say("{sentence}; {recipe} is {gap} nats per token behind.", **told)
    return say(
        "{sentence}; {recipes} are behind, the nearest, {recipe}, by {gap} nats per token.",
        recipes=_some([row.recipe for row in ranking.behind]), **told,
    )  # fmt: skip


def _some(names: Sequence[str]) -> str:
    """Recipes by name where they are few, else how many."""
    if len(names) > MOST_NAMED:
        return say("{count} others", count=len(names))
    return names[0] if len(names) == 1 else say("{first} and {last}", first=", ".join(names[:-1]), last=names[-1])


def _pair_headline(c: Contrast) -> str:
    return say("{sentence}.", sentence=_with_crossing(pair_sentence(c), c))


def _with_crossing(sentence: str, c: Contrast) -> str:
    """The sentence, and below which size the other recipe is better, where that is settled by measured sizes."""
    crossing = c.crossing
    if crossing is None or not crossing.is_settled or crossing.is_predicted:
        return sentence
    before, after = (c.b, c.a) if crossing.after == "a" else (c.a, c.b)
    lo, tokens, hi = (count_text(end) for end in (crossing.tokens.lo, crossing.tokens.value, crossing.tokens.hi))
    return say(
        "{sentence}; the curves cross at {tokens} tokens ({lo} to {hi}): {before} is better below, {after} above",
        sentence=sentence, tokens=tokens, lo=lo, hi=hi, before=before, after=after,
    )  # fmt: skip


def pair_sentence(c: Contrast) -> str:
    """One contrast, without the full stop."""
    assert c.gap is not None
    if c.decision is Decision.CANNOT_TELL:
        text = say(
            "Cannot tell whether {a} or {b} is better on {domain} at {tokens} tokens: the gap is {gap} {unit}",
            a=c.a, b=c.b, domain=c.domain, tokens=count_text(c.tokens or 0), gap=estimate_text(c.gap),
            unit=c.unit_text,
        )  # fmt: skip
        if c.multiplier is None or not (math.isfinite(c.multiplier.value) and c.multiplier.value > 0):
            return text
        return say(
            "{sentence}, and a token of the first is worth {times} tokens of the second ({interval})",
            sentence=text, times=_times(c.multiplier), interval=_interval(c.multiplier),
        )  # fmt: skip
    better = c.a if c.decision is Decision.A_BETTER else c.b
    return say("{better} is better on {domain}: {worth}", better=better, domain=c.domain, worth=worth_text(c))


def worth_text(c: Contrast) -> str:
    """What the better recipe of a decided contrast is worth, as seen from it: "it reaches ..."."""
    assert c.gap is not None
    is_a = c.decision is Decision.A_BETTER
    gap = Estimate(-c.gap.value, -c.gap.hi, -c.gap.lo) if is_a else c.gap
    told = {"worse": c.b if is_a else c.a, "gap": estimate_text(gap), "unit": c.unit_text}
    told["tokens"] = count_text(c.tokens or 0)
    if c.multiplier is None:
        return say(
            "at equal tokens its loss is {gap} {unit} lower than that of {worse}, at {tokens} tokens; of one "
            "size there is no curve",
            **told,
        )
    m = c.multiplier if is_a else inverse(c.multiplier)
    if not m.value > 1:  # the curves do not pass through the mean losses that decide
        return say("at equal tokens its loss is {gap} {unit} lower than that of {worse}, at {tokens} tokens", **told)
    if not math.isfinite(m.lo):
        return say(
            "no measured amount of {worse} reaches the loss that it has at its smallest size, and at equal tokens its "
            "loss is {gap} {unit} lower",
            **told,
        )
    text = say(
        "it reaches the loss that {worse} has at {tokens} tokens with {times} times fewer tokens ({interval}), and at "
        "equal tokens its loss is {gap} {unit} lower",
        times=_times(m), interval=_interval(m), **told,
    )  # fmt: skip
    if c.growth is None or c.at_smallest is None:
        return text
    start = c.at_smallest if is_a else inverse(c.at_smallest)
    first, last = (count_text(tokens or 0) for tokens in (c.at_smallest_tokens, c.tokens))
    was = say(
        "{start} at {first} tokens, {times} at {last}", start=_times(start), first=first, times=_times(m), last=last
    )
    grows, shrinks = (c.growth.lo > 1, c.growth.hi < 1) if is_a else (c.growth.hi < 1, c.growth.lo > 1)
    if grows:
        return say("{sentence}; the factor grows with corpus size ({was})", sentence=text, was=was)
    if shrinks:
        return say("{sentence}; the factor shrinks with corpus size ({was})", sentence=text, was=was)
    return say("{sentence}; whether the factor changes with corpus size cannot be told ({was})", sentence=text, was=was)


def inverse(m: Estimate) -> Estimate:
    """1 / m with its interval: the multiplier seen from the other recipe."""
    over = [math.inf if x == 0 else 1 / x for x in (m.value, m.hi, m.lo)]
    return Estimate(over[0], over[1], over[2])


def _times(m: Estimate) -> str:
    return f"{m.value:.2f}" if math.isfinite(m.value) else say("more than {lo}", lo=f"{m.lo:.2f}")


def _interval(m: Estimate) -> str:
    has_lo, has_hi = math.isfinite(m.lo) and m.lo > 0, math.isfinite(m.hi)
    lo, hi = f"{m.lo:.2f}", f"{m.hi:.2f}"
    if has_lo and has_hi:
        return say("95 % interval {lo} to {hi}", lo=lo, hi=hi)
    if not (has_lo or has_hi):
        return say("no interval")
    return say("95 % interval above {lo}", lo=lo) if has_lo else say("95 % interval below {hi}", hi=hi)


def test_sentence(study: Study, fits: Sequence[Fit]) -> str | None:
    """How well the largest held-out size of the target domain was predicted, recipe by recipe."""
    tests = [(fit.recipe, fit.held_out[-1]) for fit in fits if fit.holds and fit.held_out]
    if not tests:
        return None
    tokens = max(test.tokens for _, test in tests)
    there = [(recipe, test) for recipe, test in tests if test.tokens == tokens]
    said = say("Held out and predicted on {domain} at {tokens} tokens", domain=study.target, tokens=count_text(tokens))
    if len(there) > MANY:
        recipe, worst = max(there, key=lambda item: abs(item[1].error))
        return say(
            "{sentence}: {inside} of {count} recipes lie within the interval of their prediction; furthest off is "
            "{recipe}, {verdict}.",
            sentence=said, inside=sum(_is_inside(test) for _, test in there), count=len(there), recipe=recipe,
            verdict=_verdict(worst),
        )  # fmt: skip
    verdicts = listed(say("{recipe} {verdict}", recipe=recipe, verdict=_verdict(test)) for recipe, test in there)
    return say("{sentence}: {verdicts}.", sentence=said, verdicts=verdicts)


def _verdict(test: HeldOut) -> str:
    """A prediction whose interval misses the measurement is a miss, however close."""
    told = {"error": error_text(test), "side": _side(test)}
    if _is_inside(test):
        return say("within {error}{side}", **told)
    return say("missed by {error}, beyond its interval{side}", **told)


def _side(test: HeldOut) -> str:
    """Where the runs lie, if several and all on one side of the prediction."""
    if test.num_runs < 2 or 0 < test.num_above < test.num_runs:
        return ""
    if test.num_above:
        return say(" (all measured losses lie above the prediction)")
    return say(" (all measured losses lie below the prediction)")


def _is_inside(test: HeldOut) -> bool:
    return test.predicted.lo <= test.loss <= test.predicted.hi
