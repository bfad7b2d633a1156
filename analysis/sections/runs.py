"""Runs: every one, failed ones too."""

from __future__ import annotations

from analysis.page import tables
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.point_table import point_table
from analysis.runs.points import Study
from analysis.sections.section import Section


def section(study: Study, results: Answer) -> Section | None:
    """The table of runs; that of all their eval points as a file."""
    return Section("runs", say("Runs"), tables=(tables.run_table(study),), files=(point_table(study),))
