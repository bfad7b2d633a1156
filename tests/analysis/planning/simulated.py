"""Planned runs of two recipes, and studies that they might turn out as."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.contrasts.contrast import full_fit, loss_gap
from analysis.contrasts.curves import Band
from analysis.contrasts.multiplier import multiplier_at
from analysis.contrasts.noise import pool_of
from analysis.laws.power import PowerLaw
from analysis.planning.noise_floor import NoiseFloor
from analysis.planning.planned_run import PlannedRun, Schedule
from analysis.planning.question import AssumedCurve
from analysis.runs.points import Point, Study
from analysis.runs.recipes import Recipe

SHARED, ALONE = Schedule(500, 0.2), Schedule(500, None)
SIZES = (250_000, 350_000, 500_000, 700_000, 1_000_000, 1_400_000, 2_000_000)
TRUTH = {"a": PowerLaw(1.5, 57.0, 0.25), "b": PowerLaw(1.5, 60.0, 0.25)}
FLOOR = NoiseFloor(0.0067, 0.8, None)
FLOPS_PER_TOKEN = 7e5


def seeds(i: int) -> tuple[tuple[str, int], ...]:
    return (("init", i), ("order", i))


def even_grid(num_seeds: int, schedule: Schedule = ALONE, sizes: Sequence[int] = SIZES) -> list[PlannedRun]:
    return [
        PlannedRun(recipe, size, seeds(i), FLOPS_PER_TOKEN, schedule)
        for recipe in "ab"
        for i in range(num_seeds)
        for size in sizes
    ]


def curves(*thetas: tuple[float, float, float]) -> dict[str, AssumedCurve]:
    """The truth of each recipe, or the same guesses for both."""
    return {
        recipe: AssumedCurve(np.array(thetas or [(law.E, law.B, law.beta)]), "planted") for recipe, law in TRUTH.items()
    }


def simulated_study(
    runs: Sequence[PlannedRun],
    rng: np.random.Generator,
    floor: NoiseFloor = FLOOR,
    truth: Mapping[str, PowerLaw] = TRUTH,
) -> Study:
    """A study in which each trunk shifts its log losses, and each run its own besides."""
    trunks = {trunk: rng.normal(0, floor.sd * floor.trunk_share**0.5) for trunk in dict.fromkeys(r.trunk for r in runs)}
    points = []
    for i, run in enumerate(runs):
        own = rng.normal(0, floor.sd * (1 - floor.trunk_share) ** 0.5)
        loss = float(truth[run.recipe].loss(run.num_tokens) * np.exp(trunks[run.trunk] + own))
        points.append(
            Point(
                recipe=run.recipe,
                domain="docs",
                run=f"run{i}",
                seeds=run.seeds,
                num_params=100_000,
                tokens=run.num_tokens,
                unique_tokens=run.num_tokens,
                epochs=1.0,
                flops=run.flops_per_token * run.num_tokens,
                loss=loss,
                bpb=None,
                num_eval_tokens=20_000,
                is_held_out=False,
            )
        )
    recipes = tuple(Recipe(label, {}, {"recipe.name": label}, 1, None) for label in "ba")
    return Study("tiny", "Which?", "docs", "tokens", 0, recipes, ("docs",), (), {}, tuple(points), ())


def gap_width(study: Study) -> float:
    """The half-width of the gap at the largest size that the analysis reports, nats per token."""
    b, a = study.recipes
    gap = loss_gap(study, a, b, "docs", max(p.tokens for p in study.points))
    return (gap.hi - gap.lo) / 2


def multiplier_width(study: Study, num_tokens: int) -> float:
    """The half-width of the logarithm of the token multiplier at D tokens; inf where an end is open."""
    b, a = study.recipes
    pool, sizes = pool_of(study, a, "docs"), [{p.tokens for p in study.points_of(r.label, "docs")} for r in (a, b)]
    common = tuple(sorted(set.intersection(*sizes)))
    fits = [full_fit(study, recipe.label, "docs", common, pool) for recipe in (a, b)]
    grid, bands = np.geomspace(num_tokens / 3, num_tokens * 3, 17), []  # narrower than `band`'s, so that 17 will do
    for fit in fits:
        lower, upper = fit.interval(grid)
        bands.append(Band(fit, grid, np.log(fit.loss(grid) / lower), np.log(upper / fit.loss(grid))))
    found = multiplier_at((bands[0], bands[1]), num_tokens)
    return math.log(found.hi / found.lo) / 2 if found.lo > 0 else math.inf
