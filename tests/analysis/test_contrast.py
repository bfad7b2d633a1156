"""Recipe against recipe: planted multipliers recovered, refusals, abstention."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import POOR, RICH, SIZES, demo_trees, mixture_law, spec, write_study

from analysis.contrasts.contrast import Contrast, Decision, compare, contrasts
from analysis.contrasts.contrast_words import sentences
from analysis.contrasts.fit import HeldOut, fit_power_law
from analysis.contrasts.noise import noise_of
from analysis.fitting.result import Estimate, Status
from analysis.laws.power import PowerLaw
from analysis.page.answer import Answer, answer
from analysis.page.doubling import error_text
from analysis.page.tables import fit_table
from analysis.runs.points import Study, build_study
from analysis.runs.records import read_runs


def study(folder: Path, trees: list[dict[str, Any]], **noise: Any) -> Study:
    write_study(folder, trees, **noise)
    return build_study(read_runs([str(folder)]))


def contrast(folder: Path, trees: list[dict[str, Any]], **noise: Any) -> Contrast:
    (found,) = contrasts(study(folder, trees, **noise), "docs")
    return found


TRUE_M = mixture_law(RICH, "docs").B ** -4 / mixture_law(POOR, "docs").B ** -4
"""With equal E and beta = 1/4 the multiplier is (B_poor / B_rich)^4, whatever the loss."""


def test_a_planted_multiplier_is_recovered(tmp_path: Path) -> None:
    found = contrast(tmp_path, demo_trees(), seed_sd=0.0, point_sd=0.0)
    assert (found.a, found.b) == ("80 % docs / 20 % code", "20 % docs / 80 % code")
    assert found.multiplier is not None
    assert found.at_smallest is not None
    assert found.growth is not None
    assert found.multiplier.value == pytest.approx(TRUE_M, rel=1e-6)
    assert found.at_smallest.value == pytest.approx(TRUE_M, rel=1e-6)
    assert found.growth.value == pytest.approx(1.0, abs=1e-6)
    assert found.check == pytest.approx(TRUE_M, rel=0.01)  # interpolated between sizes a factor of 2 apart
    assert found.decision is Decision.A_BETTER


def test_with_noise_the_interval_holds_the_planted_multiplier(tmp_path: Path) -> None:
    found = contrast(tmp_path, demo_trees(), seed_sd=0.003, point_sd=0.002)
    assert found.multiplier is not None
    assert found.multiplier.lo < TRUE_M < found.multiplier.hi
    assert found.multiplier.hi / found.multiplier.lo < 1.3
    assert found.trend == "not distinguishable from constant"


def test_where_the_gap_is_told_from_zero_the_multiplier_ends_at_one(tmp_path: Path) -> None:
    """Seeds that agree at the largest size alone: the runs there tell a small gap, curves through all sizes do not."""

    def loss(tree: Any, domain: str) -> float:
        tokens, is_first = tree["budget"]["num_tokens"], tree["seeds"]["init"] == 0
        worth = 1.05 if tree["recipe"]["mixture"]["weights"] == RICH else 1.0
        off = 2e-4 if tokens == max(SIZES) else 0.02
        return float(PowerLaw(1.5, 60.0, 0.25).loss(tokens * worth)) * float(np.exp(off if is_first else -off))

    found = contrast(tmp_path, demo_trees(num_seeds=2), loss=loss, seed_sd=0.0, point_sd=0.0)
    assert found.gap is not None
    assert found.multiplier is not None
    assert found.gap.hi < 0
    assert found.decision is Decision.A_BETTER
    assert found.multiplier.lo == 1.0 < found.multiplier.value
    (note,) = found.notes
    assert re.match(r"the curves alone give a multiplier of 0\.\d\d to .* so its interval ends there", note)


def test_a_multiplier_that_grows_is_seen_to_grow(tmp_path: Path) -> None:
    def law(tree: Any, domain: str) -> PowerLaw:
        return PowerLaw(1.5, 60.0, 0.25) if tree["recipe"]["mixture"]["weights"] == RICH else PowerLaw(1.7, 60.0, 0.245)

    found = contrast(tmp_path, demo_trees(), law=law, seed_sd=0.001, point_sd=0.001)
    assert found.trend == "multiplier grows with corpus size"


def test_equal_recipes_cannot_be_told_apart(tmp_path: Path) -> None:
    found = contrast(tmp_path, demo_trees(), law=lambda tree, domain: PowerLaw(1.5, 60.0, 0.25))
    assert found.decision is Decision.CANNOT_TELL
    assert found.multiplier is not None
    assert found.multiplier.lo < 1 < found.multiplier.hi
    assert found.gap is not None
    assert found.gap.lo < 0 < found.gap.hi


def test_swapping_the_recipes_inverts_the_answer(tmp_path: Path) -> None:
    on_docs, on_code = (contrasts(study(tmp_path, demo_trees()), domain)[0] for domain in ("docs", "code"))
    assert on_docs.decision is Decision.A_BETTER
    assert on_code.decision is Decision.B_BETTER
    assert on_code.multiplier is not None
    assert on_code.multiplier.hi < 1


def test_curves_that_share_no_loss_are_marked_as_extrapolated(tmp_path: Path) -> None:
    def law(tree: Any, domain: str) -> PowerLaw:
        return PowerLaw(1.0 if tree["recipe"]["mixture"]["weights"] == RICH else 4.5, 60.0, 0.25)

    found = contrast(tmp_path, demo_trees(), law=law)
    assert found.is_extrapolated
    assert found.trace is None
    assert found.decision is Decision.A_BETTER


def test_two_sizes_are_compared_without_a_law(tmp_path: Path) -> None:
    found = contrast(tmp_path, demo_trees(sizes=SIZES[-2:]))
    assert found.method == "interpolation between measured sizes"
    assert found.decision is Decision.A_BETTER
    assert found.gap is not None
    assert found.gap.value == pytest.approx(
        float(mixture_law(RICH, "docs").loss(SIZES[-1]) - mixture_law(POOR, "docs").loss(SIZES[-1])), abs=0.05
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"objective": {"kind": "mlm", "mask_frac": 0.15}}, "objectives differ.*clm"),
        ({"tokenizer__vocab_size": 2048}, "tokenizers differ.*1024"),
        ({"model__hidden_size": 128}, "models differ.*128"),
        ({"content": {"docs": "f" * 64, "code": "0" * 64}}, "texts of docs differ"),
        ({"evaluation__max_tokens": 5}, "amounts of validation text differ"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_values(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    trees = [spec(D, 0, **extra) for extra in ({}, change) for D in SIZES]
    found = contrast(tmp_path, trees)
    assert found.refused is not None
    assert re.search(why, found.refused)
    assert found.multiplier is None


def test_no_common_sizes_is_refused_with_both_grids(tmp_path: Path) -> None:
    trees = [spec(D, 0, weights) for weights, sizes in ((RICH, SIZES[:3]), (POOR, SIZES[3:])) for D in sizes]
    found = contrast(tmp_path, trees)
    assert found.refused is not None
    assert re.search("have 0: .*(62.5k, 125k, 250k|500k, 1M, 2M) against .* tokens", found.refused)


@pytest.mark.parametrize(
    ("match", "change", "why"),
    [
        ("unique_tokens", {"budget__unique_tokens": 250_000}, "not matched in unique_tokens: 250k against 500k"),
        ("weights", {"recipe__mixture": {"weights": POOR}}, "not matched in weights: code has"),
    ],
)
def test_the_match_that_the_study_declares_is_checked(
    tmp_path: Path, match: str, change: dict[str, Any], why: str
) -> None:
    trees = [spec(D, s, **extra) for extra in ({}, change) for s in range(2) for D in SIZES]
    for tree in trees:
        tree["study"] = {**tree["study"], "match": match}
    found = contrast(tmp_path, trees)
    assert found.refused is not None
    assert why in found.refused


def test_a_missing_size_is_left_out_and_said(tmp_path: Path) -> None:
    trees = [
        t
        for t in demo_trees()
        if not (t["budget"]["num_tokens"] == SIZES[-1] and t["recipe"]["mixture"]["weights"] == POOR)
    ]
    found = contrast(tmp_path, trees)
    assert found.tokens == SIZES[-2]
    assert found.notes == ("sizes that only one recipe has are left out: 2M tokens",)


# ---- the sentence --------------------------------------------------------------------------------


def answered(folder: Path, trees: list[dict[str, Any]], **noise: Any) -> Answer:
    return answer(study(folder, trees, **noise))


def test_repeated_tokens_are_contrasted_without_the_law(tmp_path: Path) -> None:
    def loss(tree: Any, domain: str) -> float:
        D, U = tree["budget"]["num_tokens"], tree["budget"]["unique_tokens"] or 10**9
        return float(PowerLaw(1.5, 60.0, 0.25).loss(min(D, 2 * U)))  # more than two epochs teach nothing

    trees = [spec(D, s, budget__unique_tokens=U) for U in (None, 125_000) for s in range(3) for D in SIZES]
    found = answered(tmp_path, trees, loss=loss, seed_sd=0.001, point_sd=0.001)
    assert found.main is not None
    assert found.main.method == "interpolation between measured sizes"
    assert found.main.multiplier is not None
    assert found.main.multiplier.value == pytest.approx(1 / 8, rel=0.05)  # 250k of 2M tokens counted
    assert any("Tokens repeat more than 4 times" in caveat for caveat in found.caveats)
    assert "U unlimited is better on docs" in found.headline


def test_losses_that_do_not_follow_the_law_are_a_caveat_and_widen_the_bands(tmp_path: Path) -> None:
    measured = dict(zip(SIZES, (5.9, 5.63, 5.41, 4.66, 4.02, 3.59), strict=True))  # still in warmup at first
    trees = [spec(D, s) for s in range(3) for D in SIZES]
    found = answered(tmp_path, trees, loss=lambda tree, domain: measured[tree["budget"]["num_tokens"]])
    assert any("they do not follow the law" in caveat for caveat in found.caveats)
    lo, hi = found.fits[0].interval(found.fits[0].D[:1])
    assert hi[0] - lo[0] > 0.15  # noise alone would make it .05


def test_one_recipe_answers_with_the_worth_of_a_doubling(tmp_path: Path) -> None:
    found = answered(tmp_path, [spec(D, s) for s in range(3) for D in SIZES])
    law = mixture_law(RICH, "docs")
    said = re.search(r"by (\S+) nats per token \(95 % interval (\S+) to (\S+)\)", found.headline)
    assert said is not None
    gain, lo, hi = map(float, said.groups())
    assert gain == pytest.approx(float(law.loss(500_000) - law.loss(1_000_000)), rel=0.02)
    assert lo < float(law.loss(500_000) - law.loss(1_000_000)) < hi
    assert "held-out 2M tokens were predicted within" in found.headline


def test_of_many_recipes_the_best_is_named_with_the_runner_up(tmp_path: Path) -> None:
    mixtures = [{"docs": w, "code": 1 - w} for w in (0.9, 0.5, 0.1)]
    trees = [spec(D, s, weights) for weights in mixtures for s in range(3) for D in SIZES]
    found = answered(tmp_path, trees)
    assert found.headline.startswith("Of 3 recipes, 90 % docs / 10 % code is best on docs")
    assert {c.b for c in found.contrasts} == {"50 % docs / 50 % code"}


def test_a_failed_run_and_few_seeds_are_caveats(tmp_path: Path) -> None:
    from planted import write_log

    write_log(tmp_path, spec(1_000_000, 9), [], {"state": "failed", "error": "disk full"})
    found = answered(tmp_path, demo_trees(num_seeds=2))
    assert any("1 of 25 runs are not complete" in caveat for caveat in found.caveats)
    assert any("fewer than 3 trunks" in caveat for caveat in found.caveats)


@pytest.mark.parametrize(
    "measured",
    [
        (5.9, 5.88, 5.5, 4.7, 4.0, 3.6),  # the second interval falls more than three times as fast as the first
        (5.9, 5.5, 5.5, 4.7, 4.0, 3.6),
        (5.9, 5.5, 5.0, 4.6, 4.3, 4.3),
        (5.9, 5.9, 5.9, 5.9, 5.9, 5.9),
    ],
)
def test_curves_that_stand_still_are_contrasted_without_a_crash(tmp_path: Path, measured: tuple[float, ...]) -> None:
    by_size = dict(zip(SIZES, measured, strict=True))

    def loss(tree: Any, domain: str) -> float:
        return by_size[tree["budget"]["num_tokens"]] * (1.0 if tree["recipe"]["mixture"]["weights"] == RICH else 1.02)

    changes = ({"weights": RICH}, {"weights": POOR, "budget__unique_tokens": 10**9})  # U differs: no law
    trees = [spec(D, s, **change) for change in changes for s in range(3) for D in SIZES]
    found = answered(tmp_path, trees, loss=loss, seed_sd=0.001, point_sd=0.0)
    assert found.main is not None
    assert found.main.method == "interpolation between measured sizes"
    assert "inf" not in found.headline


def test_a_largest_size_with_one_seed_gives_no_false_winner(tmp_path: Path) -> None:
    """Two equal recipes, measured once each where they are compared."""
    for i in range(4):
        trees = [
            t for t in demo_trees(sizes=SIZES[:3]) if t["budget"]["num_tokens"] < SIZES[2] or t["seeds"]["init"] < 1
        ]
        for tree in trees:
            tree["optimizer"] = {**tree["optimizer"], "learning_rate": 0.01 + i}
        found = contrast(tmp_path / str(i), trees, law=lambda tree, domain: PowerLaw(1.5, 60.0, 0.25))
        assert found.decision is Decision.CANNOT_TELL
        assert found.gap is not None
        assert found.gap.lo < found.gap.value < found.gap.hi


def test_noise_is_pooled_within_comparable_recipes_only(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"objective": {"kind": "mlm", "mask_frac": 0.15}}]
    found = study(tmp_path, [spec(D, s, **change) for change in changes for s in range(3) for D in SIZES])
    assert [noise_of(found, recipe, "docs").degrees for recipe in found.recipes] == [2, 2]


def test_a_loss_that_no_amount_of_the_weaker_recipe_reaches_is_said_in_words(tmp_path: Path) -> None:
    def loss(tree: Any, domain: str) -> float:
        return 3.0 if tree["recipe"]["mixture"]["weights"] == RICH else 5.0

    found = answered(tmp_path, demo_trees(sizes=SIZES[:3]), loss=loss)
    assert "no measured amount of 20 % docs / 80 % code reaches the loss" in found.headline
    assert "inf" not in found.headline
    assert "nan" not in found.headline


def test_a_law_that_the_points_do_not_settle_is_not_used_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vague(*args: Any) -> Any:
        return replace(fit_power_law(*args), status=Status.NOT_IDENTIFIED)

    monkeypatch.setattr("analysis.contrasts.contrast.fit_power_law", vague)
    found = answered(tmp_path, demo_trees())
    assert found.main is not None
    assert found.main.method == "interpolation between measured sizes"
    assert any("do not settle a power law" in note for note in found.main.notes)
    rows = fit_table(found.fits, found.full_fits).texts
    held_out, full = rows[: len(found.fits)], rows[len(found.fits) :]
    assert {row[5] for row in held_out} == {"all but the held-out size"}
    assert {row[5] for row in full} == {"all sizes"}
    assert [row[:2] for row in full] == [row[:2] for row in held_out]


# ---- crossings, budgets, probabilities, pairs ------------------------------------------------------


def crossing_law(tree: Any, domain: str) -> PowerLaw:
    """Two recipes that cross at 160k tokens: the richer one falls faster from higher up."""
    return PowerLaw(1.5, 200.0, 0.35) if tree["recipe"]["mixture"]["weights"] == RICH else PowerLaw(1.5, 60.4, 0.25)


CROSSING = (200.0 / 60.4) ** (1 / 0.1)


def test_a_planted_crossing_is_found_within_its_interval(tmp_path: Path) -> None:
    found = contrast(tmp_path, demo_trees(), law=crossing_law)
    assert found.crossing is not None
    assert found.crossing.is_settled
    assert not found.crossing.is_predicted
    assert found.crossing.after == "a"
    assert found.crossing.tokens.lo < CROSSING < found.crossing.tokens.hi
    assert found.crossing.tokens.value == pytest.approx(CROSSING, rel=0.15)


def test_the_headline_says_where_the_curves_cross(tmp_path: Path) -> None:
    found = answered(tmp_path / "crossed", demo_trees(), law=crossing_law)
    said = r"; the curves cross at \S+ tokens \(\S+ to \S+\): 20 % docs / 80 % code is better below, 80 % docs"
    assert re.search(said, found.headline)
    assert "cross" not in answered(tmp_path / "apart", demo_trees()).headline


def test_the_test_says_where_all_held_out_runs_lie_on_one_side(tmp_path: Path) -> None:
    def loss(tree: Any, domain: str) -> float:  # the largest size is better than its law
        tokens = tree["budget"]["num_tokens"]
        return PowerLaw(1.5, 60.0, 0.25).loss(tokens) * (0.97 if tokens == SIZES[-1] else 1.0)

    said = answered(tmp_path / "off", demo_trees(), loss=loss).test
    assert said is not None
    assert said.count("(all measured losses lie below the prediction)") == 2


@pytest.mark.parametrize(
    ("predicted", "loss", "said"),
    [
        ((3.75, 3.69, 3.82), 3.7508, "0.1 %"),
        ((3.75, 3.69, 3.82), 3.70, "1.4 %"),
        ((3.0, 2.9999, 3.0001), 3.001, "0.0333 %"),
    ],
)
def test_an_error_has_no_more_places_than_the_interval_of_its_prediction(
    predicted: tuple[float, float, float], loss: float, said: str
) -> None:
    assert error_text(HeldOut(10**6, 3, loss, Estimate(*predicted), 1)) == said


def test_without_repeated_seeds_a_contrast_says_the_same_of_gap_and_multiplier(tmp_path: Path) -> None:
    found = contrast(tmp_path, [tree for tree in demo_trees() if tree["seeds"]["init"] == 0])
    said = sentences(found)[0]
    assert said.startswith("Cannot tell whether ")
    assert re.search(
        r"the gap is -?0\.\d+ \(no interval\) nats per token, .* is worth \d\.\d\d tokens .*\(no interval\)", said
    )


def test_a_crossing_beyond_the_measured_sizes_is_predicted(tmp_path: Path) -> None:
    found = contrast(
        tmp_path, demo_trees(sizes=[D // 16 for D in SIZES]), law=crossing_law, seed_sd=0.0005, point_sd=0.0
    )
    assert found.crossing is not None
    assert found.crossing.is_predicted
    assert found.decision is Decision.B_BETTER
    assert found.crossing.tokens.value == pytest.approx(CROSSING, rel=0.3)


def test_equal_recipes_have_no_settled_crossing(tmp_path: Path) -> None:
    found = contrast(tmp_path, demo_trees(), law=lambda tree, domain: PowerLaw(1.5, 60.0, 0.25))
    assert found.crossing is None or not found.crossing.is_settled


def test_a_budget_beyond_the_sizes_is_decided_by_the_laws_up_to_eight_times(tmp_path: Path) -> None:
    found = study(tmp_path, demo_trees())
    a, b = reversed(found.recipes)
    near, far, inside = compare(found, a, b, "docs", at=[4 * SIZES[-1], 9 * SIZES[-1], SIZES[2]]).forecasts
    true = float(mixture_law(RICH, "docs").loss(near.tokens) - mixture_law(POOR, "docs").loss(near.tokens))
    assert near.gap is not None
    assert near.gap.lo < true < near.gap.hi
    assert near.decision is Decision.A_BETTER
    assert near.probability is not None
    assert near.probability > 0.975
    assert near.multiplier is not None
    assert near.multiplier.lo < TRUE_M < near.multiplier.hi
    assert (far.decision, far.reason) == (Decision.CANNOT_TELL, "beyond_reach")
    assert far.probability is None
    assert inside.beyond < 1
    assert inside.decision is Decision.A_BETTER


def test_beyond_the_sizes_nothing_is_said_without_a_law(tmp_path: Path) -> None:
    found = study(tmp_path, demo_trees(sizes=SIZES[-2:]))
    a, b = reversed(found.recipes)
    (beyond,) = compare(found, a, b, "docs", at=[2 * SIZES[-1]]).forecasts
    assert (beyond.gap, beyond.decision, beyond.reason) == (None, Decision.CANNOT_TELL, "no_law")


def test_without_repeated_seeds_a_budget_is_not_decided(tmp_path: Path) -> None:
    found = study(tmp_path, demo_trees(num_seeds=1))
    a, b = reversed(found.recipes)
    (beyond,) = compare(found, a, b, "docs", at=[2 * SIZES[-1]]).forecasts
    assert (beyond.decision, beyond.reason, beyond.probability) == (Decision.CANNOT_TELL, "no_repeated_seeds", None)


def test_two_recipes_are_paired_by_five_seeds_and_not_by_three(tmp_path: Path) -> None:
    def gap(num_seeds: int) -> tuple[int, float]:
        """Pairs, and the width of the interval, where a seed moves both recipes alike by 2 %."""
        base = study(tmp_path / str(num_seeds), demo_trees(num_seeds, SIZES[-1:]), seed_sd=0.0, point_sd=0.0)
        rng = np.random.default_rng(1)
        common = rng.normal(0, 0.02, num_seeds)
        points = tuple(
            replace(p, loss=p.loss * float(np.exp(rng.normal(0, 0.001) + common[dict(p.seeds)["init"]])))
            for p in base.points
        )
        found = contrasts(replace(base, points=points), "docs")[0]
        assert found.gap is not None
        return found.num_pairs, found.gap.hi - found.gap.lo

    (three, wide), (five, narrow) = gap(3), gap(5)
    assert (three, five) == (0, 5)
    assert narrow < wide / 5  # what the seeds share is left out


def test_a_pair_that_is_paired_covers_at_its_rate(tmp_path: Path) -> None:
    """Five seeds that move both recipes alike (r = .8), two equal recipes: told apart in about 5 %."""
    base = study(tmp_path, demo_trees(5, SIZES[-1:]))
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        common = rng.normal(0, 0.8**0.5 * 0.004, 5)
        points = tuple(
            replace(p, loss=3 * float(np.exp(common[dict(p.seeds)["init"]] + rng.normal(0, 0.2**0.5 * 0.004))))
            for p in base.points
        )
        wrong += contrasts(replace(base, points=points), "docs")[0].decision is not Decision.CANNOT_TELL
    assert 8 <= wrong <= 34  # 20 are expected; beyond these with a probability of 0.4 %


def test_shares_are_matched_as_recipes_state_them_where_no_ledger_tells(tmp_path: Path) -> None:
    base = replace(study(tmp_path, demo_trees()), match="weights")
    (with_ledgers,), (without,) = contrasts(base, "docs"), contrasts(replace(base, runs=()), "docs")
    assert with_ledgers.refused == without.refused == "not matched in weights: code has 20.0 % against 80.0 %"
