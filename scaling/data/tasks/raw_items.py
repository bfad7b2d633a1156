"""Rows of a table as items of a task: checked, and left out, with the reason, where they hold nothing to learn or
measure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from scaling.data.rows import InputError
from scaling.data.tasks.columns import (
    HIDDEN,
    LABELS,
    Row,
    answers_in,
    columns_of,
    exact_text,
    label_in,
    score_in,
    text_in,
    texts_in,
    value_in,
    words_in,
)
from scaling.data.tasks.items import (
    AnyItem,
    LabelledText,
    LabelledTokens,
    Question,
    ScoredPair,
    SourceTarget,
    SplitName,
)
from scaling.data.tasks.labels import Labels, labels_of
from scaling.data.tasks.tables import read_table
from scaling.task import AnyTask

NO_TEXT, NO_LABEL, NO_TARGET, NO_ANSWER = "no_text", "no_label", "no_target", "answer_not_in_context"
"""Why a row is left out."""

HIDING = {NO_LABEL, NO_TARGET}
"""Reasons that, where they hold of every row, mean that a benchmark does not tell the answers of a split."""

NO_LABELS = Labels((), None, is_by_name=True)


@dataclass(frozen=True, slots=True)
class RawSplit:
    """What a table gives. groups: of each item, what must stay together, None where nothing must; left_out: rows by
    reason; moved: answers that stood elsewhere in their context."""

    items: tuple[AnyItem, ...]
    groups: tuple[str | None, ...]
    left_out: Mapping[str, int]
    moved: int


def labels_in(task: AnyTask) -> Labels:
    """The labels of a task, by all that its training rows hold."""
    role = LABELS.get(task.kind)
    if role is None:
        return NO_LABELS
    named = getattr(task, "labels")  # noqa: B009 - of the two kinds that have them
    assert not isinstance(named, str), "a file of names is read before"
    columns = columns_of(task)
    table = read_table(task.rows, "train", columns)
    seen: dict[int | str, None] = {}
    for place, row in table.rows:
        try:
            labels = words_in(row, columns)[1] if role == "tags" else (label_in(row, columns[role]),)
        except InputError as error:
            raise InputError(f"{place} {error}") from None
        seen.update(dict.fromkeys(labels))
    if not seen:
        raise InputError("holds no rows")
    return labels_of(named, table.label_names.get(columns[role]), seen)


def read_split(task: AnyTask, split: SplitName, labels: Labels) -> RawSplit:
    """The items of a split that is given. Raises InputError with the place of the row."""
    columns = columns_of(task)
    items: list[AnyItem] = []
    groups: list[str | None] = []
    left_out: Counter[str] = Counter()
    moved = number = 0
    for number, (place, row) in enumerate(read_table(task.rows, split, columns).rows, start=1):
        try:
            read = READERS[task.kind](f"{split}-{number}", row, columns, labels)
            if isinstance(read, Question):
                read, num_moved = in_context(read)
                moved += num_moved
            if isinstance(read, str):
                left_out[read] += 1
                continue
            items.append(read)
            groups.append(str(value_in(row, columns["group"])) if "group" in columns else None)
        except InputError as error:
            raise InputError(f"{place} {error}") from None
    if not number:
        raise InputError("holds no rows")
    no_answers = task.kind == "qa" and not any(item.answers for item in items if isinstance(item, Question))
    if (items and no_answers) or (not items and len(left_out) == 1 and HIDING & left_out.keys()):
        raise InputError(
            f"holds {number} rows and tells the answer of none (labels of {HIDDEN}, or nothing): wanted a split with"
            f" answers, or null, which cuts one from train"
        )
    if not items:
        raise InputError(f"holds {number} rows, none of them with a text and an answer: {dict(left_out)}")
    if task.kind == "similarity" and split != "train" and all(item.score == HIDDEN for item in _pairs(items)):
        raise InputError(
            f"holds scores of {HIDDEN} alone: wanted a split with scores, or null, which cuts one from train"
        )
    return RawSplit(tuple(items), tuple(groups), dict(left_out), moved)


def _pairs(items: list[AnyItem]) -> Iterator[ScoredPair]:
    return (item for item in items if isinstance(item, ScoredPair))


# ---- one reader per kind: an item, or why there is none --------------------------------------------


def _labelled_text(id: str, row: Row, columns: Mapping[str, str], labels: Labels) -> LabelledText | str:
    text = text_in(row, columns["text"])
    second = text_in(row, columns["second"]) if "second" in columns else None
    label = label_in(row, columns["label"])
    if labels.hides(label):
        return NO_LABEL
    index = labels.index(label)
    return NO_TEXT if not text or second == "" else LabelledText(id, text, second, index)


def _scored_pair(id: str, row: Row, columns: Mapping[str, str], labels: Labels) -> ScoredPair | str:
    text, second = text_in(row, columns["text"]), text_in(row, columns["second"])
    score = score_in(row, columns["score"])
    return ScoredPair(id, text, second, score) if text and second else NO_TEXT


def _labelled_tokens(id: str, row: Row, columns: Mapping[str, str], labels: Labels) -> LabelledTokens | str:
    words, tags = words_in(row, columns)
    if not words:
        return NO_TEXT
    if all(labels.hides(tag) for tag in tags):
        return NO_LABEL
    return LabelledTokens(id, words, tuple(map(labels.index, tags)))


def _question(id: str, row: Row, columns: Mapping[str, str], labels: Labels) -> Question | str:
    given = row.get("id")
    question = text_in(row, columns["question"])
    context = exact_text(value_in(row, columns["context"]), columns["context"])
    answers = answers_in(row, columns["answers"])
    if not question or not context.strip():
        return NO_TEXT
    return Question(given if isinstance(given, str) and given else id, question, context, answers)


def _source_target(id: str, row: Row, columns: Mapping[str, str], labels: Labels) -> SourceTarget | str:
    source, targets = text_in(row, columns["source"]), texts_in(row, columns["target"])
    if not source:
        return NO_TEXT
    return SourceTarget(id, source, targets) if targets else NO_TARGET


READERS: dict[str, Callable[[str, Row, Mapping[str, str], Labels], AnyItem | str]] = {
    "classification": _labelled_text,
    "similarity": _scored_pair,
    "tokens": _labelled_tokens,
    "qa": _question,
    "generation": _source_target,
}


def in_context(item: Question) -> tuple[Question | str, int]:
    """The question with each answer where it stands in the context, and how many stood elsewhere.

    An answer that is not at its place is looked for, the nearest one taken; one that is nowhere is left out; the
    reason in place of the question if that leaves no answer of those that there were.
    """
    found: list[tuple[str, int]] = []
    moved = 0
    for text, start in item.answers:
        if text and start >= 0 and item.context.startswith(text, start):
            found.append((text, start))
        elif text and text in item.context:
            places = _places(item.context, text)
            found.append((text, min(places, key=lambda place: abs(place - start))))
            moved += 1
    if item.answers and not found:
        return NO_ANSWER, 0
    return Question(item.id, item.question, item.context, tuple(found)), moved


def _places(text: str, part: str) -> list[int]:
    places, place = [], text.find(part)
    while place >= 0:
        places.append(place)
        place = text.find(part, place + 1)
    return places
