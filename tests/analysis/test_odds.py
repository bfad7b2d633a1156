"""Odds of being best and regret: what is said must come true as often as it is said."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.contrasts.odds import draw_losses, odds

NAMES = tuple("abcdefgh")


def test_two_recipes_have_the_odds_of_their_contrast() -> None:
    """A flat prior: with a gap of 2 standard errors and many degrees of freedom, 97.7 %."""
    se = 0.01 / np.sqrt(2)
    found = odds(NAMES[:2], draw_losses(np.array([1.0, 1.02]), np.full(2, se), 1e6))
    assert found[0].best == pytest.approx(0.977, abs=0.006)  # 4096 draws: standard error .0023
    assert sum(one.best for one in found) == pytest.approx(1.0)


def test_what_is_clear_is_clear_and_costs_nothing() -> None:
    found = odds(NAMES[:4], draw_losses(np.array([1.0, 1.1, 1.2, 1.3]), np.full(4, 1e-3), 10))
    assert found[0].best == 1.0
    assert found[0].regret.value == 0.0
    assert found[3].regret.value == pytest.approx(np.exp(1.3) - np.exp(1.0), rel=0.01)


def test_losses_that_look_like_noise_are_drawn_together() -> None:
    """Eight losses that spread as their noise does: the lowest is the best with little more than 1 in 8."""
    rng = np.random.default_rng(3)
    chances = []
    for _ in range(20):
        draws = draw_losses(0.01 * rng.standard_normal(8), np.full(8, 0.01), 30)
        chances.append(max(one.best for one in odds(NAMES, draws)))
    assert 0.15 < float(np.mean(chances)) < 0.45  # a flat prior says .47


def test_the_probability_of_best_and_the_regret_come_true() -> None:
    """Eight recipes whose spread is that of their noise: said and true differ by chance alone."""
    rng = np.random.default_rng(0)
    said, true, cost, inside = [], [], [], []
    for _ in range(150):
        truth = 0.01 * rng.standard_normal(8)
        measured = truth + 0.01 * rng.standard_normal(8)
        sd = 0.01 * np.sqrt(rng.chisquare(7) / 7)
        found = odds(NAMES, draw_losses(measured, np.full(8, sd), 7))
        choice = int(np.argmin(measured))
        regret = float(np.exp(truth[choice]) - np.exp(truth.min()))
        said.append(found[choice].best)
        true.append(choice == int(np.argmin(truth)))
        cost.append(regret - found[choice].regret.value)
        inside.append(found[choice].regret.lo <= regret <= found[choice].regret.hi + 1e-12)
    assert abs(np.mean(said) - np.mean(true)) < 0.1  # the standard error of the second is .04
    assert abs(np.mean(cost)) < 3 * np.std(cost) / np.sqrt(150)
    assert np.mean(inside) > 0.9


def test_equal_seeds_give_equal_draws() -> None:
    args = np.array([1.0, 1.1, 1.2]), np.full(3, 0.1), 4
    assert np.array_equal(draw_losses(*args), draw_losses(*args))
