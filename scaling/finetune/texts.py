"""Rows of one text or two, as a model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from scaling.data.tasks.items import LabelledText, ScoredPair
from scaling.finetune.kind import Encoded
from scaling.finetune.reader import Reader


def encode_texts(
    items: Sequence[LabelledText | ScoredPair],
    targets: Sequence[NDArray[Any]],
    reader: Reader,
    max_length: int,
) -> list[Encoded]:
    """One row for each item, with its target [1]."""
    firsts = reader.encode([item.text for item in items])
    paired = [index for index, item in enumerate(items) if item.second is not None]
    seconds = dict(zip(paired, reader.encode([str(items[index].second) for index in paired]), strict=True))
    rows = []
    for index, (first, target) in enumerate(zip(firsts, targets, strict=True)):
        laid = reader.lay(first, seconds.get(index), max_length)
        rows.append(Encoded(index, laid.inputs, target, laid.types, laid.num_cut))
    return rows
