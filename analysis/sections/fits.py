"""Fits: the law of each recipe and domain, its parameters and how they were got."""

from __future__ import annotations

from analysis.contrasts.ranking import has_curves
from analysis.page import tables
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Section


def section(study: Study, results: Answer) -> Section | None:
    """None where there is no curve, or no law could be fitted to one: the caveats say why."""
    if not any(fit.law is not None for fit in (*results.fits, *results.full_fits)) or not has_curves(study):
        return None
    methods = sorted({fit.interval_method for fit in results.fits if fit.law is not None})
    statuses = sorted({(fit.status.name.lower(), fit.status.value) for fit in (*results.fits, *results.full_fits)})
    held_out = tables.held_out_table(results.fits)
    return Section(
        "fits",
        say("Fits"),
        (
            " ".join(
                (
                    say(
                        "L(D) = E + B / D^beta, in nats per token, by Huber loss on log L; the largest size is held "
                        "out and predicted."
                    ),
                    *(say("Intervals: {method}.", method=method) for method in methods),
                )
            ),
        ),
        tables=(tables.fit_table(results.fits, results.full_fits), *((held_out,) if held_out.rows else ())),
        notes=tuple(f"{name}: {say(text)}" for name, text in statuses),
    )
