"""All curves of a study's tasks: the metric over tokens of pretraining, and over labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.downstream.cells import Cell, Setting
from analysis.downstream.metric_curve import Axis, MetricCurve, metric_curve
from analysis.downstream.task_study import TaskStudy


@dataclass(frozen=True, eq=False)
class TaskCurve:
    """A curve and what its settings have in common. at: the amount of the other axis: labels, or tokens (0: none)."""

    task: str
    method: str
    line: str
    start: str
    at: int
    curve: MetricCurve


@dataclass(frozen=True, eq=False)
class TaskCells:
    """The settings of a study and how to find them. main_method: the one that most runs used."""

    study: TaskStudy
    cells: tuple[Cell, ...]
    main_method: str

    def of(self, task: str, **wanted: object) -> list[Cell]:
        """The settings of a task under the main method, or another, with given values."""
        wanted = {"method": self.main_method, **wanted}
        return [
            cell for cell in self.cells
            if cell.setting.task == task and all(getattr(cell.setting, k) == v for k, v in wanted.items())
        ]  # fmt: skip

    def most_labels(self, task: str) -> int:
        """The largest number of labels that most lines of a task were given: those of all lines, where there is one."""
        own = self.of(task)
        lines = {cell.setting.line for cell in own}
        counts = Counter({n: len({c.setting.line for c in own if c.setting.labels == n}) for n in _labels(own)})
        most = max(counts.values(), default=0)
        return max((n for n, count in counts.items() if count in (most, len(lines))), default=0)

    def reference(self, cell: Cell, start: str = "initial") -> Cell | None:
        """The same without pretraining: model, tokenizer, labels and method alike."""
        base = self.study.base_of[cell.setting.line]
        same = (cell.setting.task, cell.setting.method, cell.setting.labels)
        return next(
            (
                other for other in self.cells
                if (other.setting.task, other.setting.method, other.setting.labels) == same
                and other.setting.start == start and self.study.base_of[other.setting.line] == base
            ),
            None,
        )  # fmt: skip


def _labels(cells: Sequence[Cell]) -> set[int]:
    return {cell.setting.labels for cell in cells}


def main_method(cells: Sequence[Cell]) -> str:
    """The method of most runs; of two, that which is full fine-tuning, then by name."""
    counts = Counter[str]()
    for cell in cells:
        counts[cell.setting.method] += len(cell.runs)
    return min(counts, key=lambda method: (-counts[method], not method.startswith("full"), method))


def task_curves(cells: TaskCells, axis: Axis) -> tuple[TaskCurve, ...]:
    """Every curve over one axis that has at least two amounts, in the order of tasks, lines, and the other axis."""
    grouped: dict[tuple[str, str, str, str, int], list[Cell]] = {}
    for cell in cells.cells:
        s = cell.setting
        if axis == "tokens" and s.start != "pretrained":
            continue
        grouped.setdefault((s.task, s.method, s.line, s.start, _other(s, axis)), []).append(cell)
    found = []
    for (task, method, line, start, at), own in grouped.items():
        floor = cells.reference(own[0]) if axis == "tokens" else None
        curve = metric_curve(own, axis, None if floor is None else floor.mean)
        if curve is not None:
            found.append(TaskCurve(task, method, line, start, at, curve))
    return tuple(found)


def _other(setting: Setting, axis: Axis) -> int:
    return setting.labels if axis == "tokens" else setting.tokens


def curve_of(curves: Sequence[TaskCurve], task: str, line: str, method: str, at: int | None = None) -> TaskCurve | None:
    """One curve; without `at`, that of the largest amount on the other axis."""
    own = [c for c in curves if (c.task, c.line, c.method) == (task, line, method) and at in (None, c.at)]
    return max(own, key=lambda c: c.at, default=None)
