"""Which task needs how much data of which domain."""

from __future__ import annotations

from analysis.downstream import tables
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Section


def section(study: Study, results: Answer) -> Section | None:
    """None where neither tokens nor labels were varied."""
    found = results.downstream
    if found is None or not found.demands:
        return None
    domains = tables.domain_table(found)
    has_domains = len(domains.columns) > 4 and domains.rows
    return Section(
        "task_demand",
        say("Which task needs how much data of which domain"),
        (
            say(
                "Tokens of pretraining (with the most labels), and labels (with the most tokens), with which the "
                "metric comes to a level and stays above it. The levels, at the most labels: the same model from "
                "scratch; the baseline; and 90 % of the gain, which lies nine tenths of the way from scratch to the "
                "largest pretraining of the best recipe (without runs from scratch: 95 % of the best mean). Where "
                "pretraining is not shown to bring anything, what a part of it takes cannot be told. An amount beyond "
                "the measured ones is of the law of the curve, up to 4 times the largest."
            ),
        ),
        tables=(tables.demand_table(found), *((domains,) if has_domains else ())),
    )
