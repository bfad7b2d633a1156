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
    text = say(
        "{count} runs, told apart by the fingerprints in the table of runs. Analysis with {libraries}. The runs were "
        "made with:",
        count=len(study.runs),
        libraries=", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    )
    return Section("provenance", say("Provenance"), (text,), tables=(tables.provenance_table(study),))
