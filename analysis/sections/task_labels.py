"""Labels: the metric against labelled rows, and how many of them pretraining replaces."""

from __future__ import annotations

from analysis.downstream import tables
from analysis.downstream.figures import labels_figure
from analysis.downstream.words import transfer_sentences
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section


def section(study: Study, results: Answer) -> Section | None:
    """None where the number of labels was not varied."""
    found = results.downstream
    figure = None if found is None else labels_figure(found, study)
    if found is None or figure is None:
        return None
    caption = say(
        "The deciding metric of each task against labels. Dashed: the same model without pretraining; dotted: the "
        "baseline. Bands: 95 % interval from seeds, of the baseline also from test rows."
    )
    table = tables.transfer_table(found)
    text = say(
        "Effective data transferred (Hernandez et al. 2021): the labels with which the same model, from scratch, comes "
        "to the metric that the pretrained one has with those that it was given."
    )
    return Section(
        "task_labels",
        say("Labels, and how many of them pretraining replaces"),
        (text,) if table.rows else (),
        points=tuple(transfer_sentences(found)),
        drawings=(Drawing("task_labels", caption, figure),),
        tables=(table,) if table.rows else (),
    )
