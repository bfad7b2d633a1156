"""Upstream loss against downstream metric."""

from __future__ import annotations

from analysis.downstream import tables
from analysis.downstream.figures import upstream_figure
from analysis.downstream.words import upstream_sentences
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section


def section(study: Study, results: Answer) -> Section | None:
    """None where too few pretrainings were fine-tuned, or none tells its loss."""
    found = results.downstream
    figure = None if found is None else upstream_figure(found, study)
    if found is None or figure is None:
        return None
    caption = say(
        "The metric of each task against the validation loss that tells it best, which falls to the right. "
        "Line: logistic law of all settings; bars: 95 % interval from seeds."
    )
    return Section(
        "task_upstream",
        say("Upstream loss against downstream metric"),
        points=tuple(upstream_sentences(found)),
        drawings=(Drawing("task_upstream", caption, figure),),
        tables=(tables.upstream_table(found),),
    )
