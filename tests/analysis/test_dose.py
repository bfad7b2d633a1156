"""Dose-response: a planted monotone effect is called that, nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from planted import RICH, spec, write_study
from test_labels import gopher, ocr, quality, study

from analysis.__main__ import main
from analysis.contrasts.dose import DoseResponse, dose_response
from analysis.laws.power import PowerLaw

SIZES = (250_000, 350_000, 500_000, 700_000, 1_000_000)
DOSES = (0.0, 0.25, 0.5, 1.0)


def worth(tokens: float) -> PowerLaw:
    """A law under which a token is worth so many tokens of the reference."""
    return PowerLaw(E=1.5, B=60.0 * tokens**-0.25, beta=0.25)


def harm(tree: Any) -> float:
    steps = tree["recipe"]["degraders"]
    return float(steps[0]["document_frac"]) if steps else 0.0


def noise_trees(
    doses: Sequence[float] = DOSES, num_seeds: int = 2, sizes: Sequence[int] = SIZES
) -> list[dict[str, Any]]:
    return [spec(D, s, {"docs": 1.0}, **ocr(dose)) for dose in doses for s in range(num_seeds) for D in sizes]


def response(
    folder: Path, trees: list[dict[str, Any]], worth_of: Callable[[Any], float], **planted: Any
) -> DoseResponse:
    found = dose_response(study(folder, trees, law=lambda tree, domain: worth(worth_of(tree)), **planted))
    assert found is not None
    return found


def test_a_planted_monotone_effect_is_reported_as_monotone_with_its_size(tmp_path: Path) -> None:
    found = response(tmp_path, noise_trees(), lambda tree: 1 - 0.4 * harm(tree))
    (line,) = found.lines
    assert found.what == "share of documents with OCR noise"
    assert [dose.text for dose in line.doses] == ["0 %", "25 %", "50 %", "100 %"]
    assert line.verdict == "monotone: each higher dose is worse, adjacent differences 3 of 3 clear of zero"
    for dose in line.doses[1:]:
        assert dose.effect is not None
        assert dose.effect.multiplier is not None
        assert dose.effect.multiplier.lo < 1 - 0.4 * dose.value < dose.effect.multiplier.hi
    assert "a token at 100 % is worth 0.6" in found.sentences[0] or "0.5" in found.sentences[0]


def test_an_effect_for_the_better_is_monotone_too(tmp_path: Path) -> None:
    found = response(tmp_path, noise_trees(), lambda tree: 1 + harm(tree))
    assert found.lines[0].verdict.startswith("monotone: each higher dose is better, adjacent differences 3 of 3")


def test_doses_that_do_nothing_are_not_called_monotone(tmp_path: Path) -> None:
    found = response(tmp_path, noise_trees(), lambda tree: 1.0)
    assert found.lines[0].verdict.startswith("cannot tell: the highest dose cannot be told from the lowest")


def test_an_effect_that_turns_is_not_monotone(tmp_path: Path) -> None:
    found = response(tmp_path, noise_trees(), lambda tree: 1 + harm(tree) * (1 - harm(tree)))
    assert found.lines[0].verdict.startswith("not monotone: clear differences go both ways")


def test_an_effect_that_levels_off_is_not_called_monotone_on_the_strength_of_noise(tmp_path: Path) -> None:
    """The planted losses at 25, 50 and 100 % are equal, so the steps between them have any sign."""
    found = response(tmp_path, noise_trees(), lambda tree: 1.0 if harm(tree) == 0 else 0.7)
    (line,) = found.lines
    assert not line.verdict.startswith("not monotone")
    assert "1 of 3 clear of zero" in line.verdict


def test_two_doses_are_a_contrast_and_no_dose_response(tmp_path: Path) -> None:
    assert dose_response(study(tmp_path, noise_trees((0.0, 0.5)))) is None


def scored_trees(num_seeds: int = 2) -> list[dict[str, Any]]:
    scorers = {"heuristic": {}, "random": {"seed": 0}}
    return [
        spec(D, s, {"docs": 1.0}, **quality(keep, kind, **scorers[kind]))
        for kind in scorers
        for keep in (1.0, 0.6, 0.3)
        for s in range(num_seeds)
        for D in SIZES
        if kind == "heuristic" or keep < 1
    ]


def kept(tree: Any) -> float:
    chosen = tree["recipe"]["quality"]
    return 1 + (1 - chosen["keep_frac"]) * (chosen["scorer"]["kind"] == "heuristic")


def test_two_factors_give_a_line_for_each_kind_that_share_the_zero(tmp_path: Path) -> None:
    found = response(tmp_path, scored_trees(), kept)
    by_name = {line.name: line for line in found.lines}
    assert set(by_name) == {"heuristic", "random"}
    assert {line.doses[-1].recipe for line in found.lines} == {"all documents"}
    assert by_name["heuristic"].verdict.startswith("monotone: each higher dose is worse")  # a dose is what is kept
    assert by_name["random"].verdict.startswith("cannot tell")


@pytest.mark.parametrize(
    ("changes", "what", "texts"),
    [
        (
            [{"weights": {"docs": w, "code": 1 - w}} for w in (1.0, 0.6, 0.2)],
            "share of code in the mixture",
            "0 % 40 % 80 %",
        ),
        ([gopher(words) for words in (10, 50, 200)], "gopher_quality.min_words", "10 50 200"),
        ([{"budget__unique_tokens": U} for U in (None, 500_000, 250_000)], "unique tokens U", "250k 500k 1M"),
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
                for e in (0.0, 0.5, 1.0)
            ],
            "mixture exponent",
            "0 0.5 1",
        ),
    ],
)
def test_the_dose_is_found_wherever_recipes_differ_in_one_number(
    tmp_path: Path, changes: list[dict[str, Any]], what: str, texts: str
) -> None:
    found = dose_response(
        study(tmp_path, [spec(D, s, **change) for change in changes for s in range(2) for D in SIZES])
    )
    assert found is not None
    assert found.what == what
    assert " ".join(dose.text for dose in found.lines[0].doses).replace(" %", "%") == texts.replace(" %", "%")


def test_numbers_that_only_tell_recipes_apart_are_no_dose(tmp_path: Path) -> None:
    trees = [spec(D, 0, **quality(0.5, "random", seed=seed)) for seed in range(4) for D in SIZES[:2]]
    assert dose_response(study(tmp_path, trees)) is None


@pytest.mark.parametrize("sizes", [SIZES, SIZES[-1:]])
def test_without_repeated_seeds_no_dose_response_is_called(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    found = response(tmp_path, noise_trees(num_seeds=1, sizes=sizes), lambda tree: 1 - 0.4 * harm(tree))
    assert found.sentences == ["share of documents with OCR noise: cannot tell without repeated seeds."]


def test_one_size_with_seeds_shows_a_monotone_effect(tmp_path: Path) -> None:
    found = response(tmp_path, noise_trees(num_seeds=3, sizes=SIZES[-1:]), lambda tree: 1 - 0.4 * harm(tree))
    assert found.lines[0].verdict.startswith("monotone: each higher dose is worse")


@pytest.mark.parametrize("trees", [noise_trees(), scored_trees(), noise_trees(num_seeds=1, sizes=SIZES[-1:])])
def test_the_report_shows_figure_table_and_verdict(tmp_path: Path, trees: list[dict[str, Any]]) -> None:
    write_study(tmp_path, trees)
    assert main(["report", str(tmp_path)]) == 0
    out = tmp_path / "report"
    assert (out / "figures" / "dose.svg").stat().st_size > 5000
    told = json.loads((out / "summary.json").read_text())["dose_response"]
    rows = (out / "tables" / "doses.csv").read_text().splitlines()
    assert len(rows) == 1 + sum(len(line["doses"]) for line in told["lines"])
    page = (out / "report.html").read_text()
    for line in told["lines"]:
        assert line["verdict"] in page


def test_doses_that_may_not_be_compared_still_get_a_report(tmp_path: Path) -> None:
    """Under match: unique_tokens, the doses that make a recipe repeat its text are refused."""
    trees = scored_trees()
    for tree in trees:
        tree["study"] = {**tree["study"], "match": "unique_tokens"}
    write_study(tmp_path, trees, offered=lambda tree: round(1_200_000 * tree["recipe"]["quality"]["keep_frac"]))
    assert main(["report", str(tmp_path)]) == 0
    told = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert {line["verdict"] for line in told["dose_response"]["lines"]} == {
        "cannot tell: not all doses may be compared"
    }


def test_a_study_without_doses_has_no_such_section(tmp_path: Path) -> None:
    write_study(tmp_path, [spec(D, s, weights) for weights in (RICH, {"docs": 1.0}) for s in range(2) for D in SIZES])
    assert main(["report", str(tmp_path)]) == 0
    assert "Dose-response" not in (tmp_path / "report" / "report.html").read_text()
    assert not (tmp_path / "report" / "figures" / "dose.svg").exists()
