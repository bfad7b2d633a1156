"""Many recipes, few seeds, one size: a report that stays readable and claims no more than it knows."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import SIZES, mixture_law, spec, weights_of, write_study
from scipy import stats

from analysis.__main__ import main
from analysis.contrasts.contrast import Decision
from analysis.contrasts.noise import noise_of
from analysis.contrasts.ranking import highlighted, rank
from analysis.contrasts.studentized_range import studentized_range
from analysis.laws.power import PowerLaw
from analysis.page.answer import answer
from analysis.page.figures import GREY, colours, headline_figure
from analysis.page.table import number_text
from analysis.runs.points import Study, build_study
from analysis.runs.records import read_runs
from analysis.sections.contrasts import section

DOMAINS = ("code", "docs", "legal")


def swarm_trees(num_recipes: int, num_seeds: int = 1, sizes: tuple[int, ...] = SIZES[-4:]) -> list[dict[str, Any]]:
    trees = []
    for index in range(num_recipes):
        mixture = {"kind": "swarm", "domains": list(DOMAINS), "index": index, "seed": 0, "concentration": 2.0}
        for seed in range(num_seeds):
            trees += [spec(D, seed, recipe__mixture=mixture) for D in sizes]
    for tree in trees:
        tree["recipe"]["corpus"]["domains"] = {domain: {} for domain in DOMAINS}
        tree["content"] = {domain: domain[0] * 64 for domain in DOMAINS}
    return trees


def study(folder: Path, trees: list[dict[str, Any]], **planted: Any) -> Study:
    write_study(folder, trees, **planted)
    return build_study(read_runs([str(folder)]))


def shares(index: int) -> float:
    return weights_of(swarm_trees(index + 1)[-1])["docs"]


def test_a_swarm_is_ranked_by_what_was_planted(tmp_path: Path) -> None:
    found = rank(study(tmp_path, swarm_trees(12, num_seeds=2)))
    assert found is not None
    planted = sorted((shares(i) for i in range(12)), reverse=True)
    told = [float(row.recipe.split(" %")[0]) / 100 for row in found.rows]
    assert told[:3] == pytest.approx(planted[:3], abs=0.01)
    best = mixture_law({"docs": planted[0]}, "docs").loss(SIZES[-1])
    assert found.rows[0].losses["docs"].lo < best < found.rows[0].losses["docs"].hi
    assert found.tokens == SIZES[-1]


def test_recipes_that_are_alike_cannot_be_told_from_the_best(tmp_path: Path) -> None:
    found = rank(study(tmp_path, swarm_trees(6, num_seeds=3), law=lambda tree, domain: PowerLaw(1.5, 60.0, 0.25)))
    assert found is not None
    assert found.sentence.endswith("none of the 5 others can be told from it.")


@pytest.mark.parametrize(("num_recipes", "num_seeds"), [(12, 1), (12, 2), (30, 1)])
def test_the_report_of_a_swarm_renders(tmp_path: Path, num_recipes: int, num_seeds: int) -> None:
    write_study(tmp_path, swarm_trees(num_recipes, num_seeds))
    assert main(["report", str(tmp_path)]) == 0
    out = tmp_path / "report"
    for name in ("headline", "ranking", "multiplier"):
        assert (out / "figures" / f"{name}.svg").exists()
    with (out / "tables" / "ranking.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == num_recipes
    assert float(rows[0]["loss on docs"]) < float(rows[-1]["loss on docs"])
    assert {"loss on code", "loss on legal"} <= set(rows[0])
    caveats = json.loads((out / "summary.json").read_text())["caveats"]
    assert max(map(len, caveats)) < 500
    assert any("Seeds of pretraining are not repeated" in caveat for caveat in caveats) is (num_seeds == 1)


def test_of_many_recipes_the_curves_name_three(tmp_path: Path) -> None:
    found = study(tmp_path, swarm_trees(12))
    named = highlighted(found)
    ranking = rank(found)
    assert ranking is not None
    assert set(named) == {found.recipes[0].label, ranking.rows[0].recipe, ranking.rows[-1].recipe}
    assert list(colours(found).values()).count(GREY) == 12 - len(named)
    results = answer(found)
    texts = [text.get_text() for text in headline_figure(found, results.fits, results.main).axes[0].texts]
    assert sum("docs" in text for text in texts) == len(named)
    assert any("grey: the other 9 recipes" in text for text in texts)


def test_without_repeated_seeds_nothing_is_called_better_however_far_apart(tmp_path: Path) -> None:
    """Points of one trunk rise and fall together: their scatter about a curve says nothing of another trunk."""
    write_study(tmp_path, swarm_trees(9))
    assert main(["report", str(tmp_path)]) == 0
    told = json.loads((tmp_path / "report" / "summary.json").read_text())
    best = told["ranking"]["recipes"][0]["recipe"]
    assert told["headline"].startswith(
        f"Cannot tell without repeated seeds: at 2M tokens {best} had the lowest loss on"
    )
    assert "measured once each; repeat the best few with other seeds" in told["headline"]
    gaps = {row["recipe"]: row["gap_to_best"] for row in told["ranking"]["recipes"][1:]}
    (reference,) = {c["b"] for c in told["contrasts"]}
    near, far = ((name, number_text(gaps[name]["value"], 2)) for name in (next(iter(gaps)), reference))
    assert f"{near[1]} nats per token below the next ({near[0]})" in told["headline"]
    assert f" and {far[1]} below the reference ({far[0]})" in told["headline"]
    assert {(c["decision"], c["reason"]) for c in told["contrasts"]} == {("cannot_tell", "no_repeated_seeds")}
    assert {c["trend"] for c in told["contrasts"]} == {"not known"}
    assert told["ranking"]["best"] is None
    assert told["ranking"]["reason"] == "no_repeated_seeds"
    assert not any(row["is_told_from_best"] for row in told["ranking"]["recipes"])
    for c in told["contrasts"]:
        for name in ("gap", "multiplier", "at_smallest"):
            assert c[name] is None or (c[name]["lo"], c[name]["hi"]) == (None, None)


def test_without_repeated_seeds_no_caption_of_the_contrasts_speaks_of_drawn_intervals(tmp_path: Path) -> None:
    found = study(tmp_path, swarm_trees(4))
    shown = section(found, answer(found))
    assert shown is not None
    assert shown.paragraphs[1].startswith(
        "No seed is repeated, so how far chance moves a loss is not known. Hence there"
    )
    assert "no interval is known" in shown.drawings[0].caption
    assert not any("95 % interval" in drawing.caption for drawing in shown.drawings)


def test_one_repeated_seed_in_one_recipe_is_too_little_to_decide(tmp_path: Path) -> None:
    trees = swarm_trees(3) + [tree for tree in swarm_trees(1, num_seeds=2) if tree["seeds"]["init"] == 1]
    found = answer(study(tmp_path, trees))
    assert found.headline.startswith("Cannot tell with so few repeated seeds: ")
    assert {c.reason for c in found.contrasts} == {"too_few_repeated_seeds"}


def test_of_nine_equal_recipes_the_headline_seldom_finds_one_better_or_worse(tmp_path: Path) -> None:
    base = study(tmp_path, swarm_trees(9, num_seeds=2, sizes=SIZES[-1:]))
    rng, wrong, studies = np.random.default_rng(0), 0, 200
    for _ in range(studies):
        points = tuple(replace(p, loss=3 * float(np.exp(rng.normal(0, 0.004)))) for p in base.points)
        found = rank(replace(base, points=points))
        assert found is not None
        wrong += bool(found.behind)
    assert wrong <= 20  # 10 are expected at 95 %; 21 or more has a probability of 0.1 %


def test_the_headline_and_the_ranking_name_the_same_recipe(tmp_path: Path) -> None:
    """Also where recipes are so alike that a law and the mean losses put them in another order."""
    for i in range(5):
        trees = swarm_trees(3, num_seeds=2)
        for tree in trees:
            tree["optimizer"] = {**tree["optimizer"], "learning_rate": 0.01 + i}
        found = answer(study(tmp_path / str(i), trees, law=lambda tree, domain: PowerLaw(1.5, 60.0, 0.25)))
        assert found.ranking is not None
        best = found.ranking.rows[0].recipe
        assert all(row.gap is None or row.gap.value >= 0 for row in found.ranking.rows)
        assert f"neither of the 2 others can be told from {best}, which has the lowest loss" in found.headline


def test_runs_that_two_recipes_share_tell_of_the_noise_once(tmp_path: Path) -> None:
    found = study(tmp_path, swarm_trees(3, num_seeds=2))
    labels = [recipe.label for recipe in found.recipes]
    loss_of = {(p.seeds, p.tokens, p.domain): p.loss for p in found.points if p.recipe == labels[0]}
    points = tuple(
        replace(p, loss=loss_of[p.seeds, p.tokens, p.domain]) if p.recipe == labels[1] else p for p in found.points
    )
    assert noise_of(found, found.recipes[0], "docs").degrees == 3
    assert noise_of(replace(found, points=points), found.recipes[0], "docs").degrees == 2


def test_one_size_and_one_seed_give_a_ranking_without_a_verdict(tmp_path: Path) -> None:
    write_study(tmp_path, swarm_trees(12, sizes=SIZES[-1:]))
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    told = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert told["headline"].startswith("Cannot tell without repeated seeds: at 2M tokens ")
    assert "without repeated seeds whether that is chance cannot be told" in page
    assert not list((tmp_path / "report" / "figures").glob("curves-*"))
    assert any(caveat.startswith("Only 1 size was measured: a ranking is possible") for caveat in told["caveats"])
    assert all(contrast["multiplier"] is None for contrast in told["contrasts"])


def test_one_size_with_seeds_decides_on_the_gap_alone(tmp_path: Path) -> None:
    found = answer(study(tmp_path, swarm_trees(4, num_seeds=3, sizes=SIZES[-1:])))
    assert found.main is not None
    assert found.main.decision is Decision.A_BETTER
    assert found.main.multiplier is None
    assert found.main.method == "mean losses at the one size in common"
    assert "of one size there is no curve" in found.headline


def test_equal_recipes_at_one_size_are_seldom_told_apart(tmp_path: Path) -> None:
    wrong = 0
    for i in range(20):
        trees = swarm_trees(2, num_seeds=3, sizes=SIZES[-1:])
        for tree in trees:
            tree["optimizer"] = {**tree["optimizer"], "learning_rate": 0.01 + i}
            tree["seeds"] = {key: value + 10 * i for key, value in tree["seeds"].items()}
        found = answer(study(tmp_path / str(i), trees, law=lambda tree, domain: PowerLaw(1.5, 60.0, 0.25)))
        assert found.main is not None
        wrong += found.main.decision is not Decision.CANNOT_TELL
    assert wrong <= 4  # 1 is expected at 95 %; 5 or more has a probability of 0.3 %


@pytest.mark.parametrize(("count", "degrees"), [(2, 2), (3, 4), (20, 80), (500, 9)])
def test_the_studentized_range_is_that_of_scipy(count: int, degrees: int) -> None:
    expected = stats.studentized_range.ppf(0.95, count, degrees)
    assert studentized_range(0.95, count, degrees) == pytest.approx(expected, rel=1e-8)
