"""Every law: exact derivatives, and the truth back from data, whatever their order and units."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.fitting.frontier import optimum
from analysis.fitting.law_fit import fit_law
from analysis.fitting.minimise import Minimum, minimise
from analysis.fitting.objective import Huber, LeastSquares
from analysis.laws.data_constrained import DataConstrained
from analysis.laws.law import Array, law_named, law_names
from analysis.runs.run_table import RunTable

sys.path.insert(0, str(Path(__file__).parent))
from planted_laws import Planted, grid, planted

PLANTED = planted()
EVERY = pytest.mark.parametrize("case", PLANTED)
NEEDS_ITS_OWN_FITTER = ("exchange",)
"""Fitted where its data are (tests of mixtures)."""


def found_in(case: Planted, table: RunTable) -> Minimum:
    objective = Huber(scale="log" if case.law.response == "loss" else "raw")
    return minimise(case.law, table.columns, table.y, objective)


def fitted(names: dict[str, Planted]) -> list[str]:
    return [name for name, case in names.items() if case.law.name not in NEEDS_ITS_OWN_FITTER]


FITTED = pytest.mark.parametrize("case", fitted(PLANTED))
HAS_UNIT = pytest.mark.parametrize("case", [name for name, case in PLANTED.items() if case.law.name != "ceiling"])
"""A ceiling of 1 is one of a share."""


def test_every_law_is_planted_somewhere() -> None:
    assert {case.law.name for case in PLANTED.values()} == set(law_names())


def test_an_unknown_law_is_refused_with_the_names_of_the_known() -> None:
    with pytest.raises(ValueError, match=r"law must be one of broken, ceiling, chinchilla, .*, got 'kaplan'"):
        law_named("kaplan")


@EVERY
def test_derivatives_are_exact(case: str) -> None:
    law, theta, at = PLANTED[case].law, PLANTED[case].theta, PLANTED[case].table.columns
    slopes = law.gradient(theta, at)
    for j, param in enumerate(law.params):
        step = 1e-6 * abs(theta[j])  # in the unit of the parameter, whatever that is
        ends = np.repeat(theta[None], 2, axis=0)
        ends[:, j] += [step, -step]
        up, down = law.loss(ends, at)  # two parameter vectors at once: leading axes broadcast
        measured = (up - down) / (2 * step)
        np.testing.assert_allclose(
            slopes[:, j], measured, atol=1e-5 * np.abs(measured).max() + 1e-12, rtol=0, err_msg=param.name
        )


@FITTED
def test_without_noise_the_truth_comes_back(case: str) -> None:
    found = found_in(PLANTED[case], PLANTED[case].table)
    assert found.converged
    np.testing.assert_allclose(found.theta, PLANTED[case].theta, rtol=1e-4)


@FITTED
def test_with_noise_the_fit_beats_the_truth_and_predicts_it(case: str) -> None:
    """A global minimum lies at or below the planted parameters; with 0.3 % of noise it predicts the truth to 0.6 %."""
    own = PLANTED[case]
    noisy = own.with_noise(0.003, seed=7)
    found = found_in(own, noisy)
    objective = Huber(scale="log" if own.law.response == "loss" else "raw")
    off = np.log(own.table.y) - np.log(noisy.y) if objective.scale == "log" else own.table.y - noisy.y
    assert found.value <= objective.value(off).sum()
    np.testing.assert_allclose(own.law.loss(found.theta, own.table.columns), own.table.y, rtol=0.006)


@FITTED
def test_the_order_of_the_rows_does_not_matter(case: str) -> None:
    noisy = PLANTED[case].with_noise(0.003, seed=8)
    mixed = np.random.default_rng(3).permutation(len(noisy))
    shuffled = replace(
        noisy,
        columns={name: column[mixed] for name, column in noisy.columns.items()},
        **{name: getattr(noisy, name)[mixed] for name in ("y", "recipe", "run", "seed", "row")},
    )
    one, other = found_in(PLANTED[case], noisy), found_in(PLANTED[case], shuffled)
    assert other.value == pytest.approx(one.value, rel=1e-9)


@pytest.mark.parametrize(("unit", "letters"), [(1e9, ("N",)), (1e9, ("D", "U")), (1e6, ("N", "D", "U", "C"))])
@FITTED
def test_units_of_sizes_do_not_matter(case: str, unit: float, letters: tuple[str, ...]) -> None:
    """In billions, factors are other numbers; the objective and the predictions are not."""
    own = PLANTED[case]
    noisy = own.with_noise(0.003, seed=9)
    if not set(letters) & set(noisy.columns):
        pytest.skip("the law reads none of these")
    columns = {name: column / unit if name in letters else column for name, column in noisy.columns.items()}
    small = replace(noisy, columns=columns)
    law = type(own.law).of(small)
    objective = Huber(scale="log" if law.response == "loss" else "raw")
    one, other = found_in(own, noisy), minimise(law, small.columns, small.y, objective)
    assert other.value == pytest.approx(one.value, rel=1e-7)
    np.testing.assert_allclose(law.loss(other.theta, small.columns), own.law.loss(one.theta, noisy.columns), rtol=1e-6)


@pytest.mark.parametrize("factor", [1e4, 1e-4])
@HAS_UNIT
def test_a_fit_is_the_same_in_every_unit_of_the_response(case: str, factor: float) -> None:
    """Nats, millinats, nats per sequence: what has the unit is multiplied, ends of intervals too; all else stays."""
    own = PLANTED[case]
    noisy = own.with_noise(0.003, seed=10)
    objective = Huber() if own.law.response == "loss" else LeastSquares("raw")
    one = fit_law(noisy, own.law, objective=objective, hold_out=1)
    other = fit_law(replace(noisy, y=factor * noisy.y), own.law, objective=objective, hold_out=1)
    assert (other.status, other.unsettled) == (one.status, one.unsettled)
    for name in ("value", "lo", "hi"):
        ends = np.array([[getattr(estimate, name) for estimate in fit.params.values()] for fit in (one, other)])
        np.testing.assert_allclose(ends[1], own.law.rescaled(ends[0], factor), rtol=2e-3, atol=0, err_msg=name)
    np.testing.assert_allclose(other.theta, own.law.rescaled(one.theta, factor), rtol=1e-5)
    at = noisy.columns
    np.testing.assert_allclose(other.predict(at), factor * one.predict(at), rtol=1e-7)
    np.testing.assert_allclose(other.interval(at), factor * np.array(one.interval(at)), rtol=1e-5)


@pytest.mark.parametrize("factor", [1e4, 1e-4])
@pytest.mark.parametrize("case", ["chinchilla", "isoflop"])
def test_what_a_budget_buys_best_is_the_same_in_every_unit_of_the_loss(case: str, factor: float) -> None:
    noisy = PLANTED[case].with_noise(0.003, seed=10)
    one, other = (
        optimum(fit_law(replace(noisy, y=times * noisy.y), PLANTED[case].law), 1e22) for times in (1.0, factor)
    )
    for name, times in (("num_params", 1.0), ("tokens", 1.0), ("exponent", 1.0), ("loss", factor)):
        ours, theirs = getattr(one, name), getattr(other, name)
        expected = times * np.array([ours.value, ours.lo, ours.hi])
        np.testing.assert_allclose([theirs.value, theirs.lo, theirs.hi], expected, rtol=2e-3, err_msg=name)


@HAS_UNIT
def test_parameters_that_have_the_unit_of_the_response_carry_all_of_it(case: str) -> None:
    law, theta, table = PLANTED[case].law, PLANTED[case].theta, PLANTED[case].table
    np.testing.assert_allclose(law.loss(law.rescaled(theta, 1e4), table.columns), 1e4 * table.y, rtol=1e-12)


def test_repeated_data_at_one_epoch_are_the_law_without_repetition() -> None:
    """At D <= U and N <= N_opt(U) the effective amounts are the amounts."""
    at = grid(N=[1e7, 1e8], D=[1e10, 1e11])
    theta = np.array([1.8, 480.0, 2100.0, 0.35, 0.37, 15.0, 5.0])
    plain = law_named("chinchilla").of(PLANTED["chinchilla"].table)
    repeated = DataConstrained().loss(theta, {**at, "U": np.full(4, 1e12)})
    np.testing.assert_allclose(repeated, plain.loss(theta[:5], at), rtol=1e-12)


def test_a_token_read_often_is_worth_at_most_r_star_new_ones() -> None:
    """As repetitions go on, D' tends to U (1 + R_D*); the model is small enough for U tokens."""
    theta = np.array([1.8, 480.0, 2100.0, 0.35, 0.37, 15.0, 5.0])
    N = np.array([1e6])
    often: dict[str, Array] = {"N": N, "D": np.array([1e14]), "U": np.array([1e10])}
    new: dict[str, Array] = {"N": N, "D": np.array([16e10]), "U": np.array([16e10])}
    np.testing.assert_allclose(DataConstrained().loss(theta, often), DataConstrained().loss(theta, new), rtol=1e-12)


def test_a_second_epoch_of_a_long_lived_bucket_is_as_good_as_new_data() -> None:
    own = PLANTED["quality with repeats"]
    theta = own.theta.copy()
    theta[-3:] = 1e4  # half-lives without end
    new = {name: column for name, column in own.table.columns.items() if name != "U"}
    np.testing.assert_allclose(own.law.loss(theta, own.table.columns), own.law.loss(theta, new), rtol=1e-3)


@pytest.mark.parametrize("case", PLANTED)
def test_the_form_of_a_fit_names_its_parameters_and_constants(case: str) -> None:
    law = PLANTED[case].law
    for name in (*(param.name.partition(":")[0] for param in law.params), *law.constants):
        assert name in law.form, name


@pytest.mark.parametrize(
    ("case", "form"),
    [
        ("one budget", "L(N) = K + k log(N / N_0)^2"),
        ("mixture at one D", "L(w) = E + exp(sum_j b_j w_j)"),
        ("quality", "L_r(D) = E + B / (m_r D)^beta, m of best = 1"),
        ("transfer", "L = E + B / (D + D_T)^beta, D_T = k D^a, 0 where P = 0"),
    ],
)
def test_the_form_of_a_fit_has_no_term_that_the_table_cannot_tell(case: str, form: str) -> None:
    assert PLANTED[case].law.form == form
    assert not PLANTED[case].law.constants
