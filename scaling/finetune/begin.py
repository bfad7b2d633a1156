"""What a fine-tuning begins with: the model and tokenizer of its parent, and the rows of its task."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from scaling.child import FinetuneSpec
from scaling.data.prepare import prepare_tokenizer
from scaling.data.pretrained import checked_folder
from scaling.data.randomness import key, permutation
from scaling.data.tasks.items import TaskData
from scaling.data.tasks.read import check_task_content, read_task
from scaling.data.tasks.subset import training_rows
from scaling.evaluate.metrics import Measured
from scaling.finetune.baseline import baseline
from scaling.finetune.batches import pad_id
from scaling.finetune.encoded import EncodedRows, Encoder, cut_facts
from scaling.finetune.kind import Kind, Reader, kind_of, open_reader
from scaling.finetune.losses import class_weights
from scaling.finetune.methods import adapt, load_method_state
from scaling.finetune.outcome import score_facts
from scaling.finetune.predict import Predictor, answers
from scaling.finetune.start import METHOD, load, remembered
from scaling.identity import fingerprint
from scaling.model import Checkpoint
from scaling.ranks import this_rank
from scaling.status import find_run
from scaling.train.model import build_model, checked_model, read_model
from scaling.train.objective import NOT_PREDICTED

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Split:
    """Items that are measured, and their rows."""

    items: Sequence[Any]
    rows: EncodedRows


@dataclass(frozen=True, slots=True)
class Whole:
    """A fine-tuned model with all of its weights on this rank.

    module: with the head and the adaptation; its body is of `model`. weights: fp32 tensors on the CPU by name, of all
    parameters of the module; others beside them do not count.
    """

    model: PreTrainedModel
    module: nn.Module
    weights: Mapping[str, Tensor]


def at_rest(whole: Whole) -> None:
    """Take a module back from its device and the precision that it computed in: to its fp32 weights, none copied."""
    for name, parameter in whole.module.named_parameters():
        parameter.data = whole.weights[name]
    whole.module.to("cpu")  # buffers


@dataclass(frozen=True, slots=True)
class Begin:
    """All that a fine-tuning begins with.

    parent: the folder of its parent's run; None where it starts from the parent's first weights. tokenizer: the folder
    of its tokenizer. items: trained on. facts: of the task's rows, for the record.
    """

    spec: FinetuneSpec
    parent: Path | None
    tokenizer: Path
    data: TaskData[Any]
    items: Sequence[Any]
    kind: Kind
    reader: Reader
    train: EncodedRows
    validation: Split
    test: Split
    facts: dict[str, Any]

    def model(self) -> PreTrainedModel:
        """The parent's model, trained or as it began, on the CPU in fp32, placed as the child is."""
        placed = self.spec.parent.model_copy(update={"placement": self.spec.placement})
        return build_model(placed) if self.parent is None else read_model(placed, self.parent / "model")

    def module(self, weights: dict[str, Tensor] | None = None) -> nn.Module:
        """The model with the head of its task and the adaptation of its method: as the seed has it, or with `weights`,
        what has been learned and what the method remembers."""
        return self.built(weights)[1]

    def built(self, weights: dict[str, Tensor] | None = None) -> tuple[PreTrainedModel, nn.Module]:
        """The model itself, and around its body the `module`."""
        method = self.spec.method
        balance = class_weights(method.loss, self._label_counts())
        model = self.model()
        torch.manual_seed(int(key("head", self.spec.seed)) % 2**63)  # now: new models seed the generator, too
        module = self.kind.module(model, method.dropout, method.loss, balance)
        adapt(module, self.spec)
        if weights is not None:
            load(module, weights)
            load_method_state(module, method, remembered(weights, METHOD))
        return model, module

    def whole(self, weights: dict[str, Tensor]) -> Whole:
        """The model with what has been learned and what the method remembers, built anew."""
        model, module = self.built(weights)
        return Whole(model, module, {name: weight.data for name, weight in module.named_parameters()})

    def answers(self, model: Predictor, split: Split) -> list[Any]:
        """The answer to each item of a split. Every rank calls it, and gets all of them."""
        return answers(self.kind, self.reader, model, split.rows, split.items, pad_id(self.spec))

    def measured(self, model: Predictor, split: Split) -> Measured:
        """What the answers are worth. Every rank calls it."""
        return self.kind.measure(split.items, self.answers(model, split))

    def baseline(self, cache: Path) -> dict[str, Any]:
        """What the same rows are worth without a language model, for the summary; rank 0 finds out."""
        measured = replace(self.data, validation=tuple(self.validation.items), test=tuple(self.test.items))
        found = None if this_rank() else baseline(self.spec.task, measured, self.items, cache)
        if found is None:
            return {}
        at = f"baseline/{found.name}"
        return {**score_facts(at, found.scores), f"{at}/replicates": found.replicates}

    def _label_counts(self) -> list[int]:
        """Training rows, or words, by label; none where the kind has no labels."""
        if not self.data.labels:
            return []
        targets = self.train.targets[self.train.targets != NOT_PREDICTED].astype(np.int64)
        return np.bincount(targets, minlength=len(self.data.labels)).tolist()


def begin(spec: FinetuneSpec, run_dir: Path, cache: Path) -> Begin:
    """Open the task and the parent. ValueError if one of them is missing, or not what the run was specified with."""
    check_task_content(spec.task, spec.content, cache)
    data = read_task(spec.task, cache)
    parent = parent_folder(spec, run_dir)
    tokenizer = tokenizer_folder(spec, parent, cache)
    kind = kind_of(spec.task, data.labels)
    reader = open_reader(tokenizer, spec.parent.anatomy.family)
    encoder = Encoder(spec, kind, reader, tokenizer, data.labels, cache)
    items, counted = training_rows(data, spec.num_examples, spec.seed, spec.method)
    train = encoder.training(data.train, items)
    facts = {**data.facts, "training": {**counted, **cut_facts(train)}}
    measured = {}
    for name, held in (("validation", data.validation), ("test", data.test)):
        chosen = _measured_rows(name, len(held), spec.measuring.max_rows)
        measured[name] = Split([held[i] for i in chosen], encoder.split(name, held).of_items(chosen))
    return Begin(spec, parent, tokenizer, data, items, kind, reader, train, **measured, facts=facts)


def _measured_rows(split: str, num_rows: int, at_most: int | None) -> NDArray[np.int64]:
    """All rows, or some: the same for every run."""
    if num_rows == 0:
        raise ValueError(f"task: the split {split!r} has no rows: wanted at least one to measure")
    if at_most is None or at_most >= num_rows:
        return np.arange(num_rows)
    return np.sort(permutation(key("measured", split), num_rows)[:at_most])


def parent_folder(spec: FinetuneSpec, run_dir: Path) -> Path | None:
    """The run that a fine-tuning goes on from, beside its own. ValueError if there is none, or its model changed."""
    if spec.start == "initial":
        return None
    folder = find_run(run_dir.parent, spec.parent)
    if folder is None:
        raise ValueError(
            f"finetune.parent: wanted the complete run {spec.parent.name}-{fingerprint(spec.parent)[:8]} in"
            f" {str(run_dir.parent)!r}, there is none"
        )
    checked_model(folder)
    return folder


def tokenizer_folder(spec: FinetuneSpec, parent: Path | None, cache: Path) -> Path:
    """Where the tokenizer.json of the parent is."""
    if parent is not None:
        return parent / "model"
    if isinstance(spec.parent.model, Checkpoint):
        return checked_folder(spec.parent.model)
    return prepare_tokenizer(spec.parent, cache, log.info).path.parent
