"""Learning rates: could the effect of the data be one of the learning rate?"""

from __future__ import annotations

from analysis.page import data_figures
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.page.lr_tables import best_table, gap_table
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section


def section(study: Study, results: Answer) -> Section | None:
    """None where recipes were not trained at several learning rates."""
    check = results.lr_check
    if check is None:
        return None
    caption = say(
        "Validation loss on {domain} against learning rate; a ring marks the best of each line. "
        "Bars: 95 % intervals, where known.",
        domain=study.target,
    )
    return Section(
        "learning_rates",
        say("Learning rates"),
        (
            say(
                "The same data at several learning rates. The gap where each recipe has the learning rate that is best "
                "for it is free of what one shared rate does to either. The intervals of gaps at one size hold "
                "together with 95 %, over all pairs and rates."
            ),
        ),
        tuple(pair.sentence for pair in check.pairs),
        (Drawing("learning-rates", caption, data_figures.lr_figure(check, study.target)),),
        (best_table(check), gap_table(check)),
    )
