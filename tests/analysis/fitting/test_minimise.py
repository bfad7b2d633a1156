from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy import optimize

from analysis.fitting import least_absolute
from analysis.fitting.minimise import Minimum, minimise, minimise_resamples
from analysis.fitting.objective import AbsoluteDeviation, Huber, LeastSquares, Objective
from analysis.laws.broken import Broken
from analysis.laws.chinchilla import Chinchilla
from analysis.laws.law import Array, Columns, Law, Param
from analysis.laws.power import Power
from analysis.laws.rectified import Rectified
from analysis.runs.run_table import RunTable

POWER, CHINCHILLA = np.array([1.7, 400.0, 0.3]), np.array([1.8, 480.0, 2100.0, 0.35, 0.37])
SIZES: Columns = {"D": np.repeat(np.geomspace(1e7, 3e9, 8), 3)}
GRID: Columns = {
    "N": np.repeat(np.geomspace(1e7, 1e10, 6), 6),
    "D": np.tile(np.geomspace(3e8, 3e11, 6), 6),
}
OBJECTIVES: list[Objective] = [
    Huber(1e-3),
    Huber(1e-2),
    Huber(1e-3, "raw"),
    AbsoluteDeviation(),
    AbsoluteDeviation("raw"),
    LeastSquares(),
    LeastSquares("raw"),
]


def noisy(law: Law, theta: Array, at: Columns, sd: float = 0.004, seed: int = 0) -> Array:
    """Losses with the tails of real ones."""
    rng = np.random.default_rng(seed)
    return law.loss(theta, at) * np.exp(sd * rng.standard_t(3, len(next(iter(at.values())))))


@dataclass(frozen=True)
class General(Law):
    """A law that hides that it is a posynomial, and so takes the way of those that are none."""

    inner: Law
    name: ClassVar[str] = "general"
    equation: ClassVar[str] = ""
    columns: ClassVar[tuple[str, ...]] = ("N", "D")

    @classmethod
    def of(cls, table: RunTable) -> General:
        return cls(Chinchilla.of(table))

    @property
    def params(self) -> tuple[Param, ...]:
        return self.inner.params

    def loss(self, theta: Array, at: Columns) -> Array:
        return self.inner.loss(theta, at)

    def gradient(self, theta: Array, at: Columns) -> Array:
        return self.inner.gradient(theta, at)

    def starts(self, at: Columns, y: Array) -> Array:
        return self.inner.starts(at, y)


def value_of(law: Law, theta: Array, at: Columns, y: Array, objective: Objective) -> float:
    loss = law.loss(theta, at)
    return float(objective.value(np.log(loss / y) if objective.scale == "log" else loss - y).sum())


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
@pytest.mark.parametrize(("law", "theta", "at"), [(Power(), POWER, SIZES), (Chinchilla(), CHINCHILLA, GRID)])
def test_noise_free_points_give_back_the_law(law: Law, theta: Array, at: Columns, objective: Objective) -> None:
    found = minimise(law, at, law.loss(theta, at), objective)
    assert found.converged
    assert found.theta == pytest.approx(theta, rel=1e-6)
    assert found.at_bound == ()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_nothing_near_a_minimum_is_lower(objective: Objective) -> None:
    y = noisy(Chinchilla(), CHINCHILLA, GRID)
    found = minimise(Chinchilla(), GRID, y, objective)
    assert found.converged
    assert found.value == pytest.approx(value_of(Chinchilla(), found.theta, GRID, y, objective), rel=1e-12)
    rng = np.random.default_rng(1)
    for size in (1e-7, 1e-5, 1e-3, 1e-1):
        for away in size * rng.standard_normal((200, 5)):
            assert value_of(Chinchilla(), found.theta * np.exp(away), GRID, y, objective) >= found.value * (1 - 1e-11)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("objective", [Huber(1e-3), LeastSquares("raw")], ids=repr)
def test_scipy_from_many_starts_is_never_lower(objective: Objective, seed: int) -> None:
    y = noisy(Power(), POWER, SIZES, seed=seed)
    ours = minimise(Power(), SIZES, y, objective)

    def height(x: Array) -> float:
        return value_of(Power(), np.array([abs(x[0]), np.exp(x[1]), x[2]]), SIZES, y, objective)

    starts = [(E, log_B, beta) for E in (0.1, 1.5) for log_B in (1.0, 5.0) for beta in (0.1, 0.4)]
    with np.errstate(all="ignore"):
        found = [optimize.minimize(height, s, method="Nelder-Mead", options={"maxiter": 2000}) for s in starts]
        best = min(found, key=lambda r: float(r.fun))
        again = optimize.minimize(height, best.x, method="Nelder-Mead", options={"xatol": 1e-12, "fatol": 1e-16})
    assert ours.value <= float(again.fun) * (1 + 1e-9)


def test_a_pure_power_law_is_found_at_the_bound_E_0() -> None:
    y = noisy(Power(), np.array([0.0, 60.0, 0.15]), SIZES, sd=0.001)
    y = y * (SIZES["D"] / 1e8) ** (-0.004 * np.log(SIZES["D"] / 1e8))  # steeper and steeper: no floor at all
    found = minimise(Power(), SIZES, y, Huber(1e-3))
    assert found.converged
    assert found.theta[0] == 0
    assert found.at_bound == ("E",)


def test_an_outlier_moves_the_robust_fit_little_and_least_squares_far() -> None:
    y = Power().loss(POWER, SIZES)
    y[-1] *= 1.3
    robust, squares = (minimise(Power(), SIZES, y, o).theta for o in (Huber(1e-3), LeastSquares()))
    assert abs(robust[0] / POWER[0] - 1) < 0.01 < abs(squares[0] / POWER[0] - 1)


def test_order_of_rows_does_not_matter() -> None:
    y = noisy(Chinchilla(), CHINCHILLA, GRID)
    order = np.random.default_rng(2).permutation(len(y))
    found = minimise(Chinchilla(), GRID, y, Huber())
    turned = minimise(Chinchilla(), {k: v[order] for k, v in GRID.items()}, y[order], Huber())
    assert turned.theta == pytest.approx(found.theta, rel=1e-7)


def test_units_of_the_table_change_the_factors_alone() -> None:
    y = noisy(Chinchilla(), CHINCHILLA, GRID)
    found = minimise(Chinchilla(), GRID, y, Huber())
    millions = minimise(Chinchilla(), {k: v / 1e6 for k, v in GRID.items()}, y, Huber())
    _, A, B, alpha, beta = found.theta
    expected = [found.theta[0], A * 1e6**-alpha, B * 1e6**-beta, alpha, beta]
    assert millions.theta == pytest.approx(expected, rel=1e-6)
    assert millions.value == pytest.approx(found.value, rel=1e-10)


def test_weights_count_rows() -> None:
    y = noisy(Power(), POWER, SIZES)
    counts = np.random.default_rng(3).integers(0, 4, len(y))
    weighted = minimise(Power(), SIZES, y, Huber(), weights=counts.astype(float))
    repeated = minimise(Power(), {"D": np.repeat(SIZES["D"], counts)}, np.repeat(y, counts), Huber())
    assert weighted.value == pytest.approx(repeated.value, rel=1e-10)
    assert weighted.theta == pytest.approx(repeated.theta, rel=1e-6)


@pytest.mark.parametrize("law", [Chinchilla(), General(Chinchilla())], ids=["compiled", "general"])
@pytest.mark.parametrize("fixed", [{"alpha": 0.3}, {"E": 1.5, "B": 1000.0}, {"A": 480.0, "alpha": 0.35, "beta": 0.37}])
def test_fixed_parameters_stay_and_the_others_are_fitted_beside_them(law: Law, fixed: dict[str, float]) -> None:
    names = [p.name for p in law.params]
    truth = CHINCHILLA.copy()
    for name, value in fixed.items():
        truth[names.index(name)] = value
    found = minimise(law, GRID, law.loss(truth, GRID), Huber(), fixed=fixed)
    assert [found.theta[names.index(name)] for name in fixed] == pytest.approx(list(fixed.values()), rel=1e-12)
    assert found.theta == pytest.approx(truth, rel=1e-6)
    assert not set(found.at_bound) & set(fixed)


def test_all_parameters_fixed_is_an_evaluation() -> None:
    y = noisy(Power(), POWER, SIZES)
    fixed = dict(zip(("E", "B", "beta"), POWER.tolist(), strict=True))
    found = minimise(Power(), SIZES, y, Huber(), fixed=fixed)
    assert found.value == pytest.approx(value_of(Power(), POWER, SIZES, y, Huber()), rel=1e-12)


@pytest.mark.parametrize(
    ("fixed", "message"),
    [({"gamma": 1.0}, r"no parameter 'gamma'; it has E, B, beta"), ({"B": -1.0}, "B must be above 0")],
)
def test_what_cannot_be_fixed_is_refused(fixed: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        minimise(Power(), SIZES, noisy(Power(), POWER, SIZES), Huber(), fixed=fixed)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_the_general_engine_finds_what_the_compiled_one_does(objective: Objective) -> None:
    y = noisy(Chinchilla(), CHINCHILLA, GRID, seed=4)
    compiled, general = (minimise(law, GRID, y, objective) for law in (Chinchilla(), General(Chinchilla())))
    assert general.converged
    assert general.value == pytest.approx(compiled.value, rel=1e-9)
    assert general.theta == pytest.approx(compiled.theta, rel=1e-4)  # the objective is flat to second order


@pytest.mark.parametrize("law", [Chinchilla(), General(Chinchilla())], ids=["compiled", "general"])
def test_every_resample_ends_at_its_own_minimum(law: Law) -> None:
    y = noisy(law, CHINCHILLA, GRID, seed=5)
    start = minimise(law, GRID, y, Huber()).theta
    counts = np.random.default_rng(6).multinomial(len(y), np.full(len(y), 1 / len(y)), 30).astype(float)
    thetas, values = minimise_resamples(law, GRID, y, Huber(), counts, start)
    for row, value, theta in zip(counts, values, thetas, strict=True):
        own = minimise(Chinchilla(), GRID, y, Huber(), weights=row)
        assert value <= own.value * (1 + 1e-9)
        assert theta == pytest.approx(own.theta, rel=1e-3) or value < own.value


def test_resamples_whose_minimum_is_far_from_the_start_are_found() -> None:
    """Half of the rows follow a law without a floor, half one that is flat at once; weights choose between them."""
    D = np.geomspace(1e6, 1e9, 12)
    y = np.concatenate([60 * D**-0.2, 2 + 3 * (D / 1e6) ** -1.5])
    at = {"D": np.tile(D, 2)}
    first, second = np.repeat([1.0, 0.0], 12), np.repeat([0.0, 1.0], 12)
    for start in (minimise(Power(), at, y, Huber(), weights=w).theta for w in (first, second)):
        thetas, _ = minimise_resamples(Power(), at, y, Huber(), np.stack([first, second]), start)
        assert thetas[0] == pytest.approx([0, 60, 0.2], rel=1e-5, abs=1e-6)
        assert thetas[1] == pytest.approx([2, 3 * 1e6**1.5, 1.5], rel=1e-5)


def test_of_a_large_table_absolute_deviations_take_a_program_of_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    at: Columns = {"D": 10 ** rng.uniform(7, 10, 900)}
    y = noisy(Power(), POWER, at)
    whole = minimise(Power(), at, y, AbsoluteDeviation())
    monkeypatch.setattr(least_absolute, "MAX_ROWS", 40)
    few = minimise(Power(), at, y, AbsoluteDeviation())
    assert few.converged
    assert few.value == pytest.approx(whole.value, rel=1e-9)


def test_the_way_along_a_flat_valley_is_found_to_its_end() -> None:
    """Learned data 20 times what was seen at most: the Hessian has no digit left of how the parameters differ."""
    D = np.r_[0, 200 * 2.0 ** np.arange(14)]
    theta = np.array([0.0, 3073.0, 1463.0, 0.3])
    found = minimise(Rectified(), {"D": D}, Rectified().loss(theta, {"D": D}), Huber())
    assert found.converged
    assert found.theta == pytest.approx(theta, rel=1e-3, abs=1e-6)


def test_a_law_that_is_not_compiled_is_fitted_to_many_rows_from_what_few_of_them_show() -> None:
    rng = np.random.default_rng(5)
    at: Columns = {"D": 10 ** rng.uniform(5, 10, 1000)}
    theta = np.array([1.2, 30.0, 0.12, 0.2, 1e7, 0.3])
    y = noisy(Broken(), theta, at, sd=0.002)
    found = minimise(Broken(), at, y, Huber())
    assert found.converged
    assert value_of(Broken(), found.theta, at, y, Huber()) <= value_of(Broken(), theta, at, y, Huber())
    assert found.theta[3] == pytest.approx(0.2, rel=0.2)


def test_fits_are_the_same_each_time() -> None:
    y = noisy(Chinchilla(), CHINCHILLA, GRID)

    def once() -> tuple[Minimum, Array]:
        found = minimise(Chinchilla(), GRID, y, Huber())
        counts = np.random.default_rng(7).multinomial(36, np.full(36, 1 / 36), 5).astype(float)
        return found, minimise_resamples(Chinchilla(), GRID, y, Huber(), counts, found.theta)[0]

    (first, first_draws), (second, second_draws) = once(), once()
    assert np.array_equal(first.theta, second.theta)
    assert np.array_equal(first_draws, second_draws)


def test_the_compiler_is_loaded_by_the_first_fit_alone() -> None:
    code = "import sys, analysis.fitting.minimise; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_code_is_compiled_without_a_cache_where_no_folder_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from analysis.fitting import kernel

    asked = []

    def njit(**options: Any) -> Callable[[Any], Any]:
        asked.append(options)
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(kernel, "njit", njit)
    assert kernel.compiled(abs) is abs
    assert [bool(options.get("cache")) for options in asked] == [True, False]
