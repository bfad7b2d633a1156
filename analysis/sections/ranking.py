"""Ranking: many recipes by their loss, and which can be told from the best."""

from __future__ import annotations

from analysis.contrasts.ranking import Ranking, has_curves
from analysis.page import data_figures, tables
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section


def section(study: Study, results: Answer) -> Section | None:
    """None where the contrast of two recipes, or the dose-response, says as much."""
    ranking = shown_ranking(study, results)
    if ranking is None:
        return None
    paragraphs = [ranking.sentence, say("The losses are {how}.", how=ranking.how)]
    if not ranking.lack:
        paragraphs.append(
            say("Recipes are told from the best by intervals that hold together with 95 %, however many there are.")
        )
    caption = say("Recipes by loss on {domain}, {how}.", domain=study.target, how=ranking.how)
    drawing = Drawing("ranking", caption, data_figures.ranking_figure(study, ranking))
    return Section(
        "ranking", say("Ranking"), (" ".join(paragraphs),), (), (drawing,), (tables.ranking_table(study, ranking),)
    )


def shown_ranking(study: Study, results: Answer) -> Ranking | None:
    """The ranking, where it says more than the contrast of two recipes or the dose-response does."""
    ranking = results.ranking
    if ranking is None or not has_curves(study):
        return ranking
    is_dose = results.dose is not None and len(results.dose.lines) == 1
    said = results.dose.recipes if is_dose and results.dose else frozenset()
    return ranking if len(ranking.rows) > 2 and not {row.recipe for row in ranking.rows} <= said else None
