"""From runs to the points that a law is fitted to, and what is held out."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from analysis.page.language import say
from analysis.runs.logs import AnalysisError
from analysis.runs.recipes import Recipe, group_recipes
from analysis.runs.records import Logs, LostRun
from analysis.runs.run import Run


@dataclass(frozen=True)
class Point:
    """The final measurement of one complete run on one domain, at the end of its decay.

    tokens, unique_tokens, flops: D, U and C. epochs: how often a token was seen, on average. loss: nats per
    token. seeds: runs of a recipe with equal seeds share a trunk, or at least their start and order, so they
    are one cluster.
    """

    recipe: str
    domain: str
    run: str
    seeds: tuple[tuple[str, int], ...]
    num_params: int
    tokens: int
    unique_tokens: int
    epochs: float
    flops: float
    loss: float
    bpb: float | None
    num_eval_tokens: int
    is_held_out: bool


@dataclass(frozen=True, eq=False)  # told apart by identity, so that what is computed from one can be kept
class Study:
    """All that the logs of one study hold, ordered: the reference recipe first, then the others."""

    name: str
    question: str
    target: str
    match: str
    hold_out: int
    recipes: tuple[Recipe, ...]
    domains: tuple[str, ...]
    runs: tuple[Run, ...]
    recipe_of: Mapping[str, str]
    points: tuple[Point, ...]
    warnings: tuple[str, ...]
    lost: tuple[LostRun, ...] = ()

    def points_of(self, recipe: str, domain: str) -> tuple[Point, ...]:
        return self._points_by.get((recipe, domain), ())

    @cached_property
    def _points_by(self) -> Mapping[tuple[str, str], tuple[Point, ...]]:
        found: dict[tuple[str, str], list[Point]] = {}
        for point in self.points:
            found.setdefault((point.recipe, point.domain), []).append(point)
        return {of: tuple(points) for of, points in found.items()}


def build_study(logs: Logs) -> Study:
    """Group runs into recipes and collect their final points.

    Raises AnalysisError if no run is complete, if a complete run has no final point, or if none of them may enter a fit
    because all were measured in the middle of their schedule.
    """
    complete = [run for run in logs.runs if run.state == "complete"]
    if not complete:
        states = [run.state for run in logs.runs] + ["interrupted"] * len(logs.lost)
        raise AnalysisError(f"none of the {len(states)} runs is complete ({_count_states(states)})")
    warnings = list(logs.warnings)
    about = dict(logs.study) if logs.study else _study_of(logs.runs, warnings)
    recipes, recipe_of = group_recipes(logs.runs, about["target"])
    sizes = sorted({run.ledger.tokens for run in complete if run.ledger})
    held_out = set(sizes[len(sizes) - about["hold_out"] :]) if 0 < about["hold_out"] < len(sizes) else set()
    complete = _once_each(complete, recipe_of, warnings)
    points = [point for run in complete for point in _final_points(run, recipe_of[run.fingerprint], held_out, warnings)]
    if not points:
        why = next((run for run in complete if run.mid_schedule), None)
        if why is None:
            raise AnalysisError(f"no run can enter a fit: {warnings[-1]}")
        raise AnalysisError(
            f"no run can enter a fit: all {len(complete)} complete ones were measured in the middle of their schedule"
            f" ({why.name}: {why.mid_schedule})"
        )
    domains = sorted({point.domain for point in points}, key=lambda domain: (domain != about["target"], domain))
    if about["target"] not in domains:
        raise AnalysisError(f"no complete run has a final loss on the target domain {about['target']!r}")
    order = {recipe.label: i for i, recipe in enumerate(recipes)}
    return Study(
        **about,
        recipes=recipes,
        domains=tuple(domains),
        runs=logs.runs,
        recipe_of=recipe_of,
        points=tuple(sorted(points, key=lambda p: (order[p.recipe], p.domain, p.tokens, p.seeds, p.run))),
        warnings=tuple(warnings),
        lost=logs.lost,
    )


def _once_each(runs: Sequence[Run], recipe_of: Mapping[str, str], warnings: list[str]) -> list[Run]:
    """Runs of one recipe, size and seeds are one training, however their specs spell what changes nothing."""
    kept: dict[Hashable, Run] = {}
    for run in runs:
        assert run.ledger is not None
        place = (recipe_of[run.fingerprint], run.ledger.tokens, run.seeds)
        if place in kept:
            same = say("{run} is the same training as {other}; counted once", run=run.name, other=kept[place].name)
            warnings.append(same)
        kept.setdefault(place, run)
    return list(kept.values())


def _count_states(states: Iterable[str]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(Counter(states).items()))


def _study_of(runs: Sequence[Run], warnings: list[str]) -> dict[str, Any]:
    """The study that most runs were made for. Runs reached over a link keep the study they were made for."""
    own = [run for run in runs if not run.is_linked] or list(runs)
    texts = Counter(json.dumps(run.spec["study"], sort_keys=True) for run in own)
    first = min(texts, key=lambda text: (-texts[text], text))
    about = json.loads(first)
    others = sorted({run.spec["study"]["name"] for run in runs} - {about["name"]})
    if others:
        warnings.append(
            say(
                "some runs were made for another study ({studies}) and are used here as well", studies=", ".join(others)
            )
        )
    if len({text for text in texts if json.loads(text)["name"] == about["name"]}) > 1:
        warnings.append(
            say("the runs state the study's question, target, match or hold_out differently; the most common is used")
        )
    return {key: about[key] for key in ("name", "question", "target", "match", "hold_out")}


def _final_points(run: Run, recipe: str, held_out: set[int], warnings: list[str]) -> list[Point]:
    """The points of a complete run that may enter a fit: its last, if that is a loss and at the end of its schedule.

    A log that does not say counts as at the end; the caveats tell.
    """
    assert run.ledger is not None
    assert run.flops is not None
    last = run.points[-1] if run.points else None
    if last is None or last.tokens != run.ledger.tokens:
        at = "none" if last is None else f"{last.tokens} tokens"
        raise AnalysisError(
            f"run {run.name}: is complete at {run.ledger.tokens} tokens, but its last eval point is {at}"
        )
    if run.mid_schedule:
        return []
    if wrong := [(d, s.loss) for d, s in last.domains.items() if not (math.isfinite(s.loss) and s.loss > 0)]:
        told = {"run": run.name, "domain": wrong[0][0], "loss": str(wrong[0][1])}
        warnings.append(say("{run} is left out: its last loss on {domain} is {loss}, which is none", **told))
        return []
    return [
        Point(
            recipe=recipe,
            domain=domain,
            run=run.name,
            seeds=run.seeds,
            num_params=run.num_params,
            tokens=run.ledger.tokens,
            unique_tokens=run.ledger.unique_tokens,
            epochs=run.ledger.mean_epochs,
            flops=run.flops,
            loss=sums.loss,
            bpb=sums.bpb,
            num_eval_tokens=sums.num_tokens,
            is_held_out=run.ledger.tokens in held_out,
        )
        for domain, sums in last.domains.items()
    ]
