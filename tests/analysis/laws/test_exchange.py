"""The exchange law beyond what all laws are tested for: domains that are not read, and what gamma = 1 means."""

from __future__ import annotations

import numpy as np

from analysis.laws.exchange import Exchange
from analysis.laws.law import Columns

TRUTH = np.array([1.5, 0.25, 0.6, 1.2, 1.45, 1.7])
LAW = Exchange(("a", "b", "c"), 5e5)


def runs() -> Columns:
    weights = np.random.default_rng(3).dirichlet(np.full(3, 1.5), 10)
    weights[0] = [1, 0, 0]  # a domain that is not read must do no harm
    sizes = np.geomspace(1e5, 2e6, 5)
    return {"w": np.repeat(weights, 5, axis=0), "D": np.tile(sizes, 10)}


def test_derivatives_are_exact_where_a_domain_is_not_read() -> None:
    at = runs()
    slope = LAW.gradient(TRUTH, at)
    for k in range(len(TRUTH)):
        step = 1e-6 * TRUTH[k] * np.eye(len(TRUTH))[k]
        numeric = (LAW.loss(TRUTH + step, at) - LAW.loss(TRUTH - step, at)) / (2 * step[k])
        np.testing.assert_allclose(slope[:, k], numeric, rtol=1e-5, atol=1e-8 * np.abs(slope[:, k]).max())


def test_with_gamma_1_it_is_the_power_law_of_a_weighted_sum_of_tokens() -> None:
    theta, at = TRUTH.copy(), runs()
    theta[2] = 1.0
    worth = theta[3:] ** (-1 / theta[1])
    expected = theta[0] + (at["D"] / 5e5 * (at["w"] @ worth)) ** -theta[1]
    np.testing.assert_allclose(LAW.loss(theta, at), expected, rtol=1e-12)
