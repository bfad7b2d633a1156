"""Noisy copies of rows (Wei and Zou 2019, "EDA"): words deleted, words swapped, letters misread.

What is right for a row stays right for its copies: labelled words move with their labels, words of entities stay where
they are, and of a question or a source the answer is left alone.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from scaling.data.degraders.ocr_noise import OcrNoise
from scaling.data.degraders.shuffle_words import WORD
from scaling.data.randomness import key, permutation
from scaling.data.tasks.items import Item, LabelledText, LabelledTokens, Question, ScoredPair
from scaling.method import Augmentation

SPACES = re.compile(r"(?<=\s)\s+")


def augmented(item: Item, id: str, how: Augmentation, of: np.uint64, outside: int | None) -> Item:
    """A noisy copy of a row; every draw comes from the key `of`. outside: the label of words of no entity."""
    if isinstance(item, LabelledText):
        second = item.second if item.second is None else noisy(item.second, how, key("second", int(of)))
        return replace(item, id=id, text=noisy(item.text, how, of), second=second)
    if isinstance(item, ScoredPair):
        second = noisy(item.second, how, key("second", int(of)))
        return replace(item, id=id, text=noisy(item.text, how, of), second=second)
    if isinstance(item, Question):
        return replace(item, id=id, question=noisy(item.question, how, of))
    if isinstance(item, LabelledTokens):
        return _noisy_words(item, id, how, of, outside)
    return replace(item, id=id, source=noisy(item.source, how, of))


def noisy(text: str, how: Augmentation, of: np.uint64) -> str:
    """A text with `how.frac` of its words deleted or swapped, one at least, or of its letters misread; never empty."""
    if how.kind == "noise":
        harmed = _misread(text, how, of)
    else:
        pieces = WORD.split(text)  # between, word, between, ..., between
        words = changed(pieces[1::2], how, of, range(len(pieces) // 2))
        pieces[1::2] = ["" if word is None else word for word in words]
        harmed = SPACES.sub("", "".join(pieces)).strip()
    return harmed if harmed.strip() else text


def changed(words: list[str], how: Augmentation, of: np.uint64, free: range | list[int]) -> list[str | None]:
    """Words, those at `free` places deleted (None) or swapped with each other; a word is always left."""
    order = [free[place] for place in permutation(of, len(free)).tolist()]
    num = max(round(how.frac * len(free)), 1)
    found: list[str | None] = [*words]
    if how.kind == "delete":
        for place in order[: min(num, len(words) - 1)]:
            found[place] = None
        return found
    for one, other in zip(order[0 : 2 * num : 2], order[1 : 2 * num : 2], strict=False):
        found[one], found[other] = found[other], found[one]
    return found


def _misread(text: str, how: Augmentation, of: np.uint64) -> str:
    return OcrNoise(document_frac=1.0, char_rate=how.frac).harm(text, of)


def _noisy_words(
    item: LabelledTokens, id: str, how: Augmentation, of: np.uint64, outside: int | None
) -> LabelledTokens:
    words = list(item.tokens)
    if how.kind == "noise":
        read = [_misread(word, how, key("word", int(of), place)).strip() for place, word in enumerate(words)]
        return replace(item, id=id, tokens=tuple(new or old for new, old in zip(read, words, strict=True)))
    free = [place for place, tag in enumerate(item.tags) if outside in (None, tag)]
    places = changed([str(place) for place in range(len(words))], how, of, free)
    kept = [int(place) for place in places if place is not None]
    return replace(
        item, id=id, tokens=tuple(words[place] for place in kept), tags=tuple(item.tags[place] for place in kept)
    )
