"""Fits of laws to tables: statuses, intervals that cover, what is held out, draws."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.fitting.law_fit import fit_law, held_apart
from analysis.fitting.objective import AbsoluteDeviation, Huber, LeastSquares, Objective, Scale
from analysis.fitting.profile import Derived, Parameter, Prediction
from analysis.fitting.result import Status
from analysis.fitting.working import Working
from analysis.laws.broken import Broken
from analysis.laws.chinchilla import Chinchilla
from analysis.laws.data_constrained import DataConstrained
from analysis.laws.isoflop import IsoFlop
from analysis.laws.law import Array, Columns, Law, Param
from analysis.laws.logistic import Logistic
from analysis.laws.mixture import Mixture
from analysis.laws.power import Power
from analysis.laws.rectified import Rectified
from analysis.runs.run_table import RunTable

PUBLISHED = Path(__file__).parents[3].parent / "shared" / "published"
TRUTH = np.array([1.5, 60.0, 0.25])


def table(columns: Columns, y: Array, run: NDArray[Any] | None = None) -> RunTable:
    names = np.array([str(i) for i in range(len(y))])
    return RunTable(
        columns, y, np.full(len(y), "a"), names if run is None else run.astype(str), names, np.arange(len(y)) + 1
    )


def study(
    rng: np.random.Generator,
    num_sizes: int = 8,
    num_seeds: int = 3,
    own: float = 0.003,
    shared: float = 0.0,
    outliers: float = 0.0,
    theta: Array = TRUTH,
) -> RunTable:
    """sizes x seeds of a power law, the D of one seed being one trunk."""
    D = np.tile(62_500.0 * 2.0 ** np.arange(num_sizes), num_seeds)
    trunk = np.repeat(np.arange(num_seeds), num_sizes)
    noise = own * (rng.standard_normal(len(D)) + 8 * (rng.random(len(D)) < outliers))
    noise = noise + shared * rng.standard_normal(num_seeds)[trunk]
    return table({"D": D}, Power().loss(theta, {"D": D}) * np.exp(noise), trunk)


@pytest.mark.parametrize("objective", [Huber(), LeastSquares(), AbsoluteDeviation(), Huber(0.01, "raw")])
def test_planted_parameters_are_recovered_and_lie_in_their_intervals(objective: Objective) -> None:
    fit = fit_law(study(np.random.default_rng(0)), Power(), objective=objective)
    assert fit.status is Status.OK
    for value, estimate in zip(TRUTH, fit.params.values(), strict=True):
        assert estimate.lo < value < estimate.hi
        assert estimate.value == pytest.approx(value, rel=0.2)  # noise of 0.3 % on 24 runs: E to some 5 %, B to 10 %
        assert estimate.lo <= estimate.value <= estimate.hi


def test_the_order_of_rows_changes_nothing() -> None:
    runs = study(np.random.default_rng(1), own=0.002, shared=0.002)
    order = np.random.default_rng(2).permutation(len(runs))
    mixed = replace(runs, columns={"D": runs.columns["D"][order]}, y=runs.y[order], run=runs.run[order])
    at = {"D": np.array([1e8])}
    np.testing.assert_allclose(fit_law(runs, Power()).interval(at), fit_law(mixed, Power()).interval(at), rtol=1e-6)


def test_points_without_noise_have_intervals_without_width() -> None:
    fit = fit_law(study(np.random.default_rng(0), own=0.0), Power())
    lo, hi = fit.interval({"D": np.array([1e8])})
    assert hi[0] - lo[0] < 1e-6
    assert fit.status is Status.OK


@pytest.mark.parametrize(
    ("runs", "status"),
    [
        (study(np.random.default_rng(0), num_sizes=3), Status.TOO_FEW_POINTS),
        (study(np.random.default_rng(0), theta=np.array([0.0, 30.0, 0.18])), Status.AT_BOUND),
        (study(np.random.default_rng(1), theta=np.array([4.0, 1e-9, 0.3])), Status.NOT_IDENTIFIED),
    ],
)
def test_a_status_says_how_a_fit_went(runs: RunTable, status: Status) -> None:
    fit = fit_law(runs, Power())
    assert fit.status is status
    assert fit.why.endswith(".")
    assert np.isnan(fit.theta).all() == (status is Status.TOO_FEW_POINTS)


def test_without_a_fit_every_answer_is_nan_and_nothing_raises() -> None:
    fit = fit_law(study(np.random.default_rng(0), num_sizes=3), Power())
    at = {"D": np.array([1e6, 1e7])}
    for answer in (fit.predict(at), *fit.interval(at), *fit.prediction_interval(at), fit.draws(3)[:, 0]):
        assert np.isnan(answer).all()
    assert np.isnan(fit.estimate(lambda theta: theta[..., 0]).value)


def test_a_law_whose_extra_term_is_idle_says_which_parameter_is_not_settled() -> None:
    """One model size: N does nothing, so A and alpha can be anything."""
    runs = study(np.random.default_rng(3))
    runs = replace(runs, columns={**runs.columns, "N": np.full(len(runs), 1e6)})
    fit = fit_law(runs, Chinchilla())
    assert fit.status is Status.NOT_IDENTIFIED
    assert "alpha" in fit.unsettled
    assert "alpha" in fit.why


def test_a_domain_that_no_run_used_is_not_settled_and_the_others_are() -> None:
    rng = np.random.default_rng(5)
    w = np.column_stack([rng.dirichlet(np.ones(3), 40), np.zeros(40)])
    y = 1.5 + np.exp(w @ np.array([-0.5, 0.5, 1.0, 0.0]))
    names = np.array([f"r{i}" for i in range(40)])
    runs = RunTable({"w": w}, y * np.exp(rng.normal(0, 0.003, 40)), names, names, names, np.arange(40) + 1)
    fit = fit_law(runs, Mixture(("a", "b", "c", "unused"), has_tokens=False))
    assert (fit.status, fit.unsettled) == (Status.NOT_IDENTIFIED, ("b:unused",))
    assert all(estimate.lo < estimate.value < estimate.hi for estimate in fit.params.values())


def test_an_exponent_that_is_unknown_by_a_factor_of_ten_is_not_settled() -> None:
    rng = np.random.default_rng(0)
    N, D = (size.ravel() for size in np.meshgrid(np.geomspace(1e10, 1e12, 4), np.geomspace(1e11, 1e13, 4)))
    y = (0.9 + 400 / N**0.34 + 410 / D**0.28) * np.exp(rng.normal(0, 0.1, 16))
    names = np.array([f"r{i}" for i in range(16)])
    fit = fit_law(RunTable({"N": N, "D": D}, y, names, names, names, np.arange(16) + 1), Chinchilla())
    assert fit.status is Status.NOT_IDENTIFIED
    assert {"alpha", "beta"} & set(fit.unsettled)


class Line(Law):
    """L(x) = E + k x, k per unit of x and not fitted as its logarithm."""

    name = "line"
    equation = "L(x) = E + k x"
    columns = ("x",)

    @classmethod
    def of(cls, table: RunTable) -> Line:
        return cls()

    @property
    def params(self) -> tuple[Param, ...]:
        return Param("E", "nats per token", 0.0, 1e3), Param("k", "nats per token per x", 0.0, 1e3)

    def loss(self, theta: Array, at: Columns) -> Array:
        return theta[..., :1] + theta[..., 1:] * at["x"]

    def gradient(self, theta: Array, at: Columns) -> Array:
        slopes = np.stack([np.ones_like(at["x"]), at["x"]], axis=-1)
        return np.broadcast_to(slopes, (*theta.shape[:-1], *slopes.shape))

    def starts(self, at: Columns, y: Array) -> Array:
        return np.polyfit(at["x"], y, 1)[None, ::-1]


@pytest.mark.parametrize("objective", [Huber(), Huber(scale="raw")])
def test_a_parameter_that_is_tiny_in_its_unit_is_not_at_its_bound(objective: Objective) -> None:
    x = np.linspace(1e9, 1e11, 30)
    y = (2 + 5.2e-11 * x) * np.exp(np.random.default_rng(0).normal(0, 0.01, 30))
    fit = fit_law(table({"x": x}, y), Line(), objective=objective)
    assert fit.status is Status.OK
    assert 4e-11 < fit.params["k"].lo < 5.2e-11 < fit.params["k"].hi < 6e-11


def test_an_exponent_that_may_be_0_is_not_settled() -> None:
    """A metric near chance, with more noise than fall."""
    D = np.repeat(np.geomspace(1e8, 1e11, 12), 3)
    y = 0.75 + 0.01 * (D / 1e8) ** -0.2 + np.random.default_rng(0).normal(0, 0.005, len(D))
    fit = fit_law(table({"D": D}, y), Power())
    assert fit.params["beta"].lo == 0
    assert fit.status is Status.NOT_IDENTIFIED
    assert "beta" in fit.unsettled


def test_an_interval_has_room_about_the_minimum_that_was_asked_for() -> None:
    """That minimum moved by hand: in the inner half of the interval nothing widens; beyond its end that side does."""
    fit = fit_law(study(np.random.default_rng(0)), Power())
    assert fit.working is not None
    at = {"D": np.array([1e6, 1e8])}

    def ends(working: Working) -> Array:
        derived = Derived(lambda theta: theta[..., 2], np.full(3, 1e-6))
        asked = ((Parameter(), 3), (Prediction(at), 2), (derived, 1))
        return np.concatenate([working.profile(quantity, count, 0.95) for quantity, count in asked], axis=1)

    centre, lo, hi = ends(replace(fit.working, stated=fit.working.u))
    for share in (0.4, 1.5):
        moved = replace(fit.working, stated=fit.working.u + np.array([0.0, 0.0, share * (hi - centre)[2]]))
        _, low, high = ends(moved)
        np.testing.assert_array_equal(low[[2, 5]], lo[[2, 5]])
        np.testing.assert_allclose((high - centre)[[2, 5]], max(1, 2 * share) * (hi - centre)[[2, 5]], rtol=1e-3)
        predicted = np.log(fit.law.loss(moved.surface.outside(moved.stated), at))
        assert (low[3:5] <= 2 * predicted - centre[3:5]).all()  # with beta the loss falls
        np.testing.assert_array_equal(high[3:5], hi[3:5])
    past = replace(fit.working, stated=fit.working.u + np.array([0.0, 0.0, 4.0]))
    assert ends(past)[2, 2] == np.inf  # the room passes the bound 5


WITH_NOISE_ALONE: Sequence[tuple[Law, Columns, Sequence[float]]] = (
    (
        IsoFlop(3.16e19, is_single=False),
        {"C": np.repeat([1e18, 1e19, 1e20, 1e21], 7), "N": np.tile(3e8 * np.geomspace(0.25, 4, 7), 4)},
        (1.7, 0.8, 0.05, 3e8, 0.15, 0.1),
    ),
    (Logistic(), {"L": np.linspace(1, 9, 25)}, (0.25, 0.8, 4, 2.9)),
    (
        Mixture(("a", "b"), has_tokens=False),
        {"w": np.stack([np.linspace(0, 1, 20), np.linspace(1, 0, 20)], axis=1)},
        (1.6, 1.0, 0.1),
    ),
    (Broken(), {"D": np.geomspace(1e7, 1e12, 30)}, (1.5, 60, 0.15, 0.15, 3e9, 0.4)),
    (Rectified(), {"D": np.repeat(np.r_[0, 200 * 2.0 ** np.arange(14)], 2)}, (0.6, 200, 80, 0.45)),
    (
        DataConstrained(),
        {"N": np.tile([1e8, 1e9, 1e10], 18), "D": np.repeat(1e9 * 2.0 ** np.arange(18), 3), "U": np.full(54, 8e9)},
        (1.87, 520, 1487, 0.35, 0.36, 15.4, 5.3),
    ),
)


@pytest.mark.parametrize("scale", ["log", "raw"])
@pytest.mark.parametrize("case", WITH_NOISE_ALONE, ids=lambda case: case[0].name)
def test_good_data_raise_no_warning(case: tuple[Law, Columns, Sequence[float]], scale: Scale) -> None:
    law, columns, theta = case
    clean = law.loss(np.array(theta, float), columns)
    y = clean * np.exp(np.random.default_rng(3).normal(0, 0.003, len(clean)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_law(table(columns, y), law, objective=Huber(scale=scale), hold_out=1)
        fit.interval(columns)
        fit.estimate(lambda theta: theta[..., 0])
        assert np.isfinite(fit.draws(5)).all()
    assert fit.status in (Status.OK, Status.AT_BOUND, Status.NOT_IDENTIFIED)


def test_of_a_metric_over_the_loss_the_lowest_losses_are_the_largest_scales() -> None:
    L = np.array([3.0, 2.0, 2.5, 4.0])
    names = np.array(list("abcd"))
    _, out = held_apart(RunTable({"L": L}, 1 / L, names, names, names, np.arange(4) + 1), 2)
    assert sorted(out.columns["L"]) == [2.0, 2.5]


def test_a_fixed_parameter_stays_and_has_no_width() -> None:
    fit = fit_law(study(np.random.default_rng(4)), Power(), fixed={"beta": 0.25})
    assert (fit.params["beta"].lo, fit.params["beta"].value, fit.params["beta"].hi) == (0.25, 0.25, 0.25)
    free = fit_law(study(np.random.default_rng(4)), Power())
    assert fit.params["E"].hi - fit.params["E"].lo < free.params["E"].hi - free.params["E"].lo


def test_with_every_parameter_fixed_a_new_run_still_has_its_own_noise() -> None:
    runs = study(np.random.default_rng(4))
    runs = replace(runs, run=runs.seed)  # every row a run of its own
    fit = fit_law(runs, Power(), fixed=dict(zip(("E", "B", "beta"), TRUTH, strict=True)))
    at = {"D": np.array([1e6])}
    lo, hi = fit.interval(at)
    assert lo[0] == pytest.approx(hi[0])
    lo, hi = fit.prediction_interval(at)
    assert hi[0] - lo[0] == pytest.approx(4 * 0.003 * float(fit.predict(at)[0]), rel=0.3)


def test_the_largest_scales_are_held_out_and_not_seen() -> None:
    runs = study(np.random.default_rng(5))
    seen, unseen = held_apart(runs, 2)
    assert seen.columns["D"].max() < unseen.columns["D"].min()
    assert len(unseen) == 6
    fit = fit_law(runs, Power(), hold_out=2)
    assert fit.held_out is not None
    assert fit.held_out.num_points == 6
    assert fit.held_out.error < 0.02
    wrong = replace(runs, y=np.where(runs.columns["D"] > 3e6, 2 * runs.y, runs.y))
    moved = fit_law(wrong, Power(), hold_out=2)
    assert moved.held_out is not None
    np.testing.assert_array_equal(moved.theta, fit.theta)
    assert moved.held_out.error == pytest.approx(0.5, abs=0.02)
    assert moved.held_out.covered == 0


@pytest.mark.parametrize("num_seeds", [2, 10])
def test_draws_are_the_same_for_equal_seeds_and_spread_as_the_interval_says(num_seeds: int) -> None:
    """Ten trunks are resampled; of two, new noise is drawn."""
    fit = fit_law(study(np.random.default_rng(6), num_seeds=num_seeds, shared=0.002), Power())
    drawn = fit.draws(400, seed=1)
    np.testing.assert_array_equal(drawn, fit.draws(400, seed=1))
    assert not np.array_equal(drawn, fit.draws(400, seed=2))
    at = {"D": np.array([1e7])}
    lo, hi = fit.interval(at)
    predicted = fit.law.loss(drawn, at)[:, 0]
    assert 0.5 < 4 * predicted.std() / (hi[0] - lo[0]) < 1.5
    estimate = fit.bootstrap(200)["beta"]
    assert estimate.lo < estimate.value < estimate.hi


def test_trunks_that_differ_widen_the_interval() -> None:
    runs = study(np.random.default_rng(7), own=0.001)
    runs = replace(runs, y=runs.y * np.exp(0.006 * (runs.run.astype(int) - 1)))
    apart = replace(runs, run=np.array([str(i) for i in range(len(runs))]))
    at = {"D": np.array([1e6])}
    widths = [float(np.diff(fit_law(one, Power()).interval(at), axis=0)[0, 0]) for one in (runs, apart)]
    assert widths[0] > 2 * widths[1]


@pytest.mark.parametrize(("num_sizes", "num_seeds", "shared"), [(5, 3, 0.0), (8, 2, 0.006)])
def test_nominal_95_percent_intervals_cover(num_sizes: int, num_seeds: int, shared: float) -> None:
    """100 studies with 5 % outliers. At a true coverage of 93 % fewer than 86 hits have a chance of 0.6 %: enough to
    see it break; benchmarks/coverage.py measures."""
    rng = np.random.default_rng(8)
    at = {"D": 62_500.0 * 2.0 ** (num_sizes - 1) * np.array([4.0, 8.0])}
    truth = Power().loss(TRUTH, at)
    hits, new = np.zeros(2), 0.0
    for _ in range(100):
        fit = fit_law(study(rng, num_sizes, num_seeds, shared=shared, outliers=0.05), Power())
        lo, hi = fit.interval(at)
        hits += (lo <= truth) & (truth <= hi)
        lo, hi = fit.prediction_interval(at)
        run = truth[0] * np.exp(rng.normal(0, np.hypot(0.003, shared)))
        new += lo[0] <= run <= hi[0]
    assert (hits >= 86).all(), hits
    assert new >= 86, new


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published tables are not beside the repository")
def test_the_published_decay_of_repeated_data_is_not_identified() -> None:
    with (PUBLISHED / "datablations" / "runs_182_outliers_removed.csv").open() as source:
        rows = list(csv.DictReader(source))
    names = {"N": "params", "D": "tokens", "U": "unique_tokens"}
    columns = {letter: np.array([float(row[name]) for row in rows]) for letter, name in names.items()}
    a, b, e, alpha = 6.255414, 7.3049974, 0.6254804, 0.3526596  # as published, logarithms of A, B, E
    base = {"E": np.exp(e), "A": np.exp(a), "B": np.exp(b), "alpha": alpha, "beta": alpha}
    fit = fit_law(table(columns, np.array([float(row["val_loss"]) for row in rows])), DataConstrained(), fixed=base)
    assert fit.status is Status.NOT_IDENTIFIED
    assert fit.unsettled == ("R_D*",)
    assert fit.params["R_D*"].hi > 200
    assert fit.params["R_N*"].hi < 5
