"""Quality against cost: what compression keeps and saves, and how much data buys back what it loses."""

from __future__ import annotations

import math

from analysis.downstream import cost_tables
from analysis.downstream.figures import tradeoff_figure
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section


def section(study: Study, results: Answer) -> Section | None:
    """None without compressions."""
    found = results.downstream
    if found is None or not found.compressions:
        return None
    figure = tradeoff_figure(found, study)
    back = cost_tables.bought_back_table(found)
    caption = say(
        "The metric against the size of the model, before (hollow) and after compression, of the largest pretraining. "
        "Bars: 95 % interval of what compression changed."
    )
    text = say(
        "Changes are of the same models on the same rows. The last table says with how much pretraining a compressed "
        "model is as good as the uncompressed one is with less."
    )
    alone = say(
        "Where one model of a setting was compressed, the interval of its change is over the rows of the test set "
        "alone."
    )
    has_alone = any(len(c.cell.runs) == 1 and math.isfinite(c.change.gap.lo) for c in found.compressions)
    return Section(
        "task_compression",
        say("Quality against cost"),
        (text,) if back.rows else (),
        drawings=(Drawing("task_compression", caption, figure),) if figure else (),
        tables=(cost_tables.cost_table(found), *((back,) if back.rows else ())),
        files=(cost_tables.full_cost_table(found),),
        notes=(alone,) if has_alone else (),
    )
