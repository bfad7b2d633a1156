"""The tasks of a study: what was planted comes back, and nothing is said that the runs do not show."""

from __future__ import annotations

import copy
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest
from chromium import CHROMIUM, browser
from planted import POOR, RICH, demo_trees, spec, write_study
from planted_tasks import FULL, SIZES, PlantedTask, Tuned, finetune_spec, write_child, write_tasks

from analysis.__main__ import main
from analysis.downstream.cells import Gap, Z
from analysis.downstream.cost_tables import full_cost_table
from analysis.downstream.downstream import Downstream, downstream
from analysis.downstream.facts import facts
from analysis.downstream.headline import headline
from analysis.downstream.tables import demand_table
from analysis.downstream.task_run import DECIDING
from analysis.downstream.words import caveats, scratch_sentences
from analysis.fitting.result import Estimate
from analysis.page.language import speaking
from analysis.page.page import NO_QUESTION
from analysis.page.summary import plain
from analysis.report import Report, report
from analysis.runs.logs import AnalysisError
from analysis.runs.points import build_study
from analysis.runs.records import read_runs

SST2 = PlantedTask("sst2", num_items=20_000, baseline=0.70)
NER = PlantedTask("ner", kind="tokens", domain="code", num_items=20_000, baseline=0.95)
FLAT = PlantedTask("flat", worth=0.0, baseline=0.70)
LABELS = (200, 800, 3200, 12800)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks that gain from different domains, one that gains nothing; a failed run and one that was killed."""
    folder = tmp_path_factory.mktemp("tasks")
    for task in (SST2, NER):
        write_tasks(folder, [task], labels=(3200,), mixtures=(RICH, POOR), compress=("pruned",))
    write_tasks(folder, [FLAT], sizes=SIZES[:2], labels=(3200,))
    tuned = Tuned(folder)
    for labels in LABELS:
        for seed in range(3):
            tuned.run(SST2, 0, seed, labels)
            tuned.run(SST2, SIZES[-1], seed, labels)
    for kind in ("head", "lora"):
        method = copy.deepcopy(FULL) | {"adaptation": {"kind": kind}}
        of_method = Tuned(folder, gain={"head": -0.1, "lora": 0.0}.__getitem__)
        for seed in range(3):
            of_method.run(SST2, SIZES[-1], seed, 3200, method=method)
    begun = finetune_spec(SST2, spec(1_000_000, 0), 9, None)
    write_child(folder, begun, {"state": "failed", "error": "loss is nan"})
    write_child(folder, {**begun, "seed": 10}, None)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> Downstream:
    return downstream([str(folder)])


def test_the_usual_metric_of_each_kind_is_that_of_the_tasks() -> None:
    from scaling.task import METRICS

    assert {kind: names[0] for kind, names in METRICS.items()} == DECIDING


def test_fine_tunings_are_no_runs_of_a_study_of_losses(tmp_path: Path) -> None:
    write_study(tmp_path, demo_trees(num_seeds=2))
    alone = build_study(read_runs([str(tmp_path)]))
    write_tasks(tmp_path, [SST2], sizes=SIZES[:1], seeds=1, labels=(100,))
    beside = read_runs([str(tmp_path)])
    assert len(beside.children) == 2
    assert build_study(beside).points == alone.points


def test_runs_that_are_not_complete_are_told_and_left_out(found: Downstream) -> None:
    assert sorted(run.state for run in found.study.failed) == ["failed", "interrupted"]
    assert not {run.fingerprint for run in found.study.failed} & {run.fingerprint for run in found.study.runs}
    assert any("2 fine-tunings or compressions are not complete" in text for text in caveats(found))
    assert {run["error"] for run in facts(found)["runs"]} == {None, "loss is nan"}


def test_a_complete_run_that_lacks_a_fact_is_an_error(tmp_path: Path) -> None:
    write_child(tmp_path, finetune_spec(SST2, spec(1_000_000, 0), 0, 100), {"state": "complete", "parent/tokens": 0})
    with pytest.raises(AnalysisError, match="lacks 'task/sst2/accuracy'"):
        downstream([str(tmp_path)])


def test_a_folder_without_a_complete_child_says_so(tmp_path: Path) -> None:
    write_child(tmp_path, finetune_spec(SST2, spec(1_000_000, 0), 0, 100), {"state": "failed", "error": "x"})
    with pytest.raises(AnalysisError, match=r"none of the 1 fine-tunings is complete \(1 failed\)"):
        downstream([str(tmp_path)])


def test_pretraining_beats_scratch_where_it_was_planted_and_nowhere_else(found: Downstream) -> None:
    verdicts = {v.task: v for v in found.verdicts}
    for task in (SST2, NER):
        v = verdicts[task.name]
        assert v.over_scratch is not None
        assert v.over_scratch.verdict == "better"
    flat = verdicts["flat"]
    assert flat.over_scratch is not None
    assert flat.over_scratch.verdict == "cannot tell"
    said = "\n".join(scratch_sentences(found))
    assert "flat: pretrained on 2M tokens" in said
    assert "cannot tell whether it beats the same model from scratch" in said
    doubted = [row for row in demand_table(found).texts if row[0] == "flat"]
    assert doubted
    assert not any(re.match(r"[\d.]+[kM]?( |$)", row[3]) for row in doubted)  # no need of what does nothing


def test_a_baseline_that_is_not_beaten_is_said(found: Downstream) -> None:
    verdicts = {v.task: v.over_baseline for v in found.verdicts}
    assert verdicts["ner"] is not None
    assert verdicts["ner"].verdict == "worse"
    assert verdicts["sst2"] is not None
    assert verdicts["sst2"].verdict == "better"
    assert "The fine-tuned models are behind the baseline: ner f1 -" in headline(found)
    assert any("it does not beat the baseline tfidf_logreg: it is behind by" in s for s in scratch_sentences(found))


def test_each_task_has_its_best_recipe_with_a_probability(found: Downstream) -> None:
    best = {b.task: b for b in found.best}
    assert best["sst2"].best == "80 % docs / 20 % code"
    assert best["ner"].best == "20 % docs / 80 % code"
    assert sum(c.probability for c in best["ner"].candidates) == pytest.approx(1)
    assert "flat" not in best  # of one recipe


def test_recipes_that_are_alike_cannot_be_told(tmp_path: Path) -> None:
    task = PlantedTask("flat", worth=0.0)
    write_tasks(tmp_path, [task], sizes=SIZES[:1], labels=(800,), mixtures=(RICH, POOR))
    (best,) = downstream([str(tmp_path)]).best
    assert best.best is None
    assert best.candidates[0].probability < 0.95


def test_the_labels_that_pretraining_replaces_come_back(found: Downstream) -> None:
    """In the truth, n labels after D tokens are worth `effective` labels from scratch."""
    own = [
        t for t in found.transferred if t.task == "sst2" and t.tokens == SIZES[-1] and t.line.startswith("80 % docs")
    ]
    assert {t.labels for t in own} == set(LABELS)
    for t in own:
        truth = SST2.effective(t.labels, t.tokens)
        assert t.needed.lo <= truth <= t.needed.hi, t
        if truth < LABELS[-1]:
            assert t.needed.value == pytest.approx(truth, rel=0.35)


def test_the_tokens_that_a_level_takes_come_back_or_are_not_reached(found: Downstream) -> None:
    rows = {(d.task, d.level, d.line): d for d in found.demands}
    near = rows["sst2", "most_gain", "80 % docs / 20 % code"]
    assert near.tokens is not None
    truth = next(D for D in range(10**6, 17 * 10**6, 10**5) if SST2.score(3200, D) >= near.value)
    assert near.tokens.lo <= truth <= near.tokens.hi
    assert near.by_domain["docs"] == pytest.approx(0.8 * near.tokens.value)
    baseline = rows["ner", "baseline", "20 % docs / 80 % code"]
    assert baseline.tokens is not None
    assert math.isinf(baseline.tokens.value)
    told = next(d for d in facts(found)["demand"] if d["task"] == "ner" and d["level"] == "baseline")
    assert told["tokens"]["is_reached"] is False


def test_the_domain_of_a_task_tells_its_metric_best(found: Downstream) -> None:
    best = {u.task: u for u in reversed(found.upstream)}
    for task in (SST2, NER):
        own = best[task.name]
        assert own.domain == task.domain
        assert own.error < own.flat_error  # the planted metric is no logistic of the loss: near it, not on it
        assert own.correlation < -0.8


def test_methods_are_held_against_full_fine_tuning(found: Downstream) -> None:
    group = next(g for g in found.methods if g.task == "sst2" and len(g.rows) == 3)
    rows = {row.method: row for row in group.rows}
    assert group.rows[0].method == "full"
    assert rows["head only"].against is not None
    assert rows["head only"].against.gap.value == pytest.approx(-0.1, abs=1e-9)
    assert rows["head only"].against.verdict == "worse"
    assert rows["LoRA"].against is not None
    assert rows["LoRA"].against.verdict == "cannot tell"
    assert [rows[name].num_trainable for name in ("full", "head only", "LoRA")] == [100_000, 130, 8192]


def test_times_are_compared_in_the_runs_that_measured_both_models(tmp_path: Path) -> None:
    write_tasks(tmp_path, [SST2], sizes=SIZES[:1], labels=(800,), compress=("pruned", "int8"))
    table = full_cost_table(downstream([str(tmp_path)]))
    names = ("compression", "ms at batch 1", "of the bytes", "of the time at batch 1")
    rows = [tuple(row[table.columns.index(name)] for name in names) for row in table.rows]
    assert rows == [
        ("uncompressed", pytest.approx(4.8), None, None),  # between 2.4 in a quiet hour and 7.2 in a busy one
        (ANY, pytest.approx(5.143), pytest.approx(160 / 410), pytest.approx(1 / 1.4)),
        (ANY, 2.4, pytest.approx(400 / 410), 1.0),
    ]


def test_what_compression_loses_and_what_buys_it_back_come_back(found: Downstream) -> None:
    pruned = [c for c in found.compressions if c.cell.setting.task == "sst2"]
    assert {c.cell.setting.tokens for c in pruned} == set(SIZES)  # D comes from the fine-tuning
    for c in pruned:
        assert c.change.gap.lo <= -0.03 <= c.change.gap.hi
        assert c.change.verdict == "worse"
        assert c.ratio("bytes") == pytest.approx(400 / 410)
        assert c.share_kept.lo < c.kept < c.share_kept.hi
    assert re.search(r"Compressed \(pruned.*\), the model keeps 9\d\.\d % \(.*with 98 % of the bytes", headline(found))
    back = next(b for b in found.bought_back if b.task == "sst2" and b.line.startswith("80 % docs"))
    level = SST2.score(3200, back.tokens) + 0.03
    truth = next(D for D in range(10**6, 10**8, 10**5) if SST2.score(3200, D) >= level)
    assert back.needed.lo <= truth <= back.needed.hi


def test_all_of_it_is_json_and_the_same_again(tmp_path: Path) -> None:
    write_tasks(tmp_path, [SST2], sizes=SIZES[:4], labels=(800,), seeds=2, compress=("int8",))
    first, again = (json.dumps(plain(facts(downstream([str(tmp_path)]))), allow_nan=False) for _ in range(2))
    assert first == again


@pytest.fixture(scope="module")
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report([str(folder)], tmp_path_factory.mktemp("report"))


def test_a_study_of_fine_tunings_alone_becomes_a_report_about_its_tasks(written: Report) -> None:
    assert written.headline.startswith("Pretraining beats training from scratch beyond the noise on 2 of 3 tasks: ")
    left = replace(written.page, study=replace(written.study, question=NO_QUESTION))
    assert left.question == "How well do the models do on the tasks?"
    out = written.path.parent
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    figures = ("task_tokens", "task_labels", "task_upstream", "task_compression")
    tables = ("tasks", "task_demand", "transferred", "upstream", "task_best", "task_methods", "task_compression")
    assert names >= {f"figures/{name}.svg" for name in figures}
    assert names >= {f"tables/{name}.{suffix}" for name in tables for suffix in ("csv", "tex")}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["downstream"]["tasks"]["ner"] == {"metric": "f1"}
    demand = (out / "tables" / "task_demand.csv").read_text().splitlines()
    assert demand[0].startswith("task,level,recipe,tokens needed,tokens needed lo,tokens needed hi")


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [1400, 390])
def test_the_page_of_tasks_fits_its_window(written: Report, tmp_path: Path, width: int) -> None:
    with browser(tmp_path / "profile") as tab:
        tab.open(written.path, width)
        assert tab.value("document.documentElement.scrollWidth") <= width
        assert tab.value("[...document.images].every(image => image.complete && image.clientWidth >= 330)")
        assert tab.value("[...document.querySelectorAll('p, li')].every(e => e.scrollWidth <= e.clientWidth + 1)")
        deciding = "#downstream .wide, #task_demand .wide, #task_methods .wide, #task_compression .wide"
        if width > 1000:
            assert tab.value(f"[...document.querySelectorAll('{deciding}')].every(e => e.scrollWidth <= e.clientWidth)")


def test_beside_losses_the_report_tells_of_both_and_a_recipe_has_one_name(tmp_path: Path) -> None:
    write_study(tmp_path, demo_trees(num_seeds=2, sizes=SIZES[:3]))
    write_tasks(tmp_path, [SST2], sizes=SIZES[:3], seeds=2, labels=(800,), mixtures=(RICH, POOR))
    with speaking("en"):
        written = report([str(tmp_path)], tmp_path / "out")
    assert "Pretraining beats" in written.headline
    assert "on docs" in written.headline
    assert written.results.downstream is not None
    lines = {line for line in written.results.downstream.study.base_of if line != "from scratch"}
    assert lines == {recipe.label for recipe in written.study.recipes}
    keys = [part.section.key for part in written.page.parts]
    assert {"downstream", "curves", "task_runs", "runs"} <= set(keys)
    noise = next(part for part in written.page.parts if part.section.key == "noise")
    assert [table.name for table in noise.tables] == ["noise", "task_noise"]


def test_the_report_speaks_chinese(tmp_path: Path) -> None:
    write_tasks(tmp_path, [FLAT], sizes=SIZES[:1], seeds=2, labels=(800,))
    written = report([str(tmp_path)], tmp_path / "out", language="zh")
    assert "从零训练" in written.headline
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["headline"].startswith("Cannot tell")
    assert written.page.lead.name == "task_scores"  # neither tokens nor labels vary


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_points_of_tasks_can_be_fitted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    out = tmp_path / f"points.{suffix}"
    assert main(["points", str(folder), "--out", str(out)]) == 0
    chosen = ["task=sst2", "start=pretrained", "recipe=80 % docs / 20 % code", "method=full", "num_labels=3200"]
    words = ["fit", str(out), "--law", "ceiling", "--scale", "raw", "--json", str(tmp_path / "fit.json")]
    for condition in (*chosen, "compress="):
        words += ["--where", condition]
    assert main(words) == 0, capsys.readouterr().err
    assert json.loads((tmp_path / "fit.json").read_text())["fits"]


def test_without_repeated_seeds_nothing_is_claimed(tmp_path: Path) -> None:
    write_tasks(tmp_path, [SST2], sizes=SIZES[:2], seeds=1, labels=(800,), mixtures=(RICH, POOR))
    found = downstream([str(tmp_path)])
    assert {v.over_scratch.verdict for v in found.verdicts if v.over_scratch} == {"cannot tell"}
    assert found.best[0].best is None
    assert any("too few seeds of fine-tuning are repeated" in text for text in caveats(found))
    assert "Too few seeds are repeated to tell anything from chance" in headline(found)


def test_with_too_few_seeds_a_compression_is_told_without_an_interval(tmp_path: Path) -> None:
    write_tasks(tmp_path, [SST2], sizes=SIZES[:1], seeds=2, labels=(800,), compress=("pruned",))
    said = headline(downstream([str(tmp_path)]))
    assert re.search(r"keeps 9\d\.\d % of its accuracy on sst2 \(no interval: too few seeds are repeated\)", said)


def test_a_share_kept_ends_where_the_metric_does(found: Downstream) -> None:
    wide = Gap(Estimate(-0.03, -2.0, 1.94))
    kept = replace(found.compressions[0], change=wide).share_kept
    assert kept.lo == 0.0
    assert kept.hi == pytest.approx(1 / found.compressions[0].original)


def test_where_labels_are_asked_about_a_gain_says_at_how_many(tmp_path: Path) -> None:
    write_tasks(tmp_path, [SST2], sizes=SIZES[:1], seeds=3, labels=(200, 800, 3200))
    assert re.search(
        r"from scratch[^:]*: sst2 accuracy [+-]0\.\d+ \([^)]*\) with 3,200 labels",
        headline(downstream([str(tmp_path)])),
    )


@pytest.mark.parametrize("replicates", [None, 100])
def test_with_too_few_seeds_scores_have_intervals_over_rows_which_decide_nothing(
    tmp_path: Path, replicates: int | None
) -> None:
    write_tasks(tmp_path, [SST2], sizes=SIZES[:1], seeds=1, labels=(800,), compress=("pruned",), replicates=replicates)
    found = downstream([str(tmp_path)])
    (cell,) = (v.cell for v in found.verdicts)
    (run,) = cell.runs
    assert cell.covers == "rows"
    sampling = Z * math.sqrt(cell.mean * (1 - cell.mean) / SST2.num_items)
    assert cell.estimate.hi - cell.mean == pytest.approx(
        run.score.hi - run.score.value if not replicates else sampling, rel=0.3
    )
    assert {v.over_scratch.verdict for v in found.verdicts if v.over_scratch} == {"cannot tell"}
    (small,) = found.compressions
    assert small.change.gap.hi - small.change.gap.value == pytest.approx(0.004)
    report([str(tmp_path)], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "over the rows of the test set alone, for these very models" in text
    assert "the interval of its change is over the rows of the test set alone" in text
    assert "Intervals hold 95 % and take in both" not in text


def test_two_seeds_with_three_of_another_task_say_where_intervals_are_over_rows_alone(tmp_path: Path) -> None:
    write_tasks(tmp_path, [SST2], sizes=SIZES[:1], seeds=3, labels=(800,))
    write_tasks(tmp_path, [NER], sizes=(), seeds=2, labels=(800,))
    report([str(tmp_path)], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "Intervals hold 95 % and take in both the spread between seeds and the rows of the test set." in text
    assert f"Where too few seeds are repeated ({NER.name})" in text
