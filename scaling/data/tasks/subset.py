"""The rows that a run trains on: a nested, stratified subset of them all, balanced and augmented as its method says."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from scaling.data.randomness import draws, key
from scaling.data.tasks.augment import augmented
from scaling.data.tasks.items import AnyItem, Item, LabelledText, LabelledTokens, TaskData
from scaling.data.tasks.read import label_counts
from scaling.data.tasks.splits import Indices, label_of, stratified_order
from scaling.method import Method


def training_rows(
    data: TaskData[Item], num_examples: int | None, seed: int, method: Method
) -> tuple[tuple[Item, ...], dict[str, Any]]:
    """The rows of one run, a pure function of its arguments; and what they are, counted, for the record.

    First a subset: of one seed a smaller one is a prefix of a larger one, has the shares of the labels of the whole,
    and holds every label once it has as many rows as there are labels. Then what `method.sampling` makes of it, then
    the copies of `method.augmentation`, each behind its row. Raises ValueError for a subset that cannot be.
    """
    subset = _subset(data, num_examples, seed)
    items = _balanced(subset, method)
    facts = _facts(data, subset, items, method)
    if method.augmentation is None:
        return items, facts
    seen: Counter[str] = Counter()
    found: list[Item] = []
    outside = data.labels.index("O") if "O" in data.labels else None
    for item in items:
        found.append(item)
        for _ in range(method.augmentation.copies):
            number = seen[item.id] = seen[item.id] + 1  # a repeated row has copies of its own
            of = key("augment", seed, method.augmentation.kind, item.id, number)
            found.append(augmented(item, f"{item.id}~{number}", method.augmentation, of, outside))
    return tuple(found), facts


def training_facts(data: TaskData[Any], num_examples: int | None, seed: int, method: Method) -> dict[str, Any]:
    """The count of `training_rows`, before any of them is copied."""
    subset = _subset(data, num_examples, seed)
    return _facts(data, subset, _balanced(subset, method), method)


def _facts(data: TaskData[Any], subset: Sequence[Any], items: Sequence[Any], method: Method) -> dict[str, Any]:
    """Of the rows that were taken, and of what sampling made of them."""
    copies = 0 if method.augmentation is None else method.augmentation.copies
    counts = label_counts(subset, data.labels)
    return {
        "num_examples": len(subset),
        "num_rows": len(items) * (1 + copies),
        "num_augmented": len(items) * copies,
        "labels": counts,
        "labels_after_sampling": label_counts(items, data.labels),
        "labels_without_rows": [name for name, num in counts.items() if not num],
    }


def _subset(data: TaskData[Item], num_examples: int | None, seed: int) -> tuple[Item, ...]:
    rows = data.train
    num = len(rows) if num_examples is None else num_examples
    if not 1 <= num <= len(rows):
        raise ValueError(f"num_examples must be from 1 to {len(rows)}, the training rows that there are, got {num}")
    found = tuple(rows[place] for place in subset_order(rows, seed)[:num].tolist())
    present = {label for item in found for label in _labels_of(item)}
    if len(present) == 1:
        (only,) = present
        least = len({label for item in rows for label in _labels_of(item)})
        raise ValueError(
            f"num_examples={num} gives rows of the label {data.labels[only]!r} alone: wanted at least 2, and {least}"
            " for a row of each label"
        )
    return found


def subset_order(items: Sequence[AnyItem], seed: int) -> Indices:
    """The order in which rows are taken [num_items]: those that show all labels first, then in shares of the whole."""
    strata = np.array([label_of(item) for item in items], dtype=np.int64)
    order = stratified_order(strata, draws(key("subset", seed), np.arange(len(items), dtype=np.uint64)))
    labels = [_labels_of(items[place]) for place in order.tolist()]
    frequent = Counter(label for held in labels for label in held)
    first: dict[int, int] = {}
    for at, held in enumerate(labels):
        for label in held:
            first.setdefault(label, at)
    shown: set[int] = set()
    chosen: set[int] = set()
    for label, _ in reversed(frequent.most_common()):  # a row with a rare label often shows a frequent one, too
        if label not in shown:
            chosen.add(first[label])
            shown |= labels[first[label]]
    is_chosen = np.zeros(len(items), dtype=np.bool_)
    is_chosen[sorted(chosen)] = True
    return np.concatenate([order[is_chosen], order[~is_chosen]])


def _labels_of(item: AnyItem) -> frozenset[int]:
    if isinstance(item, LabelledText):
        return frozenset((item.label,))
    return frozenset(item.tags) if isinstance(item, LabelledTokens) else frozenset()


def _balanced(items: tuple[Item, ...], method: Method) -> tuple[Item, ...]:
    """As many rows of each label that has any: rare ones repeated, one after the other, or frequent ones left out."""
    if method.sampling == "as_is":
        return items
    rows: defaultdict[int, list[Item]] = defaultdict(list)
    for item in items:
        if not isinstance(item, LabelledText):
            raise ValueError(f"method.sampling={method.sampling} needs a label for each row: wanted a classification")
        rows[item.label].append(item)
    sizes = [len(held) for held in rows.values()]
    num = max(sizes) if method.sampling == "over" else min(sizes)
    balanced = [held[place % len(held)] for _, held in sorted(rows.items()) for place in range(num)]
    return tuple(balanced)
