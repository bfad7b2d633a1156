"""T5 and BART, which are taken from a checkpoint and fine-tuned as they are; nothing is pretrained."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import Bench, summary
from lab import SpecMaker
from pydantic import ValidationError
from readers import leave_encoder_decoder
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from scaling.__main__ import compose_points
from scaling.config_errors import ConfigError
from scaling.data.pretrained import pinned
from scaling.data.tasks.read import resolve_task
from scaling.finetune.begin import begin
from scaling.finetune.export import read_trained
from scaling.finetune.predict import Trained
from scaling.identity import fingerprint
from scaling.memory import memory_of
from scaling.model import Checkpoint, Family
from scaling.spec import RunSpec
from scaling.task import AnyTask, Generation, LocalRows
from scaling.train.model import build_model
from scaling.train.preemption import Stop
from scaling.train.pretrain import pretrain

WORDS = ["ba", "do", "gu", "ki", "le", "mo"]


def not_pretrained(spec: SpecMaker, folder: Path, changes: Mapping[str, Any] = {}) -> RunSpec:
    """What stands for a model that begins as the checkpoint in `folder`."""
    model, tokenizer = pinned(Checkpoint(path=str(folder)))
    tree = spec({"batch.sequence_length": 32, **changes}).model_dump(mode="json")
    tree |= {"model": model.model_dump(mode="json"), "tokenizer": tokenizer.model_dump(mode="json")}
    return RunSpec.model_validate(tree | {"objective": {"kind": "none"}})


@pytest.fixture(scope="module")
def task(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[AnyTask, dict[str, str]]:
    """Two words are to be exchanged."""
    path = tmp_path_factory.mktemp("task") / "rows.jsonl"
    rows = [
        {"source": f"{first} {second} {number // 36}", "target": f"{second} {first}"}
        for number in range(180)
        for first, second in [(WORDS[number % 6], WORDS[number // 6 % 6])]
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    told = Generation(name="exchanged", rows=LocalRows(train=str(path)), max_target_tokens=8)
    return resolve_task(told, shared_cache)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Family, Path]:
    found: dict[Family, Path] = {}
    for family in ("t5", "bart"):
        found[family] = tmp_path_factory.mktemp(family)
        leave_encoder_decoder(found[family], family, [" ".join(WORDS)] * 20)
    return found


def bench_of(spec: SpecMaker, folder: Path, task: tuple[AnyTask, dict[str, str]], cache: Path, runs: Path) -> Bench:
    torch.set_num_threads(1)
    return Bench(not_pretrained(spec, folder), task[0], task[1], runs, cache)  # type: ignore[arg-type]


INITIAL = {"start": "initial", "optimizer.learning_rate": 1e-2, "method.dropout": 0.0}


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_checkpoint_is_what_its_anatomy_says(spec: SpecMaker, folders: dict[Family, Path], family: Family) -> None:
    run = not_pretrained(spec, folders[family])
    model = build_model(run)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert run.anatomy.family == family
    assert run.anatomy.num_layers == 3
    assert run.num_params + run.anatomy.embedding_params == total
    assert memory_of(run).weights == 4 * total
    written = load_file(folders[family] / "model.safetensors")
    read = model.state_dict()
    assert all(torch.equal(read[name], value) for name, value in written.items())


@pytest.mark.parametrize(("family", "at_least"), [("t5", 0.8), ("bart", 0.55)])
def test_an_encoder_decoder_is_fine_tuned_and_left_as_it_answered(
    spec: SpecMaker,
    folders: dict[Family, Path],
    task: tuple[AnyTask, dict[str, str]],
    shared_cache: Path,
    tmp_path: Path,
    family: Family,
    at_least: float,
) -> None:
    """Both words in the wrong order are 0.5; BART, whose norms come last, is slow to tell the order at this size."""
    bench = bench_of(spec, folders[family], task, shared_cache, tmp_path)
    child = bench.spec({**INITIAL, "optimizer.learning_rate": 5e-3, "schedule.num_epochs": 8.0})
    folder = bench.run(child, family)
    found = summary(folder)
    assert bench.status(family).state == "complete"
    assert found["parent/tokens"] == 0
    assert found["task/exchanged/rouge_l"] > at_least
    assert found["task/exchanged/bleu_lo"] <= found["task/exchanged/bleu"] <= found["task/exchanged/bleu_hi"]
    said = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    module, _kind = read_trained(child, folder)
    opened = begin(child, folder, shared_cache)
    answers = opened.answers(Trained(module, torch.device("cpu"), torch.float32), opened.test)
    assert [row["answer"] for row in said] == answers
    assert AutoModelForSeq2SeqLM.from_pretrained(folder / "model").config.model_type == family


@pytest.mark.parametrize("adaptation", [{"kind": "lora", "rank": 4}, {"kind": "top_layers"}, {"kind": "head"}])
def test_methods_adapt_an_encoder_decoder(
    spec: SpecMaker,
    folders: dict[Family, Path],
    task: tuple[AnyTask, dict[str, str]],
    shared_cache: Path,
    tmp_path: Path,
    adaptation: dict[str, Any],
) -> None:
    bench = bench_of(spec, folders["t5"], task, shared_cache, tmp_path)
    folder = bench.run(bench.spec({**INITIAL, "schedule.num_epochs": 0.5, "method.adaptation": adaptation}), "adapted")
    assert bench.status("adapted").state == "complete"
    assert (folder / "model" / "model.safetensors").exists()


def test_what_pretrains_nothing_is_a_start_and_no_run(
    spec: SpecMaker,
    folders: dict[Family, Path],
    task: tuple[AnyTask, dict[str, str]],
    shared_cache: Path,
    tmp_path: Path,
) -> None:
    bench = bench_of(spec, folders["t5"], task, shared_cache, tmp_path)
    with pytest.raises(ValidationError, match=r"finetune\.start must be initial with objective=none"):
        bench.spec({"start": "pretrained"})
    with pytest.raises(ValueError, match=r"objective=none pretrains nothing: .* got no task"):
        pretrain(bench.parent, tmp_path, shared_cache, Stop())
    with pytest.raises(ValidationError, match=r"model t5 is fine-tuned on tasks of kind generation only"):
        bench.spec({**INITIAL, "task": {"kind": "similarity", "name": "x", "rows": {"kind": "local", "train": "x"}}})
    with pytest.raises(ValidationError, match=r"task.kind=generation wants a model that writes, .* got bert"):
        bench.spec({"parent": spec({"objective.kind": "mlm"}).model_dump(mode="json")})
    with pytest.raises(ValidationError, match=r"objective=none does not train model.kind=bert"):
        spec({"objective": {"kind": "none"}})
    with pytest.raises(ValidationError, match=r"objective=clm does not train model.kind=t5"):
        RunSpec.model_validate(bench.parent.model_dump(mode="json") | {"objective": {"kind": "clm"}})


def test_the_start_of_a_checkpoint_is_the_same_whatever_its_parent_would_read(
    spec: SpecMaker,
    folders: dict[Family, Path],
    task: tuple[AnyTask, dict[str, str]],
    shared_cache: Path,
    tmp_path: Path,
) -> None:
    bench = bench_of(spec, folders["t5"], task, shared_cache, tmp_path)
    other = not_pretrained(spec, folders["t5"], {"budget.num_tokens": 4096, "schedule.warmup_tokens": 0})
    moved = bench.spec({**INITIAL, "parent": other.model_dump(mode="json")})
    assert fingerprint(moved) == fingerprint(bench.spec(INITIAL))


def test_the_command_line_refuses_to_pretrain_with_no_objective(
    folders: dict[Family, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["scaling"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.jsonl").write_text('{"text": "some words of a document"}\n', encoding="utf-8")
    arguments = ["corpus=own", "+corpus.domains.a={kind:local,path:a.jsonl}", "objective=none"]
    checkpoint = ["model=checkpoint", f"model.path={folders['t5']}", "tokenizer=checkpoint"]
    with pytest.raises(ConfigError, match="objective=none pretrains nothing: it wants a task"):
        compose_points([*arguments, *checkpoint, "batch.sequence_length=64"])
    with pytest.raises(ConfigError, match="objective=none goes with model=checkpoint, got a new model"):
        compose_points(arguments)
    (tmp_path / "rows.jsonl").write_text(
        "".join(f'{{"source": "s {number}", "target": "t {number}"}}\n' for number in range(40)), encoding="utf-8"
    )
    told = [
        "task=multi30k",
        "task.rows={kind:local,train:rows.jsonl,validation:null,test:null}",
        "task.source=source",
        "task.target=target",
    ]
    points = compose_points([*arguments, *checkpoint, *told, "finetune.start=initial", "finetune.batch.max_length=200"])
    assert [point.spec.parent.anatomy.family for point in points] == ["t5"] * 3
    with pytest.raises(ConfigError, match=r"finetune\.start must be initial with objective=none"):
        compose_points([*arguments, *checkpoint, *told])
