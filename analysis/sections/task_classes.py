"""Per class: how the best setting of each task tells its labels, or types of entity."""

from __future__ import annotations

import math
from collections.abc import Iterable

from analysis.downstream.downstream import Downstream
from analysis.downstream.verdicts import leading
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.page.table import Cell, Share, Table
from analysis.runs.points import Study
from analysis.sections.section import Section

MOST_CLASSES = 20


def section(study: Study, results: Answer) -> Section | None:
    """None where no task has classes, or no log tells of them."""
    found = results.downstream
    whole = None if found is None else class_table(found)
    if found is None or whole is None or not whole.rows:
        return None
    shown = class_table(found, most=MOST_CLASSES)
    texts = [
        say(
            "Of each task, the setting with the highest mean among those at the largest D and the most labels; means "
            "over its runs."
        )
    ]
    if len(shown.rows) < len(whole.rows):
        texts.append(
            say("Of a task with more than {count} classes, those with the lowest F1; all are in "
                "tables/{name}.csv.", count=MOST_CLASSES, name=whole.name)
        )  # fmt: skip
    return Section(
        "task_classes",
        say("Per class"),
        (" ".join(texts),),
        tables=(shown,),
        files=(whole,) if len(shown.rows) < len(whole.rows) else (),
    )


def class_table(found: Downstream, most: int | None = None) -> Table:
    """Per task a row per class, of its best setting: means over runs, in the order of the labels.

    most: so many classes of a task at most, those with the lowest F1; None: all.
    """
    rows: list[tuple[Cell, ...]] = []
    for verdict in leading(found.verdicts):
        labels = verdict.cell.setting.labels
        runs = [run for run in verdict.cell.runs if run.classes]
        names = list(dict.fromkeys(name for run in runs for name in run.classes))
        of_task: list[tuple[Cell, ...]] = []
        worst: dict[str, float] = {}
        for name in names:
            told = [run.classes[name] for run in runs if name in run.classes]
            f1 = _mean(one.f1 for one in told)
            worst[name] = math.inf if f1 is None else f1
            shares = (_mean(one.precision for one in told), _mean(one.recall for one in told), f1)
            of_task.append((verdict.task, labels, name, *shares, max(one.num for one in told)))
        shown = set(sorted(names, key=lambda name: worst[name])[:most])
        rows += [row for row in of_task if row[2] in shown]
    what = (say("task"), say("labels"), say("class"))
    columns = (*what, say("precision"), say("recall"), "F1", say("number in test"))
    return Table("task_classes" if most else "task_all_classes", columns, tuple(rows))


def _mean(values: Iterable[float | None]) -> Share | None:
    """Of those that are defined."""
    known = [value for value in values if value is not None]
    return Share(round(sum(known) / len(known), 6)) if known else None
