"""A task's metric over data: the planted law back, and where it reaches a level."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pytest

from analysis.downstream.cells import Cell, Gap, Noise, Setting, gap, noise_of
from analysis.downstream.metric_curve import Level, MetricCurve, is_step, metric_curve
from analysis.fitting.result import Estimate
from analysis.laws.ceiling import Ceiling
from analysis.laws.logistic import Logistic

SIZES = tuple(1_000_000 * 2**i for i in range(6))


def ceiling(D: float) -> float:
    """Reaches 0.8 at 10 million."""
    return 0.9 - 0.1 * (D / 1e7) ** -0.5


def logistic(D: float) -> float:
    return 0.5 + 0.35 / (1 + math.exp(-2.0 * math.log(D / 5e6)))


def cells(
    law: Callable[[float], float], sizes: Sequence[int] = SIZES, seeds: int = 3, sd: float = 0.004,
    test_sd: float = 0.0, draw: int = 0,
) -> list[Cell]:  # fmt: skip
    rng = np.random.default_rng(draw)
    values: list[dict[Hashable, float]] = [
        {seed: law(size) + sd * float(rng.standard_normal()) for seed in range(seeds)} for size in sizes
    ]
    noise = noise_of(values)
    return [
        Cell(Setting("task", "full", "recipe", "pretrained", size, 100), (), own, test_sd, noise)
        for size, own in zip(sizes, values, strict=True)
    ]


def curve(law: Callable[[float], float], **settings: object) -> MetricCurve:
    found = metric_curve(cells(law, **settings), "tokens", floor=0.5)  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize(("law", "name"), [(ceiling, "ceiling"), (logistic, "logistic")])
def test_the_law_that_was_planted_predicts_the_largest_size_best_and_is_taken(
    law: Callable[[float], float], name: str
) -> None:
    found = curve(law, sd=0.0005)
    assert found.law == name
    assert found.errors[name] == min(found.errors.values())
    assert found.ceiling == pytest.approx({"ceiling": 0.9, "logistic": 0.85}[name], abs=0.02)


def test_the_amount_that_reaches_a_level_comes_back_within_its_interval() -> None:
    held = 0
    for draw in range(6):
        amount = curve(ceiling, draw=draw).reaches(Level(0.8))
        assert amount.value == pytest.approx(1e7, rel=0.3)
        held += amount.lo <= 1e7 <= amount.hi
    assert held >= 5  # 95 % each


def test_a_level_above_all_that_was_measured_is_not_reached() -> None:
    amount = curve(ceiling).reaches(Level(0.95))
    assert math.isinf(amount.value)
    assert math.isinf(amount.hi)
    assert amount.lo >= SIZES[-1]


def test_a_level_below_all_that_was_measured_is_reached_by_the_smallest() -> None:
    amount = curve(ceiling).reaches(Level(0.3))
    assert (amount.value, amount.lo, amount.hi) == (0.0, 0.0, SIZES[0])


def test_few_test_rows_widen_where_a_level_is_reached() -> None:
    sharp, blurred = (curve(ceiling, test_sd=sd).reaches(Level(0.8)) for sd in (0.0, 0.01))
    assert blurred.value == sharp.value
    assert blurred.lo < sharp.lo
    assert blurred.hi > sharp.hi
    unsure = curve(ceiling).reaches(Level(0.8, seed_half=0.02))
    assert unsure.hi > sharp.hi


def test_two_sizes_are_joined_by_a_line_and_nothing_is_said_beyond_them() -> None:
    found = curve(ceiling, sizes=SIZES[:2], sd=0.0)
    assert (found.law, found.ceiling, found.reach) == ("measured", None, SIZES[1])
    middle = (ceiling(SIZES[0]) + ceiling(SIZES[1])) / 2
    assert found.reaches(Level(middle)).value == pytest.approx(math.sqrt(SIZES[0] * SIZES[1]), rel=1e-3)
    assert metric_curve(cells(ceiling, sizes=SIZES[:1]), "tokens") is None


def test_without_repeated_seeds_an_amount_has_no_interval() -> None:
    amount = curve(ceiling, seeds=1, sizes=SIZES[:3]).reaches(Level(ceiling(SIZES[1])))
    assert SIZES[0] < amount.value <= SIZES[2]
    assert (amount.lo, amount.hi) == (0.0, math.inf)


@pytest.mark.parametrize("draw", range(4))
def test_the_interval_of_a_curve_that_can_only_rise_rises(draw: int) -> None:
    """Noise that hides the curve: there the search for an end may stop short of it at some amounts."""
    sizes = (4_000_000, 16_000_000, 64_000_000, 192_000_000)
    found = metric_curve(cells(lambda D: 0.86 + 0.003 * math.log(D / 1e6), sizes, sd=0.003, draw=draw), "tokens")
    assert found is not None
    assert found.law == Ceiling.name
    x = np.geomspace(sizes[-1], sizes[0], 25)
    below, above = found.half_widths(x)
    value = found.value(x)
    assert (np.diff(value - below) <= 1e-12).all()
    assert (np.diff(value + above) <= 1e-12).all()


def test_a_jump_between_two_neighbours_is_no_law() -> None:
    found = metric_curve(cells(lambda D: 0.5 if D < 6e6 else 0.7, sd=0.002), "tokens")
    assert found is not None
    assert found.fit is not None
    if found.law == Logistic.name:
        assert not is_step(found.fit, np.log(SIZES))


# ---- noise ---------------------------------------------------------------------------------------


def made(values: dict[Hashable, float], noise: Noise, test_sd: float = 0.0) -> Cell:
    return Cell(Setting("task", "full", "a", "pretrained", 1, 100), (), values, test_sd, noise)


@pytest.mark.parametrize("shared_sd", [0.0, 0.02])
def test_intervals_of_means_and_of_paired_gaps_hold_the_truth(shared_sd: float) -> None:
    """4 settings x 3 seeds, which a seed may move alike; rows of the test set move all runs of a setting."""
    rng = np.random.default_rng(1)
    inside, gaps, widths = 0, 0, []
    for _ in range(600):
        seeds = shared_sd * rng.standard_normal(3)
        rows = 0.01 * rng.standard_normal(4)
        table = 0.7 + rows[:, None] + seeds + 0.005 * rng.standard_normal((4, 3))
        values: list[dict[Hashable, float]] = [dict(enumerate(row.tolist())) for row in table]
        noise = noise_of(values)
        first, second = (made(own, noise, test_sd=0.01) for own in values[:2])
        inside += first.estimate.lo <= 0.7 <= first.estimate.hi
        found = gap(first, second).gap
        gaps += found.lo <= 0 <= found.hi
        widths.append(found.hi - found.lo)
    assert gaps / 600 >= 0.93
    assert float(np.mean(widths)) < 0.08  # what a seed does to all settings alike cancels
    if shared_sd == 0:
        assert inside / 600 >= 0.93


def test_nothing_is_decided_where_seeds_are_not_repeated() -> None:
    noise = noise_of([{0: 0.9}, {0: 0.1}])
    assert not noise.is_known
    assert gap(made({0: 0.9}, noise), made({0: 0.1}, noise)).verdict == "cannot tell"


def test_a_verdict_needs_an_interval_clear_of_zero() -> None:
    assert Gap(Estimate(0.1, 0.01, 0.2)).verdict == "better"
    assert Gap(Estimate(-0.1, -0.2, -0.01)).verdict == "worse"
    assert Gap(Estimate(0.1, -0.01, 0.2)).verdict == "cannot tell"
