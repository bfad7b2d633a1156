"""Intervals of scores stay within the range of the metric."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.downstream.cells import t_quantile
from analysis.downstream.score_range import SHARE, range_of, score_interval
from analysis.fitting.result import Estimate


def test_what_lies_within_the_range_is_as_it_was() -> None:
    assert score_interval(0.9, 0.1) == Estimate(0.9, 0.8, 1.0)
    assert score_interval(-0.2, 0.3, range_of("mcc")) == Estimate(-0.2, -0.5, pytest.approx(0.1))
    unknown = score_interval(0.9, math.inf)
    assert (unknown.lo, unknown.hi) == (-math.inf, math.inf)


@pytest.mark.parametrize("value", [0.002, 0.03, 0.5, 0.97, 0.9999])
@pytest.mark.parametrize("half", [0.05, 0.6, 40.0])
def test_no_end_passes_the_range_and_the_value_stays_inside(value: float, half: float) -> None:
    for bounds in (SHARE, (-1.0, 1.0)):
        found = score_interval(value, half, bounds)
        assert bounds[0] <= found.lo < value < found.hi <= bounds[1]


def test_an_end_that_would_pass_the_range_is_cut_and_the_other_stays() -> None:
    """However near to the bound: of a share of 0.001 whose noise is that of larger ones, none up to 1 is possible."""
    for value in (0.0, 0.001, 0.049):
        assert score_interval(value, 0.05) == Estimate(value, 0.0, value + 0.05)
    assert score_interval(1.0, 0.1) == Estimate(1.0, 0.9, 1.0)
    assert score_interval(-0.95, 0.1, range_of("mcc")) == Estimate(-0.95, -1.0, pytest.approx(-0.85))


def test_near_the_bound_it_still_holds_the_truth() -> None:
    """Three seeds whose log odds vary normally, around an accuracy of 0.98: the usual t interval passes 1 in most."""
    rng, truth, held, passed, num = np.random.default_rng(0), 0.98, 0, 0, 2000
    for _ in range(num):
        own = 1 / (1 + np.exp(-(math.log(truth / (1 - truth)) + 0.5 * rng.standard_normal(3))))
        half = t_quantile(2) * float(own.std(ddof=1)) / math.sqrt(3)
        found = score_interval(float(own.mean()), half)
        held += found.lo <= truth <= found.hi
        passed += own.mean() + half > 1
    assert passed > num / 4
    assert held / num > 0.93
