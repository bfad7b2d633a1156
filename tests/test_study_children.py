"""A study of fine-tunings: parents first, each once; what its parent did not finish does not start."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from lab import Lab, SpecMaker

from scaling import study
from scaling.child import AnySpec, CompressSpec, FinetuneSpec
from scaling.compression import Magnitude
from scaling.data.prepare import prepare_tokenizer
from scaling.data.tasks.read import read_task, resolve_task
from scaling.gates import RowCounts
from scaling.identity import fingerprint
from scaling.status import read_status, write_status
from scaling.study import plan_runs, run_study
from scaling.task import Classification, LocalRows

TINY = {"budget.num_tokens": 24 * 128, "evaluation.every_tokens": None}


@pytest.fixture(autouse=True)
def _one_server(monkeypatch: pytest.MonkeyPatch, server: ForkServerContext) -> None:
    monkeypatch.setattr(study, "start_server", lambda modules: server)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "tiny"


@pytest.fixture
def children(spec: SpecMaker, lab: Lab, tmp_path: Path) -> list[FinetuneSpec]:
    """Two fine-tunings of one parent."""
    words = {0: "gel fen pon", 1: "gel fen aba"}
    rows = [{"text": f"{words[number % 2]} {number}", "label": number % 2} for number in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    asked = Classification(name="mood", rows=LocalRows(train=str(tmp_path / "rows.jsonl")))
    task, content = resolve_task(asked, lab.cache)
    return [
        FinetuneSpec.model_validate(
            {
                "name": f"child{seed}",
                "study": spec().study,
                "parent": spec({**TINY, "name": "parent"}),
                "task": task,
                "seed": seed,
                "batch": {"num_sequences": 8},
                "schedule": {"num_epochs": 1.0},
                "optimizer": {"learning_rate": 3e-3},
                "measuring": {"num_evaluations": 1, "num_resamples": 100},
                "content": content,
                "placement": {"device": "cpu", "threads": 1, "runs_per_device": 2},
            }
        )
        for seed in range(2)
    ]


def states(runs: Path) -> dict[str, str]:
    return {path.name.split("-")[0]: read_status(path).state for path in sorted(runs.glob("*-*"))}


def written(runs: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in runs.glob("*/status.json")}


def planned(specs: Sequence[AnySpec], runs: Path) -> list[str]:
    return [run.spec.name for run in plan_runs(specs, runs)]


def test_a_parent_is_trained_once_and_first_and_nothing_is_trained_twice(
    children: list[FinetuneSpec], lab: Lab, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert planned(children, runs) == ["parent", "child0", "child1"]
    compressed = CompressSpec(
        name="small",
        study=children[0].study,
        parent=children[0],
        compress=Magnitude(frac=0.5),
        placement=children[0].placement,
        measuring=children[0].measuring,
    )
    assert run_study([*children, compressed], "run", runs, lab.cache) == 0
    assert states(runs) == {"parent": "complete", "child0": "complete", "child1": "complete", "small": "complete"}
    assert "accuracy" in capsys.readouterr().out
    before = written(runs)
    assert run_study([*children, compressed], "run", runs, lab.cache) == 0
    assert written(runs) == before


def test_children_in_another_study_use_the_parent_that_is_there(
    children: list[FinetuneSpec], lab: Lab, runs: Path
) -> None:
    assert run_study([children[0].parent], "run", runs, lab.cache) == 0
    other = runs.parent / "other"
    asks = children[0].study.model_copy(update={"name": "other"})
    renamed = children[0].parent.model_copy(update={"name": "renamed", "study": asks})
    asked = [child.model_copy(update={"parent": renamed, "study": asks}) for child in children]
    assert fingerprint(asked[0]) == fingerprint(children[0])
    assert run_study(asked, "run", other, lab.cache) == 0
    (link,) = other.glob("parent-*")
    assert link.is_symlink()
    summary = json.loads((next(other.glob("child0-*")) / "status.json").read_text(encoding="utf-8"))
    assert summary["state"] == "complete"


def test_what_its_parent_did_not_finish_does_not_start_and_says_so(
    children: list[FinetuneSpec], lab: Lab, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (parent, *_) = plan_runs(children, runs)
    parent.run_dir.mkdir(parents=True)
    write_status(parent.run_dir, read_status(parent.run_dir).model_copy(update={"state": "diverged", "error": "so"}))
    assert run_study(children, "run", runs, lab.cache) == 1
    assert not list(runs.glob("child*/spec.json"))
    assert "the run that it goes on from is not complete" in capsys.readouterr().out


def test_complete_children_do_not_ask_for_a_parent_that_is_gone(
    children: list[FinetuneSpec], lab: Lab, runs: Path
) -> None:
    assert run_study(children, "run", runs, lab.cache) == 0
    shutil.rmtree(next(runs.glob("parent-*")))
    assert planned(children, runs) == ["child0", "child1"]
    assert run_study(children, "run", runs, lab.cache) == 0


def test_a_plan_shows_children_and_trains_nothing(
    children: list[FinetuneSpec], lab: Lab, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from_nothing = children[0].model_copy(update={"start": "initial", "name": "scratch"})
    assert run_study([*children, from_nothing], "plan", runs, lab.cache) == 0
    shown = capsys.readouterr().out
    for text in (
        "parent-",
        "child0-",
        "child1-",
        "scratch-",
        "mood",
        "llama, as it begins",
        "Fine-tunings and compressions: 3, from 1 pretrained",
    ):
        assert text in shown
    assert not list(runs.glob("*/spec.json"))


def test_rows_are_as_long_as_their_bytes_say_until_there_is_a_tokenizer_to_count_with(
    children: list[FinetuneSpec], lab: Lab, tmp_path: Path
) -> None:
    before = RowCounts(tmp_path / "empty").rows(children[0])
    assert (before.train, before.validation, before.test) == (48, 6, 6)
    assert before.mean_tokens == pytest.approx(13.8 / 4 + 2, abs=0.6)  # `gel fen pon 17`
    prepare_tokenizer(children[0].parent, lab.cache, print)
    after = RowCounts(lab.cache).rows(children[0])
    assert (before.is_tokenized, after.is_tokenized) == (False, True)
    rows = read_task(children[0].task, lab.cache).train
    tokenizer = prepare_tokenizer(children[0].parent, lab.cache, print).load()
    assert after.mean_tokens == pytest.approx(sum(len(tokenizer.encode(row.text).ids) + 2 for row in rows) / 48)


def test_more_labels_than_there_are_rows_is_refused_before_anything_is_trained(
    children: list[FinetuneSpec], lab: Lab, runs: Path
) -> None:
    greedy = children[0].model_copy(update={"num_examples": 1000})
    with pytest.raises(ValueError, match="1000"):
        run_study([greedy], "run", runs, lab.cache)
    assert not list(runs.glob("*/spec.json"))
