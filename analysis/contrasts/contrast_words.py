"""A contrast in sentences for people and in plain values for scripts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from analysis.contrasts.contrast import Contrast
from analysis.contrasts.verdict import Crossing, Decision, Forecast, chance, reason_text
from analysis.fitting.result import Estimate
from analysis.page.headline import pair_sentence, worth_text
from analysis.page.labels import count_text
from analysis.page.language import in_english, say
from analysis.page.table import Multiplier, cell_text, estimate_text, number_text

BEYOND = 1.01


def sentences(c: Contrast) -> list[str]:
    """What came out, the answer first."""
    if c.refused:
        return [say("{a} and {b} may not be compared, because {reason}.", a=c.a, b=c.b, reason=c.refused)]
    found = [say("{sentence}.", sentence=pair_sentence(c))]
    if c.num_params is not None:
        found = [say("At N = {size} in both: {sentence}", size=count_text(c.num_params), sentence=found[0])]
    if c.probability is not None:
        found.append(
            say("The probability that {a} has the lower loss there is {chance}.", a=c.a, chance=chance(c.probability))
        )
    if c.why:
        found.append(c.why)
    if c.crossing is not None:
        found.append(crossing_text(c, c.crossing))
    found += [_with_reach(forecast_text(c, one), one) for one in c.forecasts]
    if c.num_pairs:
        found.append(say("The two are paired by {count} seeds or sizes that both have.", count=c.num_pairs))
    return found + [say("Note: {note}.", note=note) for note in c.notes]


def crossing_text(c: Contrast, crossing: Crossing) -> str:
    """Where the curves cross, if that is settled."""
    better = c.a if crossing.after == "a" else c.b
    told = {"tokens": count_text(crossing.tokens.value), "better": better}
    if not crossing.is_settled:
        return say(
            "The curves cross at {tokens} tokens, beyond which {better} would be better, but noise may have made them.",
            **told,
        )
    told |= {"lo": count_text(crossing.tokens.lo), "hi": count_text(crossing.tokens.hi)}
    if crossing.is_predicted:
        return say(
            "By their laws the curves cross at {tokens} tokens (95 % interval {lo} to {hi}), more than was measured; "
            "beyond that {better} is better.",
            **told,
        )
    return say(
        "The curves cross at {tokens} tokens (95 % interval {lo} to {hi}); beyond that {better} is better.", **told
    )


def forecast_text(c: Contrast, one: Forecast) -> str:
    """What is to be expected at a budget."""
    at = count_text(one.tokens)
    if one.num_params is not None:
        at = say("N = {size}, D = {tokens}", size=count_text(one.num_params), tokens=at)
    if one.gap is None or one.probability is None:
        return say("At {at} tokens: cannot tell. {why}", at=at, why=reason_text(one.reason))
    told = {"at": at, "a": c.a, "chance": chance(one.probability)}
    if one.decision is Decision.CANNOT_TELL:
        m = one.multiplier and Multiplier(one.multiplier.value, one.multiplier.lo, one.multiplier.hi)
        return say(
            "At {at} tokens: cannot tell. The gap is {gap} {unit}, and a token of {a} is worth {worth} tokens of {b}; "
            "{a} has the lower loss with a probability of {chance}.",
            b=c.b, gap=estimate_text(one.gap), unit=c.unit_text, worth=cell_text(m), **told,
        )  # fmt: skip
    there = replace(
        c, decision=one.decision, gap=one.gap, tokens=round(one.tokens), multiplier=one.multiplier, growth=None
    )
    return say(
        "At {at} tokens: {better} is better: {worth}; {a} has the lower loss with a probability of {chance}.",
        better=c.a if one.decision is Decision.A_BETTER else c.b, worth=worth_text(there), **told,
    )  # fmt: skip


def _with_reach(text: str, one: Forecast) -> str:
    """The sentence of a budget, and how far beyond the measured ones it lies."""
    if not one.beyond > BEYOND:  # nor nan
        return text
    return say(
        "{text} That is {times} times the largest size that both have, by their laws.",
        text=text, times=number_text(one.beyond, 2),
    )  # fmt: skip


def contrast_json(c: Contrast) -> dict[str, Any]:
    """Plain JSON values; null where the data set no limit or nothing is known."""
    return {
        "a": c.a,
        "b": c.b,
        "domain": c.domain,
        "unit": in_english(c.unit_text),
        "match": c.match,
        "refused": in_english(c.refused),
        "decision": None if c.refused else c.decision.name.lower(),
        "reason": c.reason,
        "why": in_english(c.why) or None,
        "method": in_english(c.method) or None,
        "num_params": c.num_params,
        "tokens": c.tokens,
        "loss": c.loss,
        "gap": _estimate(c.gap),
        "probability_a_better": c.probability,
        "num_pairs": c.num_pairs,
        "multiplier": _estimate(c.multiplier),
        "multiplier_without_law": c.check,
        "at_smallest": _estimate(c.at_smallest),
        "at_smallest_tokens": c.at_smallest_tokens,
        "growth": _estimate(c.growth),
        "trend": None if c.refused else in_english(c.trend),
        "crossing": None
        if c.crossing is None
        else {
            "tokens": _estimate(c.crossing.tokens),
            "better_beyond": c.a if c.crossing.after == "a" else c.b,
            "is_settled": c.crossing.is_settled,
            "is_predicted": c.crossing.is_predicted,
        },
        "forecasts": [
            {
                "num_params": one.num_params,
                "tokens": one.tokens,
                "gap": _estimate(one.gap),
                "multiplier": _estimate(one.multiplier),
                "probability_a_better": one.probability,
                "decision": one.decision.name.lower(),
                "reason": one.reason,
                "times_largest": one.beyond,
            }
            for one in c.forecasts
        ],
        "is_extrapolated": c.is_extrapolated,
        "notes": [in_english(note) for note in c.notes],
    }


def _estimate(estimate: Estimate | None) -> dict[str, float | None] | None:
    return None if estimate is None else estimate.plain
