"""Curves by domain: measured losses, the fitted law with its band, what was held out."""

from __future__ import annotations

from analysis.contrasts.ranking import has_curves
from analysis.page import figures
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section


def section(study: Study, results: Answer) -> Section | None:
    """A figure per domain; None where all runs have one size."""
    if not results.fits or not has_curves(study):
        return None
    return Section(
        "curves",
        say("Curves by domain"),
        drawings=tuple(
            Drawing(
                f"curves-{domain}",
                say("Validation loss on {domain}.", domain=domain),
                figures.domain_figure(study, results.fits, domain),
            )
            for domain in study.domains
        ),
    )
