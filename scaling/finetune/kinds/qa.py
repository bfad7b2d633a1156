"""The span of a context that answers a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from scaling.data.tasks.items import Question
from scaling.evaluate.metrics import Measured
from scaling.evaluate.qa_metrics import measure_answers
from scaling.finetune.heads import TargetLoss, body_of, hidden_states, new_linear
from scaling.finetune.kind import Encoded, Predict, Reader, Whole
from scaling.method import TaskLossRule
from scaling.task import QuestionAnswering
from scaling.train.objective import NOT_PREDICTED

OUTSIDE = -1
"""The span of a token that is not of the context."""
NO_ANSWER = (0, 0)
"""What the ends of an answer that is not in a window point to: the token at its start."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class QuestionAnsweringKind:
    """The head gives each token two logits: that the answer begins there, and that it ends there.

    A context is read in windows. In training, a window that does not hold the answer is left out: there is nothing in
    it to predict. Where questions may have no answer, it is learned from instead, as a window without one. The answer
    to a question is the best span of all its windows, by the sum of its two logits; where questions may have no answer,
    there is none if that of the start is larger in all windows (Devlin et al. 2019, section 4.3).
    """

    task: QuestionAnswering
    is_per_token: bool = False

    def encode(self, items: Sequence[Question], reader: Reader, max_length: int, for_training: bool) -> list[Encoded]:
        """The windows of each question, in order. Of several right answers, the first is learned.

        A question takes half of a window at most; its end is cut. Nothing of a context is.
        """
        self._check(items)
        questions = reader.encode([item.question for item in items])
        contexts = reader.encode_with_offsets([item.context for item in items])
        rows: list[Encoded] = []
        for index, (item, question, (context, spans)) in enumerate(zip(items, questions, contexts, strict=True)):
            kept = question[: max(1, (max_length - 3) // 2)]
            room = max_length - 3 - len(kept)
            answer = _tokens_of(item, spans)
            for first in _windows(len(context), room, self.task.stride):
                window = slice(first, first + room)
                within = _within(answer, first, min(room, len(context) - first))
                if within is None and for_training and not self.task.has_unanswerable:
                    continue
                laid = reader.lay(kept, context[window], max_length)
                base = laid.starts[1]
                placed = np.full((len(laid.inputs), 2), OUTSIDE, dtype=np.int64)
                placed[base : base + laid.kept[1]] = spans[window]
                ends = NO_ANSWER if self.task.has_unanswerable else (NOT_PREDICTED, NOT_PREDICTED)
                if within is not None:
                    ends = base + within[0], base + within[1]
                num_cut = len(question) - len(kept)
                rows.append(Encoded(index, laid.inputs, np.array(ends), laid.types, num_cut, placed))
        if for_training and items and not rows:
            raise ValueError(f"task {self.task.name!r}: no answer lies within a window of {max_length} tokens")
        return rows

    def module(
        self, model: PreTrainedModel, dropout: float, rule: TaskLossRule, class_weights: Tensor | None
    ) -> nn.Module:
        """Logits [n, T, 2]. Positions are no classes: there are no weights of them."""
        return SpanModel(model, dropout, rule)

    def answers(
        self, predict: Predict, encoded: Sequence[Encoded], items: Sequence[Question], whole: Whole, reader: Reader
    ) -> list[str]:
        """The text of each answer; empty where there is none."""
        best: list[tuple[float, str]] = [(-np.inf, "")] * len(items)
        nothing = np.full(len(items), np.inf)
        for row, logits in zip(encoded, predict(encoded), strict=True):
            assert row.spans is not None
            ends = np.asarray(logits, dtype=np.float64)[: len(row.inputs)]
            nothing[row.item] = min(nothing[row.item], ends[0].sum())
            found = best_span(ends, row.spans[:, 0] != OUTSIDE, self.task.max_answer_tokens)
            if found is not None and found[0] > best[row.item][0]:
                score, first, last = found
                text = items[row.item].context[row.spans[first, 0] : row.spans[last, 1]]
                best[row.item] = score, text.strip()
        return [
            "" if self.task.has_unanswerable and none > score else text
            for (score, text), none in zip(best, nothing, strict=True)
        ]

    def measure(self, items: Sequence[Question], answers: Sequence[str], chosen_on: Measured | None = None) -> Measured:
        """Exact match and F1 against each right answer."""
        rights = [[text for text, _ in item.answers] for item in items]
        return measure_answers(answers, rights, self.task.is_by_character)

    def shown(self, item: Question, answer: str) -> Mapping[str, object]:
        """The answer, and all that are right."""
        return {"id": item.id, "answer": answer, "right": [text for text, _ in item.answers]}

    def _check(self, items: Sequence[Question]) -> None:
        if self.task.has_unanswerable:
            return
        without = next((item.id for item in items if not item.answers), None)
        if without is not None:
            raise ValueError(
                f"task.has_unanswerable of {self.task.name!r} must be true where a question has no answer,"
                f" got false and question {without!r}"
            )


class SpanModel(nn.Module):
    """A model that gives the nats of where an answer begins and ends [n, 1], their mean; or the logits [n, T, 2].

    Tokens that fill up a batch are no place to begin or end: their logits are -inf in the loss.
    """

    def __init__(self, model: PreTrainedModel, dropout: float, rule: TaskLossRule) -> None:
        super().__init__()
        self.model = body_of(model)
        self.dropout = nn.Dropout(dropout)
        self.head = new_linear(self.model, 2)
        self.loss = TargetLoss(rule, None)

    def forward(
        self, inputs: Tensor, mask: Tensor | None = None, targets: Tensor | None = None, types: Tensor | None = None
    ) -> Tensor:
        logits: Tensor = self.head(self.dropout(hidden_states(self.model, inputs, mask, types)))
        if targets is None:
            return logits
        places = logits.transpose(1, 2).float()  # [n, 2, T]
        if mask is not None:
            places = places.masked_fill(mask[:, None] == 0, -torch.inf)
        return self.loss(places, targets).mean(1, keepdim=True)


def best_span(
    ends: NDArray[np.float64], is_context: NDArray[np.bool_], max_tokens: int
) -> tuple[float, int, int] | None:
    """The score, first and last token of the best span of a window; None where it holds nothing of the context.

    ends [t, 2]: logits. The best is the largest sum of the two among first <= last < first + max_tokens, both of the
    context; the first such one.
    """
    starts, lasts = np.where(is_context[:, None], ends, -np.inf).T
    best = None
    for further in range(min(max_tokens, len(ends))):
        scores = starts[: len(starts) - further] + lasts[further:]
        first = int(scores.argmax())
        if np.isfinite(scores[first]) and (best is None or (-scores[first], first) < (-best[0], best[1])):
            best = float(scores[first]), first, first + further
    return best


def _windows(num_tokens: int, room: int, stride: int) -> range:
    """Where the windows of a context begin: each of `room` tokens, `stride` of them also in the next."""
    step = max(1, room - min(stride, room // 2))
    return range(0, max(num_tokens - room, 0) + step, step)


def _tokens_of(item: Question, spans: Ids) -> tuple[int, int] | None:
    """The first and last token of the context that have a part in the answer; None where there is no answer."""
    if not item.answers:
        return None
    text, begin = item.answers[0]
    inside = np.flatnonzero((spans[:, 1] > begin) & (spans[:, 0] < begin + len(text)))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


def _within(answer: tuple[int, int] | None, first: int, num_tokens: int) -> tuple[int, int] | None:
    """The ends of the answer within a window; None where it does not lie within it, whole."""
    if answer is None or answer[0] < first or answer[1] >= first + num_tokens:
        return None
    return answer[0] - first, answer[1] - first


def make(task: QuestionAnswering, labels: tuple[str, ...]) -> QuestionAnsweringKind:
    return QuestionAnsweringKind(task)
