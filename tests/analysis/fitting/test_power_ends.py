"""The ends of a power law's loss: those of all curves that fit as well, and as smooth over D as the curves are."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from analysis.fitting.law_fit import fit_law
from analysis.fitting.objective import LeastSquares
from analysis.fitting.power_ends import MAX_SIZES, power_ends
from analysis.fitting.profile import Prediction, crossings
from analysis.fitting.working import Working
from analysis.laws.law import Array
from analysis.laws.power import Power
from analysis.runs.run_table import RunTable

SIZES = 625_000.0 * np.array([1.0, 1.44, 1.92, 2.56])
FLAT = 7.0, 0.016
"""B and beta of a loss that falls by 1.5 % over the sizes, E = 0."""


def fitted(y: Array, D: Array) -> Working:
    names = np.array([str(i) for i in range(len(D))])
    table = RunTable({"D": D}, y, np.full(len(D), "a"), names, names, np.arange(len(D)) + 1)
    working = fit_law(table, Power(), objective=LeastSquares()).working
    assert working is not None
    return working


def vague(seed: int) -> Working:
    """4 sizes x 2 seeds whose noise is as large as the fall between two sizes: any shape fits."""
    D = np.repeat(SIZES, 2)
    B, beta = FLAT
    return fitted(B * D**-beta * np.exp(np.random.default_rng(seed).normal(0, 0.005, len(D))), D)


def least(working: Working) -> float:
    return float((working.surface.weights * working.surface.residuals(working.u[None])[0][0] ** 2).sum())


def searched(working: Working, D: float, height: float) -> tuple[float, float]:
    """Both ends by brute force over beta and the share of the loss at the smallest size that more data can undercut.

    Of each such curve the level is free, in which the deviance is a parabola.
    """
    y, w, x = working.surface.target, working.surface.weights, np.log(working.surface.at["D"] / SIZES[0])
    ends = []
    for sign in (-1.0, 1.0):
        beta, share = np.r_[0.0, np.geomspace(1e-4, 5.0, 400)], np.r_[0.0, np.geomspace(1e-5, 1.0, 400)]
        for _ in range(4):
            b, g = beta[:, None, None], share[None, :, None]
            off = y - np.log(1 - g + g * np.exp(-b * x))
            level = off @ w / w.sum()
            room = least(working) + height - (off - level[..., None]) ** 2 @ w
            there = level + np.log(1 - g + g * np.exp(-b * np.log(D / SIZES[0])))[..., 0]
            end = np.where(room >= 0, sign * there + np.sqrt(np.maximum(room, 0.0) / w.sum()), -np.inf)
            i, j = np.unravel_index(int(end.argmax()), end.shape)
            beta = np.linspace(beta[max(i - 1, 0)], beta[min(i + 1, len(beta) - 1)], 60)
            share = np.linspace(share[max(j - 1, 0)], share[min(j + 1, len(share) - 1)], 60)
        ends.append(sign * float(end.max()))
    return ends[0], ends[1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("times", [0.5, 5.0, 50.0])
def test_ends_are_those_of_all_curves_that_fit_as_well(seed: int, times: float) -> None:
    working = vague(seed)
    height = times * least(working)
    D = SIZES[[0, 0, 1, 2, 3, 3]] * np.array([1.0, 1.2, 1.1, 1.05, 1.0, 8.0])
    lo, hi = power_ends(working.surface, working.u, D, np.full(len(D), height))
    for one, low, high in zip(D.tolist(), lo, hi, strict=True):
        expected = searched(working, one, height)
        assert low == pytest.approx(expected[0], abs=3e-3 * (high - low))
        assert high == pytest.approx(expected[1], abs=3e-3 * (high - low))


@pytest.mark.parametrize("seed", range(4))
def test_a_band_of_a_vague_fit_has_no_teeth(seed: int) -> None:
    """At one threshold all ends are those of one set of falling curves, so both fall, and from one D to the next they
    move by little: no more than the steepest of the curves does."""
    working = vague(seed)
    D = np.geomspace(SIZES[0], SIZES[-1], 400)
    asked, which = Prediction({"D": D}), np.arange(len(D))
    gradient = asked(working.surface, np.repeat(working.u[None], len(D), axis=0), which)[1]
    half = np.sqrt(30 * least(working)) * working.noise.unit_sd(gradient)
    for end in working.ends(asked, half):
        moves = np.diff(end)
        assert (moves <= 1e-6).all()
        assert (moves >= -5.0 * np.diff(np.log(D))).all()
        assert np.abs(np.diff(moves)).max() < 4e-3 * float(np.ptp(end)) + 1e-6


def test_one_loss_asked_alone_has_the_ends_that_it_has_in_a_band() -> None:
    working = vague(0)
    D = np.geomspace(SIZES[0] / 8, SIZES[-1] * 8, 64)
    heights = least(working) * np.geomspace(0.1, 100.0, len(D))
    band = power_ends(working.surface, working.u, D, heights)
    for k in (0, 20, 40, 63):
        alone = power_ends(working.surface, working.u, D[[k]], heights[[k]])
        for whole, one in zip(band, alone, strict=True):
            assert whole[k] == pytest.approx(one[0], abs=1e-3 * (band[1][k] - band[0][k]))


@pytest.mark.parametrize("sizes", [5, 12])
def test_where_runs_settle_the_law_a_descent_finds_the_same_ends(sizes: int) -> None:
    """The set of curves is a thin ellipsoid there, far smaller than a cell of the first grid."""
    D = np.repeat(62_500.0 * 2.0 ** np.arange(sizes), 3)
    working = fitted((1.5 + 60 * D**-0.25) * np.exp(np.random.default_rng(1).normal(0, 2e-4, len(D))), D)
    at = {"D": np.array([D[0], D[len(D) // 2], D[-1], 8 * D[-1]])}
    which = np.arange(4)
    gradient = Prediction(at)(working.surface, np.repeat(working.u[None], 4, axis=0), which)[1]
    unit, half = working.noise.unit_sd(gradient), working.noise.half_widths(gradient, 0.95)
    descended = crossings(working.surface, working.u, Prediction(at), which, half, unit)
    found = working.ends(Prediction(at), half)
    for ours, theirs in zip(found, descended, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-3 * half.max())


def test_points_without_noise_have_ends_at_the_curve() -> None:
    D = np.repeat(62_500.0 * 2.0 ** np.arange(6), 2)
    working = fitted(1.5 + 60 * D**-0.25, D)
    at = {"D": D[::2]}
    lo, hi = working.profile(Prediction(at), 6, 0.95)[1:]
    np.testing.assert_allclose(np.exp([lo, hi]), np.tile(1.5 + 60 * D[::2] ** -0.25, (2, 1)), rtol=1e-7)


@pytest.mark.parametrize("noise", [0.004, 0.3])
def test_sizes_that_are_merged_leave_the_ends_where_they_are(noise: float) -> None:
    rng = np.random.default_rng(1)
    D = np.exp(rng.uniform(np.log(1e6), np.log(1e9), 3 * MAX_SIZES))
    working = fitted((1.7 + 2 * (D / 1e6) ** -0.28) * np.exp(noise * rng.standard_normal(len(D))), D)
    at = {"D": np.array([5e5, D.min(), 3e7, D.max(), 8e9])}
    which = np.arange(5)
    gradient = Prediction(at)(working.surface, np.repeat(working.u[None], 5, axis=0), which)[1]
    unit, half = working.noise.unit_sd(gradient), working.noise.half_widths(gradient, 0.95)
    low, high = crossings(working.surface, working.u, Prediction(at), which, half, unit)
    lo, hi = working.ends(Prediction(at), half)
    assert (np.abs([lo - low, hi - high]) < 0.01 * (high - low)).all()


def test_a_large_table_needs_little_memory() -> None:
    """Held out and asked of one by one: 300 losses of a law of 3000 sizes."""
    D = np.geomspace(1e6, 1e9, 3000)
    working = fitted((1.7 + 400 * D**-0.28) * np.exp(np.random.default_rng(0).normal(0, 0.004, len(D))), D)
    asked, heights = np.repeat(np.geomspace(1e9, 1e10, 100), 3), np.full(300, 4 * least(working) / len(D))
    tracemalloc.start()
    lo, hi = power_ends(working.surface, working.u, asked, heights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400e6
    assert (lo < hi).all()
    np.testing.assert_array_equal(lo[0::3], lo[2::3])
