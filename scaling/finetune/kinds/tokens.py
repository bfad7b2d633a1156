"""A label of each word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from scaling.data.tasks.items import LabelledTokens
from scaling.evaluate.entities import BIO, NO_LABEL, OUTSIDE, measure_entities, measure_words, words_of
from scaling.evaluate.metrics import Measured
from scaling.finetune.heads import TargetLoss, TokenModel
from scaling.finetune.kind import Encoded, Predict, Reader, Whole
from scaling.method import TaskLossRule
from scaling.task import TokenClassification
from scaling.train.objective import NOT_PREDICTED


@dataclass(frozen=True, slots=True)
class TagAnswer:
    """Labels given to the words of a row [words], by index; the last `num_unseen` words were beyond the context."""

    tags: NDArray[np.int64]
    num_unseen: int


@dataclass(frozen=True, slots=True)
class TokenKind:
    """The head gives a logit for each label, at each token; a word is asked at its first token.

    A word that the context had no room for is given `O` where there is such a label, else none.
    """

    task: TokenClassification
    labels: tuple[str, ...]
    is_per_token: bool = True

    def encode(
        self, items: Sequence[LabelledTokens], reader: Reader, max_length: int, for_training: bool
    ) -> list[Encoded]:
        """A row for each; targets [t] at the first token of each word."""
        rows = []
        for index, (tokens, firsts) in enumerate(reader.encode_words([item.tokens for item in items])):
            laid = reader.lay(tokens, None, max_length)
            targets = np.full(len(laid.inputs), NOT_PREDICTED, dtype=np.int64)
            seen = firsts[firsts < laid.kept[0]]
            targets[laid.starts[0] + seen] = items[index].tags[: len(seen)]
            rows.append(Encoded(index, laid.inputs, targets, laid.types, laid.num_cut))
        return rows

    def module(
        self, model: PreTrainedModel, dropout: float, rule: TaskLossRule, class_weights: Tensor | None
    ) -> nn.Module:
        """Logits [n, T, L]."""
        return TokenModel(model, len(self.labels), dropout, TargetLoss(rule, class_weights))

    def answers(
        self,
        predict: Predict,
        encoded: Sequence[Encoded],
        items: Sequence[LabelledTokens],
        whole: Whole,
        reader: Reader,
    ) -> list[TagAnswer]:
        """The most probable label of each word."""
        unseen = self.labels.index(OUTSIDE) if OUTSIDE in self.labels else NO_LABEL
        found = []
        for row, item, logits in zip(encoded, items, predict(encoded), strict=True):
            seen = logits[row.targets != NOT_PREDICTED].argmax(-1)
            num_unseen = len(item.tokens) - len(seen)
            found.append(TagAnswer(np.concatenate([seen, np.full(num_unseen, unseen)]).astype(np.int64), num_unseen))
        return found

    def measure(
        self, items: Sequence[LabelledTokens], answers: Sequence[TagAnswer], chosen_on: Measured | None = None
    ) -> Measured:
        """Metrics of entities, or of words."""
        words = words_of([item.tags for item in items], [answer.tags.tolist() for answer in answers])
        measured = (measure_entities if self.task.is_bio else measure_words)(words, self.labels)
        unseen = [answer.num_unseen for answer in answers]
        cut = {"words_unseen": sum(unseen), "rows_with_words_unseen": sum(number > 0 for number in unseen)}
        return Measured(measured.stats, measured.metrics, details={**measured.details, **cut})

    def shown(self, item: LabelledTokens, answer: TagAnswer) -> Mapping[str, object]:
        """The names of the labels of all words; None where a word has none."""
        return {
            "id": item.id,
            "answer": [None if tag == NO_LABEL else self.labels[tag] for tag in answer.tags.tolist()],
            "right": [self.labels[tag] for tag in item.tags],
        }


def make(task: TokenClassification, labels: tuple[str, ...]) -> TokenKind:
    """ValueError if there are not two labels, or they are not in BIO though the task says so."""
    if len(labels) < 2:
        raise ValueError(f"task.labels of {task.name!r} must name at least 2 labels, got {list(labels)}")
    strange = [label for label in labels if not BIO.fullmatch(label)]
    if OUTSIDE not in labels:
        strange = list(labels)
    if task.is_bio and strange:
        raise ValueError(
            f"task.labels of {task.name!r} must be in BIO (O, B-X, I-X) unless task.is_bio=false, got {strange[:3]}"
        )
    return TokenKind(task, labels)
