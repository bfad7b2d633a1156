"""What pretraining is worth to the tasks of a study: every analysis of its fine-tunings and compressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.downstream.cells import cells_of
from analysis.downstream.curves import TaskCells, TaskCurve, main_method, task_curves
from analysis.downstream.demand import Demand, Transferred, demands, transferred
from analysis.downstream.methods import MethodGroup, method_groups
from analysis.downstream.task_study import TaskStudy, task_study
from analysis.downstream.tradeoff import BoughtBack, Compressed, bought_back, compressions
from analysis.downstream.upstream import Upstream, upstream
from analysis.downstream.verdicts import BestRecipe, TaskVerdict, best_recipes, by_size, verdicts
from analysis.runs.logs import AnalysisError
from analysis.runs.records import read_runs


@dataclass(frozen=True, eq=False)
class Downstream:
    """All results of the tasks of a study.

    over_tokens, over_labels: the curves of the metric. verdicts: at the largest D and the most labels; sizes: at each.
    """

    study: TaskStudy
    cells: TaskCells
    over_tokens: tuple[TaskCurve, ...]
    over_labels: tuple[TaskCurve, ...]
    verdicts: tuple[TaskVerdict, ...]
    sizes: tuple[TaskVerdict, ...]
    demands: tuple[Demand, ...]
    transferred: tuple[Transferred, ...]
    upstream: tuple[Upstream, ...]
    best: tuple[BestRecipe, ...]
    methods: tuple[MethodGroup, ...]
    compressions: tuple[Compressed, ...]
    bought_back: tuple[BoughtBack, ...]

    @property
    def is_of_labels(self) -> bool:
        """Whether it asks about labels first: a task was given more numbers of them than sizes of pretraining."""
        amounts: dict[str, tuple[set[int], set[int]]] = {}
        for s in (cell.setting for cell in self.cells.cells if cell.setting.start == "pretrained"):
            labels, tokens = amounts.setdefault(s.task, (set(), set()))
            labels.add(s.labels)
            tokens.add(s.tokens)
        return any(len(labels) > len(tokens) for labels, tokens in amounts.values()) and bool(self.over_labels)


def downstream(places: Sequence[str], api: Any = None) -> Downstream:
    """Read the fine-tunings and compressions in `places` and analyse them; `facts` has the result as JSON.

    places, api: as for `read_runs`. Raises AnalysisError where there are none, or none is complete.
    """
    study = task_study(read_runs(places, api))
    if study is None:
        raise AnalysisError(f"no complete fine-tuning in {', '.join(places)}")
    return analysed(study)


def analysed(study: TaskStudy) -> Downstream:
    """Every analysis of the tasks of a study."""
    settings = cells_of(study, study.runs)
    cells = TaskCells(study, settings, main_method(settings))
    over_tokens, over_labels = task_curves(cells, "tokens"), task_curves(cells, "labels")
    small = compressions(study)
    return Downstream(
        study, cells, over_tokens, over_labels, verdicts(cells), by_size(cells),
        demands(cells, over_tokens, over_labels), transferred(cells, over_labels), upstream(cells),
        best_recipes(cells), method_groups(cells), small, bought_back(cells, small, over_tokens),
    )  # fmt: skip
