"""Provenance: versions and hardware of the runs and of the analysis."""

from __future__ import annotations

from importlib.metadata import version

from analysis.page import tables
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Section

LIBRARIES = ("numpy", "scipy", "numba", "matplotlib")


def section(study: Study, results: Answer) -> Section | None:
    """Where the numbers come from."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    tasks = results.downstream
    if tasks is not None:
        text = say(
            "{count} runs of pretraining and {tasks} fine-tunings and compressions, told apart by the fingerprints in "
            "the tables of runs. Analysis with {libraries}. The runs were made with:",
            count=len(study.runs),
            tasks=len(tasks.study.runs) + len(tasks.study.compressions) + len(tasks.study.failed),
            libraries=libraries,
        )
        return Section("provenance", say("Provenance"), (text,), tables=(tables.provenance_table(study),))
    text = say(
        "{count} runs, told apart by the fingerprints in the table of runs. Analysis with {libraries}. The runs were "
        "made with:",
        count=len(study.runs),
        libraries=libraries,
    )
    return Section("provenance", say("Provenance"), (text,), tables=(tables.provenance_table(study),))
