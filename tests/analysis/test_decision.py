"""Decisions: what smaller scales would have chosen, how often they order pairs as the target does, with intervals."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import SIZES, spec, write_study

from analysis.contrasts.board import Board, Scale, board_of_table
from analysis.contrasts.decision import accuracy_interval, decide_board, decide_table, decisions
from analysis.fitting.result import Estimate
from analysis.laws.power import PowerLaw
from analysis.page.answer import answer
from analysis.page.language import speaking
from analysis.runs.points import Study, build_study
from analysis.runs.records import read_runs
from analysis.runs.run_table import RunTable
from analysis.sections import decision as section
from analysis.sections.decision import odds_table

MIXTURES = [{"docs": w, "code": 1 - w} for w in (0.9, 0.6, 0.3, 0.1)]


def study(folder: Path, trees: list[dict[str, Any]], **planted: Any) -> Study:
    write_study(folder, trees, **planted)
    return build_study(read_runs([str(folder)]))


def board(log_loss: Any, sd: float, degrees: int = 20) -> Board:
    losses = np.array(log_loss, float)
    names = tuple(f"recipe {i}" for i in range(len(losses)))
    scales = tuple(Scale(None, 10.0**i) for i in range(losses.shape[1]))
    lack = None if sd else "no_repeated_seeds"
    return Board(names, scales, losses, np.ones_like(losses), np.full(losses.shape[1], sd), degrees, lack)


def test_the_share_of_pairs_and_the_choice_are_counted_by_hand() -> None:
    found = decide_board("docs", board([[1.0, 1.0], [1.2, 1.1], [1.1, 1.3]], 0.0))
    (small,) = found.small
    assert (small.choice, small.is_right, small.pairs) == ("recipe 0", True, 3)
    assert small.accuracy.value == pytest.approx(2 / 3)
    assert small.regret.value == 0.0
    assert (small.told, small.wrong, found.odds, found.lack) == (None, None, (), "no_repeated_seeds")


def test_a_wrong_choice_costs_its_loss_at_the_target() -> None:
    (small,) = decide_board("docs", board([[1.0, 1.3], [1.1, 1.1], [1.2, 1.2]], 1e-6)).small
    assert not small.is_right
    assert small.regret.value == pytest.approx(math.exp(1.3) - math.exp(1.1), rel=1e-3)


def test_a_scale_is_counted_with_the_recipes_that_it_has() -> None:
    (small,) = decide_board("docs", board([[math.nan, 1.0], [1.2, 1.1], [1.1, 1.3]], 1e-6)).small
    assert small.recipes == ("recipe 1", "recipe 2")
    assert small.pairs == 1


def test_pairs_told_apart_are_those_beyond_the_noise() -> None:
    (small,) = decide_board("docs", board([[1.0, 1.1], [1.005, 1.0], [1.2, 1.2]], 0.005)).small
    assert (small.told, small.wrong) == (2, 0)
    assert small.accuracy.value == pytest.approx(2 / 3)


def test_three_recipes_say_little_of_an_accuracy_and_many_say_more() -> None:
    few, many = accuracy_interval(np.ones((3, 3))), accuracy_interval(np.ones((40, 40)))
    assert few.hi == many.hi == 1.0
    assert few.lo < 0.3 < 0.8 < many.lo


def test_the_interval_of_an_accuracy_covers_its_expectation() -> None:
    """12 recipes, noise as large as their spread at both scales: the expectation is 65.7 % (40,000 draws)."""
    rng = np.random.default_rng(0)
    inside, upper = [], np.triu_indices(12, 1)
    expected = []
    for _ in range(400):
        truth = rng.standard_normal(12)
        small, target = truth + 1.25**0.5 * rng.standard_normal(12), truth + rng.standard_normal(12)
        agree = 0.5 + 0.5 * np.sign(small[:, None] - small) * np.sign(target[:, None] - target)
        found = accuracy_interval(agree)
        assert found.value == pytest.approx(agree[upper].mean())
        expected.append(found.value)
        inside.append((found.lo, found.hi))
    mean = float(np.mean(expected))
    assert mean == pytest.approx(0.5 + math.asin(1 / math.sqrt(2.25 * 2)) / math.pi, abs=0.02)
    share = np.mean([lo <= mean <= hi for lo, hi in inside])
    assert share > 0.9  # 95 % nominal; the standard error is 1.1 %


def test_a_study_is_decided_at_its_largest_size(tmp_path: Path) -> None:
    found = study(tmp_path, [spec(D, s, w) for w in MIXTURES for s in range(3) for D in SIZES])
    told = decisions(found)
    assert told is not None
    assert told.best == "90 % docs / 10 % code"
    assert told.scale.tokens == SIZES[-1]
    assert {one.by for one in told.small} == {"loss", "law"}
    assert all(one.is_right for one in told.small)
    assert told.small[0].work == pytest.approx(SIZES[0] / SIZES[-1])
    assert next(one for one in told.odds if one.recipe == told.best).best > 0.95


def test_curves_that_cross_are_seen_to_mislead_the_small_sizes(tmp_path: Path) -> None:
    def law(tree: Any, domain: str) -> PowerLaw:  # falls faster from higher up: they cross at 160k tokens
        is_late = tree["recipe"]["mixture"]["weights"]["docs"] > 0.5
        return PowerLaw(1.5, 200.0, 0.35) if is_late else PowerLaw(1.5, 60.4, 0.25)

    found = study(tmp_path, [spec(D, s, w) for w in MIXTURES[1:3] for s in range(3) for D in SIZES], law=law)
    told = decisions(found)
    assert told is not None
    by_loss = [one for one in told.small if one.by == "loss"]
    assert [one.is_right for one in by_loss] == [False, False, True, True, True]
    assert by_loss[0].regret.value > 0.05
    assert by_loss[0].wrong == 1
    assert told.smaller is not None
    assert told.smaller.startswith("Of 5 smaller scales, 3 would have chosen the same recipe by their losses.")
    assert "pairs" not in told.smaller


def test_two_recipes_are_one_pair_whose_share_is_not_shown(tmp_path: Path) -> None:
    found = study(tmp_path, [spec(D, s, w) for w in MIXTURES[:2] for s in range(3) for D in SIZES])
    shown = section.section(found, answer(found))
    assert shown is not None
    assert [table.name for table in shown.tables] == ["decision"]
    assert len(shown.drawings[0].figure.axes) == 1
    assert not shown.notes
    assert "pairs" not in " ".join((*shown.points, shown.drawings[0].caption))


def test_without_repeated_seeds_no_odds_are_given(tmp_path: Path) -> None:
    told = decisions(study(tmp_path, [spec(D, 0, w) for w in MIXTURES for D in SIZES]))
    assert told is not None
    assert told.odds == ()
    assert told.lack == "no_repeated_seeds"
    assert "not known without repeated seeds" in told.sentence


def test_the_section_shows_odds_and_smaller_scales(tmp_path: Path) -> None:
    found = study(tmp_path, [spec(D, s, w) for w in MIXTURES for s in range(2) for D in SIZES])
    shown = section.section(found, answer(found))
    assert shown is not None
    assert [table.name for table in shown.tables] == ["decision", "small_scales"]
    assert shown.tables[0].rows[0][0] == "90 % docs / 10 % code"
    assert [drawing.name for drawing in shown.drawings] == ["decision"]
    alone = study(tmp_path / "alone", [spec(D, 0) for D in SIZES])
    assert section.section(alone, answer(alone)) is None


def test_a_regret_that_is_seldom_any_is_not_shown_outside_of_its_own_interval(tmp_path: Path) -> None:
    found = study(tmp_path, [spec(D, s, w) for w in MIXTURES for s in range(3) for D in SIZES])
    told = decisions(found)
    assert told is not None
    seldom = replace(told.odds[0], regret=Estimate(5.7e-5, 0.0, 0.0))
    usual = replace(told.odds[1], regret=Estimate(0.4, 0.28, 0.53))
    shown = odds_table(replace(told, odds=(seldom, usual)))
    assert [row[2:] for row in shown.texts] == [["less than 0.0001", "less than 0.0001"], ["0.4", "0.53"]]
    assert [column[0] for column in shown.spread[1][2:]] == [5.7e-5, 0.0]


@pytest.mark.parametrize("by", ["loss", "law"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_sentence_names_no_bound_below_the_expected_cost(tmp_path: Path, language: str, by: str) -> None:
    told = decisions(study(tmp_path, [spec(D, s, w) for w in MIXTURES for s in range(2) for D in SIZES]))
    assert told is not None
    first = next(one for one in told.odds if one.recipe == told.best)
    sentences = []
    with speaking(language):
        for regret in (Estimate(0.0046, 0.0, 0.0), Estimate(0.0046, 0.0, 0.023)):
            sentences.append(replace(told, by=by, odds=(replace(first, regret=regret),)).sentence)
    assert all("0.0046" in sentence for sentence in sentences)
    assert ["95 %" in sentence for sentence in sentences] == [False, True]
    assert "0.023" in sentences[1]


def tables(rows: list[tuple[str, float, float, float]]) -> RunTable:
    names, N, D, y = zip(*rows, strict=True)
    empty = np.full(len(rows), "")
    runs = np.array([f"run {i}" for i in range(len(rows))])
    return RunTable(
        {"N": np.array(N), "D": np.array(D)}, np.array(y), np.array(names), runs, empty, np.arange(1, len(rows) + 1)
    )  # fmt: skip


def test_a_table_takes_its_target_where_most_recipes_are_and_its_noise_from_repeats() -> None:
    rows = [(name, N, 1e9, y) for name, off in (("x", 0.0), ("y", 0.1)) for N, y in ((1e6, 3 + off), (1e7, 2.5 + off))]
    rows += [("x", 1e8, 1e9, 2.0)]
    plain = board_of_table(tables(rows))
    assert plain.lack == "no_repeated_seeds"
    assert (plain.scales[-1].num_params, plain.scales[-1].tokens) == (1e7, 1e9)
    known = board_of_table(tables(rows + [(name, N, D, y * 1.01) for name, N, D, y in rows[:4]]))
    assert known.lack is None
    assert known.sd[0] == pytest.approx(math.log(1.01) / math.sqrt(2))
    assert known.degrees == 4


def test_where_no_run_is_repeated_laws_through_all_runs_give_the_odds() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for N in np.geomspace(1e7, 1e9, 4):
        for D in np.geomspace(1e9, 1e11, 5):
            shared = rng.normal(0, 0.02)  # a size that goes badly does so for all recipes
            for name, worth in (("rich", 1.6), ("plain", 1.0), ("poor", 0.7)):
                loss = 1.7 + 400 / N**0.34 + 600 / (worth * D) ** 0.29
                rows.append((name, float(N), float(D), float(loss * np.exp(shared + rng.normal(0, 0.002)))))
    told = decide_table(tables(rows))
    assert told is not None
    assert (told.best, told.by, told.lack) == ("rich", "law", None)
    assert next(one for one in told.odds if one.recipe == "rich").best > 0.95
