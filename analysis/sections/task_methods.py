"""Methods of fine-tuning, compared."""

from __future__ import annotations

from analysis.downstream import tables
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Section


def section(study: Study, results: Answer) -> Section | None:
    """None where one method was used."""
    found = results.downstream
    if found is None or not found.methods:
        return None
    text = say(
        "Per task and start, the methods where most of them were run; against the first (full fine-tuning, where it is "
        "among them), paired by seeds. Seconds are medians over runs."
    )
    return Section("task_methods", say("Methods of fine-tuning"), (text,), tables=(tables.method_table(found),))
