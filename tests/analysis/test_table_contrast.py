"""Recipe against recipe on tables of several model sizes: planted truths, pairs, refusals, intervals."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis.contrasts.table_contrast import compare_table
from analysis.contrasts.verdict import Decision
from analysis.runs.logs import AnalysisError
from analysis.runs.run_table import RunTable

N, D = np.geomspace(1e7, 1e9, 5), np.geomspace(2e8, 5e10, 6)
WORTH = 1.5


def loss(N: Any, D: Any, worth: float = 1.0) -> Any:
    """A law under which each token of a recipe is worth so many of the other's, at every scale."""
    return 1.7 + 400 / N**0.34 + 600 / (worth * D) ** 0.29


def table(
    rng: np.random.Generator,
    sd: float = 0.01,
    r: float = 0.0,
    worth: float = WORTH,
    sizes: Any = (N, D),
    **columns: Any,
) -> RunTable:
    """Recipes a and b, once at each (N, D); r: the correlation of their noise at one (N, D)."""
    n, d = (x.ravel() for x in np.meshgrid(*sizes, indexing="ij"))
    k = len(n)
    shared = rng.standard_normal(k)
    own = [math.sqrt(r) * shared + math.sqrt(1 - r) * rng.standard_normal(k) for _ in "ab"]
    y = np.concatenate([loss(n, d, worth) * np.exp(sd * own[0]), loss(n, d) * np.exp(sd * own[1])])
    names, runs = np.repeat(["a", "b"], k), np.array([f"run {i}" for i in range(2 * k)])
    return RunTable(
        {"N": np.tile(n, 2), "D": np.tile(d, 2)}, y, names, runs, np.full(2 * k, ""), np.arange(1, 2 * k + 1)
    )  # fmt: skip


def shuffled(found: RunTable) -> RunTable:
    order = np.random.default_rng(5).permutation(len(found))
    return RunTable(
        {name: column[order] for name, column in found.columns.items()}, found.y[order], found.recipe[order],
        found.run[order], found.seed[order], found.row[order],
    )  # fmt: skip


def test_a_planted_multiplier_at_equal_model_size_is_recovered() -> None:
    found = compare_table(table(np.random.default_rng(0), sd=1e-5), "a", "b", at=[(None, 4 * D[-1]), (1e8, 1e11)])
    assert (found.num_params, found.tokens) == (N[-1], round(D[-1]))
    assert found.decision is Decision.A_BETTER
    for m in (found.multiplier, found.at_smallest, *(one.multiplier for one in found.forecasts)):
        assert m is not None
        assert m.value == pytest.approx(WORTH, rel=0.01)
    assert found.growth is not None
    assert found.growth.value == pytest.approx(1.0, abs=0.02)
    assert found.gap is not None
    assert found.gap.value == pytest.approx(loss(N[-1], D[-1], WORTH) - loss(N[-1], D[-1]), rel=0.01)


@pytest.mark.parametrize("factor", [1e4, 1e-4])
def test_the_unit_of_the_loss_changes_no_multiplier(factor: float) -> None:
    plain = table(np.random.default_rng(2))
    found, other = (compare_table(replace(plain, y=times * plain.y), "a", "b") for times in (1.0, factor))
    assert other.decision is found.decision
    for one, two, times in ((found.multiplier, other.multiplier, 1.0), (found.gap, other.gap, factor)):
        assert one is not None
        assert two is not None
        assert [two.value, two.lo, two.hi] == pytest.approx(
            [times * one.value, times * one.lo, times * one.hi], rel=1e-4
        )


def test_the_order_of_rows_and_the_unit_of_tokens_change_nothing() -> None:
    rng = np.random.default_rng(2)
    plain = table(rng)
    found, other = compare_table(plain, "a", "b"), compare_table(shuffled(plain), "a", "b")
    assert found.gap is not None
    assert other.gap is not None
    assert [other.gap.value, other.gap.lo, other.gap.hi] == pytest.approx(
        [found.gap.value, found.gap.lo, found.gap.hi], rel=1e-4
    )
    billions = replace(plain, columns={"N": plain.columns["N"], "D": plain.columns["D"] / 1e9})
    scaled = compare_table(billions, "a", "b")
    assert scaled.multiplier is not None
    assert found.multiplier is not None
    assert scaled.multiplier.value == pytest.approx(found.multiplier.value, rel=1e-3)


def test_intervals_cover_and_pairs_make_them_narrow() -> None:
    """Nominal 95 %: of 30 intervals, 24 or fewer have a probability of 0.3 %."""
    true = float(loss(N[-1], D[-1], WORTH) - loss(N[-1], D[-1]))
    widths = []
    for r in (0.0, 0.9):
        inside = []
        for seed in range(15):
            found = compare_table(table(np.random.default_rng(seed), r=r), "a", "b")
            assert found.gap is not None
            assert found.multiplier is not None
            inside += [
                found.gap.lo <= true <= found.gap.hi, found.multiplier.lo <= WORTH <= found.multiplier.hi
            ]  # fmt: skip
            widths.append(found.gap.hi - found.gap.lo)
        assert sum(inside) > 24
    assert np.median(widths[15:]) < 0.5 * np.median(widths[:15])


def test_equal_recipes_cannot_be_told_apart() -> None:
    decisions = [compare_table(table(np.random.default_rng(s), worth=1.0), "a", "b").decision for s in range(12)]
    assert sum(decision is Decision.CANNOT_TELL for decision in decisions) >= 9  # 8 or fewer: 0.02 %


def test_a_recipe_that_wins_at_large_sizes_only_crosses() -> None:
    rng = np.random.default_rng(0)
    plain = table(rng, sd=0.001)
    is_a = plain.recipe == "a"
    tokens = plain.columns["D"]
    late = 1.7 + 400 / plain.columns["N"] ** 0.34 + 600 * (3e9) ** 0.06 / tokens**0.35
    y = np.where(is_a, late * np.exp(rng.normal(0, 0.001, len(plain))), plain.y)
    found = compare_table(replace(plain, y=y), "a", "b")
    assert found.crossing is not None
    assert found.crossing.is_settled
    assert found.crossing.tokens.lo < 3e9 < found.crossing.tokens.hi
    assert found.crossing.after == "a"


def test_a_table_of_one_model_size_is_compared_by_a_law_of_tokens() -> None:
    rng = np.random.default_rng(1)
    one = table(rng, sd=0.002, sizes=(N[:1], np.geomspace(1e8, 1e11, 10)))
    with_N = compare_table(one, "a", "b")
    without = compare_table(replace(one, columns={"D": one.columns["D"]}), "a", "b")
    assert without.num_params is None
    assert with_N.multiplier is not None
    assert without.multiplier is not None
    assert with_N.multiplier.value == pytest.approx(without.multiplier.value)
    assert with_N.multiplier.lo < WORTH < with_N.multiplier.hi


def test_branches_of_one_trunk_decide_nothing_however_well_they_fit() -> None:
    one = table(np.random.default_rng(1), sd=0.001, sizes=(N[:1], D))
    trunks = replace(one, run=one.recipe)
    found = compare_table(trunks, "a", "b")
    assert (found.decision, found.reason) == (Decision.CANNOT_TELL, "no_repeated_seeds")
    assert found.probability is None


def test_few_trunks_do_not_pair_however_alike_their_rows_scatter() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(20):
        rows = [
            (D[i], float(loss(N[0], D[i], worth)) * math.exp(shift + rng.normal(0, 3e-4)), name, f"{name}{s}", str(s))
            for name, worth in (("a", 1.5), ("b", 1.0))
            for s in range(3)
            for shift in (rng.normal(0, 0.003),)
            for i in range(len(D))
        ]
        tokens, y, recipe, run, seed = (np.array(column) for column in zip(*rows, strict=True))
        found = compare_table(RunTable({"D": tokens}, y, recipe, run, seed, np.arange(1, len(y) + 1)), "a", "b")
        assert found.num_pairs == 0
        assert found.gap is not None
        true = float(loss(N[0], D[-1], 1.5) - loss(N[0], D[-1]))
        covered += found.gap.lo <= true <= found.gap.hi
    assert covered >= 18


def test_one_size_with_seeds_is_decided_by_the_means_and_pairs_of_seeds() -> None:
    rng = np.random.default_rng(0)

    def runs(seeds: int, shared_sd: float) -> RunTable:
        shift = rng.normal(0, shared_sd, seeds)
        y = np.concatenate([mean * np.exp(shift + rng.normal(0, 0.002, seeds)) for mean in (3.0, 3.06)])
        count = 2 * seeds
        return RunTable(
            {"D": np.full(count, 1e9)}, y, np.repeat(["a", "b"], seeds), np.array([f"run {i}" for i in range(count)]),
            np.tile(np.arange(seeds).astype(str), 2), np.arange(1, count + 1),
        )  # fmt: skip

    paired, few = compare_table(runs(6, 0.05), "a", "b"), compare_table(runs(3, 0.05), "a", "b")
    assert (paired.decision, paired.num_pairs, paired.method) == (Decision.A_BETTER, 6, "mean losses at one size")
    assert (few.decision, few.num_pairs, few.reason) == (Decision.CANNOT_TELL, 0, "within_noise")
    assert paired.multiplier is None


def test_repeated_tokens_are_not_read_off_a_law() -> None:
    plain = table(np.random.default_rng(0))
    repeated = replace(plain, columns={**plain.columns, "U": plain.columns["D"] / 10})
    found = compare_table(repeated, "a", "b", at=[(None, 1e11)])
    assert found.multiplier is None
    assert found.forecasts[0].reason == "no_law"
    assert any("repeat" in note for note in found.notes)


@pytest.mark.parametrize(
    ("match", "letter", "said"),
    [("unique_tokens", "U", "not matched in unique_tokens: "), ("flops", "C", "not matched in flops: ")],
)
def test_unmatched_recipes_are_refused_with_the_numbers(match: str, letter: str, said: str) -> None:
    plain = table(np.random.default_rng(0))
    amount = plain.columns["D"] * np.where(plain.recipe == "a", 1.0, 2.0)
    columns = {**plain.columns, letter: amount}
    found = compare_table(replace(plain, columns=columns), "a", "b", match)
    assert found.refused is not None
    assert found.refused.startswith(said + "200M against 400M at N = 10M, D = 200M")
    assert found.gap is None


def test_unmatched_weights_and_no_common_size_are_refused() -> None:
    plain = table(np.random.default_rng(0))
    is_a = plain.recipe == "a"
    weights = np.where(is_a[:, None], [[0.8, 0.2]], [[0.5, 0.5]])
    mixed = replace(plain, columns={**plain.columns, "w": weights}, domains=("docs", "code"))
    assert compare_table(mixed, "a", "b", "weights").refused == "not matched in weights: code has 20.0 % against 50.0 %"
    apart = replace(plain, columns={**plain.columns, "N": plain.columns["N"] * np.where(is_a, 1, 3)})
    refused = compare_table(apart, "a", "b").refused
    assert refused is not None
    assert refused.startswith("they need a size in common and have 0: N = 10M, D = 200M; N = 10M, D = 603M")


def test_what_is_not_in_the_table_is_an_error_that_lists_what_is() -> None:
    plain = table(np.random.default_rng(0))
    with pytest.raises(AnalysisError, match="recipe must be one of a, b, got 'c'"):
        compare_table(plain, "a", "c")
    with pytest.raises(AnalysisError, match="match unique_tokens needs column U; the table has D, N"):
        compare_table(plain, "a", "b", "unique_tokens")
