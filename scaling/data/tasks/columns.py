"""Which columns a task reads, and the values in them: text, labels, tags, scores, answers; each checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scaling.data.rows import InputError, kind_of, without_surrogates
from scaling.task import AnyTask

ROLES = {
    "classification": ("text", "second", "label"),
    "similarity": ("text", "second", "score"),
    "tokens": ("tokens", "tags"),
    "qa": ("question", "context", "answers"),
    "generation": ("source", "target"),
}
"""The fields of each kind of task that name a column."""

LABELS = {"classification": "label", "tokens": "tags"}
"""Of these, the one that holds labels."""

HIDDEN = -1
"""What benchmarks have in place of a label that they do not tell."""

RawLabel = int | str

Row = Mapping[str, Any]


def columns_of(task: AnyTask) -> dict[str, str]:
    """The column of each role, and that of `group`, where there is one."""
    named = {role: getattr(task, role) for role in ROLES[task.kind]} | {"group": task.splitting.group}
    return {role: column for role, column in named.items() if column is not None}


def value_in(row: Row, column: str) -> Any:
    """What a column holds; `translation.en` is the field `en` of the column `translation`."""
    if column in row:
        return row[column]
    held: Any = row
    for part in column.split("."):
        if not isinstance(held, Mapping) or part not in held:
            raise InputError(f"has no column {column!r}: its columns are {sorted(row)}")
        held = held[part]
    return held


def text_in(row: Row, column: str) -> str:
    """A text, or a list of sentences or keywords as one; "" if there is none."""
    return exact_text(value_in(row, column), column).strip()


def exact_text(value: Any, column: str) -> str:
    """The same with the white space around it, which places in the text count."""
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(filter(None, (exact_text(part, column) for part in value)))
    if not isinstance(value, str):
        raise InputError(f"column {column!r} holds {kind_of(value)}: wanted text")
    return without_surrogates(value)


def texts_in(row: Row, column: str) -> tuple[str, ...]:
    """One text or several that are all right, without the empty ones."""
    value = value_in(row, column)
    texts = [exact_text(part, column).strip() for part in (value if isinstance(value, list) else [value])]
    return tuple(filter(None, texts))


def label_in(row: Row, column: str) -> RawLabel:
    """A label as it is written: a name or a number."""
    return _as_label(value_in(row, column), column)


def _as_label(value: Any, column: str) -> RawLabel:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():  # what a table makes of whole numbers with gaps
        return int(value)
    if isinstance(value, str) and value.strip():
        label = without_surrogates(value).strip()
        return HIDDEN if label == str(HIDDEN) else label
    held = "nothing" if value == "" else kind_of(value)
    raise InputError(f"column {column!r} holds {held}: wanted a label, a name or a whole number")


def words_in(row: Row, columns: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[RawLabel, ...]]:
    """Words and the label of each, from two lists, or from two texts that white space separates."""
    held = [value_in(row, columns[role]) for role in ("tokens", "tags")]
    words, tags = (value.split() if isinstance(value, str) else value for value in held)
    for values, role in ((words, "tokens"), (tags, "tags")):
        if not isinstance(values, list):
            raise InputError(f"column {columns[role]!r} holds {kind_of(values)}: wanted a list")
    if len(words) != len(tags):
        raise InputError(
            f"has {len(words)} {columns['tokens']} and {len(tags)} {columns['tags']}: wanted a label for each word"
        )
    for word in words:
        if not isinstance(word, str):
            raise InputError(f"column {columns['tokens']!r} holds {kind_of(word)}: wanted a list of texts")
    return tuple(map(without_surrogates, words)), tuple(_as_label(tag, columns["tags"]) for tag in tags)


def score_in(row: Row, column: str) -> float:
    """A finite number, or a text that says one."""
    value = value_in(row, column)
    try:
        score = float(value) if isinstance(value, int | float | str) else math.nan
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InputError(f"column {column!r} holds {value!r}: wanted a number")
    return score


def answers_in(row: Row, column: str) -> tuple[tuple[str, int], ...]:
    """Texts and where each begins, from `{text: [...], answer_start: [...]}` or `[{text, answer_start}, ...]`."""
    value = value_in(row, column)
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
    elif isinstance(value, list) and all(isinstance(answer, Mapping) for answer in value):
        texts = [answer.get("text") for answer in value]
        starts = [answer.get("answer_start") for answer in value]
    else:
        texts = starts = None
    if (
        not (isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts))
        or not all(isinstance(text, str) for text in texts)
        or not all(isinstance(start, int) for start in starts)
    ):
        raise InputError(f"column {column!r} holds {kind_of(value)}: wanted answers, each a text and its answer_start")
    return tuple(zip(map(without_surrogates, texts), starts, strict=True))
