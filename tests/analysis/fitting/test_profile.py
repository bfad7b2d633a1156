"""Profiles: equal to exact intervals where those are known, and to a general minimiser where they are not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.fitting.law_fit import LawFit, fit_law
from analysis.fitting.minimise import minimise
from analysis.fitting.objective import LeastSquares
from analysis.fitting.result import Status
from analysis.laws.exchange import Exchange
from analysis.laws.law import Array, Law
from analysis.laws.power import Power
from analysis.laws.rectified import Rectified
from analysis.runs.run_table import RunTable


def table(D: Array, y: Array) -> RunTable:
    """Rows that are each a run of their own."""
    names = np.array([str(i) for i in range(len(D))])
    return RunTable({"D": D}, y, np.full(len(D), "a"), names, names, np.arange(len(D)) + 1)


def noisy(
    E: float, B: float, beta: float, sizes: int = 8, seeds: int = 2, sd: float = 0.004, seed: int = 0
) -> RunTable:
    D = np.repeat(62_500.0 * 2.0 ** np.arange(sizes), seeds)
    return table(D, (E + B * D**-beta) * np.exp(np.random.default_rng(seed).normal(0, sd, len(D))))


def squares(fit: LawFit) -> float:
    return 2 * fit.value / (len(fit.table) - 3)


def test_where_the_law_is_a_straight_line_the_interval_is_that_of_linear_regression() -> None:
    """With E fixed at 0, log L is linear in log D: its t intervals are exact."""
    runs = noisy(0.0, 30.0, 0.18)
    fit = fit_law(runs, Power(), objective=LeastSquares(), fixed={"E": 0.0})
    x, y = np.log(runs.columns["D"]), np.log(runs.y)
    line = stats.linregress(x, y)
    n, t = len(x), float(stats.t.ppf(0.975, len(x) - 2))
    assert fit.params["beta"].value == pytest.approx(-line.slope, rel=1e-6)
    assert fit.params["beta"].hi == pytest.approx(-line.slope + t * line.stderr, rel=1e-4)
    at = np.array([x.max() + np.log(4), x.min()])
    s2 = ((y - line.intercept - line.slope * x) ** 2).sum() / (n - 2)
    spread = 1 / n + (at - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
    centre = line.intercept + line.slope * at
    columns = {"D": np.exp(at)}
    for ends, half in (
        (fit.interval(columns), t * np.sqrt(s2 * spread)),
        (fit.prediction_interval(columns), t * np.sqrt(s2 * (1 + spread))),
    ):
        np.testing.assert_allclose(np.log(ends[0]), centre - half, atol=2e-3 * half.max())
        np.testing.assert_allclose(np.log(ends[1]), centre + half, atol=2e-3 * half.max())


def test_at_the_ends_of_a_profile_a_general_minimiser_finds_the_threshold() -> None:
    runs = noisy(1.5, 60.0, 0.25)
    fit = fit_law(runs, Power(), objective=LeastSquares())
    threshold = float(stats.t.ppf(0.975, len(runs) - 3)) ** 2 * squares(fit)
    for name, estimate in fit.params.items():
        for end in (estimate.lo, estimate.hi):
            held = minimise(Power(), runs.columns, runs.y, LeastSquares(), fixed={name: end})
            # ends are found to 2e-3 standard errors, and a threshold of t^2 doubles a relative error
            assert 2 * (held.value - fit.value) == pytest.approx(threshold, rel=1e-2), name


def test_a_prediction_at_the_end_of_its_interval_is_as_bad_as_the_threshold() -> None:
    """L(D0) = v is the law with B = (v - E) D0^beta: a law of two parameters, searched here by brute force."""
    runs = noisy(1.5, 60.0, 0.25)
    fit = fit_law(runs, Power(), objective=LeastSquares())
    threshold = float(stats.t.ppf(0.975, len(runs) - 3)) ** 2 * squares(fit)
    far = 8 * runs.columns["D"].max()
    lo, hi = fit.interval({"D": np.array([far])})
    for v in (lo[0], hi[0]):
        beta, E = np.meshgrid(np.linspace(0.15, 0.4, 800), np.linspace(1.0, 1.75, 800))
        deviance = np.zeros_like(beta)
        for D, y in zip(runs.columns["D"], runs.y, strict=True):
            deviance += (np.log(E + (v - E) * (D / far) ** -beta) - np.log(y)) ** 2
        assert float(deviance.min()) - 2 * fit.value == pytest.approx(threshold, rel=2e-2)  # the grid's own precision


def test_a_derived_quantity_has_the_interval_of_the_parameter_that_it_is() -> None:
    fit = fit_law(noisy(1.5, 60.0, 0.25), Power())
    found = fit.estimate(lambda theta: np.log(theta[..., 1]))
    expected = fit.params["B"]
    np.testing.assert_allclose(
        [found.value, found.lo, found.hi], np.log([expected.value, expected.lo, expected.hi]), rtol=2e-3
    )


def test_an_end_that_the_data_do_not_set_is_open() -> None:
    """A loss that does not fall fits any beta, with B at next to nothing, and any E, with beta at nothing."""
    params = fit_law(noisy(4.0, 1e-9, 0.3, seeds=3, seed=1), Power()).params
    assert (params["beta"].lo, params["beta"].hi) == (0.0, np.inf)
    assert params["B"].lo == 0.0
    assert params["E"].lo == 0.0
    assert 4.0 < params["E"].hi < 4.1


def level(sd: float, fall: float, seed: int) -> RunTable:
    """9 losses about 2 whose noise has no trend; they fall by `fall` standard deviations of it from first to last."""
    x: Array = np.linspace(-0.5, 0.5, 9)
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.5, 1.5, 9) * (-1.0) ** (np.arange(9) + seed)  # to and fro: no first one is apart
    z -= np.polyval(np.polyfit(x, z, 1), x)
    return table(1e7 * 2.0 ** np.arange(9.0), 2 * np.exp(sd * (z / z.std() - fall * x)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fall", [-0.5, 0.0, 0.5])
@pytest.mark.parametrize("sd", [0.001, 0.01])
def test_where_losses_do_not_fall_every_exponent_fits_and_no_floor_above_them(
    sd: float, fall: float, seed: int
) -> None:
    """Any share of the level may be E, and what is left falls with any exponent, or is nothing."""
    runs = level(sd, fall, seed)
    fit = fit_law(runs, Power())
    assert fit.status is Status.NOT_IDENTIFIED
    assert (fit.params["beta"].lo, fit.params["beta"].hi) == (0.0, np.inf)
    assert fit.params["B"].lo == 0.0
    assert fit.params["E"].lo == 0.0
    mean = float(np.exp(np.log(runs.y).mean()))
    assert mean < fit.params["E"].hi < mean * np.exp(3 * sd)


@pytest.mark.parametrize("law", [Rectified(), Power()])
@pytest.mark.parametrize("seed", range(3))
def test_no_floor_lies_above_the_losses(law: Law, seed: int) -> None:
    runs = level(0.001, 0.0, seed)
    assert fit_law(runs, law).params["E"].hi < 1.002 * runs.y.max()


@pytest.mark.parametrize("seed", range(4))
def test_along_a_bound_of_a_parameter_a_band_has_no_teeth(seed: int) -> None:
    """Two mixtures of two domains, E = 0: where a search runs along that bound it must not stop, nor pass for open."""
    sizes, weights = 625_000.0 * np.array([1.0, 1.44, 1.92, 2.56, 3.2]), np.array([[0.2, 0.8], [0.8, 0.2]])
    D, place = np.repeat(sizes, 4), np.tile([0, 0, 1, 1], 5)
    law = Exchange(("code", "docs"), 1.2e6)
    at = {"D": D, "w": weights[place]}
    noise = np.random.default_rng(seed).normal(0, 0.007, len(D))
    y = law.loss(np.array([0.0, 0.1, 1.0, 4.4, 3.5]), at) * np.exp(noise)
    names = np.array([f"{i % 4}" for i in range(len(D))])
    runs = RunTable(at, y, names, names, names, np.arange(len(D)) + 1, domains=("code", "docs"))
    fit = fit_law(runs, law, fixed={"gamma": 1.0})
    code = np.linspace(0.2, 0.8, 61)
    asked = {"D": np.full(61, 2e6), "w": np.stack([code, 1 - code], axis=1)}
    for end in fit.interval(asked):
        off = np.abs(np.log(end / fit.predict(asked)))
        assert off.max() < 0.05
        assert np.abs(np.diff(off)).max() < 0.15 * off.max()
