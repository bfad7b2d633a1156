"""What is planned and what is done: from `plan.json`, which `action=plan` writes, and from the logs of a study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.contrasts.noise import equally_noisy
from analysis.planning.planned_run import PlannedRun, Schedule, schedule_of
from analysis.runs.logs import STUDY_KEYS, AnalysisError
from analysis.runs.points import Study
from analysis.runs.recipes import Recipe, group_recipes
from analysis.runs.run import Run

PLAN_FILE = "plan.json"
SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Plan:
    """The runs of a study, done and to do. study: its keys, as a sweep states them. recipes: the reference first.

    specs: of one run of each recipe, by label. asked: the budget that a recipe's D in whole batches came from, which is
    part of what a run is. label_in: the label that a recipe has in the study that was read from
    logs; without those that no run of it was logged for.
    """

    study: Mapping[str, Any]
    recipes: tuple[Recipe, ...]
    runs: tuple[PlannedRun, ...]
    specs: Mapping[str, Mapping[str, Any]]
    asked: Mapping[tuple[str, int], int]
    label_in: Mapping[str, str]

    @property
    def target(self) -> str:
        return str(self.study["target"])

    @property
    def done(self) -> tuple[PlannedRun, ...]:
        return tuple(run for run in self.runs if run.is_done)

    def pooled_with(self, *recipes: str) -> tuple[PlannedRun, ...]:
        """The runs of these recipes, and of those whose noise the analysis pools with that of the first."""
        first = next(recipe for recipe in self.recipes if recipe.label == recipes[0])
        pool = {*recipes, *equally_noisy(self.recipes, first, self.target, self.target)}
        return tuple(run for run in self.runs if run.recipe in pool)

    def sizes_of(self, *recipes: str) -> tuple[int, ...]:
        """The sizes that all of these recipes have, ascending."""
        sizes = [{run.num_tokens for run in self.runs if run.recipe == recipe} for recipe in recipes]
        return tuple(sorted(set.intersection(*sizes))) if sizes else ()


def plan_of(study: Study | None, planned: Sequence[Run] = ()) -> Plan:
    """The plan of runs that were logged, and of planned ones; a planned run that was logged is the logged one.

    Raises AnalysisError where there is no run, or a spec lacks what a plan needs.
    """
    logged = study.runs if study else ()
    known = {run.fingerprint for run in logged}
    every = [*logged, *(run for run in planned if run.fingerprint not in known)]
    if not every:
        raise AnalysisError("there is no run to plan with")
    about = {key: getattr(study, key) for key in STUDY_KEYS} if study else _study_of(every[0])
    recipes, recipe_of = group_recipes(every, about["target"])
    runs: dict[tuple[str, int, Any], PlannedRun] = {}
    specs: dict[str, Mapping[str, Any]] = {}
    asked: dict[tuple[str, int], int] = {}
    labels: dict[str, str] = {}
    for run in sorted(every, key=lambda run: (run.state != "complete", run.name, run.fingerprint)):
        label = recipe_of[run.fingerprint]
        made = _planned(run, label)
        runs.setdefault((label, made.num_tokens, made.seeds), made)
        specs.setdefault(label, run.spec)
        asked.setdefault((label, made.num_tokens), int(run.spec["budget"]["num_tokens"]))
        if study and run.fingerprint in study.recipe_of:
            labels.setdefault(label, study.recipe_of[run.fingerprint])
    return Plan(about, recipes, tuple(runs.values()), specs, asked, labels)


def read_plan(path: Path) -> tuple[Run, ...]:
    """The runs of a `plan.json`, none of them trained. Raises AnalysisError for a file that is none."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AnalysisError(f"cannot read {str(path)!r}: {str(error).splitlines()[0]}") from error
    if not isinstance(told, dict) or told.get("schema") != SCHEMA or not isinstance(told.get("runs"), list):
        raise AnalysisError(f"{path}: schema must be {SCHEMA} and runs a list: not a plan that action=plan writes")
    return tuple(_run(path, i, run) for i, run in enumerate(told["runs"]))


def _run(path: Path, index: int, told: Any) -> Run:
    wanted: dict[str, Any] = {
        "name": str,
        "fingerprint": str,
        "spec": dict,
        "num_params": int,
        "flops_per_token": (int, float),
    }
    for key, kind in wanted.items():
        if not isinstance(told, dict) or not isinstance(told.get(key), kind):
            raise AnalysisError(f"{path}: runs[{index}].{key} is missing or of another type")
    spec = told["spec"]
    for part in ("study", "recipe", "budget", "seeds", "evaluation", "schedule", "batch"):
        if not isinstance(spec.get(part), dict):
            raise AnalysisError(f"{path}: runs[{index}].spec.{part} must be a section, got {spec.get(part)!r}")
    return Run(
        run_id=told["fingerprint"],
        name=told["name"],
        fingerprint=told["fingerprint"],
        spec=spec,
        num_params=told["num_params"],
        flops_per_token=float(told["flops_per_token"]),
        environment={},
        state="planned",
        error=None,
        points=(),
    )


def _study_of(run: Run) -> dict[str, Any]:
    about = run.spec["study"]
    for key, kind in STUDY_KEYS.items():
        if not isinstance(about.get(key), kind):
            raise AnalysisError(f"run {run.name}: study.{key} must be given as {kind.__name__}, got {about.get(key)!r}")
    return {key: about[key] for key in STUDY_KEYS}


def _planned(run: Run, label: str) -> PlannedRun:
    is_done = run.state == "complete" and run.ledger is not None
    try:
        schedule = schedule_of(run.spec)
    except KeyError:  # logged before specs said how: then nothing is shared, and D is as asked for
        schedule = Schedule(1, None)
    whole = schedule.whole(int(run.spec["budget"]["num_tokens"]))
    return PlannedRun(
        label, run.ledger.tokens if is_done and run.ledger else whole, run.seeds, run.flops_per_token, schedule, is_done
    )
