"""Texts that splits share, and equal texts with different labels.

Equal means equal words (`scaling.data.ngrams`): case, punctuation, spaces and full-width forms do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.ngrams import WORD_MULTIPLIER, Hashes, chunks, words_of
from scaling.data.randomness import key, mix
from scaling.data.tasks.items import AnyItem, LabelledText, LabelledTokens, Question, ScoredPair, SplitName


def text_keys(items: Sequence[AnyItem]) -> Hashes:
    """One number per item [num_items]; equal for equal texts. Of pairs both texts count, of questions the context."""
    first = _hashes([_text(item) for item in items])
    if not items or not isinstance(items[0], LabelledText | ScoredPair):
        return first
    second = [item.second if isinstance(item, LabelledText | ScoredPair) else None for item in items]
    if all(text is None for text in second):
        return first
    with np.errstate(over="ignore"):
        return mix(first * WORD_MULTIPLIER + _hashes([text or "" for text in second]))


def _text(item: AnyItem) -> str:
    if isinstance(item, LabelledText | ScoredPair):
        return item.text
    if isinstance(item, LabelledTokens):
        return " ".join(item.tokens)
    return item.context if isinstance(item, Question) else item.source


def _hashes(texts: Sequence[str]) -> Hashes:
    parts = [words_of(texts[chunk]).of_texts() for chunk in chunks(texts)]
    found = np.concatenate([np.empty(0, dtype=np.uint64), *parts])
    for place in np.flatnonzero(found == 0).tolist():  # "!!!" has no words
        found[place] = key("text", texts[place].strip())
    return found


def overlaps(keys: Mapping[SplitName, Hashes]) -> dict[str, dict[str, int]]:
    """Per pair of splits, the rows of each whose text is in the other."""
    return {
        f"{one}/{other}": {
            one: int(np.isin(keys[one], keys[other]).sum()),
            other: int(np.isin(keys[other], keys[one]).sum()),
        }
        for one, other in combinations(keys, 2)
    }


def is_held_out(keys: Mapping[SplitName, Hashes]) -> NDArray[np.bool_]:
    """Of training rows, which have a text of validation or test [num_train]."""
    return np.isin(keys["train"], np.concatenate([keys["validation"], keys["test"]]))


def conflicts(keys: Mapping[SplitName, Hashes], splits: Mapping[SplitName, Sequence[AnyItem]]) -> dict[str, int] | None:
    """How many texts have more than one label: within each split, and over all; None where there are no labels."""
    answers = {name: _answers(items) for name, items in splits.items()}
    if any(held is None for held in answers.values()):
        return None
    held = {name: _pairs(keys[name], labels) for name, labels in answers.items() if labels is not None}
    return {**{name: _num_twice(pairs) for name, pairs in held.items()}, "all": _num_twice(np.vstack([*held.values()]))}


def _answers(items: Sequence[AnyItem]) -> list[Any] | None:
    if all(isinstance(item, LabelledText) for item in items):
        return [item.label for item in items if isinstance(item, LabelledText)]
    if all(isinstance(item, LabelledTokens) for item in items):
        return [item.tags for item in items if isinstance(item, LabelledTokens)]
    return None


def _pairs(keys: Hashes, answers: Sequence[Any]) -> Hashes:
    """Distinct texts with a label each [num, 2]."""
    labels = np.array([hash(answer) & 0x7FFFFFFFFFFFFFFF for answer in answers], dtype=np.uint64)
    return np.unique(np.column_stack([keys, labels]), axis=0)


def _num_twice(pairs: Hashes) -> int:
    return int((np.unique(np.unique(pairs, axis=0)[:, 0], return_counts=True)[1] > 1).sum())
