"""Curves by domain: measured losses, the fitted law with its band, what was held out."""

from __future__ import annotations

from analysis import figures
from analysis.answer import Answer
from analysis.language import say
from analysis.points import Study
from analysis.ranking import has_curves
from analysis.sections.section import Drawing, Section


def section(study: Study, results: Answer) -> Section | None:
    """A figure per domain; None where all runs have one size."""
    if not has_curves(study):
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
