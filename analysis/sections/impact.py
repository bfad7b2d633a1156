"""Data impact: how much of the loss changes with size, mixture, quality, repetition and seed."""

from __future__ import annotations

import math

from analysis.impact import SEED, Impact, data_impact
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.page.table import Brief, Table
from analysis.runs.points import Study
from analysis.sections.section import Section


def section(study: Study, results: Answer) -> Section | None:
    """None where fewer than two things vary."""
    impact = data_impact(study) if results.lr_check is None else None
    if impact is None:
        return None
    return Section(
        "impact",
        say("Data impact"),
        (_sentence(impact),),
        (),
        (),
        (impact_table(impact),),
        tuple(_notes(impact)),
        facts={
            "domain": impact.domain,
            "sd_percent": impact.sd,
            "shares": {
                share.factor: {
                    "value": share.share.value,
                    "lo": share.share.lo if impact.has_noise else None,
                    "hi": share.share.hi if impact.has_noise else None,
                }
                for share in impact.shares
            },
        },
    )


def impact_table(impact: Impact) -> Table:
    """One row per factor, the largest first."""
    columns = (
        say("factor"),
        say("levels"),
        say("share of the variance of the log loss"),
        say("alone it moves the loss by [%]"),
    )
    rows = tuple((_name(s.factor), s.num_levels, s.share, Brief(s.sd)) for s in impact.shares)
    return Table("impact", columns, rows)


def _sentence(impact: Impact) -> str:
    first = impact.shares[0]
    share = f"{100 * first.share.value:.0f} %"
    if math.isfinite(first.share.lo):
        share += say(" ({lo} to {hi} %)", lo=f"{100 * first.share.lo:.0f}", hi=f"{100 * first.share.hi:.0f}")
    rest = ", ".join(f"{_name(s.factor)} {100 * s.share.value:.1f} %" for s in impact.shares[1:])
    return say(
        "Of the variance of the log loss on {domain} over {runs} runs, {factor} makes {share}; the rest: {rest}.",
        domain=impact.domain,
        runs=impact.num_runs,
        factor=_name(first.factor),
        share=share,
        rest=rest,
    )


def _name(factor: str) -> str:
    return {
        "size": say("size"),
        "mixture": say("mixture"),
        "filters": say("filters"),
        "quality": say("quality"),
        "repetition": say("repetition"),
        "model": say("model"),
        "other": say("other differences"),
        SEED: say("seed"),
    }[factor]


def _notes(impact: Impact) -> list[str]:
    found = [
        say(
            "Shares are Shapley values over the runs of this study: they answer for the levels that were tried, and "
            "grow with how far these lie apart."
        )
    ]
    if impact.has_noise:
        found.append(say("{seed} is what is left between runs that are alike in all else.", seed=_name(SEED)))
    else:
        found.append(say("No seeds are repeated: chance is part of the shares, and no interval is known."))
    return found
