"""The mixture surface: planted exchange rates and optima are found, repetition has its price, flat is called flat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import planted
import pytest
from scipy import optimize

from analysis.laws.exchange import Exchange
from analysis.laws.law import Array
from analysis.mixtures.optimum import best_weights, optimum
from analysis.mixtures.regression import regression_names, skills
from analysis.mixtures.surface import (
    MixtureSurface,
    columns_of,
    effective_tokens,
    fit_mixture,
    mixture_surface,
    mixture_table,
)
from analysis.mixtures.value import domain_values, exchange_rates
from analysis.page.answer import answer
from analysis.runs.points import Study, build_study
from analysis.runs.records import read_runs
from analysis.runs.run_table import RunTable
from analysis.sections.mixture import section

DOMAINS = ("docs", "code", "legal")
TRUTH = np.array([1.5, 0.25, 0.6, 1.2, 1.45, 1.7])
NOWHERE = np.full(3, np.inf)


def swarm(
    count: int = 12, truth: Array = TRUTH, trunk_sd: float = 0.003, own_sd: float = 0.001, seed: int = 1
) -> tuple[RunTable, Array]:
    """Runs of `count` random mixtures, the even one first, at five sizes, and the mixtures; a mixture is a trunk."""
    rng, sizes = np.random.default_rng(seed), np.geomspace(2.5e5, 1e6, 5)
    mixtures = np.vstack([np.full(3, 1 / 3), np.random.default_rng(7).dirichlet(np.full(3, 2.0), count - 1)])
    tokens = (mixtures[:, None, :] * sizes[None, :, None]).reshape(-1, 3)
    noise = np.repeat(rng.normal(0, trunk_sd, count), 5) + rng.normal(0, own_sd, 5 * count)
    at = columns_of(tokens, NOWHERE)
    y = Exchange(DOMAINS, 5e5).loss(truth, at) * np.exp(noise)
    names = np.repeat([f"r{i:02}" for i in range(count)], 5)
    return RunTable(at, y, names, names, names, np.arange(1, len(y) + 1), domains=DOMAINS), mixtures


def surface_of(table: RunTable, mixtures: Array, offered: Array = NOWHERE) -> MixtureSurface:
    found = mixture_surface(table, mixtures, offered, 1e6, "docs", "r00")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def surface() -> MixtureSurface:
    return surface_of(*swarm())


def test_a_repeated_token_is_worth_less_and_less_and_a_new_one_is_worth_one() -> None:
    offered = np.array([100.0])
    np.testing.assert_allclose(effective_tokens(np.array([50.0, 100.0]), offered), [50, 100])
    four, forty = effective_tokens(np.array([400.0, 4000.0]), offered)
    assert 360 < four < 400  # four epochs are worth nearly four, as published
    assert forty < 100 * (1 + 15.39)
    assert effective_tokens(np.zeros(1), np.zeros(1)) == 0


def test_planted_exchange_rates_and_values_lie_in_their_intervals(surface: MixtureSurface) -> None:
    law, now = Exchange(DOMAINS, 5e5), surface.weights * 1e6
    for rate in exchange_rates(surface):
        i, j = DOMAINS.index(rate.a), DOMAINS.index(rate.b)
        true = (TRUTH[3 + j] / TRUTH[3 + i]) ** (TRUTH[2] / TRUTH[1])  # at equal weights
        assert rate.rate.lo < true < rate.rate.hi < 3 * rate.rate.lo, rate
    for value in domain_values(surface):
        more = now + 1e5 * np.eye(3)[DOMAINS.index(value.domain)]
        true = float((law.loss(TRUTH, columns_of(now, NOWHERE)) - law.loss(TRUTH, columns_of(more, NOWHERE)))[0])
        assert value.budget.lo < true < value.budget.hi
        assert value.own is not None
        assert value.own.value < value.budget.value  # a tenth of a third is less than a tenth of all
    assert [value.domain for value in domain_values(surface)] == list(DOMAINS)


def test_the_planted_optimum_and_its_gain_lie_in_their_intervals(surface: MixtureSurface) -> None:
    best, law = optimum(surface), Exchange(DOMAINS, 5e5)
    true = best_weights(TRUTH, 1e6, NOWHERE, surface.tried)[0]
    for weight, estimate in zip(true, best.weights.values(), strict=True):
        assert estimate.lo - 1e-6 <= weight <= estimate.hi + 1e-6
    assert sum(estimate.value for estimate in best.weights.values()) == pytest.approx(1)
    chosen = np.array([estimate.value for estimate in best.weights.values()])
    losses = law.loss(TRUTH, columns_of(np.stack([surface.weights, chosen]) * 1e6, NOWHERE))
    assert best.decides
    assert best.gain.lo < losses[0] - losses[1] < best.gain.hi


@pytest.mark.parametrize("offered", [NOWHERE, np.array([5e4, 2e5, 1e6])])
@pytest.mark.parametrize("gamma", [0.3, 0.7, 1.0])
def test_no_mixture_beats_the_one_that_is_called_best(gamma: float, offered: Array) -> None:
    theta = TRUTH.copy()
    theta[2] = gamma
    law, bounds = Exchange(DOMAINS, 5e5), np.array([[0.1, 0.8], [0.0, 0.6], [0.05, 1.0]])

    def loss(weights: Array) -> float:
        return float(law.loss(theta, columns_of(weights * 1e6, offered))[0])

    best = best_weights(theta, 1e6, offered, bounds)[0]
    assert best.sum() == pytest.approx(1)
    assert (best >= bounds[:, 0] - 1e-9).all()
    assert (best <= bounds[:, 1] + 1e-9).all()
    sums_to_one = {"type": "eq", "fun": lambda w: w.sum() - 1}
    for start in np.random.default_rng(0).dirichlet(np.ones(3), 5):
        other = optimize.minimize(loss, np.clip(start, *bounds.T), bounds=bounds, constraints=sums_to_one, tol=1e-12)
        assert loss(best) <= other.fun + 1e-7


def test_scarce_tokens_move_the_optimum_away_from_their_domain(surface: MixtureSurface) -> None:
    plenty, scarce = optimum(surface), optimum(surface, offered=np.array([2e4, 1e6, 1e6]))
    assert scarce.weights["docs"].value < plenty.weights["docs"].value - 0.1
    assert scarce.epochs["docs"] > 4


def test_a_flat_optimum_is_called_flat_and_a_steep_one_is_not() -> None:
    flat, steep = TRUTH.copy(), TRUTH.copy()
    flat[3:] = 1.2
    steep[2:] = [0.95, 1.0, 1.9, 2.5]
    is_flat = {
        name: optimum(surface_of(*swarm(truth=truth, trunk_sd=sd, own_sd=sd / 3)))
        for name, truth, sd in (("flat", flat, 0.01), ("steep", steep, 0.001))
    }
    assert is_flat["flat"].is_flat
    assert not is_flat["flat"].decides
    assert not is_flat["steep"].is_flat
    assert is_flat["steep"].decides


def test_intervals_are_invariant_to_the_order_of_rows(surface: MixtureSurface) -> None:
    table, mixtures = swarm()
    order = np.random.default_rng(1).permutation(len(table))
    shuffled = RunTable(
        {"D": table.columns["D"][order], "w": table.columns["w"][order]}, table.y[order],
        *(getattr(table, name)[order] for name in ("recipe", "run", "seed", "row")), domains=DOMAINS,
    )  # fmt: skip
    np.testing.assert_allclose(surface_of(shuffled, mixtures).fit.theta, surface.fit.theta, rtol=1e-5)


def test_the_law_predicts_unseen_mixtures_better_than_a_log_linear_one_where_returns_diminish() -> None:
    found = {skill.name: skill for skill in skills(swarm()[0], ("linear", "log_linear", "exchange"))}
    assert found["exchange"].error < 0.7 * found["log_linear"].error < found["linear"].error
    assert "trees" not in regression_names(12)


# ---- of logged runs -------------------------------------------------------------------------------------


def study_of(folder: Path, mixtures: Array, domains: tuple[str, ...] = DOMAINS, **changes: object) -> Study:
    law = Exchange(domains, 5e5)
    width = len(domains)

    def loss(tree: dict, domain: str) -> float:  # type: ignore[type-arg]
        weights = np.array([planted.weights_of(tree).get(d, 0.0) for d in domains])
        return float(
            law.loss(TRUTH[: 3 + width], columns_of(weights * tree["budget"]["num_tokens"], np.full(width, np.inf)))[0]
        )

    trees = [
        planted.spec(
            size,
            0,
            dict(zip(domains, (float(w) for w in weights), strict=True)),
            recipe__corpus__domains={d: {"kind": "embedded", "part": d} for d in domains},
            content={d: d for d in domains},
            **changes,
        )
        for weights in mixtures
        for size in planted.SIZES[1:]
    ]
    return build_study(read_runs([str(planted.write_study(folder, trees, loss=loss))]))


def test_a_logged_swarm_gets_a_section_with_the_best_mixture_and_inert_names(tmp_path: Path) -> None:
    hostile = ("docs", "<b>code</b>", "a$b_%")
    study = study_of(tmp_path, np.round(swarm(7)[1], 2) @ np.eye(3) + [[0.01, 0, 0]] * 7, hostile)
    results = answer(study)
    found = section(study, results)
    assert found is not None
    assert "nats per token" in found.paragraphs[0]
    assert {table.name for table in found.tables} == {"best_mixture", "marginal_value", "exchange_rates"}
    assert len(found.drawings) == 1


def test_two_mixtures_lead_with_what_they_do_not_tell(tmp_path: Path) -> None:
    study = study_of(tmp_path, np.array([[0.2, 0.8], [0.8, 0.2]]), ("docs", "code"))
    results = answer(study)
    found = section(study, results)
    assert found is not None
    said = found.paragraphs[0]
    assert said.startswith("Two mixtures do not tell diminishing returns")
    assert "best mixture" not in said
    assert "20 % code" in said
    assert ("that of the headline" in said) is (results.main is not None)
    best = next(table for table in found.tables if table.name == "best_mixture")
    assert sorted(row[1] for row in best.texts) == ["20", "80"]
    assert best.columns[1] == "reference weight [%]"
    assert not any("So few mixtures" in note for note in found.notes)


@pytest.mark.parametrize(
    ("shares", "is_far"), [((0.2, 0.8), True), ((0.2, 0.4, 0.6, 0.8), False), ((0.2, 0.3, 0.8), True)]
)
def test_between_mixtures_that_lie_far_apart_the_curve_is_dashed(
    tmp_path: Path, shares: tuple[float, ...], is_far: bool
) -> None:
    mixtures = np.array([[share, 1 - share] for share in shares])
    study = study_of(tmp_path, mixtures, ("docs", "code"))
    found = section(study, answer(study))
    assert found is not None
    (drawing,) = found.drawings
    curves = [line for line in drawing.figure.axes[0].get_lines() if len(line.get_xdata()) > 2]
    dashed = [line for line in curves if line.is_dashed()]
    assert bool(dashed) is is_far
    assert ("Dashed curve" in drawing.caption) is is_far
    solid = next(line for line in curves if line not in dashed and line.get_marker() == "None")
    drawn = np.asarray(solid.get_xdata())[np.isfinite(np.asarray(solid.get_ydata(), float))]
    assert (len(drawn) > 30) is not is_far


def test_too_few_mixtures_or_a_second_difference_give_no_surface(tmp_path: Path) -> None:
    mixtures = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3]])
    assert mixture_table(study_of(tmp_path / "few", mixtures)) is None
    assert fit_mixture(study_of(tmp_path / "few2", mixtures)) is None
