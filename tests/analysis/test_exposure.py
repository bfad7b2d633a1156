"""What the models saw, as tables and caveats: weights that rose and fell, copies, reasons, U."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import planted
import pytest
from planted import POOR, RICH, SIZES, spec, summary_of
from test_labels import copies, quality, study

from analysis.contrasts.contrast import contrasts
from analysis.page.caveats import find_caveats
from analysis.page.exposure import displacement_table, ledger_summary, reasons_text


def test_displacement_says_which_weights_rose_and_which_fell(tmp_path: Path) -> None:
    found = study(tmp_path, [spec(D, 0, weights) for weights in (RICH, POOR) for D in SIZES[:2]])
    table = displacement_table(found)
    assert table is not None
    (row,) = table.rows
    assert row == ("80 % docs / 20 % code", "docs 20 to 80 %", "code 80 to 20 %", "60.0 %")


def test_recipes_of_one_mixture_displace_nothing(tmp_path: Path) -> None:
    found = study(tmp_path, [spec(D, 0, **quality(keep)) for keep in (1.0, 0.3) for D in SIZES[:2]])
    assert displacement_table(found) is None


def test_weights_that_a_filter_moved_are_displaced_though_the_mixture_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(tree: Any) -> dict[str, float]:
        return RICH if tree["recipe"]["quality"]["keep_frac"] < 1 else POOR

    monkeypatch.setattr(planted, "weights_of", weights)
    table = displacement_table(study(tmp_path, [spec(D, 0, **quality(k)) for k in (1.0, 0.3) for D in SIZES[:2]]))
    assert table is not None
    assert table.rows[0][:3] == ("best 30 % by heuristic", "docs 20 to 80 %", "code 80 to 20 %")


def test_planted_copies_have_a_column_where_there_are_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_copies(tree: Any, *args: Any) -> dict[str, Any]:
        facts = summary_of(tree, *args)
        dose = tree["recipe"]["degraders"][0]["frac"] if tree["recipe"]["degraders"] else 0.0
        return facts | {"ledger/docs/planted_tokens": round(dose * facts["ledger/docs/tokens"])}

    plain = ledger_summary(study(tmp_path / "plain", [spec(D, 0, {"docs": 1.0}) for D in SIZES[:2]]))
    assert "planted copies" not in plain.columns
    monkeypatch.setattr(planted, "summary_of", with_copies)
    trees = [spec(D, 0, {"docs": 1.0}, **copies(dose)) for dose in (0.0, 0.5) for D in SIZES[:2]]
    table = ledger_summary(study(tmp_path / "copies", trees))
    column = table.columns.index("planted copies")
    shown = {row[0]: row[column] for row in table.rows if row[1] == "docs"}
    assert shown == {"no planted copies": "0.0 %", "50 % planted copies": "50.0 %"}


def test_a_log_that_does_not_know_planted_copies_is_not_taken_to_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(tree: Any, *args: Any) -> dict[str, Any]:
        return {key: value for key, value in summary_of(tree, *args).items() if not key.endswith("planted_tokens")}

    monkeypatch.setattr(planted, "summary_of", without)
    found = study(tmp_path, [spec(D, 0) for D in SIZES[:2]])
    assert all(run.ledger and run.ledger.domains["docs"].planted_tokens is None for run in found.runs)


def test_the_most_frequent_reasons_are_named_and_the_rest_summed_up() -> None:
    dropped = {"duplicate": 5, "contaminated": 1, "gopher_quality.too_few_words": 700, "empty": 2, "near_duplicate": 9}
    assert reasons_text(dropped) == (
        "700 gopher_quality.too_few_words, 9 near_duplicate, 5 duplicate, 2 empty, 1 contaminated"
    )
    assert reasons_text(dropped | {"heuristic.low_score": 3}).endswith("3 heuristic.low_score, 3 for 2 more reasons")
    assert reasons_text({}) == "none"


def scarce(tree: Any) -> int:
    return round(1_200_000 * (tree["recipe"]["quality"] or {"keep_frac": 1.0})["keep_frac"])


def kept_trees(match: str = "tokens") -> list[dict[str, Any]]:
    trees = [spec(D, s, {"docs": 1.0}, **quality(keep)) for keep in (1.0, 0.5) for s in range(2) for D in SIZES[:5]]
    for tree in trees:
        tree["study"] = {**tree["study"], "match": match}
    return trees


def test_recipes_that_differ_in_U_at_equal_D_are_a_caveat(tmp_path: Path) -> None:
    found = study(tmp_path, kept_trees(), offered=scarce)
    said = find_caveats(found, [], contrasts(found, "docs"))
    (caveat,) = [text for text in said if text.startswith("At equal tokens not all recipes saw as many unique tokens")]
    assert "best 50 % by heuristic 600k against 1M" in caveat


def test_recipes_that_see_the_same_U_have_no_such_caveat(tmp_path: Path) -> None:
    found = study(tmp_path, kept_trees())
    assert not [text for text in find_caveats(found, [], contrasts(found, "docs")) if "unique tokens" in text]


def test_match_by_unique_tokens_goes_by_the_ledger_where_selection_makes_one_recipe_repeat(tmp_path: Path) -> None:
    (found,) = contrasts(study(tmp_path, kept_trees("unique_tokens"), offered=scarce), "docs")
    assert found.refused == "not matched in unique_tokens: 600k against 1M at 1M tokens"
