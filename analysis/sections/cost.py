"""Cost: tokens, FLOPs, hours, and what shared trunks saved."""

from __future__ import annotations

from analysis.page import tables
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Section


def section(study: Study, results: Answer) -> Section | None:
    """What the complete runs cost."""
    text = say("Minutes are those of all runs one after another, tokens/s and MFU medians over runs.")
    return Section("cost", say("Cost"), (f"{tables.trunk_text(study)} {text}",), tables=(tables.cost_table(study),))
