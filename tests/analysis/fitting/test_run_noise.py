"""The errors of estimates: exact where rows are independent, wider where they share what no row shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from analysis.fitting.run_noise import RunNoise
from analysis.laws.law import Array


def noise(errors: Array, runs: NDArray[Any], design: Array, weights: Array | None = None) -> RunNoise:
    """Least squares of errors on a design, (n, f)."""
    w = np.ones(len(errors)) if weights is None else weights
    u = np.linalg.solve((design * w[:, None]).T @ design, (design * w[:, None]).T @ errors)
    return RunNoise(errors - design @ u, design, w, np.ones(len(errors)), runs.astype(str))


def trunks(count: int, length: int, share: float, rng: np.random.Generator) -> tuple[Array, NDArray[Any], Array]:
    """Errors of unit variance, their runs, and a straight line as design."""
    runs = np.repeat(np.arange(count), length)
    errors = np.sqrt(share) * rng.standard_normal(count)[runs] + np.sqrt(1 - share) * rng.standard_normal(len(runs))
    x = np.tile(np.linspace(-1, 1, length), count)
    return errors, runs, np.stack([np.ones_like(x), x], axis=1)


def test_independent_rows_give_the_t_interval() -> None:
    errors, _, design = trunks(3, 5, 0.0, np.random.default_rng(0))
    found = noise(errors, np.arange(15), design)
    variance = (found.residuals**2).sum() / 13
    sd = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    np.testing.assert_allclose(found.half_widths(np.eye(2), 0.95), stats.t.ppf(0.975, 13) * sd, rtol=1e-9)
    assert found.row_sd == pytest.approx(np.sqrt(variance))


def test_one_trunk_widens_the_level_for_what_it_cannot_show() -> None:
    errors, _, design = trunks(1, 9, 0.0, np.random.default_rng(1))
    alone = noise(errors, np.arange(9), design).half_widths(np.eye(2), 0.95)
    shared = noise(errors, np.zeros(9), design).half_widths(np.eye(2), 0.95)
    assert shared[0] > 2 * alone[0]
    assert shared[1] == pytest.approx(alone[1], rel=0.2)  # what a trunk shares cancels in its slope


@pytest.mark.parametrize(("share", "low", "high"), [(0.9, 0.75, 0.95), (0.0, 0.0, 0.2)])
def test_many_trunks_tell_how_much_they_share(share: float, low: float, high: float) -> None:
    errors, runs, design = trunks(30, 8, share, np.random.default_rng(2))
    probability, kappa, _, _ = noise(errors, runs, design).components
    assert low < float((probability * kappa / (1 + kappa)).sum()) < high


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
def test_intervals_cover_whatever_trunks_share(count: int, share: float) -> None:
    """300 tables. At a true coverage of 93 % fewer than 266 hits have a chance of 0.2 %."""
    rng, at = np.random.default_rng(3), np.array([[1.0, 2.0]])
    hits = 0
    for _ in range(300):
        errors, runs, design = trunks(count, 6, share, rng)
        found = noise(errors, runs, design)
        estimate = at @ np.linalg.lstsq(design, errors, rcond=None)[0]
        hits += abs(float(estimate[0])) <= float(found.half_widths(at, 0.95)[0])
    assert hits >= 266, hits / 300


def test_noise_at_one_end_is_seen_by_leaving_out_runs() -> None:
    """A line through 40 rows whose noise sits at one end: the textbook error of the slope is too small by a third."""
    rng = np.random.default_rng(4)
    x = np.linspace(-1, 1, 40)
    design = np.stack([np.ones_like(x), x], axis=1)
    sd = np.where(x > 0.8, 3.0, 0.3)
    inverse = np.linalg.inv(design.T @ design)
    truth = np.sqrt((inverse @ (design * sd[:, None] ** 2).T @ design @ inverse)[1, 1])
    widths = [
        noise(sd * rng.standard_normal(40), np.arange(40), design).half_widths(np.eye(2), 0.95)[1] for _ in range(50)
    ]
    assert np.median(widths) == pytest.approx(2 * truth, rel=0.25)


def test_the_interval_of_a_huber_estimate_knows_that_its_residuals_are_weighted_down() -> None:
    """Weights of 1.5 sd on Gaussian errors: without the correction the variance is 12 % too small."""
    rng, raw, corrected = np.random.default_rng(5), [], []
    for _ in range(200):
        errors, _, design = trunks(6, 10, 0.0, rng)
        weights = np.ones(60)
        for _ in range(20):
            found = noise(errors, np.arange(60), design, weights)
            weights = np.minimum(1, 1.5 / np.abs(found.residuals))
        found = noise(errors, np.arange(60), design, weights)
        raw.append((weights * found.residuals**2).sum() / found.degrees)
        corrected.append(found.row_sd**2)
    assert np.mean(raw) < 0.9
    assert np.mean(corrected) == pytest.approx(1.0, abs=0.06)
