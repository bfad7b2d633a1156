"""Residuals: how far the measured losses lie off the fitted law."""

from __future__ import annotations

from analysis.contrasts.ranking import has_curves
from analysis.page import figures
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section


def section(study: Study, results: Answer) -> Section | None:
    """Residuals on the target domain; None where there is no curve."""
    if not results.fits or not has_curves(study):
        return None
    figure = figures.residual_figure(study, results.fits)
    if figure is None and results.downstream is not None:  # there is more to tell than that nothing is
        return None
    if figure is None:
        return Section("residuals", say("Residuals"), (say("No curve was fitted."),))
    fits = [fit for fit in results.fits if fit.domain == study.target and fit.holds]
    caption = say(
        "Measured against predicted loss on {domain}, in per cent; hollow: held out of the fit.", domain=study.target
    )
    if len(fits) > figures.MAX_RESIDUAL_PANELS:
        caption += " " + say("The {count} recipes whose law fits worst.", count=figures.MAX_RESIDUAL_PANELS)
    return Section("residuals", say("Residuals"), drawings=(Drawing("residuals", caption, figure),))
