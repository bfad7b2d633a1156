"""A score of two texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from scaling.data.tasks.items import ScoredPair
from scaling.evaluate.correlation import measure_correlation
from scaling.evaluate.metrics import Measured
from scaling.finetune.heads import TextModel
from scaling.finetune.kind import Encoded, Predict, Reader, Whole
from scaling.finetune.texts import encode_texts
from scaling.method import TaskLossRule
from scaling.task import Similarity


class SquaredError(nn.Module):
    """(score - right score)^2 [n, 1]."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(logits.float(), targets.float(), reduction="none")


@dataclass(frozen=True, slots=True)
class SimilarityKind:
    """The head gives the score itself, learned by squared error (as GLUE's STS-B is)."""

    task: Similarity
    is_per_token: bool = False

    def encode(self, items: Sequence[ScoredPair], reader: Reader, max_length: int, for_training: bool) -> list[Encoded]:
        """A row for each pair."""
        return encode_texts(items, [np.array([item.score], dtype=np.float32) for item in items], reader, max_length)

    def module(
        self, model: PreTrainedModel, dropout: float, rule: TaskLossRule, class_weights: Tensor | None
    ) -> nn.Module:
        """Scores [n, 1]. `rule` is of labels, and there are none."""
        return TextModel(model, 1, dropout, SquaredError())

    def answers(
        self, predict: Predict, encoded: Sequence[Encoded], items: Sequence[ScoredPair], whole: Whole, reader: Reader
    ) -> list[float]:
        """The scores."""
        return [float(logits[0]) for logits in predict(encoded)]

    def measure(
        self, items: Sequence[ScoredPair], answers: Sequence[float], chosen_on: Measured | None = None
    ) -> Measured:
        """Correlations of the scores with the right ones."""
        return measure_correlation(np.array([item.score for item in items]), np.array(answers, dtype=np.float64))

    def shown(self, item: ScoredPair, answer: float) -> Mapping[str, object]:
        """The score and the right one."""
        return {"id": item.id, "answer": answer, "right": item.score}


def make(task: Similarity, labels: tuple[str, ...]) -> SimilarityKind:
    """There are no labels."""
    return SimilarityKind(task)
