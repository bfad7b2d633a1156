"""Ways of adapting a model, compared: what each scores, what it trains, how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from analysis.downstream.cells import Cell, Gap, gap
from analysis.downstream.curves import TaskCells


@dataclass(frozen=True, eq=False)
class MethodRow:
    """One method. against: what it has over the first of the group (full fine-tuning); None for that one.

    num_trainable: weights that learned; None where no log tells. seconds: median over runs.
    """

    method: str
    cell: Cell
    against: Gap | None
    num_trainable: int | None
    seconds: float | None


@dataclass(frozen=True)
class MethodGroup:
    """The methods of one task, from one start, at one D and number of labels; the reference first."""

    task: str
    metric: str
    line: str
    tokens: int
    labels: int
    rows: tuple[MethodRow, ...]


def method_groups(cells: TaskCells) -> tuple[MethodGroup, ...]:
    """Per task and start with two methods or more, where most of them were run: at the largest D and labels."""
    found = []
    for task in cells.study.tasks:
        own = [cell for cell in cells.cells if cell.setting.task == task]
        for line in dict.fromkeys(cell.setting.line for cell in own):
            there: dict[tuple[int, int], list[Cell]] = {}
            for cell in own:
                if cell.setting.line == line:
                    there.setdefault((cell.setting.tokens, cell.setting.labels), []).append(cell)
            place = max(there, key=lambda at: (len(there[at]), at))
            if len(there[place]) > 1:
                group = _rows(there[place], cells.main_method)
                found.append(MethodGroup(task, cells.study.metric(task), line, *place, group))
    return tuple(found)


def _rows(cells: Sequence[Cell], main: str) -> tuple[MethodRow, ...]:
    def is_reference(cell: Cell) -> bool:
        adaptation = cell.runs[0].spec["method"]["adaptation"]["kind"]
        return bool(adaptation == "full")

    ordered = sorted(cells, key=lambda c: (not is_reference(c), c.setting.method != main, -c.mean, c.setting.method))
    first = ordered[0]
    rows = []
    for cell in ordered:
        trainable = [run.num_trainable for run in cell.runs if run.num_trainable is not None]
        seconds = [run.seconds for run in cell.runs if run.seconds is not None]
        rows.append(
            MethodRow(
                cell.setting.method, cell, None if cell is first else gap(cell, first),
                round(median(trainable)) if trainable else None, median(seconds) if seconds else None,
            )
        )  # fmt: skip
    return tuple(rows)
