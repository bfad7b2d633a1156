"""Held fixed: the settings that all runs share."""

from __future__ import annotations

from analysis.page.answer import Answer
from analysis.page.held_fixed import held_fixed_table
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Section


def section(study: Study, results: Answer) -> Section | None:
    """The settings that all runs share, from their specs."""
    text = say(
        "The settings that all runs share, from their specs. What the models were trained on, step by step, is in "
        "data_card.md beside the runs."
    )
    return Section("held_fixed", say("Held fixed"), (text,), tables=(held_fixed_table(study),))
