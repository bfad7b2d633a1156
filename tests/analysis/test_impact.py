"""Data impact: planted shares are found, confounded factors share, chance is not taken for an effect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import planted
import pytest

from analysis.impact import Impact, data_impact, impact
from analysis.page.answer import answer
from analysis.runs.points import build_study
from analysis.runs.records import read_runs
from analysis.sections.impact import section

SIZE, MIXTURE, INTERACTION = np.array([0.3, 0.1, -0.1, -0.3]), np.array([0.05, 0.0, -0.05]), 0.02


def crossed(
    noise: float, seeds: int = 3, draw: int = 0
) -> tuple[dict[str, list[int]], np.ndarray, list[tuple[int, int]]]:
    """Four sizes x three mixtures x seeds: factors, log losses, trunks; a trunk's runs share half of the variance."""
    rng = np.random.default_rng(draw)
    rows = [(s, m, k) for m in range(3) for k in range(seeds) for s in range(4)]
    shared = rng.normal(0, noise * np.sqrt(0.5), (3, seeds))
    y = [
        SIZE[s] + MIXTURE[m] + INTERACTION * (s - 1.5) * (m - 1) + shared[m, k] + rng.normal(0, noise * np.sqrt(0.5))
        for s, m, k in rows
    ]
    return (
        {"size": [s for s, _, _ in rows], "mixture": [m for _, m, _ in rows]},
        np.array(y),
        [(m, k) for _, m, k in rows],
    )


def by_factor(found: Impact) -> dict[str, float]:
    return {share.factor: share.share.value for share in found.shares}


def test_of_runs_without_noise_the_shares_are_those_of_the_analysis_of_variance() -> None:
    factors, y, trunks = crossed(0.0, seeds=1)
    found = impact(factors, y, trunks, "docs")
    parts = np.array([np.mean(SIZE**2), np.mean(MIXTURE**2), INTERACTION**2 * 1.25 * 2 / 3])
    share = by_factor(found)
    assert share["size"] == pytest.approx((parts[0] + parts[2] / 2) / parts.sum())
    assert share["mixture"] == pytest.approx((parts[1] + parts[2] / 2) / parts.sum())
    assert "seed" not in share
    assert not found.has_noise


def test_shares_sum_to_one_and_intervals_hold_the_truth() -> None:
    sd, inside = 0.02, []
    parts = np.array([np.mean(SIZE**2), np.mean(MIXTURE**2), INTERACTION**2 * 1.25 * 2 / 3, sd**2])
    truth = {
        "size": (parts[0] + parts[2] / 2) / parts.sum(),
        "mixture": (parts[1] + parts[2] / 2) / parts.sum(),
        "seed": parts[3] / parts.sum(),
    }
    for draw in range(60):
        found = impact(*crossed(sd, draw=draw), "docs")
        assert sum(by_factor(found).values()) == pytest.approx(1, abs=1e-6)
        inside += [share.share.lo <= truth[share.factor] <= share.share.hi for share in found.shares]
    assert np.mean(inside) > 0.91  # nominal 0.95; 60 studies measure it to 2 %


def test_chance_between_many_levels_is_not_taken_for_an_effect() -> None:
    rng = np.random.default_rng(0)
    level, trunks = np.repeat(np.arange(20), 3), [(0, seed) for seed in range(60)]
    shares = [
        by_factor(impact({"mixture": level.tolist()}, rng.normal(0, 1, 60), trunks, "docs"))["mixture"]
        for _ in range(100)
    ]
    assert np.mean(shares) < 0.1  # the plain R2 of 20 levels in 60 runs is 0.32


def test_what_filters_do_is_called_by_their_name(tmp_path: Path) -> None:
    arms: list[list[dict[str, object]]] = [[], [{"kind": "length", "min_words": 5}]]
    trees = [planted.spec(D, seed, recipe__filters=arm) for arm in arms for seed in range(2) for D in planted.SIZES]
    found = data_impact(build_study(read_runs([str(planted.write_study(tmp_path, trees))])))
    assert found is not None
    assert {share.factor for share in found.shares} == {"size", "filters", "seed"}


def test_factors_that_always_change_together_share_what_they_explain() -> None:
    level, trunks = [0, 0, 1, 1, 2, 2], [(0, seed) for seed in range(6)]
    found = impact({"mixture": level, "quality": level}, np.array([0.0, 0.01, 1, 1.01, 2, 2.01]), trunks, "docs")
    share = by_factor(found)
    assert share["mixture"] == pytest.approx(share["quality"])
    assert share["mixture"] == pytest.approx(0.5, abs=0.01)


def test_the_demo_study_gets_an_impact_table_and_one_recipe_of_one_seed_does_not(tmp_path: Path) -> None:
    study = build_study(read_runs([str(planted.write_study(tmp_path / "a", planted.demo_trees()))]))
    found = data_impact(study)
    assert found is not None
    assert {share.factor for share in found.shares} == {"size", "mixture", "seed"}
    assert found.shares[0].factor == "size"
    assert {share.factor: share.num_levels for share in found.shares}["seed"] == 3
    shown = section(study, answer(study))
    assert shown is not None
    assert "size makes" in shown.paragraphs[0]
    assert all(len(row[3].replace(".", "").lstrip("0")) == 2 for row in shown.tables[0].texts)
    trees = [planted.spec(size, 0) for size in planted.SIZES]
    assert data_impact(build_study(read_runs([str(planted.write_study(tmp_path / "b", trees))]))) is None
