"""The rows of a task, read and checked; one class per kind of task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text, or two that belong together, and the index of its label."""

    id: str
    text: str
    second: str | None
    label: int


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Two texts and how alike they are."""

    id: str
    text: str
    second: str
    score: float


@dataclass(frozen=True, slots=True)
class LabelledTokens:
    """Words and the index of the label of each."""

    id: str
    tokens: tuple[str, ...]
    tags: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """answers: texts that are all right, and where each begins in the context, in characters; none: unanswerable."""

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class SourceTarget:
    """targets: texts that are all right; the first is learned."""

    id: str
    source: str
    targets: tuple[str, ...]


AnyItem = LabelledText | ScoredPair | LabelledTokens | Question | SourceTarget
Item = TypeVar("Item", LabelledText, ScoredPair, LabelledTokens, Question, SourceTarget)


@dataclass(frozen=True, slots=True)
class TaskData(Generic[Item]):
    """All that a task holds.

    labels: names, by index; none where the kind has no labels.
    facts: what was counted and left out, for the record, as JSON: rows and labels of each split, overlaps, rows that
    were dropped and why.
    """

    train: tuple[Item, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]
    labels: tuple[str, ...]
    facts: Mapping[str, Any]
