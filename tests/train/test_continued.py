"""Runs that go on from a checkpoint, and families and objectives in the real loop."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lab import Lab, SpecMaker, points
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from scaling import config
from scaling.__main__ import compose_points
from scaling.config_errors import ConfigError
from scaling.data.pretrained import pinned
from scaling.identity import fingerprint
from scaling.model import Checkpoint
from scaling.spec import RunSpec
from scaling.train.model import build_model

SHORT = {"budget.num_tokens": 20 * 128, "evaluation.every_tokens": None}
STANDING_STILL = {
    "optimizer.learning_rate": 1e-30,
    "schedule.warmup_tokens": 0,
    "evaluation.every_tokens": 128,
    "budget.num_tokens": 2 * 128,
}
"""So small a step is lost in rounding: the model stays what it was read as."""


def going_on(spec: SpecMaker, folder: Path, changes: Mapping[str, Any]) -> RunSpec:
    """A run from the checkpoint in `folder`, as the command line specifies it."""
    model, tokenizer = pinned(Checkpoint(path=str(folder)))
    tree = spec(changes).model_dump(mode="json")
    tree |= {"model": model.model_dump(mode="json"), "tokenizer": tokenizer.model_dump(mode="json")}
    return RunSpec.model_validate(tree)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.kind": "gpt2"},
        {"objective.kind": "mlm", "model.kind": "modernbert", "batch.isolate_documents": True},
        {"objective.kind": "mlm_nsp", "placement.micro_batch": 2},
    ],
    ids=["gpt2", "modernbert", "next sentence"],
)
def test_a_run_goes_on_where_the_run_that_left_its_model_ended(
    lab: Lab, spec: SpecMaker, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """The same losses to the last bit, before anything is learned; tokens and bytes are counted the same."""
    (*_, last) = lab.complete(spec({**SHORT, **changes}), tmp_path / "first")
    folder = tmp_path / "first" / "model"
    (first, *_) = lab.complete(going_on(spec, folder, {**changes, **STANDING_STILL}), tmp_path / "second")
    assert first.domains == last.domains
    again = tmp_path / "second" / "model"
    left, read = load_file(folder / "model.safetensors"), load_file(again / "model.safetensors")
    assert left.keys() == read.keys()
    assert all(torch.equal(left[name], read[name]) for name in left)
    assert (again / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert AutoTokenizer.from_pretrained(again).eos_token_id == 0


def test_going_on_trains_further_and_is_another_run_for_other_weights(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    (*_, before) = lab.complete(spec(SHORT), tmp_path / "first")
    shutil.copytree(tmp_path / "first" / "model", tmp_path / "moved")
    run = going_on(spec, tmp_path / "first" / "model", SHORT)
    moved = going_on(spec, tmp_path / "moved", SHORT)
    assert fingerprint(moved) == fingerprint(run) != fingerprint(spec(SHORT))
    (*_, after) = lab.complete(run, tmp_path / "second")
    for name in ("alpha", "beta"):  # gamma is not trained on
        assert after.domains[name].sum_nats < before.domains[name].sum_nats
    weights = load_file(tmp_path / "moved" / "model.safetensors")
    save_file(
        {name: weight + 1 for name, weight in weights.items()},
        tmp_path / "moved" / "model.safetensors",
        {"format": "pt"},
    )
    assert fingerprint(going_on(spec, tmp_path / "moved", SHORT)) != fingerprint(run)
    status = lab.train(moved, tmp_path / "changed")
    assert status.state == "failed"
    assert "changed since this run was specified" in str(status.error)


@pytest.fixture
def left(spec: SpecMaker, tmp_path: Path) -> Path:
    """A folder with a model and a tokenizer that nobody trained."""
    from tokenizers import Tokenizer, models

    folder = tmp_path / "left"
    build_model(spec({"objective.kind": "mlm"})).save_pretrained(folder)
    words = {"<|endoftext|>": 0, "[MASK]": 1, **{f"word{i}": i + 2 for i in range(300)}}
    Tokenizer(models.WordLevel(words, unk_token="word0")).save(str(folder / "tokenizer.json"))
    return folder


def test_a_checkpoint_without_a_pair_head_gets_one_and_one_without_a_head_is_refused(
    spec: SpecMaker, left: Path
) -> None:
    run = going_on(spec, left, {"objective.kind": "mlm_nsp"})
    new, old = build_model(run), build_model(going_on(spec, left, {"objective.kind": "mlm"}))
    assert new.bert.pooler is not None
    assert torch.equal(new.cls.predictions.transform.dense.weight, old.cls.predictions.transform.dense.weight)
    assert torch.equal(new.bert.pooler.dense.weight, build_model(run).bert.pooler.dense.weight)
    weights = load_file(left / "model.safetensors")
    headless = {name: weight for name, weight in weights.items() if "transform" not in name}
    save_file(headless, left / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights of BertForMaskedLM: \['cls\.predictions\.transform"):
        build_model(going_on(spec, left, {"objective.kind": "mlm"}))


def test_a_checkpoint_has_no_dropout(spec: SpecMaker, left: Path) -> None:
    config = json.loads((left / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}
    (left / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = build_model(going_on(spec, left, {"objective.kind": "mlm"}))
    assert model.training
    tokens = torch.from_numpy(np.random.default_rng(0).integers(2, 300, (2, 32)))
    assert torch.equal(model(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"objective.kind": "mlm", "batch.sequence_length": 64},
            "must be at most the 32 positions of the checkpoint, got 64",
        ),
        ({}, "objective=clm does not train model.kind=bert"),
    ],
)
def test_what_a_checkpoint_cannot_do_is_refused(
    spec: SpecMaker, left: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        going_on(spec, left, changes)


def test_model_and_tokenizer_of_a_checkpoint_go_together(spec: SpecMaker, left: Path) -> None:
    whole = going_on(spec, left, {"objective.kind": "mlm"}).model_dump(mode="json")
    plain = spec({"objective.kind": "mlm"}).model_dump(mode="json")
    for part in ("model", "tokenizer"):
        with pytest.raises(ValueError, match="model and tokenizer must both be of kind checkpoint, or neither"):
            RunSpec.model_validate({**plain, part: whole[part]})
    too_large = {**whole, "tokenizer": {**whole["tokenizer"], "vocab_size": 321}}
    with pytest.raises(ValueError, match="tokenizer has 321 ids, but the checkpoint's model 320 tokens"):
        RunSpec.model_validate(too_large)
    no_mask = {**whole, "tokenizer": {**whole["tokenizer"], "mask_id": None}}
    with pytest.raises(ValueError, match="needs a mask, which the checkpoint's tokenizer has not"):
        RunSpec.model_validate(no_mask)


def test_the_command_line_specifies_a_checkpoint_once_for_a_sweep(
    left: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["scaling"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.jsonl").write_text('{"text": "some words of a document"}\n', encoding="utf-8")
    looked_at: list[Checkpoint] = []
    monkeypatch.setattr(config, "pinned", lambda model: looked_at.append(model) or pinned(model))
    arguments = [
        "corpus=own",
        "+corpus.domains.a={kind:local,path:a.jsonl}",
        "model=checkpoint",
        f"model.path={left}",
        "objective=mlm",
        "batch.sequence_length=32",
    ]
    specs = [point.spec for point in compose_points(["-m", *arguments, "tokenizer=checkpoint", "seed=0,1"])]
    assert [spec.model.content for spec in specs] == [pinned(Checkpoint(path=str(left)))[0].content] * 2
    assert specs[0].tokenizer.mask_id == 1
    assert specs[0].num_params == specs[1].num_params > 0
    assert len(looked_at) == 1
    with pytest.raises(ConfigError, match="model and tokenizer must both be of kind checkpoint"):
        compose_points(arguments)
    with pytest.raises(ConfigError, match=r"model\.path: no such folder: 'nowhere'"):
        compose_points([*arguments, "model.path=nowhere"])
    with pytest.raises(ConfigError, match=r"model\.path or repo: wanted one of the two, got path=None, repo=None"):
        compose_points(["corpus=own", arguments[1], "model=checkpoint", "tokenizer=checkpoint"])
    with pytest.raises(ConfigError, match="tokenizer=checkpoint goes with model=checkpoint, got 'llama'"):
        compose_points(["corpus=own", arguments[1], "tokenizer=checkpoint"])


@pytest.mark.parametrize(("size", "width"), [("2m", 192), ("1b", 2048)])
def test_a_rung_of_the_ladder_is_chosen_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str, width: int
) -> None:
    monkeypatch.setattr(sys, "argv", ["scaling"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.jsonl").write_text('{"text": "some words of a document"}\n', encoding="utf-8")
    (point,) = compose_points(["corpus=own", "+corpus.domains.a={kind:local,path:a.jsonl}", f"model={size}"])
    assert point.spec.anatomy.hidden_size == width


@pytest.mark.slow
def test_next_sentences_are_the_same_whatever_the_placement(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    """Two ranks, two micro-batches, ZeRO 1: equal to one of each to float tolerance."""
    plain = {"objective.kind": "mlm_nsp", "batch.num_sequences": 8, **SHORT, "budget.num_tokens": 20 * 256}
    statuses = lab.train_all(
        {
            "one": spec(plain),
            "two": spec({**plain, "placement.ranks": 2, "placement.micro_batch": 2, "zero.stage": 1}),
        },
        tmp_path,
    )
    assert {status.state for status in statuses.values()} == {"complete"}
    (one,), (two,) = points(tmp_path / "one"), points(tmp_path / "two")
    for name, loss in one.domains.items():
        assert two.domains[name].sum_nats == pytest.approx(loss.sum_nats, rel=1e-3)
