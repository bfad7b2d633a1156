"""Labels and the reference: each axis of the data in words, what does least to the data first."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from planted import SIZES, spec, write_log, write_study

from analysis.runs.points import Study, build_study
from analysis.runs.records import read_runs

DOCS = {"docs": 1.0}
HALVES = {"docs": 0.5, "code": 0.5}


def study(folder: Path, trees: list[dict[str, Any]], **planted: Any) -> Study:
    write_study(folder, trees, **planted)
    return build_study(read_runs([str(folder)]))


def labels(folder: Path, axis: list[dict[str, Any]]) -> list[str]:
    found = study(folder, [spec(D, 0, **changes) for changes in axis for D in SIZES[:2]])
    return [recipe.label for recipe in found.recipes]


def ocr(dose: float, **more: Any) -> dict[str, Any]:
    step = {"kind": "ocr_noise", "domains": None, "document_frac": dose, "seed": 0, "char_rate": 0.1, **more}
    return {"recipe__degraders": [step]}


def copies(dose: float) -> dict[str, Any]:
    return {"recipe__degraders": [{"kind": "duplicates", "domains": None, "frac": dose, "seed": 0}]}


def quality(keep_frac: float, kind: str = "heuristic", **scorer: Any) -> dict[str, Any]:
    return {"recipe__quality": {"domains": None, "scorer": {"kind": kind, **scorer}, "keep_frac": keep_frac}}


def gopher(min_words: int = 50, **more: Any) -> dict[str, Any]:
    return {"recipe__filters": [{"kind": "gopher_quality", "domains": None, "min_words": min_words, **more}]}


def near(**more: Any) -> dict[str, Any]:
    rule = {"kind": "near", "scope": "domain", "ngram": 5, "threshold": 0.8, "num_permutations": 128, **more}
    return {"recipe__dedup": rule}


EXACT, CORPUS = {"kind": "exact", "scope": "domain"}, {"kind": "exact", "scope": "corpus"}
LENGTH = {"kind": "length", "descending": False}
SCORED = {"kind": "score", "scorer": {"kind": "heuristic"}, "descending": True}
PROXY = {"kind": "proxy", "num_tokens": 1_000_000_000, "available_tokens": {}}


@pytest.mark.parametrize(
    ("axis", "wanted"),
    [
        ([ocr(0.5), ocr(0.0)], ["no OCR noise", "OCR noise in 50 % of documents"]),
        (
            [ocr(0.5), ocr(0.5, char_rate=0.2)],
            ["OCR noise in 50 % of documents (char_rate 0.1)", "OCR noise in 50 % of documents (char_rate 0.2)"],
        ),
        ([copies(0.5), copies(0.0)], ["no planted copies", "50 % planted copies"]),
        ([copies(0.5), ocr(0.25), {}], ["no harm", "OCR noise in 25 % of documents", "50 % planted copies"]),
        ([quality(0.3), quality(1.0)], ["all documents", "best 30 % by heuristic"]),
        ([quality(0.3), quality(0.3, "random", seed=0)], ["random 30 %", "best 30 % by heuristic"]),
        (
            [quality(0.5, "random", seed=1), quality(0.5, "random", seed=0)],
            ["random 50 % (seed 0)", "random 50 % (seed 1)"],
        ),
        (
            [near(), {"recipe__dedup": EXACT}, {"recipe__dedup": {"kind": "none"}}],
            ["no dedup", "exact dedup", "near dedup (J >= 0.8)"],
        ),
        (
            [{"recipe__dedup": EXACT}, {"recipe__dedup": CORPUS}],
            ["exact dedup over the corpus", "exact dedup within domains"],
        ),
        ([near(), near(ngram=3)], ["near dedup (J >= 0.8) (ngram 3)", "near dedup (J >= 0.8) (ngram 5)"]),
        ([{}, {"recipe__decontamination": {"kind": "none"}}], ["no decontamination", "decontaminated (13-grams)"]),
        ([{"recipe__order": LENGTH}, {}], ["shuffled", "short documents first"]),
        ([{"recipe__order": SCORED}, {}], ["shuffled", "low scores last"]),
        (
            [{"recipe__order": {"kind": "blocks", "domains": ["code", "docs"]}}, {}],
            ["shuffled", "code, then docs in blocks"],
        ),
        ([{"batch__isolate_documents": True}, {}], ["attention across documents", "attention within documents"]),
        (
            [{"budget__repetition": {"kind": "epochs", "domains": {"code": 4.0}}}, {}],
            ["no repetition set", "code 4 epochs"],
        ),
        ([{"budget__repetition": PROXY}, {}], ["no repetition set", "as often as at 1B tokens"]),
        ([gopher(100), gopher(30)], ["gopher_quality.min_words 30", "gopher_quality.min_words 100"]),
        (
            [gopher(100), gopher(30), {}],
            ["unfiltered", "gopher_quality (min_words 30) filter", "gopher_quality (min_words 100) filter"],
        ),
        (
            [gopher(max_words=10), gopher(max_words=99)],
            ["gopher_quality.max_words 99", "gopher_quality.max_words 10"],
        ),
        (
            [{**gopher(), **quality(0.3)}, {}],
            ["unfiltered, all documents", "gopher_quality filter, best 30 % by heuristic"],
        ),
        (
            [
                {
                    "recipe__mixture": {
                        "kind": "temperature",
                        "domains": ["code", "docs"],
                        "exponent": e,
                        "size": "corpus",
                    }
                }
                for e in (1.0, 0.0)
            ],
            ["exponent 0 (50 % docs / 50 % code)", "exponent 1 (67 % docs / 33 % code)"],
        ),
        (
            [
                {},
                {
                    "recipe__mixture": {
                        "kind": "stages",
                        "stages": [{"weights": {"code": 1.0}, "until_tokens": 250_000}, {"weights": {"docs": 1.0}}],
                    }
                },
            ],
            ["80 % docs / 20 % code", "100 % code to 250k tokens, then 100 % docs"],
        ),
    ],
)
def test_each_axis_has_its_words_and_the_natural_reference_is_first(
    tmp_path: Path, axis: list[dict[str, Any]], wanted: list[str]
) -> None:
    assert labels(tmp_path, axis) == wanted


def swarm(index: int) -> dict[str, Any]:
    return {"recipe__mixture": {"kind": "swarm", "domains": ["code", "docs"], "index": index, "seed": 0}}


def test_a_computed_mixture_is_named_by_the_weights_of_the_ledger(tmp_path: Path) -> None:
    found = study(tmp_path, [spec(D, 0, **swarm(index)) for index in range(3) for D in SIZES[:2]])
    for recipe in found.recipes:
        assert recipe.weights is not None
        assert recipe.label == f"{100 * recipe.weights['docs']:.0f} % docs / {100 * recipe.weights['code']:.0f} % code"


def test_mixtures_that_round_to_the_same_weights_get_more_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near_equal = {0: {"docs": 0.6204, "code": 0.3796}, 1: {"docs": 0.6231, "code": 0.3769}}
    monkeypatch.setattr("planted.weights_of", lambda tree: near_equal[tree["recipe"]["mixture"]["index"]])
    assert labels(tmp_path, [swarm(0), swarm(1)]) == ["62 % docs / 38 % code", "62.3 % docs / 37.7 % code"]


def test_a_mixture_that_no_complete_run_has_told_yet_says_so(tmp_path: Path) -> None:
    write_log(tmp_path, spec(SIZES[0], 0, **swarm(7)), [], None)
    found = study(tmp_path, [spec(D, 0, **swarm(0)) for D in SIZES[:2]])
    assert found.recipes[-1].label == "swarm 7, no complete run"


def test_many_domains_are_summed_up(tmp_path: Path) -> None:
    domains = ["docs", *(f"d{i}" for i in range(7))]
    trees = [
        spec(D, 0, recipe__mixture={**swarm(i)["recipe__mixture"], "domains": domains})
        for i in range(2)
        for D in SIZES[:2]
    ]
    for tree in trees:
        tree["recipe"]["corpus"]["domains"] = {domain: {} for domain in domains}
        tree["content"] = {domain: hashlib.sha256(domain.encode()).hexdigest() for domain in domains}
    found = study(tmp_path, trees)
    assert all("4 others" in recipe.label and len(recipe.label) < 70 for recipe in found.recipes)
    assert len({recipe.label for recipe in found.recipes}) == 2


def test_the_best_100_percent_are_one_recipe_whoever_scores(tmp_path: Path) -> None:
    trees = [spec(D, s, **quality(1.0, kind)) for kind in ("heuristic", "random") for s in range(2) for D in SIZES]
    found = study(tmp_path, trees)
    assert [recipe.label for recipe in found.recipes] == ["80 % docs / 20 % code"]
    assert len(found.points_of(found.recipes[0].label, "docs")) == 2 * len(SIZES)
    assert sum("is the same training as" in warning for warning in found.warnings) == 2 * len(SIZES)


def test_a_domain_of_weight_0_makes_no_recipe(tmp_path: Path) -> None:
    assert labels(tmp_path, [{"weights": {"docs": 1.0, "code": 0.0}}, {"weights": DOCS}]) == ["100 % docs"]
