"""The micro-batch of a fine-tuning, found from memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bench import Bench, make_bench, summary
from lab import SpecMaker
from safetensors.torch import load_file
from small_device import Device

import scaling.finetune.finetune as loop
from scaling.child import FinetuneSpec
from scaling.finetune.begin import Begin, begin
from scaling.finetune.trial import finetuning_trial
from scaling.task import Generation
from scaling.train.probe import Trial, bytes_besides, found_micro_batch, with_micro_batch


@pytest.fixture(scope="module")
def bench(spec: SpecMaker, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    torch.set_num_threads(1)
    return make_bench(spec, shared_cache, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def opened(bench: Bench) -> Begin:
    (bench.runs / "tried").mkdir()
    return begin(bench.spec(), bench.runs / "tried", bench.cache)


def test_what_is_tried_is_as_long_as_the_longest_row_and_can_be_learned(opened: Begin) -> None:
    spec = opened.spec
    trial = finetuning_trial(spec, opened)
    assert opened.train.lengths.max() <= trial.length <= spec.max_length
    rows = trial.rows(5, True)
    assert rows.tensors()["inputs"].shape == (5, trial.length)
    assert rows.tensors()["mask"].sum() == 5 * opened.train.lengths.max()
    losses = trial.module()(**rows.tensors())
    assert losses.shape == (5, 1)
    assert losses.requires_grad
    assert trial.module()(**trial.rows(3, False).tensors()).shape == (3, 2), "without targets, logits"


def test_seeds_share_what_was_found_and_another_method_or_length_is_tried_anew(
    bench: Bench, opened: Begin, tmp_path: Path
) -> None:
    def found(changes: dict[str, Any], device: Device, cut: int | None = None) -> int:
        spec = bench.spec(changes)
        trial = finetuning_trial(spec, opened)
        if cut is not None:
            trial = finetuning_trial(spec, begin(spec, bench.runs / "tried", bench.cache))
        return found_micro_batch(spec, trial, tmp_path, "card", device)

    first, other = Device(most=3), Device(most=1)
    assert found({}, first) == 2
    assert first.tried == [8, 4, 2]
    assert found({"seed": 5, "optimizer.learning_rate": 1e-4, "schedule.num_epochs": 1.0}, other) == 2
    assert other.tried == []
    assert found({"method.adaptation": {"kind": "head"}}, other) == 1
    assert found({"batch.max_length": 8}, other, cut=8) == 1
    assert found({"placement.activation_checkpointing": True}, other) == 1
    assert other.tried == 3 * [8, 4, 2, 1]


def test_longer_texts_to_write_are_tried_anew(opened: Begin) -> None:
    """Of them the logits of the vocabulary are kept."""

    def identity(max_target_tokens: int) -> Mapping[str, Any]:
        rows = {"kind": "local", "train": "rows.jsonl"}
        task = Generation.model_validate({"name": "x", "rows": rows, "max_target_tokens": max_target_tokens})
        return finetuning_trial(opened.spec.model_copy(update={"task": task}), opened).identity

    assert identity(8) == identity(8)
    assert identity(8) != identity(64)


def test_rows_that_do_not_fit_one_by_one_are_an_error_that_says_how_long_they_are(
    opened: Begin, tmp_path: Path
) -> None:
    trial = finetuning_trial(opened.spec, opened)
    with pytest.raises(ValueError, match=rf"placement\.micro_batch: 1 of {trial.length} tokens do not fit"):
        found_micro_batch(opened.spec, trial, tmp_path, "card", Device(most=0))


def test_what_is_frozen_has_no_moments_and_no_gradients(bench: Bench) -> None:
    spec = bench.spec({"precision": "bf16"})
    assert bytes_besides(spec, 1000, 1000) == (4 + 8 + 2 + 4) * 1000
    assert bytes_besides(spec, 1000, 10) == (4 + 8 + 2 + 4) * 10


def test_a_device_that_holds_few_rows_leaves_the_batch_and_what_is_learned_as_they_are(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dropout, whose draws belong to a micro-batch."""
    changes = {"method.dropout": 0.0, "schedule.num_epochs": 2.0}
    passes: list[int] = []

    def small(spec: FinetuneSpec, cache: Path, trial: Trial) -> FinetuneSpec:
        assert with_micro_batch(spec, cache, trial) is spec, "a CPU takes all"
        found = found_micro_batch(spec, trial, cache, "small card", Device(most=3))
        passes.append(found)
        return spec.model_copy(update={"placement": spec.placement.model_copy(update={"micro_batch": found})})

    whole = bench.run(bench.spec(changes), "whole")
    monkeypatch.setattr(loop, "with_micro_batch", small)
    parts = bench.run(bench.spec(changes), "parts")
    assert passes == [2]
    assert summary(parts)["steps"] == summary(whole)["steps"] == 48
    first, second = (load_file(folder / "model" / "model.safetensors") for folder in (whole, parts))
    assert first.keys() == second.keys()
    for name, value in first.items():
        if name.endswith("key.bias"):  # moves all scores of a query alike: its gradient is rounding alone
            continue
        np.testing.assert_allclose(second[name], value, rtol=2e-3, atol=2e-4)
    assert any(not torch.equal(first[name], second[name]) for name in first), "sums were rounded otherwise"
    assert summary(parts)["task/mood/accuracy"] == summary(whole)["task/mood/accuracy"]
