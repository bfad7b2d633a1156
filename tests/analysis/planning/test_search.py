"""Runs that are proposed: cheap, sufficient, and priced as they will cost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from planning.simulated import (
    ALONE,
    FLOOR,
    SHARED,
    SIZES,
    curves,
    even_grid,
    gap_width,
    multiplier_width,
    simulated_study,
)

from analysis.planning.forecast import forecast
from analysis.planning.planned_run import PlannedRun, Schedule, flops_to_train, new_seeds, own_tokens
from analysis.planning.question import Question, in_log_loss
from analysis.planning.search import cheapest, field_of, narrowest

TOP = SIZES[-1]
GUESS = (1.3, 45.0, 0.23)
"""A curve that is not the true one: nobody knows that before the runs are done."""


@pytest.mark.parametrize("kind", ["gap", "multiplier"])
def test_a_simulated_study_reaches_the_width_of_an_even_grid_with_three_fifths_of_its_flops(kind: str) -> None:
    """Each run is trained on its own. The medians of 60 studies vary by 6 % each, those of gaps of 500 by 2 %."""
    question, grid = Question(kind, "a", "b", TOP), even_grid(3)  # type: ignore[arg-type]
    wanted = in_log_loss(question, forecast(question, grid, curves(GUESS), FLOOR).half_width, curves(GUESS))
    proposed = cheapest(field_of(question, grid, SIZES, curves(GUESS), FLOOR), wanted)
    assert proposed
    assert flops_to_train(proposed) <= 0.6 * flops_to_train(grid)

    def typical_width(runs: Sequence[PlannedRun], seed: int) -> float:
        rng = np.random.default_rng(seed)
        studies = [simulated_study(runs, rng) for _ in range(500 if kind == "gap" else 60)]
        return float(np.median([gap_width(s) if kind == "gap" else multiplier_width(s, TOP) for s in studies]))

    assert typical_width(proposed, 0) <= (1.06 if kind == "gap" else 1.12) * typical_width(grid, 1)


@pytest.mark.parametrize("schedule", [ALONE, SHARED])
def test_no_set_of_few_runs_is_cheaper_than_the_proposed_one(schedule: Schedule) -> None:
    """All sets of trunks that two recipes may have alike, of three sizes and up to six seeds."""
    sizes, question = (250_000, 500_000, 1_000_000), Question("gap", "a", "b", 1_000_000)
    grid = even_grid(3, schedule, sizes)
    field = field_of(question, grid, sizes, curves(), FLOOR)
    wanted = in_log_loss(question, forecast(question, grid, curves(), FLOOR).half_width, curves())
    proposed = cheapest(field, wanted)
    assert proposed
    subsets = list(itertools.product([False, True], repeat=3))
    least = math.inf
    for rows in itertools.combinations_with_replacement(subsets, 6):
        own = np.zeros((len(field.seeds), 3), bool)
        own[:6] = rows
        if field.precision.half_width((own, own)) <= wanted * (1 + 1e-9):
            least = min(least, field.flops((own, own)))
    assert flops_to_train(proposed) <= least * (1 + 1e-9)


def test_what_is_done_is_used_and_not_proposed_again() -> None:
    done = [replace(run, is_done=True) for run in even_grid(2)]
    question = Question("gap", "a", "b", TOP)
    before = forecast(question, done, curves(), FLOOR)
    wanted = before.half_width / 2
    proposed = cheapest(field_of(question, done, SIZES, curves(), FLOOR), in_log_loss(question, wanted, curves()))
    assert proposed
    assert not {(r.trunk, r.num_tokens) for r in proposed} & {(r.trunk, r.num_tokens) for r in done}
    assert forecast(question, [*done, *proposed], curves(), FLOOR).half_width <= wanted * (1 + 1e-9)
    fresh = cheapest(field_of(question, even_grid(2), SIZES, curves(), FLOOR), in_log_loss(question, wanted, curves()))
    assert fresh
    assert flops_to_train(proposed) < flops_to_train(fresh)


def test_a_budget_is_kept_and_more_of_it_never_gives_a_wider_interval() -> None:
    done = [replace(run, is_done=True) for run in even_grid(2, SHARED)]
    question, widths = Question("multiplier", "a", "b", TOP), []
    for budget in (2e12, 8e12):
        proposed = narrowest(field_of(question, done, SIZES, curves(), FLOOR), budget)
        assert flops_to_train([*done, *proposed]) <= budget * (1 + 1e-9)
        widths.append(forecast(question, [*done, *proposed], curves(), FLOOR).half_width)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < forecast(question, done, curves(), FLOOR).half_width


@pytest.mark.filterwarnings("error")
def test_where_no_runs_give_an_interval_none_are_proposed() -> None:
    """A multiplier at ten million times the largest size: its ends lie where nothing is known."""
    question = Question("multiplier", "a", "b", 10_000_000 * TOP)
    field = field_of(question, even_grid(2), SIZES, curves(GUESS), FLOOR)
    assert narrowest(field, flops_to_train(even_grid(2))) == ()


def test_a_width_out_of_reach_is_said_to_be() -> None:
    question = Question("gap", "a", "b", TOP)
    assert cheapest(field_of(question, even_grid(2), SIZES, curves(), FLOOR), 1e-9) is None


@pytest.mark.parametrize("schedule", [ALONE, SHARED])
def test_the_search_prices_runs_as_their_plan_does(schedule: Schedule) -> None:
    """Random sets, with runs that are done among them: a smaller one added later spares the larger one nothing."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        runs = [run for run in even_grid(3, schedule) if rng.random() < 0.5]
        runs = [replace(run, is_done=bool(rng.random() < 0.4)) for run in runs]
        if {run.recipe for run in runs} != {"a", "b"}:
            continue
        field = field_of(Question("gap", "a", "b", TOP), runs, SIZES, curves(), FLOOR)
        assert field.flops(field.planned) == pytest.approx(flops_to_train(runs))
        done = [run for run in runs if run.is_done]
        assert flops_to_train([*done, *field.runs(field.planned)]) == pytest.approx(flops_to_train(runs))


def test_a_smaller_run_that_is_added_later_spares_the_larger_one_nothing() -> None:
    small, large = (run for run in even_grid(1, SHARED) if run.recipe == "a" and run.num_tokens in (SIZES[0], TOP))
    assert own_tokens([large, small]) == [TOP - 200_000, 250_000]
    assert own_tokens([replace(large, is_done=True), small]) == [TOP, 250_000]
    assert own_tokens([replace(small, is_done=True), large]) == [250_000, TOP - 200_000]


def test_new_seeds_vary_what_varied() -> None:
    runs = [replace(run, seeds=(("init", i), ("order", i), ("subset", 0))) for i, run in enumerate(even_grid(1)[:3])]
    assert new_seeds(runs, 2) == [(("init", k), ("order", k), ("subset", 0)) for k in (3, 4)]
    assert new_seeds(runs[:1], 1) == [(("init", 1), ("order", 1), ("subset", 1))]


@pytest.mark.parametrize("schedule", [ALONE, SHARED])
def test_for_a_gap_that_is_measured_no_run_of_another_size_is_proposed(schedule: Schedule) -> None:
    """It rests on the runs at its size alone, and a smaller run on the way of a larger one spares it nothing."""
    question, grid = Question("gap", "a", "b", TOP), even_grid(3, schedule)
    wanted = in_log_loss(question, forecast(question, grid, curves(), FLOOR).half_width, curves())
    proposed = cheapest(field_of(question, grid, SIZES, curves(), FLOOR), wanted)
    assert proposed
    assert {run.num_tokens for run in proposed} == {TOP}
