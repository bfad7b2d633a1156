"""The audits of a study: what a reader must know before acting on its answer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.contrasts.contrast import Contrast, Decision
from analysis.contrasts.fit import Fit, HeldOut
from analysis.fitting.result import Status
from analysis.page.labels import count_text, percent_text
from analysis.page.language import say
from analysis.page.run_caveats import exposure_caveats, run_caveats, some_of
from analysis.page.table import estimate_text, number_text
from analysis.runs.points import Study
from analysis.runs.recipes import Recipe

FAR = 8.0
"""A law that is read off at more than this times the largest size fitted is trusted beyond what was ever tested."""
MOST_REFUSED = 3


def find_caveats(study: Study, fits: Sequence[Fit], found: Sequence[Contrast], beside_tasks: bool = False) -> list[str]:
    """One sentence for each thing that weakens the answer; empty if there is none.

    beside_tasks: the study is of tasks as well, so those that are of the loss alone say so.
    """
    if beside_tasks and fits and all(_is_bare(fit) for fit in fits):
        count = len({p.tokens for p in study.points})
        of_losses = [
            say("{count} sizes without repeated seeds of pretraining are too few to fit a law or to test one: which "
                "recipe is best may be chance, and no interval is known.", count=count),
            *_contrast_caveats(study, found),
        ]  # fmt: skip
    else:
        of_losses = [*_noise_caveats(study, fits), *_fit_caveats(study, fits), *_contrast_caveats(study, found),
                     *_few_sizes(study)]  # fmt: skip
    if beside_tasks:
        of_losses = [say("Of the loss: {caveat}", caveat=caveat) for caveat in of_losses]
    return [
        *_unmatched(found),
        *run_caveats(study),
        *exposure_caveats(study),
        *of_losses,
        *(say("Log: {warning}.", warning=warning) for warning in study.warnings),
    ]


def _unmatched(found: Sequence[Contrast]) -> list[str]:
    refused: dict[tuple[str, str, str], list[str]] = {}
    for c in found:
        if c.refused:
            refused.setdefault((c.a, c.b, c.refused), []).append(c.domain)
    said = [
        say(
            "{a} against {b} on {domains}: not compared, because {why}.", a=a, b=b, why=why, domains=some_of(domains)
        )
        for (a, b, why), domains in list(refused.items())[:MOST_REFUSED]
    ]  # fmt: skip
    if len(refused) > MOST_REFUSED:
        said.append(
            say(
                "{count} more pairs of recipes were not compared; the table of contrasts says why.",
                count=len(refused) - MOST_REFUSED,
            )
        )
    return said


def _noise_caveats(study: Study, fits: Sequence[Fit]) -> list[str]:
    seeds = [len({p.seeds for p in study.points_of(r.label, study.target)}) for r in study.recipes]
    seeds = [count for count in seeds if count]
    known = [fit for fit in fits if fit.domain == study.target and fit.noise.is_known]
    if not known and len({p.tokens for p in study.points}) > 1:
        return [
            say(
                "Seeds of pretraining are not repeated often enough to see how trunks vary (at least two degrees of "
                "freedom are needed): which recipe is best may be chance, so none is called better, and the intervals "
                "of the curves hold within a trunk only."
            )
        ]
    if not known:
        return [
            say(
                "Seeds of pretraining are not repeated often enough to see how trunks vary (at least two degrees of "
                "freedom are needed): which recipe is best may be chance, so none is called better."
            )
        ]
    if min(seeds) < 3:
        return [
            say(
                "A recipe has fewer than 3 trunks: the intervals rest on the seed variance pooled over recipes "
                "({degrees} degrees of freedom), taken to be equal in all of them.",
                degrees=known[0].noise.degrees,
            )
        ]
    return []


# ---- fits ----------------------------------------------------------------------------------------


def _fit_caveats(study: Study, fits: Sequence[Fit]) -> list[str]:
    if len({p.tokens for p in study.points}) == 1:
        return []  # there is no curve to say anything about
    said = []
    for status in Status:
        those = [fit for fit in fits if fit.status is status and status is not Status.OK]
        if those:
            said.append(say("{curves}: {status}", curves=_curves(those, fits), status=say(status.value)))
    return [*said, *_astray(fits), *_missed(fits), *_far(fits), *_untested(study, fits)]


def _astray(fits: Sequence[Fit]) -> list[str]:
    astray = [fit for fit in fits if fit.holds and fit.noise.is_known and fit.residual_sd > 3 * fit.noise.sd]
    if not astray:
        return []
    fit = max(astray, key=lambda fit: fit.residual_sd / fit.noise.sd)
    told = {
        "curves": _curves(astray, fits),
        "off": percent_text(fit.residual_sd, 1),
        "noise": percent_text(fit.noise.sd, 2),
    }
    if len(astray) == 1:
        return [
            say(
                "{curves}: the losses lie {off} off the curve where seeds vary by {noise}: they do not follow the law. "
                "Are the smallest sizes still in warmup?",
                **told,
            )
        ]
    return [
        say(
            "{curves}: the losses lie up to {off} off the curve where seeds vary by {noise}: they do not follow the "
            "law. Are the smallest sizes still in warmup?",
            **told,
        )
    ]


def _missed(fits: Sequence[Fit]) -> list[str]:
    missed = [(fit, test) for fit in fits if fit.holds for test in fit.held_out if not _is_within(test)]
    if not missed:
        return []
    wrong = [fit for fit in fits if any(fit is other for other, _ in missed)]
    fit, test = max(missed, key=lambda item: abs(item[1].error))
    told = {
        "curves": _curves(wrong, fits),
        "predicted": estimate_text(test.predicted),
        "tokens": count_text(test.tokens),
        "measured": number_text(test.loss),
    }
    if len(missed) == 1:
        return [
            say(
                "{curves}: the law does not hold at the held-out sizes; it predicts {predicted} at {tokens} tokens, "
                "measured was {measured}.",
                **told,
            )
        ]
    return [
        say(
            "{curves}: the law does not hold at the held-out sizes; furthest off, {curve}: it predicts {predicted} at "
            "{tokens} tokens, measured was {measured}.",
            curve=_curve(fit), **told,
        )
    ]  # fmt: skip


def _far(fits: Sequence[Fit]) -> list[str]:
    """Predictions at more than 8 times the largest size that the law was fitted to."""
    reach = [
        (test.tokens / fit.span[1], fit, test) for fit in fits if fit.holds for test in fit.held_out
        if test.tokens > FAR * fit.span[1]
    ]  # fmt: skip
    if not reach:
        return []
    times, _, test = max(reach, key=lambda item: item[0])
    return [
        say(
            "{curves}: the law is extrapolated to {tokens} tokens, {times} times the largest size that it was fitted "
            "to; beyond {far} times, trust it less than its interval says.",
            curves=_curves([fit for _, fit, _ in reach], fits), tokens=count_text(test.tokens),
            times=number_text(times, 3), far=f"{FAR:g}",
        )
    ]  # fmt: skip


def _untested(study: Study, fits: Sequence[Fit]) -> list[str]:
    if study.hold_out and not any(fit.held_out for fit in fits):
        return [say("No prediction was tested: no fitted recipe has a held-out size.")]
    if not study.hold_out:
        return [say("The study holds no size out, so the fits have not been tested on one.")]
    return []


def _curves(some: Sequence[Fit], fits: Sequence[Fit]) -> str:
    """Which curves a sentence is about: by name where they are few, else how many of all, with the first few."""
    names = [_curve(fit) for fit in some]
    if len(names) <= 2:
        return "; ".join(names)
    return say(
        "On {count} of {all} curves ({curves})", count=len(names), all=len(fits), curves=some_of(names, 3)
    )  # fmt: skip


def _curve(fit: Fit) -> str:
    return say("{recipe} on {domain}", recipe=fit.recipe, domain=fit.domain)


def _is_within(test: HeldOut) -> bool:
    return test.predicted.lo <= test.loss <= test.predicted.hi


# ---- contrasts -----------------------------------------------------------------------------------


def _contrast_caveats(study: Study, found: Sequence[Contrast]) -> list[str]:
    said = []
    far = [c for c in found if c.is_extrapolated and c.decision is not Decision.CANNOT_TELL]
    if far:
        said.append(
            say(
                "{pairs}: no loss is shared within the measured sizes; the multiplier is extrapolated.",
                pairs=some_of([_pair(c) for c in far], 3),
            )
        )
    if bounds := [c for c in found if c.is_bound]:
        said.append(
            say(
                "{pairs}: no loss is shared within the measured sizes, so the multiplier is a bound.",
                pairs=some_of([_pair(c) for c in bounds], 3),
            )
        )
    for c in (c for c in found if not c.refused and c.domain == study.target):
        said += [say("{a} against {b}: {note}.", a=c.a, b=c.b, note=note) for note in c.notes]
        m = c.multiplier
        if c.check and m and math.isfinite(m.lo) and not m.lo <= c.check <= m.hi:
            said.append(
                say(
                    "{a} against {b}: without a law, the multiplier is {check}, outside the interval {interval}; the "
                    "law may not fit well at the largest size.",
                    a=c.a, b=c.b, check=number_text(c.check, 3), interval=estimate_text(m),
                )
            )  # fmt: skip
    return [*said, *_at_other_models(study, found), *_many(study, found)]


def _is_bare(fit: Fit) -> bool:
    """Whether neither a law nor the noise is known of a curve: one sentence says it all."""
    return fit.status is Status.TOO_FEW_POINTS and not fit.noise.is_known


def _pair(c: Contrast) -> str:
    return say("{a} against {b} on {domain}", a=c.a, b=c.b, domain=c.domain)


def _at_other_models(study: Study, found: Sequence[Contrast]) -> list[str]:
    """Where the recipes of the first contrasts, which are of the largest model, come out otherwise at another N."""
    recipes = {recipe.label: recipe for recipe in study.recipes}
    on_target = [c for c in found if c.domain == study.target and not c.refused]
    if not on_target:
        return []
    largest = recipes[on_target[0].b].num_params
    decided = {_data(c, recipes): c.decision for c in on_target if recipes[c.b].num_params == largest}
    others = [
        say("{a} against {b}: {decision}", a=c.a, b=c.b, decision=say(c.decision.value))
        for c in on_target
        if recipes[c.b].num_params != largest and decided.get(_data(c, recipes), c.decision) is not c.decision
    ]
    if not others:
        return []
    return [
        say(
            "The answer is for models of N = {size}; at other N the same data came out otherwise ({others}).",
            size=count_text(largest), others=some_of(others, 3),
        )
    ]  # fmt: skip


def _data(c: Contrast, recipes: Mapping[str, Recipe]) -> tuple[str, ...]:
    """What tells the data of both sides of a contrast."""
    sides = [
        {path: value for path, value in recipes[label].leaves.items() if path.startswith(("recipe.", "budget."))}
        for label in (c.a, c.b)
    ]
    return tuple(json.dumps(side, sort_keys=True, default=str) for side in sides)


def _many(study: Study, found: Sequence[Contrast]) -> list[str]:
    on_target = [c for c in found if c.domain == study.target and not c.refused]
    if len(on_target) < 2 or not all(c.gap and math.isfinite(c.gap.lo) for c in on_target):
        return []
    return [
        say(
            "{count} contrasts were made on {domain}; each interval in their table holds with 95 % on its own. Those "
            "of the headline and of the ranking hold together.",
            count=len(on_target), domain=study.target,
        )
    ]  # fmt: skip


def _few_sizes(study: Study) -> list[str]:
    tested = len(np.unique([p.tokens for p in study.points]))
    if tested == 1:
        return [say("Only 1 size was measured: a ranking is possible, a curve is not.")]
    return [say("Only {count} sizes were measured.", count=tested)] if tested < 5 else []
