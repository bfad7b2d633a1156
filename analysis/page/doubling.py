"""The headline of one recipe: what more tokens brought at last."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.contrasts.curves import Curve, measured_curve
from analysis.contrasts.fit import Fit, HeldOut
from analysis.page.labels import count_text
from analysis.page.language import say
from analysis.runs.points import Study

NEARLY_HALF = 0.501
"""Sizes are counted in whole batches: a half is one within so much."""


def last_doubling(study: Study, fits: Sequence[Fit]) -> str:
    """For one recipe: what the last doubling of D bought, and how well the held-out size was predicted.

    Of a fitted law the doubling to the largest size; without one the step from the last measured size that is half of
    it or less: between sizes nothing was measured.
    """
    fit = fits[0]
    curve: Curve = fit if fit.holds else measured_curve(study.points_of(fit.recipe, fit.domain), fit.noise)
    top = curve.span[1]
    if top * NEARLY_HALF < curve.span[0]:
        return say(
            "Cannot tell what more tokens bring: the sizes on {domain} span less than a doubling.", domain=fit.domain
        )
    measured = [p.tokens for p in study.points_of(fit.recipe, fit.domain)]
    start = top / 2 if fit.holds else float(max(D for D in measured if NEARLY_HALF * top >= D))
    at_half, at_top = float(curve.loss(start)), float(curve.loss(top))
    weights = {size: weight * at_half for size, weight in curve.response(start).items()}
    for size, weight in curve.response(top).items():
        weights[size] = weights.get(size, 0.0) - weight * at_top
    gain, half = at_half - at_top, curve.half_width(weights)
    interval = say("95 % interval {lo} to {hi}", lo=f"{gain - half:.3f}", hi=f"{gain + half:.3f}")
    if not curve.noise.is_known:
        interval = say("no interval without repeated seeds")
    told = {"start": count_text(start), "top": count_text(top), "domain": fit.domain, "gain": f"{gain:.3f}",
            "interval": interval}  # fmt: skip
    if not fit.holds:
        return say("From {start} to {top} tokens, both measured, the loss on {domain} falls by {gain} nats per token "
                   "({interval}).", **told)  # fmt: skip
    text = say("By the fitted curve, doubling the tokens from {start} to {top} lowers the loss on {domain} by {gain} "
               "nats per token ({interval})", **told)  # fmt: skip
    if not fit.held_out:
        return say("{sentence}.", sentence=text)
    test = fit.held_out[-1]
    return say(
        "{sentence}; the held-out {tokens} tokens were predicted within {error}.",
        sentence=text, tokens=count_text(test.tokens), error=error_text(test),
    )  # fmt: skip


def error_text(test: HeldOut) -> str:
    """How far off a prediction was, to as many places as its interval is wide; never nothing at all."""
    wide = 100 * (test.predicted.hi - test.predicted.lo) / test.loss
    places = max(1, 1 - math.floor(math.log10(wide))) if 0 < wide < math.inf else 1
    return f"{max(10.0**-places, 100 * abs(test.error)):.{places}f} %"
