"""How long rows are, before anything is encoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scaling.data.tasks.items import LabelledText, LabelledTokens, Question, SourceTarget, TaskData
from scaling.data.tasks.lengths import MOST_ROWS, mean_tokens


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def data(*items: Any) -> TaskData[Any]:
    return TaskData(items, (), (), (), {})


def test_special_tokens_count_and_long_rows_are_cut() -> None:
    short, pair = LabelledText("a", "one two", None, 0), LabelledText("b", "one two", "three", 0)
    assert mean_tokens(data(short), 64, words) == 2 + 2
    assert mean_tokens(data(pair), 64, words) == 3 + 3
    assert mean_tokens(data(short, LabelledText("c", "x " * 100, None, 1)), 16, words) == (4 + 16) / 2


def test_every_kind_of_task_has_its_texts() -> None:
    assert mean_tokens(data(LabelledTokens("a", ("one", "two"), (0, 0))), 64, words) == 4
    assert mean_tokens(data(Question("a", "who now", "one two three", ())), 64, words) == 8
    assert mean_tokens(data(SourceTarget("a", "one two", ("three", "never read"))), 64, words) == 6


def test_of_a_long_task_rows_from_everywhere_are_looked_at() -> None:
    rows = [LabelledText(str(i), "x " * (10 if i < 5 * MOST_ROWS else 20), None, 0) for i in range(10 * MOST_ROWS)]
    looked_at: list[int] = []

    def count(texts: Sequence[str]) -> list[int]:
        looked_at.append(len(texts))
        return words(texts)

    assert mean_tokens(data(*rows), 64, count) == 15 + 2
    mean_tokens(data(*rows[: MOST_ROWS + 1]), 64, count)
    assert max(looked_at) <= MOST_ROWS
