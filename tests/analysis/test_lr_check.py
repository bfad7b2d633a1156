"""Planted recipes at several learning rates: is a gap one of the data, or of the learning rate?"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import POOR, RICH, spec, write_study

from analysis.__main__ import main
from analysis.contrasts.contrast import Decision
from analysis.contrasts.lr_check import LrCheck, lr_check
from analysis.page.answer import answer
from analysis.runs.points import Study, build_study
from analysis.runs.records import read_runs

RATES = (0.002, 0.004, 0.008)
SIZES = (250_000, 500_000)
A, B = "80 % docs / 20 % code", "20 % docs / 80 % code"
Surface = Callable[[bool, float], float]
"""Loss of a recipe (is it the rich one?) at a learning rate."""


def bowl(best: float, least: float) -> Callable[[float], float]:
    """A loss that is `least` at the learning rate `best`, and 0.2 more at half or double."""
    return lambda rate: least + 0.2 * math.log2(rate / best) ** 2


def trees(seeds: int = 2, rates: tuple[float, ...] = RATES, **changes: Any) -> list[dict[str, Any]]:
    return [
        spec(D, seed, weights, optimizer={"kind": "adamw", "learning_rate": rate}, **changes)
        for weights in (RICH, POOR)
        for rate in rates
        for D in SIZES
        for seed in range(seeds)
    ]


def planted(folder: Path, surface: Surface, some: list[dict[str, Any]] | None = None, sd: float = 0.003) -> Study:
    def loss(tree: Mapping[str, Any], domain: str) -> float:
        rate = float(tree["optimizer"]["learning_rate"])
        size = 0.3 * math.log2(500_000 / tree["budget"]["num_tokens"])
        return size + surface(tree["recipe"]["mixture"]["weights"] == RICH, rate)

    write_study(folder, trees() if some is None else some, loss=loss, seed_sd=sd, point_sd=sd / 3)
    return build_study(read_runs([str(folder)]))


def checked(study: Study) -> LrCheck:
    found = lr_check(study)
    assert found is not None
    return found


def test_an_effect_of_the_data_stays_where_each_has_its_own_best_learning_rate(tmp_path: Path) -> None:
    rich, poor = bowl(0.004, 3.5), bowl(0.004, 4.0)
    study = planted(tmp_path, lambda is_rich, rate: rich(rate) if is_rich else poor(rate))
    (pair,) = checked(study).largest
    assert (pair.a.name, pair.b.name, pair.a.tokens) == (A, B, 500_000)
    assert (pair.a.best.rate, pair.b.best.rate) == (0.004, 0.004)
    assert pair.own.gap.lo < -0.5 < pair.own.gap.hi
    assert [at.rate for at in pair.at] == list(RATES)
    assert pair.is_data
    assert pair.sentence.startswith(f"{A} is better than {B} on docs at 500k tokens with each at its own best")
    assert "at each of the 3 learning rates tried for both" in pair.sentence
    assert "not one of the learning rate" in pair.sentence
    assert "edge" not in pair.sentence
    assert answer(study).headline == pair.sentence
    assert [pair.a.tokens for pair in checked(study).pairs] == list(SIZES)


def test_a_gap_at_one_learning_rate_that_is_gone_at_the_best_of_each_could_be_its_effect(tmp_path: Path) -> None:
    rich, poor = bowl(0.004, 3.5), bowl(0.008, 3.5)
    study = planted(
        tmp_path,
        lambda is_rich, rate: rich(rate) if is_rich else poor(rate),
        trees(rates=(0.002, 0.004, 0.008, 0.016)),
    )
    (pair,) = checked(study).largest
    assert (pair.a.best.rate, pair.b.best.rate) == (0.004, 0.008)
    assert {at.rate: at.decision for at in pair.at}[0.004] is Decision.A_BETTER
    assert not pair.is_data
    assert pair.sentence.startswith(f"Cannot tell {A} from {B}")
    assert "could be one of the learning rate" in pair.sentence


def test_a_winner_that_changes_with_the_learning_rate_is_said_with_the_rates(tmp_path: Path) -> None:
    rich, poor = bowl(0.004, 3.5), bowl(0.008, 3.6)
    study = planted(
        tmp_path,
        lambda is_rich, rate: rich(rate) if is_rich else poor(rate),
        trees(rates=(0.002, 0.004, 0.008, 0.016)),
    )
    (pair,) = checked(study).largest
    assert f"Which of {A} and {B} is better on docs at 500k tokens depends on the learning rate" in pair.sentence
    assert "the first at 0.002, 0.004, the second at 0.008, 0.016" in pair.sentence
    assert f"the one that is best for it, {A} is better by 0.1" in pair.sentence


def test_no_effect_at_any_learning_rate_is_none_to_explain(tmp_path: Path) -> None:
    study = planted(tmp_path, lambda is_rich, rate: bowl(0.004, 3.5)(rate))
    assert checked(study).largest[0].sentence.endswith("there is no effect to explain.")


def test_a_best_learning_rate_at_the_edge_is_said_with_its_recipe(tmp_path: Path) -> None:
    rich, poor = bowl(0.004, 3.5), bowl(0.016, 4.0)
    study = planted(tmp_path, lambda is_rich, rate: rich(rate) if is_rich else poor(rate))
    (pair,) = checked(study).largest
    assert (pair.a.is_at_edge, pair.b.is_at_edge) == (False, True)
    assert pair.sentence.endswith(f"The best learning rate of {B} (0.008) is at the edge of those tried: widen them.")


def test_without_repeated_seeds_nothing_is_decided(tmp_path: Path) -> None:
    study = planted(tmp_path, lambda is_rich, rate: bowl(0.004, 3.0 if is_rich else 5.0)(rate), trees(seeds=1))
    assert checked(study).headline.startswith("Cannot tell without repeated seeds")
    assert main(["report", str(tmp_path)]) == 0


@pytest.mark.parametrize("rates", [(0.004,), (0.002, 0.008)])
def test_other_studies_have_no_check(tmp_path: Path, rates: tuple[float, ...]) -> None:
    """One learning rate for all, or another one for each recipe, which nothing can tell from the data."""
    some = [t for t in trees(rates=rates) if len(rates) == 1 or t["recipe"]["mixture"]["weights"] == RICH]
    assert lr_check(planted(tmp_path, lambda is_rich, rate: 3.5, some)) is None


def test_recipes_are_contrasted_at_equal_learning_rates_only(tmp_path: Path) -> None:
    found = answer(planted(tmp_path, lambda is_rich, rate: bowl(0.004, 3.5 if is_rich else 4.0)(rate)))
    pairs = [(c.a, c.b) for c in found.contrasts if c.domain == "docs"]
    assert pairs == [(f"{A}, learning_rate {rate:g}", f"{B}, learning_rate {rate:g}") for rate in RATES]
    assert found.dose is None


def test_several_recipes_are_counted_and_those_that_cannot_be_told_are_named(tmp_path: Path) -> None:
    some = trees() + [
        spec(D, seed, {"docs": 0.5, "code": 0.5}, optimizer={"kind": "adamw", "learning_rate": rate})
        for rate in RATES
        for D in SIZES
        for seed in range(2)
    ]
    study = planted(tmp_path, lambda is_rich, rate: bowl(0.004, 3.5 if is_rich else 4.0)(rate), some)
    assert checked(study).headline == (
        "1 of 2 recipes differ from 50 % docs / 50 % code on docs where each has the learning rate that is best for it;"
        f" of {B} it cannot be told."
    )


def test_under_scaled_hyperparameters_sizes_are_one_recipe_and_the_rate_is_that_of_the_reference(
    tmp_path: Path,
) -> None:
    some = trees()
    for tree in some:
        at_reference = tree["optimizer"]["learning_rate"]
        rule = {"reference": at_reference, "params": -0.7, "tokens": 0.3}
        tree["hyperparameters"] = {"kind": "scaled", "num_tokens": 500_000, "learning_rate": rule}
        tree["optimizer"] = {
            "kind": "adamw",
            "learning_rate": at_reference * (tree["budget"]["num_tokens"] / 5e5) ** 0.3,
        }
        tree["batch"] = tree["batch"] | {"num_sequences": 2 if tree["budget"]["num_tokens"] == SIZES[0] else 4}

    def surface(is_rich: bool, rate: float) -> float:
        return 3.5 if is_rich else 4.0

    study = planted(tmp_path, surface, some)
    assert len(study.recipes) == 6
    assert f"{A}, learning_rate.reference 0.004" in {recipe.label for recipe in study.recipes}
    assert {line.tokens for line in checked(study).lines} == set(SIZES)
    assert [trial.rate for trial in checked(study).lines[0].trials] == list(RATES)


def test_the_report_begins_with_the_verdict_and_shows_the_learning_rates(tmp_path: Path) -> None:
    planted(tmp_path, lambda is_rich, rate: bowl(0.004, 3.5 if is_rich else 4.0)(rate))
    assert main(["report", str(tmp_path)]) == 0
    out = tmp_path / "report"
    text = (out / "report.md").read_text()
    assert re.search(r"!\[[^\]]*\]\(figures/[^)]*\)", text).group().endswith("(figures/learning-rates.svg)")  # type: ignore[union-attr]
    assert "## Learning rates" in text
    assert "own best (0.004, 0.004)" in text
    summary = json.loads((out / "summary.json").read_text())
    assert summary["headline"] == summary["lr_check"]["pairs"][-1]["sentence"]
    assert {line["best_learning_rate"] for line in summary["lr_check"]["lines"]} == {0.004}
    assert {path.name for path in (out / "tables").iterdir()} >= {"best_learning_rates.csv", "learning_rate_gaps.csv"}


@pytest.mark.slow
def test_equal_recipes_are_rarely_told_apart_by_picking_the_best_rate_of_each(tmp_path: Path) -> None:
    """The false alarms of 200 studies in which the data does nothing; 5 % are allowed for all gaps together."""
    study = planted(tmp_path, lambda is_rich, rate: 3.5)
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(200):
        points = tuple(replace(p, loss=3.5 * math.exp(rng.normal(0, 0.005))) for p in study.points)
        (pair,) = checked(replace(study, points=points)).largest
        alarms += pair.is_data
    assert alarms <= 14  # of a binomial of 10, 1 in 10 lies above
