"""A label of a text, or of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from scaling.data.tasks.items import LabelledText
from scaling.evaluate.alert import with_alert
from scaling.evaluate.classification import measure_labels
from scaling.evaluate.metrics import Measured
from scaling.finetune.heads import TargetLoss, TextModel
from scaling.finetune.kind import Encoded, Predict, Reader, Whole
from scaling.finetune.texts import encode_texts
from scaling.method import TaskLossRule
from scaling.task import Classification

Probabilities = NDArray[np.float64]
"""The answer to a text: how probable each label is [L]."""


@dataclass(frozen=True, slots=True)
class ClassificationKind:
    """The head gives a logit for each label."""

    task: Classification
    labels: tuple[str, ...]
    is_per_token: bool = False

    def encode(
        self, items: Sequence[LabelledText], reader: Reader, max_length: int, for_training: bool
    ) -> list[Encoded]:
        """A row for each text, or pair."""
        return encode_texts(items, [np.array([item.label]) for item in items], reader, max_length)

    def module(
        self, model: PreTrainedModel, dropout: float, rule: TaskLossRule, class_weights: Tensor | None
    ) -> nn.Module:
        """Logits [n, L]."""
        return TextModel(model, len(self.labels), dropout, TargetLoss(rule, class_weights))

    def answers(
        self, predict: Predict, encoded: Sequence[Encoded], items: Sequence[LabelledText], whole: Whole, reader: Reader
    ) -> list[Probabilities]:
        """How probable each label is."""
        found = []
        for logits in predict(encoded):
            raised = np.exp(logits.astype(np.float64) - logits.max())
            found.append(raised / raised.sum())
        return found

    def measure(
        self, items: Sequence[LabelledText], answers: Sequence[Probabilities], chosen_on: Measured | None = None
    ) -> Measured:
        """Metrics of the most probable label; and of the alert, if there is one, at the threshold of `chosen_on`."""
        rights = np.array([item.label for item in items], dtype=np.int64)
        probabilities = np.stack(answers)
        measured = measure_labels(rights, probabilities.argmax(1), self.labels)
        if self.task.alert is None:
            return measured
        label = self.labels.index(self.task.alert.label)
        return with_alert(measured, self.task.alert, probabilities[:, label], rights == label, chosen_on)

    def shown(self, item: LabelledText, answer: Probabilities) -> Mapping[str, object]:
        """The most probable label and how probable it is, and the right one."""
        given = int(answer.argmax())
        return {
            "id": item.id,
            "answer": self.labels[given],
            "probability": float(answer[given]),
            "right": self.labels[item.label],
        }


def make(task: Classification, labels: tuple[str, ...]) -> ClassificationKind:
    """ValueError if there are not two labels, or none of them is the one to be alerted of."""
    if len(labels) < 2:
        raise ValueError(f"task.labels of {task.name!r} must name at least 2 labels, got {list(labels)}")
    if task.alert is not None and task.alert.label not in labels:
        raise ValueError(f"task.alert.label must be one of {list(labels)}, got {task.alert.label!r}")
    return ClassificationKind(task, labels)
