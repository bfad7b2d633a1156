"""What a comparison comes to: the rule, the probability behind it, and where curves cross."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.contrasts.verdict import (
    Decision,
    decide,
    find_crossing,
    of_one_sign,
    probability_lower,
    reason_text,
    why_signs_differ,
)
from analysis.fitting.result import Estimate

D = np.geomspace(1e6, 1e9, 200)


def test_a_decision_needs_an_interval_that_excludes_zero() -> None:
    assert decide(Estimate(-1.0, -2.0, -0.1)) is Decision.A_BETTER
    assert decide(Estimate(1.0, 0.1, 2.0)) is Decision.B_BETTER
    assert decide(Estimate(-1.0, -2.0, 0.1)) is Decision.CANNOT_TELL
    assert decide(Estimate(-1.0, -math.inf, math.inf)) is Decision.CANNOT_TELL


A, B, OPEN = Decision.A_BETTER, Decision.B_BETTER, Decision.CANNOT_TELL


@pytest.mark.parametrize(
    ("by_curves", "decision", "expected", "told"),
    [
        ((3.0, 0.2, 4.1), A, (3.0, 1.0, 4.1), "a multiplier of 0.20 to 4.10; the gap at 2M tokens says on which side"),
        ((0.5, 0.2, 1.3), B, (0.5, 0.2, 1.0), "a multiplier of 0.20 to 1.30; the gap at 2M tokens says on which side"),
        ((math.inf, 0.7, math.inf), A, (math.inf, 1.0, math.inf), "a multiplier of 0.70 to inf; the gap"),
        ((3.0, 2.3, 4.1), A, (3.0, 2.3, 4.1), None),
        ((0.5, 0.2, 0.8), B, (0.5, 0.2, 0.8), None),
        ((1.1, 0.2, 4.1), OPEN, (1.1, 0.2, 4.1), None),
        ((3.0, 2.3, 4.1), OPEN, (3.0, 2.3, 4.1), "the losses at 2M tokens alone do not tell the gap from 0"),
        ((0.9, 0.2, 1.1), A, (0.9, 0.2, 1.1), "put the other recipe ahead"),
        ((1.2, 1.1, 1.3), B, (1.2, 1.1, 1.3), "put the other recipe ahead"),
    ],
)
def test_a_multiplier_and_the_gap_at_its_size_are_of_one_sign_or_it_is_said_why_not(
    by_curves: tuple[float, ...], decision: Decision, expected: tuple[float, ...], told: str | None
) -> None:
    m = Estimate(*by_curves)
    assert of_one_sign(m, decision) == Estimate(*expected)
    why = why_signs_differ(m, decision, "2M")
    assert why is None if told is None else why is not None and told in why


def test_the_probability_agrees_with_the_interval_at_its_end() -> None:
    """Where a 95 % interval just touches 0, A is better with a probability of 97.5 %."""
    assert probability_lower(Estimate(-1.0, -2.0, 0.0), 5, 0.95) == pytest.approx(0.975)
    assert probability_lower(Estimate(1.0, 0.0, 4.0), 5, 0.95) == pytest.approx(0.025)
    assert probability_lower(Estimate(0.0, -1.0, 1.0), 5, 0.95) == pytest.approx(0.5)
    assert probability_lower(Estimate(-1.0, -math.inf, math.inf), 5, 0.95) is None


def test_the_probability_of_equal_recipes_is_spread_evenly() -> None:
    """Of a calibrated probability: below 10 % in 10 % of studies where nothing is to be found, and so on."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        x = rng.normal(size=4)
        half = float(stats.t.ppf(0.975, 3)) * float(x.std(ddof=1)) / 2
        found.append(probability_lower(Estimate(float(x.mean()), x.mean() - half, x.mean() + half), 3, 0.95))
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_a_crossing_is_found_with_the_tokens_at_which_the_gap_may_be_zero() -> None:
    gap = 0.1 * (np.log(D) - math.log(3e7))
    found = find_crossing(D, gap, gap - 0.05, gap + 0.05, 1e9)
    assert found is not None
    assert found.tokens.value == pytest.approx(3e7, rel=1e-6)
    assert found.tokens.lo == pytest.approx(3e7 * math.exp(-0.5), rel=1e-6)
    assert found.tokens.hi == pytest.approx(3e7 * math.exp(0.5), rel=1e-6)
    assert (found.after, found.is_settled, found.is_predicted) == ("b", True, False)


def test_a_crossing_within_the_noise_is_not_settled() -> None:
    gap = 0.1 * (np.log(D) - math.log(3e7))
    found = find_crossing(D, gap, gap - 1, gap + 1, 1e9)
    assert found is not None
    assert not found.is_settled
    assert not math.isfinite(found.tokens.hi)


def test_curves_that_do_not_cross_have_no_crossing() -> None:
    assert find_crossing(D, np.full(200, 0.3), np.full(200, 0.2), np.full(200, 0.4), 1e9) is None


def test_of_several_crossings_the_one_that_is_settled_is_told() -> None:
    gap = np.sin(np.log(D / 1e6) * 2 * math.pi / math.log(1e3))
    wide = np.where(D < 1e8, 2.0, 0.05)
    found = find_crossing(
        np.append(D, 2e9), np.append(gap, 0.5), np.append(gap - wide, 0.4), np.append(gap + wide, 0.6), 5e8
    )
    assert found is not None
    assert found.is_settled
    assert found.tokens.value > 1e8


def test_every_reason_has_a_sentence() -> None:
    codes = ("within_noise", "no_repeated_seeds", "too_few_repeated_seeds", "no_law", "checkpoints", "beyond_reach")
    assert all(reason_text(code).endswith(".") for code in codes)
    assert reason_text(None) == ""
