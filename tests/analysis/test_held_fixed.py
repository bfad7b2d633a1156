"""The report says what all runs share, and a multiplier that is only a bound is called one everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planted import POOR, RICH, SIZES, demo_trees, spec, write_study

from analysis.__main__ import main
from analysis.contrasts.fit import fit_power_law
from analysis.fitting.result import Status
from analysis.page.answer import answer
from analysis.page.held_fixed import held_fixed_table
from analysis.page.table import Multiplier, cell_text
from analysis.page.tables import contrast_table
from analysis.runs.points import build_study
from analysis.runs.records import read_runs


def held(folder: Path, trees: list[dict[str, Any]]) -> dict[str, str]:
    write_study(folder, trees)
    return {name: value for name, value in held_fixed_table(build_study(read_runs([str(folder)]))).texts}


def test_what_all_runs_share_is_listed_and_what_varies_is_not(tmp_path: Path) -> None:
    filters = [{"kind": "length", "domains": None, "min_words": 5, "names": list("abcdefg")}, {"kind": "c4"}]
    domains = {
        "docs": {"kind": "local", "path": "/home/x/docs", "licence": "CC BY 4.0"},
        "code": {"kind": "embedded", "part": "code"},
    }
    trees = [
        spec(D, 0, weights, optimizer={"kind": "adamw", "learning_rate": rate, "decay": 0.1}, recipe__filters=filters)
        for weights, rate in ((RICH, 0.01), (POOR, 0.02))
        for D in SIZES[:2]
    ]
    for tree in trees:
        tree["recipe"]["corpus"]["domains"] = domains
    rows = held(tmp_path, trees)
    assert rows["parameters N"] == "100,000"
    assert rows["model"].startswith("llama, hidden_size 64, num_layers 2")
    assert rows["optimizer"] == "adamw, decay 0.1"
    assert rows["filters"] == "length, min_words 5, names 7 entries; c4"
    assert rows["quality"] == "none"
    assert "mixture" not in rows
    assert (rows["domain code"], rows["domain docs"]) == ("embedded source", "local source, licence CC BY 4.0")
    assert not any("/home" in value for value in rows.values())


def test_parts_of_two_kinds_share_nothing(tmp_path: Path) -> None:
    schedules = {"kind": "wsd", "warmup_tokens": 10}, {"kind": "cosine", "warmup_tokens": 10}
    assert "schedule" not in held(tmp_path, [spec(SIZES[0], 0, schedule=schedule) for schedule in schedules])


def test_the_report_shows_what_is_held_fixed(tmp_path: Path) -> None:
    write_study(tmp_path, demo_trees(num_seeds=2, sizes=SIZES[:2]))
    assert main(["report", str(tmp_path)]) == 0
    for name in ("report.md", "report.html"):
        text = (tmp_path / "report" / name).read_text().replace("\\", "")
        assert "Held fixed" in text
        assert "bpe, vocab_size 1,024" in text
        assert "data_card.md" in text


def test_a_multiplier_that_is_a_bound_is_called_that_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vague(*args: Any) -> Any:
        return replace(fit_power_law(*args), status=Status.NOT_IDENTIFIED)

    def loss(tree: Any, domain: str) -> float:
        falls = 0.99 ** SIZES.index(tree["budget"]["num_tokens"])
        return falls * (3.0 if tree["recipe"]["mixture"]["weights"] == RICH else 5.0)

    monkeypatch.setattr("analysis.contrasts.contrast.fit_power_law", vague)
    write_study(tmp_path, demo_trees(), loss=loss)
    found = answer(build_study(read_runs([str(tmp_path)])))
    said = json.dumps(found.caveats)
    assert "so the multiplier is a bound" in said
    assert "extrapolated" not in said
    assert "read off" not in said
    rows = contrast_table(found.contrasts).texts
    assert all(row[5].startswith(("above", "below")) for row in rows)


@pytest.mark.parametrize(
    ("value", "lo", "hi", "text"),
    [
        (0.0, 0.0, 0.39, "below 0.39"),
        (float("inf"), 2.56, float("inf"), "above 2.56"),
        (0.0, 0.0, 0.0, "below all that was measured"),
        (0.0, 0.0, float("inf"), "no limit"),
        (0.78, 0.0, 0.81, "0.78 (below 0.81)"),
        (3.1, 2.7, float("inf"), "3.10 (above 2.70)"),
        (1.2, 0.0, float("inf"), "1.20 (no interval)"),
        (2.0, 1.5, 2.5, "2.0 (1.5 to 2.5)"),
        (4.0, 1.03, 11.0, "4.00 (1.03 to 11.00)"),
    ],
)
def test_a_bound_reads_the_same_from_both_sides(value: float, lo: float, hi: float, text: str) -> None:
    assert cell_text(Multiplier(value, lo, hi)) == text
