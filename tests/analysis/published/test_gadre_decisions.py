"""What would the small runs have chosen? Three corpora of Gadre et al. 2024 (arXiv 2403.08540), up to 6.9B."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from analysis.contrasts.contrast import Contrast
from analysis.contrasts.decision import Decisions, decide_table
from analysis.contrasts.table_contrast import compare_table
from analysis.contrasts.verdict import Decision
from analysis.runs.read_table import read_table
from analysis.runs.run_table import RunTable

TABLE = Path(__file__).resolve().parents[4] / "shared" / "published" / "gadre_overtraining" / "models_104.csv"
pytestmark = pytest.mark.skipif(not TABLE.exists(), reason="the published runs are not at hand")
C4, REDPAJAMA, REFINEDWEB = "c4_original", "rpj", "rw_original"


@cache
def runs(loss: str) -> RunTable:
    return read_table(
        TABLE, needs=("N", "D"), columns={"run": "name"}, response_column=loss, group="dataset_name"
    )  # fmt: skip


@cache
def decided(loss: str) -> Decisions:
    found = decide_table(runs(loss))
    assert found is not None
    return found


@cache
def contrast(loss: str, a: str, b: str) -> Contrast:
    return compare_table(runs(loss), a, b)


def right(found: Decisions, by: str) -> tuple[int, int]:
    chosen = [one for one in found.small if one.by == by]
    return sum(one.is_right for one in chosen), len(chosen)


@pytest.mark.parametrize(
    ("loss", "best", "small"),
    [
        ("loss_c4_val", C4, (30, 33)),
        ("loss_openlm", REDPAJAMA, (33, 33)),
        ("loss_paloma_falcon-refinedweb", REFINEDWEB, (26, 33)),
    ],
)
def test_on_its_own_kind_of_text_each_corpus_is_best_and_most_small_runs_say_so(
    loss: str, best: str, small: tuple[int, int]
) -> None:
    found = decided(loss)
    assert found.scale.num_params == pytest.approx(6.9e9, rel=0.01)
    assert found.best == best
    assert right(found, "loss") == small
    assert max(found.odds, key=lambda one: one.best).recipe == best
    wrong = [one.regret.value for one in found.small if not one.is_right]
    assert all(cost > 0.01 for cost in wrong)  # nats per token, at 6.9B


def test_choosing_by_laws_through_the_small_runs_is_no_better_than_by_their_losses() -> None:
    for loss in ("loss_c4_val", "loss_paloma_falcon-refinedweb"):
        by_law, by_loss = (np.divide(*right(decided(loss), by)) for by in ("law", "loss"))
        assert by_law < by_loss


def test_the_interval_says_that_three_corpora_are_few() -> None:
    small = [one for one in decided("loss_openlm").small if one.by == "loss"]
    assert all(one.accuracy.value == 1 for one in small)
    assert {one.pairs for one in small} == {1, 3}  # some sizes have two of the corpora
    assert all(one.accuracy.lo < 0.5 for one in small)


def test_runs_at_one_size_share_most_of_their_scatter_so_pairs_tell_more() -> None:
    found = contrast("loss_openlm", REFINEDWEB, REDPAJAMA)
    assert found.num_pairs == 34
    assert found.num_params == pytest.approx(6.9e9, rel=0.01)
    assert found.decision is Decision.B_BETTER
    assert found.gap is not None
    table = runs("loss_openlm")
    rows = {str(table.recipe[i]): table.y[i] for i in np.flatnonzero(table.columns["N"] > 6e9)}
    assert found.gap.lo < rows[REFINEDWEB] - rows[REDPAJAMA] < found.gap.hi
    assert found.gap.hi - found.gap.lo < 0.25  # .48 if they were taken as independent
    assert found.multiplier is not None
    assert found.multiplier.hi < 0.25  # a token of RefinedWeb is worth less than a quarter of one of RedPajama here


def test_a_corpus_that_was_not_run_at_a_size_is_compared_where_both_were() -> None:
    found = contrast("loss_c4_val", C4, REDPAJAMA)
    assert found.num_pairs == 33
    assert any("sizes that only one recipe has are left out" in note for note in found.notes)
    assert found.gap is not None
    assert found.gap.value < 0
