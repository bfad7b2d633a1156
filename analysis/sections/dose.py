"""Dose-response: recipes in the order of one number."""

from __future__ import annotations

from analysis.page import data_figures, tables
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section


def section(study: Study, results: Answer) -> Section | None:
    """None where recipes do not differ in a number with three values."""
    dose = results.dose
    if dose is None:
        return None
    caption = say(
        "Dose-response on {domain}: {what}. Bars: 95 % intervals, where known; hollow: the reference.",
        domain=dose.domain,
        what=dose.what,
    )
    return Section(
        "dose_response",
        say("Dose-response"),
        (
            say(
                "Recipes in the order of one number: {what}. An effect is called monotone where all steps from dose to "
                "dose go one way and the highest dose is clear of the lowest.",
                what=dose.what,
            ),
        ),
        tuple(sentence[:1].upper() + sentence[1:] for sentence in dose.sentences),
        (Drawing("dose", caption, data_figures.dose_figure(dose)),),
        (tables.dose_table(dose),),
    )
