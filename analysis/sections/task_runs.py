"""Every fine-tuning and compression, failed ones too, and what they were made with."""

from __future__ import annotations

from analysis.downstream import tables
from analysis.downstream.task_points import task_point_table
from analysis.page.answer import Answer
from analysis.page.held_fixed import shared_settings
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Section


def section(study: Study, results: Answer) -> Section | None:
    """The table of runs; that of all their metrics as a file."""
    found = results.downstream
    if found is None:
        return None
    made_with = () if study.runs else (tables.provenance_table(found),)
    parts = (
        (say("method"), "method"), (say("batch"), "batch"), (say("schedule"), "schedule"),
        (say("optimizer"), "optimizer"),
    )  # fmt: skip
    settings = shared_settings([run.spec for run in found.study.runs], parts, "task_held_fixed")
    return Section(
        "task_runs",
        say("Fine-tunings and compressions"),
        tables=((settings,) if settings.rows else ()) + (tables.run_table(found), *made_with),
        files=(task_point_table(found.study),),
    )
