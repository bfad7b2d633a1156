"""Curves by domain: measured losses, the fitted law with its band, what was held out."""

from __future__ import annotations

from analysis.contrasts.ranking import has_curves
from analysis.page import figures
from analysis.page.answer import Answer
from analysis.page.language import listed, say
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section


def section(study: Study, results: Answer) -> Section | None:
    """A figure per domain; None where all runs have one size."""
    if not results.fits or not has_curves(study):
        return None
    open_ = say("Open marks: held-out sizes, to which no law is fitted.")
    is_open = {point.domain for point in study.points if point.is_held_out}
    return Section(
        "curves",
        say("Curves by domain"),
        drawings=tuple(
            Drawing(
                f"curves-{domain}",
                listed(
                    [say("Validation loss on {domain}.", domain=domain), *([open_] if domain in is_open else [])], " "
                ),
                figures.domain_figure(study, results.fits, domain),
            )
            for domain in study.domains
        ),
    )
