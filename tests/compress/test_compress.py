"""A fine-tuned model made smaller, from end to end."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from bench import Bench, make_bench, summary
from lab import SpecMaker, wandb_files
from safetensors.torch import load_file

from scaling.child import CompressSpec, FinetuneSpec, write_spec
from scaling.compress import distillation
from scaling.compress.compress import compress, differences
from scaling.evaluate.classification import measure_labels
from scaling.identity import directory_name, fingerprint
from scaling.status import read_status
from scaling.train import probe
from scaling.train.preemption import PreemptedError, Stop
from scaling.train.probe import Trial

STUDENT = {"kind": "bert", "hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32}
DISTILLATION = {"kind": "distillation", "student": STUDENT, "num_epochs": 5.0, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def bench(spec: SpecMaker, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    torch.set_num_threads(1)
    return make_bench(spec, shared_cache, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def tuned(bench: Bench) -> FinetuneSpec:
    """A fine-tuning that is complete."""
    spec = bench.spec()
    bench.run(spec, directory_name(spec))
    return spec


def spec_of(tuned: FinetuneSpec, method: dict[str, Any]) -> CompressSpec:
    fields = ("study", "placement", "measuring")
    tree = {name: getattr(tuned, name).model_dump(mode="json") for name in fields}
    parent = tuned.model_dump(mode="json")
    return CompressSpec.model_validate({**tree, "name": "smaller", "parent": parent, "compress": method})


def run(bench: Bench, spec: CompressSpec, stop: Stop | None = None) -> Path:
    folder = bench.runs / directory_name(spec)
    folder.mkdir(exist_ok=True)
    write_spec(folder / "spec.json", spec)
    compress(spec, folder, bench.cache, stop or Stop())
    return folder


@pytest.mark.parametrize(
    "method",
    [
        pytest.param({"kind": "magnitude", "frac": 0.3}, id="magnitude"),
        pytest.param({"kind": "heads", "frac": 0.5}, id="heads"),
        pytest.param({"kind": "int8_weights"}, id="int8_weights"),
        pytest.param({"kind": "int8_dynamic"}, id="int8_dynamic"),
        pytest.param(DISTILLATION, id="distillation"),
    ],
)
def test_what_is_left_of_a_model_is_said_beside_what_it_was(
    bench: Bench, tuned: FinetuneSpec, method: dict[str, Any]
) -> None:
    spec = spec_of(tuned, method)
    folder = run(bench, spec)
    found, parent = summary(folder), summary(bench.runs / directory_name(tuned))
    assert found["state"] == "complete"
    assert read_status(folder).scores["accuracy"] == found["task/mood/accuracy"]
    for name in ("accuracy", "accuracy_lo", "accuracy_hi"):
        assert found[f"task_original/mood/{name}"] == parent[f"task/mood/{name}"]
    apart = found["task/mood/accuracy"] - found["task_original/mood/accuracy"]
    assert found["task_difference/mood/accuracy"] == pytest.approx(apart)
    assert found["task_difference/mood/accuracy_lo"] <= apart <= found["task_difference/mood/accuracy_hi"]
    assert found["task/mood/accuracy"] > 0.7
    assert found["task/mood/num_items"] == 24
    assert found["parent/tokens"] == 8192
    cost = {name.removeprefix("cost/"): value for name, value in found.items() if name.startswith("cost/")}
    original = {name.removeprefix("original/"): value for name, value in cost.items() if name.startswith("original/")}
    assert len(cost) == 2 * len(original) == 2 * 9
    assert all(value > 0 for value in cost.values())
    is_smaller = "nonzero_params" if method["kind"] == "magnitude" else "bytes"
    assert cost[is_smaller] < original[is_smaller]
    weights = folder / "model" / "weights.safetensors"
    assert weights.stat().st_size == cost["bytes"]
    assert load_file(weights)
    told = json.loads((folder / "model" / "compression.json").read_text())
    assert told["fingerprint"] == fingerprint(spec)
    assert wandb_files(folder)[-1].config["task_data"]["rows"]["train"] == 192
    assert not list(folder.glob(".original-*"))
    assert len((folder / "predictions.jsonl").read_text().splitlines()) == 24


def test_a_distillation_is_the_same_each_time(bench: Bench, tuned: FinetuneSpec) -> None:
    spec = spec_of(tuned, {**DISTILLATION, "num_epochs": 1.0})
    first, second = ((run(bench, spec) / "model" / "weights.safetensors").read_bytes() for _ in range(2))
    assert first == second


def weights_of(folder: Path) -> bytes:
    return (folder / "model" / "weights.safetensors").read_bytes()


def test_a_distillation_that_is_cut_off_goes_on_to_the_same_bits(
    bench: Bench, tuned: FinetuneSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    frequent = tuned.placement.model_copy(update={"checkpoint_seconds": 0.0})
    spec = spec_of(tuned, {**DISTILLATION, "num_epochs": 4.0}).model_copy(update={"placement": frequent})
    folder = run(bench, spec)
    unbroken = weights_of(folder)
    assert not (folder / "checkpoints").exists(), "a run that is complete has no use of them"
    shutil.rmtree(folder)
    factor, steps = distillation.learning_rate_factor, []

    def cut(student: FinetuneSpec, step: int, total: int) -> float:
        if step == 51 and 51 not in steps:
            steps.append(step)
            raise KeyboardInterrupt
        steps.append(step)
        return factor(student, step, total)

    monkeypatch.setattr(distillation, "learning_rate_factor", cut)
    with pytest.raises(KeyboardInterrupt):
        run(bench, spec)
    assert weights_of(run(bench, spec)) == unbroken
    assert steps == [*range(52), *range(40, 96)]


def test_the_micro_batch_of_a_distillation_is_tried_and_no_student_that_was_tried_is_kept(
    bench: Bench, tuned: FinetuneSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, but for where it computes."""
    stand_ins = {
        **dict.fromkeys(("empty_cache", "synchronize", "set_per_process_memory_fraction"), lambda *args: None),
        **dict.fromkeys(("memory_allocated", "max_memory_allocated"), lambda device: 0),
        "reset_peak_memory_stats": lambda device: None,
        "get_device_properties": lambda device: SimpleNamespace(total_memory=10**9),
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    tried: list[weakref.ref[torch.nn.Module]] = []

    def attempted(spec: FinetuneSpec, cache: Path, trial: Trial) -> FinetuneSpec:
        def module() -> torch.nn.Module:
            made = trial.module()
            tried.append(weakref.ref(made))
            return made

        for size in probe.micro_batches(spec):
            probe._try(spec, replace(trial, module=module), torch.device("cpu"), size)
        return spec

    monkeypatch.setattr(distillation, "with_micro_batch", attempted)
    run(bench, spec_of(tuned, {**DISTILLATION, "num_epochs": 1.0}))
    gc.collect()
    assert [student() for student in tried] == [None] * 4


def test_a_distillation_that_is_asked_to_stop_keeps_where_it_is(
    bench: Bench, tuned: FinetuneSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(tuned, {**DISTILLATION, "num_epochs": 2.0})
    factor, stop = distillation.learning_rate_factor, Stop()

    def ask(student: FinetuneSpec, step: int, total: int) -> float:
        stop.is_requested = stop.is_requested or step == 6
        return factor(student, step, total)

    monkeypatch.setattr(distillation, "learning_rate_factor", ask)
    with pytest.raises(PreemptedError):
        run(bench, spec, stop)
    folder = bench.runs / directory_name(spec)
    assert read_status(folder).state == "preempted"
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-00000007"]
    stop.is_requested = False
    assert summary(run(bench, spec))["state"] == "complete"


def test_a_compression_without_its_parent_says_which_is_missing(bench: Bench, tuned: FinetuneSpec) -> None:
    spec = spec_of(tuned.model_copy(update={"seed": 7}), {"kind": "magnitude"})
    with pytest.raises(ValueError, match=r"compress\.parent: wanted the complete run child-[0-9a-f]{8} in"):
        run(bench, spec)
    assert read_status(bench.runs / directory_name(spec)).state == "failed"


def test_a_difference_is_paired_by_row() -> None:
    """Two models that fail on the same half of the rows, but for one of a hundred."""
    rights = np.zeros(200, dtype=np.int64)
    first = np.where(np.arange(200) % 2, 0, 1)
    second = first.copy()
    second[[0, 2]] = 0
    found = differences(*(measure_labels(rights, given, ("a", "b")) for given in (first, second)), 1000, 0)["accuracy"]
    assert found.value == pytest.approx(0.01)
    assert 0 <= found.lo < found.value < found.hi < 0.03
