"""What the models saw: the exposure ledger, and which domains paid for which."""

from __future__ import annotations

from analysis.page import exposure
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Section


def section(study: Study, results: Answer) -> Section | None:
    """The ledger of each recipe at its largest D; that of all runs as a file."""
    paragraphs = [
        say(
            "The exposure ledger of each recipe at its largest D, counted by the training stream; all runs are in "
            "tables/ledger.csv."
        )
    ]
    shown = [exposure.ledger_summary(study)]
    if (displaced := exposure.displacement_table(study)) is not None:
        shown.insert(0, displaced)
        paragraphs.append(
            say(
                "A mixture is a whole: what one domain gains, others lose. The first table gives weights against those "
                "of {recipe}, from the ledger.",
                recipe=study.recipes[0].label,
            )
        )
    return Section(
        "exposure",
        say("What the models saw"),
        tuple(paragraphs),
        tables=tuple(shown),
        files=(exposure.ledger_table(study),),
    )
