from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scaling.evaluate.correlation import measure_correlation
from scaling.evaluate.metrics import resamples, scores


@pytest.mark.parametrize("seed", range(4))
def test_correlations_are_those_of_scipy_on_every_resample_with_ties_and_far_from_zero(seed: int) -> None:
    generator = np.random.default_rng(seed)
    right = np.round(generator.random(120) * 5, 1)
    given = np.round(right + generator.normal(size=120), 1 if seed % 2 else 6) * 1e-3 + 1e4 * (seed == 3)
    measured = measure_correlation(right, given)
    weights = np.vstack([np.ones((1, 120)), next(resamples(120, 20, seed))])
    values = measured.values(weights)
    for i, weight in enumerate(weights.astype(int)):
        one, two = np.repeat(right, weight), np.repeat(given, weight)
        assert values["pearson"][i] == pytest.approx(stats.pearsonr(one, two).statistic, abs=1e-7)
        assert values["spearman"][i] == pytest.approx(stats.spearmanr(one, two).statistic, abs=1e-9)


def test_scores_that_are_all_the_same_order_nothing() -> None:
    found = scores(measure_correlation(np.array([1.0, 2.0, 3.0]), np.full(3, 0.1)), 100, 0)
    assert {(score.value, score.lo, score.hi) for score in found.values()} == {(0.0, 0.0, 0.0)}


def test_a_resample_of_one_row_many_times_is_a_number() -> None:
    measured = measure_correlation(np.array([0.1, 0.7]), np.array([0.3, 0.9]))
    values = measured.values(np.array([[2.0, 0.0], [1.0, 1.0]]))
    assert values["pearson"] == pytest.approx([0, 1])
    assert values["spearman"] == pytest.approx([0, 1])
