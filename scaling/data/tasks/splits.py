"""Splits that are not given, cut from the training rows; and orders whose every prefix has the labels of the whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scaling.data.ngrams import Hashes
from scaling.data.randomness import draws, key
from scaling.data.tasks.items import AnyItem, LabelledText, SplitName
from scaling.task import Splitting

Indices = NDArray[np.int64]


def stratified_order(strata: Indices, draw: NDArray[np.uint64]) -> Indices:
    """An order [num] in which each prefix holds each stratum within one of its share; draw: the order within one."""
    by_stratum = np.lexsort((draw, strata))
    sizes = np.bincount(strata, minlength=1)
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(strata), dtype=np.int64)
    rank[by_stratum] = np.arange(len(strata)) - starts[strata[by_stratum]]
    return np.lexsort((draw, (rank + 0.5) / sizes[strata]))


def label_of(item: AnyItem) -> int:
    """What rows are balanced by: the label of a text; nothing for other kinds."""
    return item.label if isinstance(item, LabelledText) else 0


def cut(
    items: Sequence[AnyItem],
    groups: Sequence[str | None],
    keys: Hashes,
    splitting: Splitting,
    wanted: Sequence[SplitName],
) -> dict[SplitName, Indices]:
    """Which rows go to each of `wanted` (validation, test), and which stay (`train`), each in the order of the rows.

    Rows of a group, and rows of equal texts, stay together; where a group is taken, the labels of texts have the shares
    of the whole as well as they can. Raises ValueError if a split would be empty.
    """
    units = keys.copy()
    for row, group in enumerate(groups):
        if group is not None:
            units[row] = key("group", group)
    names, first, unit, sizes = np.unique(units, return_index=True, return_inverse=True, return_counts=True)
    strata = np.array([label_of(items[row]) for row in first.tolist()], dtype=np.int64)
    order = stratified_order(strata, draws(key("split", splitting.seed), names))
    ends = np.cumsum(sizes[order])
    fracs: dict[SplitName, float] = {"validation": splitting.validation_frac, "test": splitting.test_frac}
    where = np.zeros(len(names), dtype=np.int64)  # 0: train, then the places in `wanted`
    start = 0
    for place, split in enumerate(wanted, start=1):
        num = max(round(fracs[split] * len(items)), 1)
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + num, side="left")) + 1
        where[order[start:stop]] = place
        start = min(stop, len(order))
    found: dict[SplitName, Indices] = {"train": np.flatnonzero(where[unit] == 0)}
    found |= {split: np.flatnonzero(where[unit] == place) for place, split in enumerate(wanted, start=1)}
    if empty := [split for split, rows in found.items() if not len(rows)]:
        raise ValueError(
            f"task.rows.train holds {len(items)} rows in {len(names)} groups of equal texts: too few to cut"
            f" {' and '.join(wanted)} from, {empty[0]} would be empty"
        )
    return found
