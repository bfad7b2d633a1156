"""Recipes, labels, hold-out: what a study's runs become before a law is fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted import POOR, RICH, SIZES, config_of, eval_row, spec, summary_of, write_log, write_study

from analysis.page.answer import answer
from analysis.page.labels import count_text
from analysis.page.tables import cost_table, tokens_trained, trunk_text
from analysis.runs.logs import AnalysisError
from analysis.runs.points import Study, build_study
from analysis.runs.records import read_runs

GOPHER = [{"kind": "gopher_quality", "min_words": 50}]


def study(folder: Path, trees: list[dict[str, Any]]) -> Study:
    write_study(folder, trees)
    return build_study(read_runs([str(folder)]))


@pytest.mark.parametrize(
    ("axis", "labels"),
    [
        ([{}], ["80 % docs / 20 % code"]),
        ([{"weights": RICH}, {"weights": POOR}], ["20 % docs / 80 % code", "80 % docs / 20 % code"]),
        ([{"weights": {"docs": 1.0, "code": 0.0}}, {}], ["80 % docs / 20 % code", "100 % docs"]),
        ([{"recipe__filters": GOPHER}, {}], ["unfiltered", "gopher_quality filter"]),
        (
            [{"budget__unique_tokens": 250_000}, {"budget__unique_tokens": None}],
            ["U unlimited", "U = 250k tokens"],
        ),
        ([{"objective": {"kind": "mlm"}}, {}], ["clm", "mlm"]),
        ([{"optimizer__learning_rate": 0.02}, {}], ["learning_rate 0.01", "learning_rate 0.02"]),
    ],
)
def test_a_label_says_what_differs_and_the_reference_comes_first(
    tmp_path: Path, axis: list[dict[str, Any]], labels: list[str]
) -> None:
    found = study(tmp_path, [spec(D, 0, **changes) for changes in axis for D in SIZES[:2]])
    assert [recipe.label for recipe in found.recipes] == labels


def test_seeds_budget_and_placement_make_no_recipe(tmp_path: Path) -> None:
    trees = [spec(D, seed, placement={"ranks": seed + 1}) for seed in range(2) for D in SIZES[:3]]
    assert len(study(tmp_path, trees).recipes) == 1


def test_the_largest_size_is_held_out(tmp_path: Path) -> None:
    found = study(tmp_path, [spec(D, seed) for seed in range(2) for D in SIZES])
    assert {p.tokens for p in found.points if p.is_held_out} == {SIZES[-1]}


LOSSES = {"docs": 4.0, "code": 3.0}


@pytest.mark.parametrize(
    ("at_decay_end", "ends_at", "said"),
    [
        (False, SIZES[3], "its last loss is not at the end of a decay"),
        (False, None, "its last loss is not at the end of a decay"),
        (True, 3_000_000, "its schedule ends at 3000000 tokens, its last loss is of 500000"),
        (None, 400_000, "its schedule ends at 400000 tokens, its last loss is of 500000"),
    ],
)
def test_a_point_in_the_middle_of_the_schedule_enters_no_fit_and_is_a_caveat(
    tmp_path: Path, at_decay_end: bool | None, ends_at: int | None, said: str
) -> None:
    write_study(tmp_path, [spec(D, 0) for D in SIZES[:3]])
    tree = spec(SIZES[3], 0)
    row = eval_row(SIZES[3], LOSSES) | {"eval/at_decay_end": at_decay_end}
    write_log(tmp_path, tree, [row], summary_of(tree) | {"schedule/ends_at_tokens": ends_at})
    found = build_study(read_runs([str(tmp_path)]))
    assert SIZES[3] not in {p.tokens for p in found.points}
    (caveat,) = [c for c in answer(found).caveats if "middle of their schedule" in c]
    assert caveat.startswith("1 of 4 complete runs were measured")
    assert said in caveat


def test_a_log_that_does_not_say_where_its_schedule_ends_is_used_and_called_unknown(tmp_path: Path) -> None:
    write_study(tmp_path, [spec(D, 0) for D in SIZES[:3]])
    tree = spec(SIZES[3], 0)
    row = {key: value for key, value in eval_row(SIZES[3], LOSSES).items() if key != "eval/at_decay_end"}
    silent = {key: value for key, value in summary_of(tree).items() if not key.startswith("schedule/")}
    write_log(tmp_path, tree, [row], silent)
    found = build_study(read_runs([str(tmp_path)]))
    assert SIZES[3] in {p.tokens for p in found.points}
    assert any("Of 1 of 4 complete runs it is unknown whether" in caveat for caveat in answer(found).caveats)


def test_a_cosine_that_ends_above_zero_is_at_the_end_of_its_own_schedule(tmp_path: Path) -> None:
    cosine = {"kind": "cosine", "warmup_tokens": 10_000, "final_frac": 0.1}
    found = study(tmp_path, [spec(D, 0, schedule=cosine) for D in SIZES[:3]])
    assert len({p.tokens for p in found.points}) == 3
    assert not any("schedule" in caveat or "decay" in caveat for caveat in answer(found).caveats)


def test_a_study_of_nothing_but_mid_schedule_points_is_refused_with_the_reason(tmp_path: Path) -> None:
    for size in SIZES[:2]:
        tree = spec(size, 0)
        write_log(tmp_path, tree, [eval_row(size, LOSSES, False)], summary_of(tree))
    with pytest.raises(AnalysisError, match="all 2 complete ones were measured in the middle of their schedule"):
        build_study(read_runs([str(tmp_path)]))


@pytest.mark.parametrize("state", ["diverged", "failed", "preempted"])
def test_what_is_not_complete_enters_no_fit_whatever_it_measured(tmp_path: Path, state: str) -> None:
    write_study(tmp_path, [spec(D, 0) for D in SIZES[:3]])
    tree = spec(SIZES[3], 0)
    summary = summary_of(tree) | {"state": state, "error": "the loss is nan"}
    write_log(tmp_path, tree, [eval_row(SIZES[3], LOSSES)], summary)
    found = build_study(read_runs([str(tmp_path)]))
    assert {p.tokens for p in found.points} == set(SIZES[:3])
    caveats = answer(found).caveats
    assert any(c.startswith(f"1 of 4 runs are not complete and enter no fit (1 {state})") for c in caveats)
    assert any("Runs diverged under 80 % docs / 20 % code (1)" in c for c in caveats) is (state == "diverged")


def test_a_preempted_run_that_went_on_is_complete(tmp_path: Path) -> None:
    tree = spec(SIZES[0], 0)
    write_log(tmp_path, tree, [], {"state": "preempted"}, start_seconds=1)
    write_log(tmp_path, tree, [eval_row(SIZES[0], LOSSES)], summary_of(tree), start_seconds=2)
    found = build_study(read_runs([str(tmp_path)]))
    assert [run.state for run in found.runs] == ["complete"]
    assert not any("not complete" in caveat for caveat in answer(found).caveats)


# ---- what it cost --------------------------------------------------------------------------------


def test_tokens_trained_and_those_of_independent_runs_are_told_apart(tmp_path: Path) -> None:
    """Every planted run but the smallest takes 40 % of its tokens from a trunk."""
    found = study(tmp_path, [spec(D, seed) for D in SIZES for seed in range(2)])
    independent = 2 * sum(SIZES)
    assert tokens_trained(found) == (independent - 2 * sum(int(0.4 * D) for D in SIZES[1:]), independent)
    assert "4.78M tokens were trained where independent runs would have needed 7.88M" in trunk_text(found)
    alone = study(tmp_path / "alone", [spec(SIZES[0], 0)])
    assert trunk_text(alone).startswith("No trunk was shared")


@pytest.mark.parametrize(
    ("device", "placement", "unit", "hours"),
    [
        ("cpu", {"ranks": 2}, "CPU core hours", 2 * 3 * 0.5),
        ("NVIDIA H200", {"ranks": 4}, "GPU hours", 4 * 0.5),
        ("NVIDIA H200", {"ranks": 1, "runs_per_device": 2}, "GPU hours", 0.25),
    ],
)
def test_cost_is_counted_in_hours_of_cores_or_of_gpus(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    placement: dict[str, int],
    unit: str,
    hours: float,
) -> None:
    environment = {"device": device, "threads": "3"}
    monkeypatch.setattr("planted.config_of", lambda tree: config_of(tree) | {"environment": environment})
    tree = spec(1000, 0, placement=placement)
    looks = [{"tokens": n, "perf/tokens_per_second": pace, "perf/mfu": 0.4} for n, pace in ((1, 5.0), (2, 700.0))]
    looks += [{"tokens": 3, "perf/tokens_per_second": 600.0, "perf/mfu": 0.2}]
    write_log(tmp_path, tree, [*looks, eval_row(1000, LOSSES)], summary_of(tree) | {"seconds": 1800})
    table = cost_table(build_study(read_runs([str(tmp_path)])))
    row = dict(zip(table.columns, table.rows[-1], strict=True))
    assert float(str(row[unit])) == pytest.approx(hours)
    assert (row["tokens/s"], row["MFU [%]"]) == (600, 40.0)


def test_what_was_never_logged_has_no_column(tmp_path: Path) -> None:
    assert "MFU [%]" not in cost_table(study(tmp_path, [spec(SIZES[0], 0)])).columns


def test_a_complete_run_without_its_last_point_is_an_error(tmp_path: Path) -> None:
    tree = spec(1000, 0)
    write_log(tmp_path, tree, [eval_row(900, {"docs": 4.0, "code": 3.0})], summary_of(tree))
    with pytest.raises(AnalysisError, match=r"complete at 1000 tokens.*900"):
        build_study(read_runs([str(tmp_path)]))


@pytest.mark.parametrize("loss", [float("nan"), -1.0, 0.0])
def test_a_complete_run_with_an_impossible_loss_is_left_out_and_told_of(tmp_path: Path, loss: float) -> None:
    tree = spec(1000, 0)
    write_log(tmp_path, tree, [eval_row(1000, {"docs": loss, "code": 3.0})], summary_of(tree))
    with pytest.raises(AnalysisError, match=r"no run can enter a fit: .* its last loss on docs is"):
        build_study(read_runs([str(tmp_path)]))
    other = spec(1000, 1)
    write_log(tmp_path, other, [eval_row(1000, {"docs": 4.0, "code": 3.0})], summary_of(other))
    study = build_study(read_runs([str(tmp_path)]))
    assert {point.loss for point in study.points} == {4.0, 3.0}
    assert "is left out: its last loss on docs is" in " ".join(study.warnings)


def test_no_complete_run_is_an_error_that_counts_them(tmp_path: Path) -> None:
    for seed in range(2):
        write_log(tmp_path, spec(1000, seed), [], None)
    with pytest.raises(AnalysisError, match=r"none of the 2 runs is complete \(2 interrupted\)"):
        build_study(read_runs([str(tmp_path)]))


@pytest.mark.parametrize(
    ("count", "text"), [(62_500, "62.5k"), (1_000_000, "1M"), (2.05e9, "2.05B"), (999, "999"), (131_842, "132k")]
)
def test_counts_are_short(count: float, text: str) -> None:
    assert count_text(count) == text
