"""The noise of test rows: what models have in common cancels, what is each one's own is counted once."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted import POOR, RICH, spec
from planted_tasks import SIZES, PlantedTask, finetune_spec, parent_facts, scores, write_child, write_tasks

from analysis.downstream.cells import Cell, Setting, gap, noise_of
from analysis.downstream.demand import Baseline, level_of
from analysis.downstream.downstream import downstream
from analysis.downstream.metric_curve import Level, metric_curve
from analysis.downstream.row_noise import Replicates, row_gap_sd, row_sd, stacked
from analysis.downstream.task_run import OfClass
from analysis.downstream.verdicts import _candidates, over
from analysis.report import report
from analysis.runs.logs import AnalysisError

NUM_ROWS, NUM_RESAMPLES = 600, 200
TASK = PlantedTask("sst2", baseline=0.79)


def simulated(
    rng: np.random.Generator, seeds: int = 3, hard: float = 1.5, own: float = 0.7, seed_sd: float = 0.0,
    shared_sd: float = 0.0, settings: int = 4,
) -> list[Cell]:  # fmt: skip
    """Settings that are equally good, on the same rows: a row is hard for all, for a setting, or for a run by luck.

    hard, own: how much rows vary, for all and for a setting. seed_sd: of a run; shared_sd: what a seed does to all.
    """
    rows = hard * rng.standard_normal(NUM_ROWS)
    of_setting = own * rng.standard_normal((settings, 1, NUM_ROWS))
    of_seed = shared_sd * rng.standard_normal((1, seeds, 1)) + seed_sd * rng.standard_normal((settings, seeds, 1))
    right = rng.random((settings, seeds, NUM_ROWS)) < 1 / (1 + np.exp(-(1 + rows + of_setting + of_seed)))
    weights = rng.multinomial(NUM_ROWS, np.full(NUM_ROWS, 1 / NUM_ROWS), size=NUM_RESAMPLES) / NUM_ROWS
    replicates = right @ weights.T
    values: list[dict[Hashable, float]] = [dict(enumerate(own.mean(-1).tolist())) for own in right]
    noise = noise_of(values)
    return [
        Cell(Setting("task", "full", f"recipe {i}", "pretrained", 1, 100), (), values[i],
             float(np.median(right[i].std(axis=-1))) / math.sqrt(NUM_ROWS), noise,
             Replicates(replicates[i], NUM_ROWS))
        for i in range(settings)
    ]  # fmt: skip


def unpaired(cell: Cell) -> Cell:
    return replace(cell, replicates=None)


@pytest.mark.parametrize(
    "study",
    [{}, {"seed_sd": 0.15}, {"shared_sd": 0.3, "seed_sd": 0.1}, {"hard": 0.0}, {"hard": 4.0, "seeds": 5}],
    ids=["luck alone", "seeds vary", "a seed moves all", "no row is hard", "rows are hard"],
)  # fmt: skip
def test_the_paired_interval_holds_the_truth_and_is_clearly_narrower(study: dict[str, float]) -> None:
    rng = np.random.default_rng(0)
    inside, widths = [], []
    for _ in range(800):
        a, b, *_ = simulated(rng, **study)  # type: ignore[arg-type]
        paired, plain = gap(a, b).gap, gap(unpaired(a), unpaired(b)).gap
        inside.append((paired.lo <= 0 <= paired.hi, plain.lo <= 0 <= plain.hi))
        widths.append((paired.hi - paired.lo, plain.hi - plain.lo))
    held, held_unpaired = np.mean(inside, axis=0)
    narrow, wide = np.mean(widths, axis=0)
    assert 0.93 <= held <= 0.97
    assert held_unpaired > 0.98  # on the safe side, and it pays for that
    assert narrow < 0.75 * wide


def test_against_a_baseline_rows_are_paired_and_the_interval_holds_the_truth() -> None:
    """The baseline is one model, the same for all seeds. Its own luck with rows counts in full."""
    rng = np.random.default_rng(1)
    inside, widths = [], []
    for _ in range(600):
        a, b, *_ = simulated(rng)
        assert b.replicates is not None
        same = Replicates(np.repeat(b.replicates.values[:1], 3, axis=0), NUM_ROWS)
        baseline = Baseline("b", Level(b.values[0], 0.0, b.test_sd, same))
        plain = Baseline("b", Level(b.values[0], 0.0, b.test_sd))
        ends, wide = over(a, baseline).gap, over(unpaired(a), plain).gap
        inside.append(ends.lo <= 0 <= ends.hi)
        widths.append((ends.hi - ends.lo) / (wide.hi - wide.lo))
    assert 0.93 <= float(np.mean(inside)) <= 0.975
    assert float(np.mean(widths)) < 0.85


def test_models_that_answer_all_alike_differ_by_nothing() -> None:
    (a, *_) = simulated(np.random.default_rng(2))
    assert row_gap_sd(a, a, order=[0, 1, 2]) == pytest.approx(0, abs=1e-12)
    assert row_gap_sd(unpaired(a), unpaired(a)) == pytest.approx(math.sqrt(2) * a.test_sd)


def test_without_replicates_or_on_other_rows_errors_are_independent() -> None:
    a, b, *_ = simulated(np.random.default_rng(3))
    assert b.replicates is not None
    assert row_sd(unpaired(a)) == a.test_sd
    assert gap(unpaired(a), unpaired(b)).gap == gap(unpaired(a), replace(unpaired(b))).gap
    half = row_gap_sd(a, unpaired(b))
    assert half == math.hypot(row_sd(a), b.test_sd)
    other = replace(b, replicates=Replicates(b.replicates.values, NUM_ROWS + 1))
    assert row_gap_sd(a, other) == math.hypot(row_sd(a), row_sd(b))


def test_of_two_recipes_the_odds_are_those_of_their_paired_gap() -> None:
    rng = np.random.default_rng(4)
    surer = []
    for _ in range(40):
        a, b, *_ = simulated(rng)
        pair = [a, b]
        paired, plain = _candidates(pair)[0], _candidates([unpaired(cell) for cell in pair])[0]
        assert paired.line == plain.line
        surer.append(paired.probability - plain.probability)
    assert np.mean(surer) > 0.03
    three = _candidates(simulated(rng, settings=3))
    assert sum(c.probability for c in three) == pytest.approx(1)


def test_where_a_curve_reaches_a_level_is_surer_where_rows_are_paired() -> None:
    rng = np.random.default_rng(5)
    cells = simulated(rng, settings=6)
    at = [
        replace(cell, setting=replace(cell.setting, tokens=10**6 * 2**i),
                values={seed: value + 0.03 * i for seed, value in cell.values.items()})
        for i, cell in enumerate(cells)
    ]  # fmt: skip
    level = level_of(at[3])
    curve, plain = metric_curve(at, "tokens"), metric_curve([unpaired(cell) for cell in at], "tokens")
    assert curve is not None
    assert plain is not None
    sure, unsure = curve.reaches(level), plain.reaches(replace(level, replicates=None))
    assert sure.value == unsure.value
    assert unsure.lo < sure.lo < sure.hi < unsure.hi


def test_replicates_of_a_setting_are_means_over_runs_or_none() -> None:
    one, two = (1.0, 2.0), (3.0, 6.0)
    found = stacked([[(one, 10), (two, 10)], [(two, 10)]])
    assert found is not None
    assert found.values.tolist() == [[2.0, 4.0], [3.0, 6.0]]
    assert stacked([[(one, 10)], [(None, 10)]]) is None
    assert stacked([[(one, 10)], [(two, 11)]]) is None
    assert stacked([[(one, 10)], [((1.0, 2.0, 3.0), 10)]]) is None
    assert stacked([[(one, None)]]) is None


# ---- from logs -----------------------------------------------------------------------------------


def test_a_study_whose_logs_have_replicates_says_more_than_one_without(tmp_path: Path) -> None:
    widths = {}
    for count in (None, 200):
        folder = tmp_path / str(count)
        write_tasks(folder, [TASK], SIZES[:2], labels=(800,), mixtures=(RICH, POOR), replicates=count)
        found = downstream([str(folder)])
        assert all((cell.replicates is not None) == (count is not None) for cell in found.cells.cells)
        assert set(found.study.runs[0].scores) == {"accuracy"}
        assert set(found.study.runs[0].baselines["tfidf_logreg"]) == {"accuracy"}
        (verdict, *_) = found.verdicts
        widths[count] = [
            g.gap.hi - g.gap.lo for g in (verdict.over_scratch, verdict.over_baseline, verdict.scratch_over_baseline)
            if g
        ]  # fmt: skip
    assert len(widths[None]) == 3
    assert all(paired < 0.9 * plain for paired, plain in zip(widths[200], widths[None], strict=True))


@pytest.mark.parametrize(
    ("key", "told", "wanted"),
    [
        ("task/sst2/replicates", "[0.5, 0.6", "must be JSON"),
        ("task/sst2/replicates", "[0.5]", "a JSON list of 2 numbers or more, got '\\[0.5\\]'"),
        ("task/sst2/replicates", '{"a": 1}', "a JSON list of 2 numbers"),
        ("task/sst2/replicates", '[0.5, "x"]', "a JSON list of 2 numbers"),
        ("baseline/tfidf/replicates", "7", "a JSON list of 2 numbers"),
        ("task/sst2/details", "[1]", "must be a JSON object"),
        ("task/sst2/details", '{"report": {"a": {"f1": 1}}}', "a report of precision, recall, f1 and num"),
    ],
)
def test_what_is_malformed_is_named(tmp_path: Path, key: str, told: str, wanted: str) -> None:
    write_one(tmp_path, {key: told})
    with pytest.raises(AnalysisError, match=f"summary '{key}' .*{wanted}"):
        downstream([str(tmp_path)])


def test_a_resample_that_has_no_metric_is_no_error_and_pairs_nothing(tmp_path: Path) -> None:
    write_one(tmp_path, {"task/sst2/replicates": "[0.5, NaN, 0.4]"})
    (run,) = downstream([str(tmp_path)]).study.runs
    assert run.replicates is None


def write_one(folder: Path, more: dict[str, str]) -> None:
    parent = spec(1_000_000, 0)
    at = "task/sst2/"
    facts = {"state": "complete", "num_train_rows": 100, f"{at}num_items": 100, **parent_facts(parent, 1_000_000)}
    facts |= scores(at, "accuracy", 0.5, 100) | scores("baseline/tfidf/", "accuracy", 0.4, 100)
    write_child(folder, finetune_spec(TASK, parent, 0, 100), facts | more)


# ---- classes, and losses beside ------------------------------------------------------------------


def test_classes_of_the_best_setting_are_told(tmp_path: Path) -> None:
    names = tuple(f"label {i}" for i in range(25))
    write_tasks(tmp_path, [TASK], SIZES[:1], labels=(800,), classes=names, seeds=2)
    written = report([str(tmp_path)], tmp_path / "out")
    found = written.results.downstream
    assert found is not None
    run = found.study.runs[0]
    assert run.classes["label 0"] == OfClass(run.score.value, run.score.value, run.score.value, 100)
    assert run.classes["label 24"].f1 is None
    (part,) = (part for part in written.page.parts if part.section.key == "task_classes")
    assert len(part.tables[0].rows) == 20
    shown = {row[2] for row in part.tables[0].rows}
    assert "label 23" in shown  # of the lowest F1
    assert "label 0" not in shown
    lines = (tmp_path / "out" / "tables" / "task_all_classes.csv").read_text().splitlines()
    assert len(lines) == 1 + 25
    assert lines[0] == "task,labels,class,precision,recall,F1,number in test"
    mean = float(np.mean([run.score.value for run in found.verdicts[0].cell.runs]))
    assert float(lines[1].split(",")[4]) == pytest.approx(mean, abs=6e-4)


def test_one_pretraining_beside_its_tasks_makes_no_empty_section_of_losses(tmp_path: Path) -> None:
    from planted import demo_trees, write_study

    (tree, *_) = demo_trees(num_seeds=1, sizes=SIZES[:1])
    write_study(tmp_path, [tree])
    write_tasks(tmp_path, [TASK], SIZES[:1], labels=(800,))
    written = report([str(tmp_path)], tmp_path / "out")
    assert "loss" not in written.headline
    assert written.page.lead.name == "task_scores"
    keys = {part.section.key for part in written.page.parts}
    assert not keys & {"curves", "residuals", "fits", "ranking", "contrasts", "decision"}
    assert {"downstream", "exposure", "runs", "task_runs", "held_fixed"} <= keys
    assert not any("Only 1 size" in text or "which recipe" in text for text in written.results.caveats)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["headline"] == written.headline
