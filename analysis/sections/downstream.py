"""Tasks: what pretraining brings to each, against its absence and against a baseline, and over tokens."""

from __future__ import annotations

from analysis.downstream import tables
from analysis.downstream.downstream import Downstream
from analysis.downstream.facts import facts
from analysis.downstream.figures import tokens_figure
from analysis.downstream.words import best_sentences, scratch_sentences
from analysis.page.answer import Answer
from analysis.page.language import listed, say
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section


def _rows_note(found: Downstream) -> str:
    """How the test rows enter differences."""
    told = [cell.replicates is not None for cell in found.cells.cells]
    if all(told):
        return say(
            "Differences are paired by test rows, on which models err alike: hard ones are hard for all. So a "
            "difference may be clear where the intervals of the two scores overlap."
        )
    if any(told):
        return say(
            "Differences are paired by test rows where the logs of both models hold resamples of them; else the errors "
            "of the test set are taken as independent, which is on the safe side: models err on the same rows."
        )
    return say(
        "Of differences, the errors of the test set are taken as independent, which is on the safe side: models err on "
        "the same rows."
    )


def _intervals_note(found: Downstream) -> tuple[str, ...]:
    """What the intervals of scores are over; nothing where there are none."""
    covered = {cell.covers for cell in found.cells.cells}
    by_rows = sorted({cell.setting.task for cell in found.cells.cells if cell.covers == "rows"})
    if "seeds and rows" not in covered:
        if not by_rows:
            return ()
        return (
            say(
                "Intervals of scores hold 95 % over the rows of the test set alone, for these very models: too few "
                "seeds are repeated to tell how far another would be off, and nothing is decided by them."
            ),
        )
    both = say("Intervals hold 95 % and take in both the spread between seeds and the rows of the test set.")
    if not by_rows:
        return (both,)
    rest = say(
        "Where too few seeds are repeated ({tasks}), the interval of a score is over the rows of the test set alone, "
        "and nothing is decided by it.",
        tasks=listed(by_rows),
    )
    return both, rest


def section(study: Study, results: Answer) -> Section | None:
    """None without fine-tunings."""
    found = results.downstream
    if found is None:
        return None
    figure = tokens_figure(found, study)
    caption = say(
        "The deciding metric of each task against tokens of pretraining, with the most labels, and with fewer where a "
        "line says so. Large marks: means over seeds, small ones: runs. Bands: 95 % interval of the curve from seeds. "
        "Dashed: without pretraining, with the interval of seeds and test rows; dotted: the baseline, with its own."
    )
    best, recipes = tables.best_table(found), found.study.starts("pretrained")
    has_sizes = len(found.sizes) > len(found.verdicts)
    second = say("The second table has every size of pretraining and every number of labels.")
    return Section(
        "downstream",
        say("Tasks"),
        points=(*scratch_sentences(found), *best_sentences(found)),
        drawings=(Drawing("task_tokens", caption, figure),) if figure else (),
        tables=(
            tables.verdict_table("tasks", found.verdicts),
            *((tables.verdict_table("task_sizes", found.sizes),) if has_sizes else ()),
            *((best,) if best.rows else ()),
        ),
        files=(tables.curve_table(found),) if found.over_tokens or found.over_labels else (),
        notes=(
            *((second,) if has_sizes else ()),
            *_intervals_note(found),
            _rows_note(found),
            *((say("All were pretrained on one recipe: {recipe}.", recipe=recipes[0]),) if len(recipes) == 1 else ()),
        ),
        facts=facts(found),
    )
