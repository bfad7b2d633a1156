"""The power law: planted truth recovered, derivatives, statuses, intervals that cover."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from analysis.contrasts.fit import Fit, fit_power_law
from analysis.contrasts.noise import SeedNoise, seed_noise
from analysis.fitting.result import Status
from analysis.laws.power import PowerLaw
from analysis.runs.points import Point

SIZES = tuple(62_500 * 2**i for i in range(6))
LAW = PowerLaw(E=1.5, B=60.0, beta=0.25)


def planted(
    law: PowerLaw = LAW,
    num_seeds: int = 3,
    seed_sd: float = 0.0,
    point_sd: float = 0.0,
    sizes: tuple[int, ...] = SIZES,
    hold_out: int = 1,
    epochs: float = 1.0,
    recipe: str = "a",
    rng: np.random.Generator | None = None,
) -> list[Point]:
    """Points of one recipe; the noise of a seed is shared by its sizes."""
    rng = rng or np.random.default_rng(0)
    points = []
    for seed in range(num_seeds):
        shared = rng.normal(0, seed_sd) if seed_sd else 0.0
        for D in sizes:
            own = rng.normal(0, point_sd) if point_sd else 0.0
            points.append(
                Point(
                    recipe=recipe,
                    domain="docs",
                    run=f"{recipe}-{seed}-{D}",
                    seeds=(("init", seed),),
                    num_params=100_000,
                    tokens=D,
                    unique_tokens=D,
                    epochs=epochs,
                    flops=6e5 * D,
                    loss=float(law.loss(D)) * float(np.exp(shared + own)),
                    bpb=None,
                    num_eval_tokens=1000,
                    is_held_out=D in sizes[len(sizes) - hold_out :],
                )
            )
    return points


def fit(points: list[Point]) -> Fit:
    return fit_power_law(points, seed_noise(points))


@pytest.mark.parametrize(
    "law",
    [LAW, PowerLaw(0.0, 30.0, 0.18), PowerLaw(3.2, 4e4, 0.9), PowerLaw(1.0, 9.0, 0.08), PowerLaw(0.3, 400.0, 0.5)],
)
def test_a_planted_law_is_recovered(law: PowerLaw) -> None:
    found = fit(planted(law)).law
    assert found is not None
    # E and B of a nearly flat law are ill-conditioned: 1e-12 in the losses is 1e-7 in them
    np.testing.assert_allclose([found.E, found.B, found.beta], [law.E, law.B, law.beta], rtol=1e-6, atol=1e-6)


def test_the_unit_of_tokens_changes_B_alone() -> None:
    points = planted(seed_sd=0.003, point_sd=0.003)
    ours, thousandth = fit(points).law, fit([replace(p, tokens=1000 * p.tokens) for p in points]).law
    assert ours is not None
    assert thousandth is not None
    expected = [ours.E, ours.B * 1000**ours.beta, ours.beta]
    np.testing.assert_allclose([thousandth.E, thousandth.B, thousandth.beta], expected, rtol=1e-6)


@pytest.mark.parametrize("factor", [1e4, 1e-4])
def test_the_unit_of_the_loss_changes_E_and_B_alone(factor: float) -> None:
    points = planted(seed_sd=0.003, point_sd=0.003)
    ours, other = fit(points), fit([replace(p, loss=factor * p.loss) for p in points])
    assert other.status is ours.status
    for name, times in (("E", factor), ("B", factor), ("beta", 1.0)):
        one, two = ours.params[name], other.params[name]
        expected = [times * one.value, times * one.lo, times * one.hi]
        np.testing.assert_allclose([two.value, two.lo, two.hi], expected, rtol=1e-4)
    at = np.array([1e5, 1e8])
    np.testing.assert_allclose(other.interval(at), factor * np.array(ours.interval(at)), rtol=1e-6)


def test_the_order_of_points_changes_nothing() -> None:
    points = planted(seed_sd=0.003, point_sd=0.003)
    mixed = points.copy()
    random.Random(1).shuffle(mixed)
    assert fit(points).params == fit(mixed).params
    assert fit(points).held_out == fit(mixed).held_out


def test_one_wild_run_moves_the_curve_little() -> None:
    points = planted(point_sd=0.002)
    wild = [Point(**{**p.__dict__, "loss": p.loss * (1.15 if i == 2 else 1.0)}) for i, p in enumerate(points)]
    held_out = fit(wild).held_out[0]
    assert abs(held_out.error) < 0.02


def test_the_slope_is_that_of_differences_and_a_curve_inverts() -> None:
    D, step = np.array(SIZES, float), 1e-6
    numeric = np.log(LAW.loss(D * (1 + step)) / LAW.loss(D * (1 - step))) / (2 * step)
    np.testing.assert_allclose(LAW.slope(D), numeric, rtol=1e-7)
    assert LAW.tokens(float(LAW.loss(123_456.0))) == pytest.approx(123_456.0)
    assert LAW.tokens(1.4) == float("inf")


@pytest.mark.parametrize(
    ("points", "status"),
    [
        (planted(), Status.OK),
        (planted(PowerLaw(0.0, 30.0, 0.18)), Status.AT_BOUND),
        (planted(sizes=SIZES[:4]), Status.TOO_FEW_POINTS),
        (planted(hold_out=5), Status.TOO_FEW_POINTS),
        (planted(epochs=8.0), Status.REPEATS),
        (planted(PowerLaw(4.0, 1e-9, 0.3), num_seeds=2, point_sd=0.003), Status.NOT_IDENTIFIED),
    ],
)
def test_a_status_says_how_the_fit_went(points: list[Point], status: Status) -> None:
    found = fit(points)
    assert found.status in (status, *([Status.NOT_CONVERGED] if status is Status.NOT_IDENTIFIED else []))
    assert found.status.value.endswith(".")


def test_a_held_out_size_is_predicted_and_not_seen() -> None:
    points = planted(seed_sd=0.003, point_sd=0.002)
    found = fit(points)
    (test,) = found.held_out
    assert test.tokens == SIZES[-1]
    assert test.num_runs == 3
    assert test.predicted.lo < test.loss < test.predicted.hi
    moved = [Point(**{**p.__dict__, "loss": p.loss * (2 if p.is_held_out else 1)}) for p in points]
    assert fit(moved).law == found.law


def test_without_repeated_seeds_the_interval_says_what_it_rests_on() -> None:
    found = fit(planted(num_seeds=1, point_sd=0.003))
    assert not found.noise.is_known
    assert "independent" in found.interval_method
    assert "clustered by trunk" in fit(planted(seed_sd=0.003)).interval_method


def test_shared_noise_of_a_seed_widens_the_interval_of_the_loss() -> None:
    """Six points of one trunk are not six draws: at equal total noise the shared part costs width."""
    shared = fit(planted(seed_sd=0.004, point_sd=0.001))
    D = np.array([float(SIZES[3])])
    lo, hi = shared.interval(D)
    naive = 2 * 1.96 * 0.0041 / np.sqrt(15) * float(shared.loss(SIZES[3]))
    assert hi[0] - lo[0] > naive


def test_nominal_95_percent_intervals_cover() -> None:
    """120 studies of the demo's design, seeds shared by the recipes. At a true coverage of 93 % fewer than 105 hits
    have a chance of 1 %: a test that runs in seconds cannot be sharper."""
    rng = np.random.default_rng(7)
    targets = np.array([SIZES[0], SIZES[2], SIZES[4], SIZES[5]], float)
    hits = np.zeros((120, 4))
    for i in range(120):
        ours = planted(seed_sd=0.004, point_sd=0.003, rng=rng)
        twin = rng.normal(0, 0.002, len(ours))  # the other recipe's noise, correlated with ours
        noise = np.log([p.loss for p in ours]) - np.log(LAW.loss(np.array([p.tokens for p in ours], float)))
        loss = PowerLaw(1.6, 78.0, 0.25).loss(np.array([p.tokens for p in ours], float)) * np.exp(0.9 * noise + twin)
        other = [replace(p, recipe="b", loss=float(x)) for p, x in zip(ours, loss, strict=True)]
        lo, hi = fit_power_law(ours, seed_noise([*ours, *other])).interval(targets)
        hits[i] = (lo <= LAW.loss(targets)) & (LAW.loss(targets) <= hi)
    assert (hits.sum(axis=0) >= 105).all(), hits.mean(axis=0)


# ---- the noise between seeds ---------------------------------------------------------------------


def test_a_size_without_repeated_seeds_is_not_taken_as_free_of_noise() -> None:
    points = [p for p in planted(seed_sd=0.004, point_sd=0.002) if p.tokens < SIZES[-1] or p.run.startswith("a-0")]
    noise = seed_noise(points)
    assert np.isnan(noise.deviations[:, -1]).all()
    counts = {size: 3 for size in SIZES[:-1]} | {SIZES[-1]: 1}
    alone, known = (noise.half_width({size: 1.0}, counts, 0.95) for size in (SIZES[-1], SIZES[-2]))
    assert alone > known > 0
    assert np.isfinite(alone)
    assert seed_noise(planted(num_seeds=1)).half_width({SIZES[0]: 1.0}, counts, 0.95) == float("inf")


def like_seeds(num_recipes: int, num_seeds: int, r: float, rng: np.random.Generator) -> tuple[SeedNoise, np.ndarray]:
    """Log losses of recipes at one size, seeds correlated with r between recipes; and the recipes' true errors."""
    y = rng.normal(size=(1, num_seeds)) * r**0.5 + rng.normal(size=(num_recipes, num_seeds)) * (1 - r) ** 0.5
    own = planted(sizes=(1000,), num_seeds=num_seeds, hold_out=0)
    points = [
        replace(p, recipe=str(i), loss=float(np.exp(y[i, k]))) for i in range(num_recipes) for k, p in enumerate(own)
    ]
    return seed_noise(points), y.mean(axis=1)


@pytest.mark.parametrize("shape", [(2, 3), (2, 2), (5, 2), (5, 3)])
@pytest.mark.parametrize("r", [0.0, 0.6, 0.9, 0.99])
def test_intervals_cover_however_alike_the_seeds_of_a_sweep_act(shape: tuple[int, int], r: float) -> None:
    """400 studies. At a true coverage of 93 % fewer than 358 hits have a chance of 0.3 %."""
    rng, hits = np.random.default_rng(3), np.zeros(2)
    for _ in range(400):
        noise, off = like_seeds(*shape, r, rng)
        weights, counts = {1000: 1.0}, {1000: shape[1]}
        hits[0] += abs(off[0]) <= noise.half_width(weights, counts, 0.95)
        hits[1] += abs(off[0] - off[1]) <= 2**0.5 * noise.of_differences().half_width(weights, counts, 0.95)
    assert (hits >= 358).all(), hits / 400


def test_what_all_recipes_share_does_not_widen_their_difference() -> None:
    noise, _ = like_seeds(5, 3, 0.99, np.random.default_rng(0))
    weights, counts = {1000: 1.0}, {1000: 3}
    assert noise.of_differences().half_width(weights, counts, 0.95) < noise.half_width(weights, counts, 0.95) / 4


def test_four_epochs_with_a_rounding_error_are_not_more_than_four() -> None:
    assert fit(planted(epochs=4.0000001)).status is Status.OK
    assert fit(planted(epochs=4.1)).status is Status.REPEATS
