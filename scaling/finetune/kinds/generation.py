"""A text that a model writes about another: a summary, a translation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from scaling.data.tasks.items import SourceTarget
from scaling.evaluate.metrics import Measured
from scaling.evaluate.text_metrics import measure_texts
from scaling.finetune.decoding import write
from scaling.finetune.heads import TargetLoss, hidden_states
from scaling.finetune.kind import Encoded, Predict, Reader, Whole
from scaling.method import TaskLossRule
from scaling.task import Generation
from scaling.train.model import FAMILIES
from scaling.train.objective import NOT_PREDICTED, project

Ids = NDArray[np.int64]

SPECIAL_TOKENS = 2
"""Around a text, at most: a start and an end."""


@dataclass(frozen=True, slots=True)
class GenerationKind:
    """The model's own projection onto the vocabulary writes: there is no head.

    A decoder alone reads start, source, separator, and goes on with target, end, of which alone is the loss. An
    encoder reads start, source, end, and a decoder of its own writes start, target, end; a start that is also the end,
    as T5's, is left out. Sources are cut so that the longest target has room, whatever a row's own: in training and in
    writing alike.
    """

    task: Generation
    is_per_token: bool = True

    def encode(
        self, items: Sequence[SourceTarget], reader: Reader, max_length: int, for_training: bool
    ) -> list[Encoded]:
        """One row for each text, with its first target, which a decoder alone is not shown but in training."""
        sources = reader.encode([item.source for item in items])
        targets = reader.encode([item.targets[0] for item in items])
        lay = self._lay_apart if reader.writes_apart else self._lay_together
        pairs = enumerate(zip(sources, targets, strict=True))
        if reader.writes_apart or for_training:
            return [lay(index, source, target, reader, max_length) for index, (source, target) in pairs]
        return [_prompt(lay(index, source, target, reader, max_length)) for index, (source, target) in pairs]

    def module(
        self, model: PreTrainedModel, dropout: float, rule: TaskLossRule, class_weights: Tensor | None
    ) -> nn.Module:
        """Losses [n, T] of the tokens to write, by a model that writes. Tokens have no class weights."""
        if model.config.is_encoder_decoder:
            return EncoderDecoderModel(model, rule, self.task.max_target_tokens + SPECIAL_TOKENS)
        assert FAMILIES[model.config.model_type].is_causal, "the spec has checked it"
        return DecoderModel(model, rule, self.task.max_target_tokens + 1)

    def answers(
        self, predict: Predict, encoded: Sequence[Encoded], items: Sequence[SourceTarget], whole: Whole, reader: Reader
    ) -> list[str]:
        """What the model writes: of each step the most probable token, or the most probable of `num_beams` texts."""
        prompts = [row.inputs if row.types is None else row.inputs[row.types == 0] for row in encoded]
        with whole() as module:
            model = module.model
            limit = self.task.max_target_tokens + (SPECIAL_TOKENS if reader.writes_apart else 0)
            written = write(model, prompts, limit, self.task.num_beams, reader.end)
        return [reader.tokenizer.decode(ids.tolist(), skip_special_tokens=True).strip() for ids in written]

    def measure(
        self, items: Sequence[SourceTarget], answers: Sequence[str], chosen_on: Measured | None = None
    ) -> Measured:
        """ROUGE, BLEU and chrF against all targets of a text."""
        return measure_texts(answers, [item.targets for item in items], self.task.tokenize)

    def shown(self, item: SourceTarget, answer: str) -> Mapping[str, object]:
        """What was written, and all that is right."""
        return {"id": item.id, "answer": answer, "right": list(item.targets)}

    def _lay_together(self, index: int, source: Ids, target: Ids, reader: Reader, max_length: int) -> Encoded:
        separator = reader.encode([self.task.separator])[0]
        kept = source[: self._room(max_length, len(separator) + SPECIAL_TOKENS + self.task.max_target_tokens)]
        told = target[: self.task.max_target_tokens]
        before = 1 + len(kept) + len(separator)
        inputs = np.concatenate([[reader.start], kept, separator, told, [reader.end]]).astype(np.int64)
        targets = np.full_like(inputs, NOT_PREDICTED)
        targets[before - 1 : -1] = inputs[before:]
        return Encoded(index, inputs, targets, None, len(source) - len(kept) + len(target) - len(told))

    def _lay_apart(self, index: int, source: Ids, target: Ids, reader: Reader, max_length: int) -> Encoded:
        """Both fill up to the longer of them: types 1 is what fills up a source, targets NOT_PREDICTED a target."""
        start = [] if reader.start == reader.end else [reader.start]
        self._room(max_length, SPECIAL_TOKENS + self.task.max_target_tokens - 1)
        kept, told = source[: max_length - SPECIAL_TOKENS], target[: self.task.max_target_tokens]
        read = np.concatenate([start, kept, [reader.end]]).astype(np.int64)
        written = np.concatenate([start, told, [reader.end]]).astype(np.int64)
        length = max(len(read), len(written))
        inputs = np.pad(read, (0, length - len(read)), constant_values=reader.end)
        targets = np.pad(written, (0, length - len(written)), constant_values=NOT_PREDICTED)
        types = (np.arange(length) >= len(read)).astype(np.int64)
        return Encoded(index, inputs, targets, types, len(source) - len(kept) + len(target) - len(told))

    def _room(self, max_length: int, taken: int) -> int:
        """Tokens that are left beside those that are taken; ValueError if there are none."""
        if taken >= max_length:
            raise ValueError(
                f"task.max_target_tokens of {self.task.name!r} must leave room for a source in"
                f" finetune.batch.max_length={max_length} tokens, got {self.task.max_target_tokens}"
            )
        return max_length - taken


class DecoderModel(nn.Module):
    """A decoder that gives the loss of each token [n, T] that it is to write after a source, or all logits [n, T, V].

    The vocabulary is looked at where there is something to write: at most `num_written` tokens, one after another.
    """

    def __init__(self, model: PreTrainedModel, rule: TaskLossRule, num_written: int) -> None:
        super().__init__()
        self.model = model
        self.loss = TargetLoss(rule, None)
        self.num_written = num_written
        self.family = FAMILIES[model.config.model_type]

    def forward(
        self, inputs: Tensor, mask: Tensor | None = None, targets: Tensor | None = None, types: Tensor | None = None
    ) -> Tensor:
        hidden = hidden_states(self.model.base_model, inputs, mask, None)
        if targets is None:
            return self._logits(hidden)
        length = inputs.shape[1]
        first = (targets != NOT_PREDICTED).int().argmax(1, keepdim=True)
        places = first + torch.arange(min(self.num_written, length), device=inputs.device)
        places = places.clamp(max=length - 1)  # where nothing follows, nothing is predicted
        seen = hidden.gather(1, places.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
        losses = self.loss(self._logits(seen), targets.gather(1, places))
        return losses.new_zeros(targets.shape).scatter(1, places, losses)

    def _logits(self, hidden: Tensor) -> Tensor:
        return project(self.family.transform(self.model, hidden), self.model.get_output_embeddings())


class EncoderDecoderModel(nn.Module):
    """An encoder that reads, and a decoder that gives the loss of each token [n, T] that it is to write, or the logits
    of the first [n, 1, V].

    types [n, T]: 0 where a source is, 1 where it is filled up to the length of its target.
    """

    def __init__(self, model: PreTrainedModel, rule: TaskLossRule, num_written: int) -> None:
        super().__init__()
        self.model = model
        self.loss = TargetLoss(rule, None)
        self.num_written = num_written

    def forward(
        self, inputs: Tensor, mask: Tensor | None = None, targets: Tensor | None = None, types: Tensor | None = None
    ) -> Tensor:
        is_read = torch.ones_like(inputs) if mask is None else mask
        if types is not None:
            is_read = is_read * (types == 0)
        told = inputs.new_full((len(inputs), 1), NOT_PREDICTED) if targets is None else targets[:, : self.num_written]
        logits: Tensor = self.model(
            input_ids=inputs,
            attention_mask=is_read,
            decoder_input_ids=self.model.prepare_decoder_input_ids_from_labels(told),
            use_cache=False,
        ).logits
        if targets is None:
            return logits
        losses = self.loss(logits, told)
        return functional.pad(losses, (0, targets.shape[1] - told.shape[1]))


def _prompt(row: Encoded) -> Encoded:
    """A row without what is to be written."""
    first = int((row.targets != NOT_PREDICTED).argmax()) + 1
    return Encoded(row.item, row.inputs[:first], np.full(first, NOT_PREDICTED), row.types, row.num_cut)


def make(task: Generation, labels: tuple[str, ...]) -> GenerationKind:
    return GenerationKind(task)
