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
                "metric comes to a level and stays above it: that of the same model from scratch, that of the "
                "baseline, both with the most labels, and 95 % of the best mean of the task. An amount beyond the "
                "measured ones is of the law of the curve, up to 4 times the largest."
            ),
        ),
        tables=(tables.demand_table(found), *((domains,) if has_domains else ())),
    )
