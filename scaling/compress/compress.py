"""A compression: a fine-tuned model made smaller, and both measured side by side."""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from scaling.child import CompressSpec, FinetuneSpec
from scaling.compress.cost import (
    Answer,
    Cost,
    count_params,
    milliseconds,
    passes,
    peak_memory,
    save_weights,
)
from scaling.compress.distillation import Attempted, distilled
from scaling.compress.heads import cut_heads
from scaling.compress.pruning import prune_magnitude
from scaling.compress.quantisation import quantise
from scaling.compression import PASS_SIZES, Distillation, Heads, Magnitude
from scaling.data.randomness import key, permutation
from scaling.evaluate.metrics import INTERVAL, Measured, Score, resamples, scores
from scaling.files import write_json
from scaling.finetune.begin import Begin, Split, begin
from scaling.finetune.export import read_trained
from scaling.finetune.outcome import parent_facts, score_facts, task_facts, values, write_predictions
from scaling.finetune.predict import Trained
from scaling.finetune.recorder import Recorder
from scaling.identity import fingerprint
from scaling.ranks import device_of, leave_ranks
from scaling.status import find_run
from scaling.train.engine import DTYPES
from scaling.train.preemption import Stop

log = logging.getLogger(__name__)

ORIGINAL, SMALLER = "original", "smaller"
LEFT_BESIDE = ("head.json", "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
"""Files of the parent's model that are as true of what is made of it."""


def compress(spec: CompressSpec, run_dir: Path, cache: Path, stop: Stop) -> None:
    """Compress the model of one fine-tuning; a distillation goes on from its last checkpoint, all else takes seconds.

    One process does it; further ranks have nothing to do. Raises ValueError, DivergedError, PreemptedError; whatever it
    raises is in the run's record.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        return
    try:
        with Recorder(spec, run_dir, stop) as recorder:
            _compress(spec, recorder, Attempted(run_dir, cache, stop))
    finally:
        leave_ranks()


def _compress(spec: CompressSpec, recorder: Recorder, attempt: Attempted) -> None:
    run_dir = attempt.run_dir
    parent = find_run(run_dir.parent, spec.parent)
    if parent is None:
        raise ValueError(
            f"compress.parent: wanted the complete run {spec.parent.name}-{fingerprint(spec.parent)[:8]} in"
            f" {str(run_dir.parent)!r}, there is none"
        )
    tuned = _as_measured(spec)
    device, dtype = device_of(tuned), DTYPES[tuned.precision]
    module, _ = read_trained(tuned, parent)  # before the rows are read: it may be missing
    opened = begin(tuned, run_dir, attempt.cache)
    recorder.config({"task_data": opened.facts})
    facts: dict[str, Any] = parent_facts(tuned, opened.parent)
    original = Trained(module, device, dtype)
    with recorder.during("train"):
        made, notes = make_smaller(spec, tuned, opened, module, recorder, attempt)
        smaller = Trained(made, device, dtype)
    models = {ORIGINAL: original, SMALLER: smaller}
    with recorder.during("evaluate"):
        found = {name: _measured(opened, model) for name, model in models.items()}
        write_predictions(run_dir / "predictions.jsonl", opened.kind, opened.test.items, found[SMALLER].answers)
        num_resamples, task = spec.measuring.num_resamples, tuned.task.name
        facts |= task_facts(tuned, found[SMALLER].validation, found[SMALLER].test)
        facts |= score_facts(f"task_original/{task}", scores(found[ORIGINAL].test, num_resamples, 0))
        apart = differences(found[ORIGINAL].test, found[SMALLER].test, num_resamples, 0)
        facts |= score_facts(f"task_difference/{task}", apart)
    with recorder.during("checkpoint"):
        sizes = {SMALLER: _leave(spec, run_dir, made, parent / "model", notes)}
        with tempfile.TemporaryDirectory(dir=run_dir, prefix=".original-") as folder:
            sizes[ORIGINAL] = save_weights(module, Path(folder) / "weights.safetensors")
    with recorder.during("evaluate"):
        costs = _costs(opened, models, {ORIGINAL: module, SMALLER: made}, sizes)
        facts |= {f"cost/{name}": value for name, value in costs[SMALLER].flat().items()}
        facts |= {f"cost/original/{name}": value for name, value in costs[ORIGINAL].flat().items()}
    recorder.complete(facts, values(found[SMALLER].test))
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)


def _as_measured(spec: CompressSpec) -> FinetuneSpec:
    """The fine-tuning, in one process, placed and measured as the compression is."""
    alone = spec.placement.model_copy(update={"ranks": 1, "nodes": 1, "hostfile": None, "engine": "auto"})
    zero = type(spec.zero)()
    return spec.parent.model_copy(update={"placement": alone, "zero": zero, "measuring": spec.measuring})


def make_smaller(
    spec: CompressSpec, tuned: FinetuneSpec, opened: Begin, module: nn.Module, recorder: Recorder, attempt: Attempted
) -> tuple[nn.Module, dict[str, Any]]:
    """What a compression makes of a module, which stays as it is; and what else there is to know of it, as JSON."""
    method = spec.compress
    if isinstance(method, Distillation):
        student = distilled(spec, tuned, opened, module, recorder, attempt)
        return student, {"student": method.student.model_dump(mode="json")}
    made = copy.deepcopy(module)
    model: Any = made.model
    notes: dict[str, Any] = {}
    if isinstance(method, Magnitude):
        prune_magnitude(model, method)
    elif isinstance(method, Heads):
        notes = {"heads": cut_heads(model, method)}
    else:
        quantise(model, method)
    return made, notes


# ---- what it is worth ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    validation: Measured
    test: Measured
    answers: list[Any]


def _measured(opened: Begin, model: Trained) -> _Found:
    validation = opened.measured(model, opened.validation)
    answers = opened.answers(model, opened.test)
    return _Found(validation, opened.kind.measure(opened.test.items, answers, chosen_on=validation), answers)


def differences(first: Measured, second: Measured, num_resamples: int, seed: int) -> dict[str, Score]:
    """second - first of each metric, with the interval over resamples of the rows, the same of both: so what makes a
    row hard for both does not count."""
    num_rows = len(first.stats)
    whole = np.ones(num_rows)
    of_first, of_second = first.values(whole), second.values(whole)
    drawn = [(first.values(weights), second.values(weights)) for weights in resamples(num_rows, num_resamples, seed)]
    found = {}
    for name in of_first:
        apart = np.concatenate([b[name] - a[name] for a, b in drawn])
        lo, hi = np.percentile(apart, INTERVAL)
        found[name] = Score(float(of_second[name] - of_first[name]), float(lo), float(hi))
    return found


# ---- what it costs -------------------------------------------------------------------------------------


def _costs(
    opened: Begin,
    models: Mapping[str, Trained],
    modules: Mapping[str, nn.Module],
    sizes: Mapping[str, tuple[int, int]],
) -> dict[str, Cost]:
    num_items = len(opened.test.items)
    order = permutation(key("cost"), num_items).tolist()
    batches = {size: passes(num_items, size, order) for size in PASS_SIZES}
    splits = {tuple(rows): _part(opened.test, rows) for of_size in batches.values() for rows in of_size}

    def answer(model: Trained) -> Answer:
        return lambda rows: opened.answers(model, splits[tuple(rows)])

    answers = {name: answer(model) for name, model in models.items()}
    device = models[ORIGINAL].device
    taken = milliseconds(answers, batches, device)
    largest = batches[max(PASS_SIZES)][0]
    costs = {}
    for name, module in modules.items():
        num_params, num_nonzero = count_params(module)
        most = peak_memory(module, answers[name], largest, device)
        costs[name] = Cost(*sizes[name], num_params, num_nonzero, taken[name], most)
    return costs


def _part(split: Split, chosen: list[int]) -> Split:
    return Split([split.items[index] for index in chosen], split.rows.of_items(np.array(chosen)))


def _leave(
    spec: CompressSpec, run_dir: Path, module: nn.Module, parent: Path, notes: dict[str, Any]
) -> tuple[int, int]:
    """Leave what was made, as it computes: weights.safetensors, compression.json. Returns the bytes of the weights."""
    final, beside = run_dir / "model", run_dir / ".model.writing"
    for folder in (final, beside):
        shutil.rmtree(folder, ignore_errors=True)
    sizes = save_weights(module, beside / "weights.safetensors")
    for name in LEFT_BESIDE:
        if (parent / name).exists():
            shutil.copyfile(parent / name, beside / name)
    config: Any = module.model
    if isinstance(spec.compress, Distillation):
        config.config.save_pretrained(beside)
    told = {"fingerprint": fingerprint(spec), "compress": json.loads(spec.compress.model_dump_json()), **notes}
    write_json(beside / "compression.json", told)
    for file in beside.glob("*.safetensors"):
        file.chmod((beside / "compression.json").stat().st_mode)
    beside.rename(final)
    return sizes
