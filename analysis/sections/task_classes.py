"""Per class: how the best setting of each task tells its labels, or types of entity."""

from __future__ import annotations

from analysis.downstream import tables
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.sections.section import Section


def section(study: Study, results: Answer) -> Section | None:
    """None where no task has classes, or no log tells of them."""
    found = results.downstream
    whole = None if found is None else tables.class_table(found)
    if found is None or whole is None or not whole.rows:
        return None
    shown = tables.class_table(found, most=tables.MOST_CLASSES)
    texts = [
        say(
            "Of each task, the setting with the highest mean among those at the largest D and the most labels; means "
            "over its runs."
        )
    ]
    if len(shown.rows) < len(whole.rows):
        texts.append(
            say("Of a task with more than {count} classes, those with the lowest F1; all are in "
                "tables/{name}.csv.", count=tables.MOST_CLASSES, name=whole.name)
        )  # fmt: skip
    return Section(
        "task_classes",
        say("Per class"),
        (" ".join(texts),),
        tables=(shown,),
        files=(whole,) if len(shown.rows) < len(whole.rows) else (),
    )
