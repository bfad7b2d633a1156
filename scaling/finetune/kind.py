"""What the loop of fine-tuning asks of a kind of task: rows as the model reads them, a module that learns them, and
its answers, measured. Each kind is a module of `scaling.finetune.kinds`, which has a function `make(task, labels)`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from scaling.evaluate.metrics import Measured
from scaling.finetune.reader import Laid, Reader, open_reader
from scaling.method import TaskLossRule
from scaling.task import AnyTask

__all__ = ["Encoded", "Kind", "Laid", "Measured", "Predict", "Reader", "Whole", "kind_of", "open_reader"]


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One row as the model reads it; where a context is longer than the model's, a row gives several.

    item: the index of the item. inputs [t]. targets: [t] int64 where the kind is per token, NOT_PREDICTED elsewhere;
    else (1,), int64 or float32, or (2,) int64, the ends of a span. types [t]: 0 for the first text and 1 for the
    second, None where there is one. num_cut: tokens of the row that the context had no room for.
    spans [t, 2]: the characters of a question's context that a token stands for, first and one after the last; -1 for
    tokens that are not of the context. None where nobody asks.
    """

    item: int
    inputs: NDArray[np.int64]
    targets: NDArray[Any]
    types: NDArray[np.int64] | None = None
    num_cut: int = 0
    spans: NDArray[np.int64] | None = None


Predict = Callable[[Sequence[Encoded]], Iterator[NDArray[Any]]]
"""The logits of each, in order, cut to its length: [t, C] per token, else [C]."""
Whole = Callable[[], AbstractContextManager[nn.Module]]
"""The whole module on this rank, for as long as the context lasts."""


class Kind(Protocol):
    """Items and answers are those of the kind, which `scaling.data.tasks.items` and its module describe."""

    @property
    def is_per_token(self) -> bool: ...

    def encode(self, items: Sequence[Any], reader: Reader, max_length: int, for_training: bool) -> list[Encoded]:
        """The rows, cut to `max_length` tokens."""

    def module(
        self, model: PreTrainedModel, dropout: float, rule: TaskLossRule, class_weights: Tensor | None
    ) -> nn.Module:
        """The model with a head. Weights of the head are drawn from torch's generator; the body is `module.model`.

        forward(inputs [n, T], mask [n, T] int64, 1 where a token is real, targets=None, types=None): the losses [n, P]
        where targets are given (P = 1 unless per token; 0 where NOT_PREDICTED), else the logits.
        """

    def answers(
        self, predict: Predict, encoded: Sequence[Encoded], items: Sequence[Any], whole: Whole, reader: Reader
    ) -> list[Any]:
        """The answer to each item; what is written by the model itself, `reader` spells."""

    def measure(self, items: Sequence[Any], answers: Sequence[Any], chosen_on: Measured | None = None) -> Measured:
        """What the answers are worth. chosen_on: validation, measured, if something (a threshold) is chosen there."""

    def shown(self, item: Any, answer: Any) -> Mapping[str, object]:
        """A row of predictions.jsonl: the answer and the right one, by name, as JSON."""


def kind_of(task: AnyTask, labels: tuple[str, ...]) -> Kind:
    """How a task is learned. labels: names by index, none where the kind has no labels."""
    kind: Kind = importlib.import_module(f"scaling.finetune.kinds.{task.kind}").make(task, labels)
    return kind
