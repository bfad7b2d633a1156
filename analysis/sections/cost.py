"""Cost: tokens, FLOPs, hours, and what shared trunks saved."""

from __future__ import annotations

from analysis.downstream.downstream import Downstream
from analysis.page import tables
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Section


def section(study: Study, results: Answer) -> Section | None:
    """What the complete runs cost."""
    text = say("Minutes are those of all runs one after another, tokens/s and MFU medians over runs.")
    told: tuple[str, ...] = (f"{tables.trunk_text(study)} {text}",)
    if results.downstream is not None and (sentence := tasks_cost(results.downstream)):
        told = (*told, sentence)
    return Section("cost", say("Cost"), told, tables=(tables.cost_table(study),))


def tasks_cost(found: Downstream) -> str | None:
    """What fine-tunings took, which the table of pretraining leaves out; None where no log tells."""
    known = [run.seconds for run in (*found.study.runs, *found.study.compressions) if run.seconds is not None]
    if not known:
        return None
    return say("The table is of pretraining; {count} fine-tunings and compressions took {minutes} minutes more, one "
               "after another.", count=len(known), minutes=f"{sum(known) / 60:.3g}")  # fmt: skip
