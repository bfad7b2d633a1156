from __future__ import annotations

import numpy as np
import pytest

from analysis.laws.chinchilla import Chinchilla
from analysis.laws.law import Array, Columns
from analysis.laws.posynomial import Posynomial
from analysis.laws.power import Power

SIZES = {"N": np.geomspace(1e7, 1e10, 12), "D": np.tile(np.geomspace(1e8, 1e11, 4), 3)}
CASES = [(Power(), np.array([1.7, 400.0, 0.3])), (Chinchilla(), np.array([1.8, 480.0, 2100.0, 0.35, 0.37]))]


@pytest.mark.parametrize(("law", "theta"), CASES)
def test_gradient_is_the_slope_of_the_loss(law: Posynomial, theta: Array) -> None:
    for j, width in enumerate(1e-5 * theta):
        up, down = theta.copy(), theta.copy()
        up[j] += width
        down[j] -= width
        slope = (law.loss(up, SIZES) - law.loss(down, SIZES)) / (2 * width)
        assert law.gradient(theta, SIZES)[:, j] == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize(("law", "theta"), CASES)
def test_many_parameter_vectors_are_evaluated_at_once_as_one_by_one(law: Posynomial, theta: Array) -> None:
    many = theta * np.linspace(0.8, 1.2, 6).reshape(2, 3, 1)
    losses, slopes = law.loss(many, SIZES), law.gradient(many, SIZES)
    assert losses.shape == (2, 3, 12)
    assert slopes.shape == (2, 3, 12, len(theta))
    for i in np.ndindex(2, 3):
        assert losses[i] == pytest.approx(law.loss(many[i], SIZES), rel=1e-14)
        assert slopes[i] == pytest.approx(law.gradient(many[i], SIZES), rel=1e-14)


def test_loss_is_the_formula_of_the_paper() -> None:
    E, A, B, alpha, beta = CASES[1][1]
    expected = E + A / SIZES["N"] ** alpha + B / SIZES["D"] ** beta
    assert Chinchilla().loss(CASES[1][1], SIZES) == pytest.approx(expected, rel=1e-13)
    assert Power().loss(np.array([E, B, beta]), SIZES) == pytest.approx(E + B / SIZES["D"] ** beta, rel=1e-13)


@pytest.mark.parametrize("E", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("beta", [0.05, 0.3, 1.2])
def test_a_start_is_near_the_truth_for_slow_and_fast_falls(E: float, beta: float) -> None:
    at: Columns = {"D": np.geomspace(1e6, 1e9, 9)}
    y = E + 2 * (at["D"] / 1e6) ** -beta
    nearest = min(float(np.abs(np.log(Power().loss(start, at)) - np.log(y)).max()) for start in Power().starts(at, y))
    assert nearest < 0.02  # of losses that fall by up to 3 nats


def test_starts_lie_within_the_bounds_also_for_losses_that_rise() -> None:
    D = np.geomspace(1e6, 1e9, 9)
    for y in (np.linspace(1, 2, 9), np.full(9, 2.0), np.exp(np.random.default_rng(0).normal(0, 1, 9))):
        starts = Power().starts({"D": D}, y)
        low, high = (np.array([getattr(p, side) for p in Power().params]) for side in ("low", "high"))
        assert len(starts)
        assert np.isfinite(starts).all()
        assert (starts >= low * (1 - 1e-9)).all()
        assert (starts <= high * (1 + 1e-9)).all()
