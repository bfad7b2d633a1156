"""The metrics of a study's tasks as a plain table, with the columns that `fit` and `contrast` read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from analysis.downstream.task_study import TaskStudy
from analysis.page.table import Cell, Table
from analysis.runs.study_table import seed_text

COLUMNS = (
    "recipe", "run", "fingerprint", "state", "role", "domain", "N", "D", "U", "C", "seed", "trunk", "task",
    "metric_name", "metric", "metric_lo", "metric_hi", "num_labels", "start", "method", "compress", "num_items",
)  # fmt: skip
"""Then `w:<domain>` and `L:<domain>` per domain of the pretraining: its share of D, its last loss.

A row per complete run and metric on test, the deciding one first. domain: the task. role: `fit`. D, U, C: of the
pretraining, 0 without one. trunk: runs of one line and seed, which share their subset of labels."""


def task_point_table(study: TaskStudy) -> Table:
    """The rows of all complete runs."""
    runs = (*study.runs, *study.compressions)
    domains = sorted({name for run in runs if run.origin for name in run.origin.domains})
    losses = sorted({name for run in runs if run.origin for name in run.origin.losses})
    rows: list[tuple[Cell, ...]] = []
    for run in runs:
        origin = run.origin if run.start == "pretrained" else None
        line = study.line(run)
        parents = tuple(sorted((str(name), int(seed)) for name, seed in dict(run.parent.get("seeds") or {}).items()))
        seed = seed_text((*parents, ("finetune", run.seed)))
        weights = [origin.domains[d].realised_weight if origin and d in origin.domains else None for d in domains]
        last = [origin.losses.get(d) if origin else None for d in losses]
        for name in sorted(run.scores, key=lambda metric: (metric != run.metric, metric)):
            score = run.scores[name]
            rows.append(
                (
                    line, run.name, run.fingerprint, run.state, "fit", run.task, run.num_params, run.tokens,
                    origin.unique_tokens if origin else 0, origin.flops if origin else 0.0, seed, f"{line} / {seed}",
                    run.task, name, score.value, score.lo, score.hi, run.labels, run.start,
                    study.method_of[run.fingerprint], study.compress_of.get(run.fingerprint), run.num_items,
                    *weights, *last,
                )
            )  # fmt: skip
    return Table("task_points", (*COLUMNS, *(f"w:{d}" for d in domains), *(f"L:{d}" for d in losses)), tuple(rows))


def with_task_points(points: Table | None, tasks: Table) -> Table:
    """Points of losses and of tasks as one table; what one of them does not have is empty there."""
    if points is None:
        return tasks
    columns = tuple(dict.fromkeys((*points.columns, *tasks.columns)))
    rows = (*_spread(points, columns), *_spread(tasks, columns))
    return Table(points.name, columns, tuple(rows))


def _spread(table: Table, columns: tuple[str, ...]) -> Iterable[tuple[Cell, ...]]:
    for row in table.rows:
        cells: Mapping[str, Cell] = dict(zip(table.columns, row, strict=True))
        yield tuple(cells.get(name) for name in columns)
