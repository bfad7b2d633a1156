"""How long the rows of a task are, from some of them, before anything is encoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

from scaling.data.tasks.items import LabelledTokens, Question, SourceTarget, TaskData

MOST_ROWS = 256
"""That are looked at: evenly spaced, so that files which are sorted by label or origin are seen whole."""
NUM_SPECIAL = 2
"""Tokens around a text; before a second one stands a third."""

Count = Callable[[Sequence[str]], list[int]]
"""How many tokens each of some texts is."""


def mean_tokens(data: TaskData[Any], max_length: int, count: Count) -> float:
    """The mean length of a training row, cut to `max_length` tokens."""
    rows = data.train[:: -(-len(data.train) // MOST_ROWS)]
    texts = [texts_of(row) for row in rows]
    lengths = iter(count([text for of_row in texts for text in of_row]))
    whole = [sum(next(lengths) for _ in of_row) + len(of_row) - 1 + NUM_SPECIAL for of_row in texts]
    return mean(min(length, max_length) for length in whole)


def texts_of(item: Any) -> tuple[str, ...]:
    """What a model reads of an item, and is to write."""
    if isinstance(item, LabelledTokens):
        return (" ".join(item.tokens),)
    if isinstance(item, Question):
        return item.question, item.context
    if isinstance(item, SourceTarget):
        return item.source, item.targets[0]
    return (item.text,) if item.second is None else (item.text, item.second)
