"""The audits: each finds what was planted for it, and says nothing of a study that has no such fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planted import POOR, RICH, SIZES, config_of, demo_trees, mixture_law, spec, weights_of, write_study

from analysis.laws.power import PowerLaw
from analysis.page.answer import answer
from analysis.page.caveats import find_caveats
from analysis.page.run_caveats import exposure_caveats
from analysis.runs.points import Study, build_study
from analysis.runs.records import read_runs

FOUR = SIZES[:4]
OPEN = {"kind": "none"}


def read(folder: Path) -> Study:
    return build_study(read_runs([str(folder)]))


def with_ledgers(study: Study, **changes: object) -> Study:
    """The study with something else in the ledgers of all its runs, for the domain docs."""
    runs = []
    for run in study.runs:
        assert run.ledger is not None
        domains = {**run.ledger.domains, "docs": replace(run.ledger.domains["docs"], **changes)}  # type: ignore[arg-type]
        runs.append(replace(run, ledger=replace(run.ledger, domains=domains)))
    return replace(study, runs=tuple(runs))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return read(write_study(tmp_path_factory.mktemp("clean"), demo_trees(num_seeds=3, sizes=FOUR)))


def test_a_study_without_fault_has_no_caveat_of_its_exposure(clean: Study) -> None:
    assert exposure_caveats(clean) == []


def test_text_repeated_beyond_four_epochs_is_named_even_where_the_mean_is_below(clean: Study) -> None:
    assert not any("beyond 4 epochs" in caveat for caveat in exposure_caveats(with_ledgers(clean, epochs=4.0)))
    (caveat,) = exposure_caveats(with_ledgers(clean, epochs=11.5))
    assert caveat.startswith("Text is repeated beyond 4 epochs")
    assert "docs in 20 % docs / 80 % code (11.5 epochs)" in caveat


def test_an_arm_that_was_not_decontaminated_is_named_with_what_the_others_dropped(tmp_path: Path) -> None:
    trees = [spec(D, s, RICH) for s in range(2) for D in FOUR]
    trees += [spec(D, s, RICH, recipe__decontamination=OPEN) for s in range(2) for D in FOUR]
    study = with_ledgers(read(write_study(tmp_path, trees)), documents=990, dropped={"contaminated": 10})
    (caveat,) = [caveat for caveat in exposure_caveats(study) if "validation text" in caveat]
    assert "The training text of no decontamination was not freed of validation text" in caveat
    assert "docs: 10 documents, 1.00 %" in caveat


def test_a_study_that_never_looked_for_validation_text_says_so(tmp_path: Path) -> None:
    trees = [spec(D, s, w, recipe__decontamination=OPEN) for w in (RICH, POOR) for s in range(2) for D in FOUR]
    study = read(write_study(tmp_path, trees))
    assert any(caveat.startswith("Validation text was not looked for") for caveat in exposure_caveats(study))


def test_a_prediction_beyond_eight_times_the_fitted_sizes_is_called_one(tmp_path: Path) -> None:
    far = 16 * FOUR[-1]
    for top, is_far in ((far, True), (2 * FOUR[-1], False)):
        folder = tmp_path / str(top)
        study = read(write_study(folder, demo_trees(num_seeds=3, sizes=(*FOUR, top))))
        caveats = answer(study).caveats
        said = [caveat for caveat in caveats if "extrapolated to 8M tokens, 16.0 times the largest size" in caveat]
        assert bool(said) is is_far, caveats


def test_unmatched_arms_come_first_with_their_numbers(clean: Study) -> None:
    found = answer(replace(clean, match="weights"))
    assert found.caveats[0].startswith("80 % docs / 20 % code against 20 % docs / 80 % code on docs")
    assert "not matched in weights: code has" in found.caveats[0]


def test_diverged_and_unfinished_runs_are_named(clean: Study) -> None:
    first, second, *rest = clean.runs
    broken = (replace(first, state="diverged", error="loss is nan"), replace(second, state="preempted"), *rest)
    caveats = find_caveats(replace(clean, runs=broken), answer(clean).fits, ())
    assert any("2 of 24 runs are not complete and enter no fit (1 diverged, 1 preempted)" in text for text in caveats)
    assert any(text.startswith("Runs diverged under ") for text in caveats)


def test_the_answer_is_for_the_largest_model_and_says_where_others_come_out_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide, narrow = 1_600_000, 400_000
    monkeypatch.setattr(
        "planted.config_of",
        lambda tree: config_of(tree) | {"num_params": wide if tree["model"]["hidden_size"] == 256 else narrow},
    )
    trees = [
        spec(D, seed, weights, model__hidden_size=hidden)
        for hidden in (256, 128) for weights in (RICH, POOR) for seed in range(3) for D in FOUR
    ]  # fmt: skip

    def law(tree: Mapping[str, Any], domain: str) -> PowerLaw:
        weights = weights_of(tree)
        return mixture_law(
            weights if tree["model"]["hidden_size"] == 256 else {d: 1 - w for d, w in weights.items()}, domain
        )

    found = answer(read(write_study(tmp_path, trees, law=law)))
    assert found.headline.startswith("80 % docs / 20 % code, N = 1.6M is better on docs")
    said = [caveat for caveat in found.caveats if caveat.startswith("The answer is for models of N = 1.6M")]
    assert len(said) == 1
    assert "N = 400k: B better" in said[0]
