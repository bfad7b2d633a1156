"""Word n-grams of texts as 64-bit hashes: what near-deduplication and decontamination compare.

A word is a run of letters, digits and combining marks; everything else separates words. A character of a script
written without spaces (Han, Kana, Thai, Lao, Khmer, Burmese) is a word of its own. Case, full-width forms and
ligatures are folded character by character, so texts that differ in case, punctuation or spaces alone have the
same words.

A word's hash is a polynomial in its characters, an n-gram's a polynomial in the hashes of its words (Karp and
Rabin 1987), both mod 2^64 with an odd multiplier and through the finaliser of splitmix64; all in numpy, no loop
over words. The numbers are the same on every platform and numpy version; characters that a newer Unicode adds
are words only where Python knows them.
"""

from __future__ import annotations

import functools
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.data.randomness import GOLDEN, mix

Hashes = NDArray[np.uint64]

CHARACTER_MULTIPLIER = np.uint64(0xD1342543DE82EF95)  # both 5 mod 8: full period mod 2^64
WORD_MULTIPLIER = np.uint64(0xAF251AF3B0F025B5)
CHUNK_CHARACTERS = 1 << 16
"""Texts are hashed together up to this size. Measured on one core: 2^14 to 2^18 are within 15 % of each other at
60 to 110 MB/s (English and Chinese), 2^20 gives half of that, texts one by one 10 to 60 MB/s."""

SEPARATOR, LETTER, SOLO = 0, 1, 2

SOLO_RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # Han radicals
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3031, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9D),  # half-width Katakana
    (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),  # Han, extensions
)
"""Characters of scripts written without spaces."""


@dataclass(frozen=True, slots=True)
class Characters:
    """What each of the 0x110000 code points is: SEPARATOR, LETTER or SOLO, and the value that stands for it."""

    kinds: NDArray[np.uint8]
    values: Hashes


@functools.cache
def _characters() -> Characters:
    """The table of characters, made once per process (about 0.15 s)."""
    num = sys.maxunicode + 1
    kinds = np.zeros(num, dtype=np.uint8)
    folded = np.arange(num, dtype=np.uint64)
    for code in range(0x20000):
        character = chr(code)
        if character.isalnum() or unicodedata.category(character).startswith("M"):
            kinds[code] = LETTER
            fold = unicodedata.normalize("NFKC", character).casefold()
            folded[code] = ord(fold) if len(fold) == 1 else code
    for first, last in SOLO_RANGES:
        known = (kinds[first : last + 1] == LETTER) | (first >= 0x20000)
        kinds[first : last + 1][known] = SOLO
    with np.errstate(over="ignore"):
        return Characters(kinds, mix((folded + np.uint64(1)) * GOLDEN))


@functools.cache
def _powers(multiplier: np.uint64, num: int) -> Hashes:
    """multiplier ** 0, 1, ..., num - 1, mod 2^64."""
    with np.errstate(over="ignore"):
        factors = np.full(num, multiplier, dtype=np.uint64)
        factors[:1] = 1
        return np.cumprod(factors, dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of some texts, one after another: hashes [num_words]; those of text i are offsets[i]:offsets[i + 1]."""

    hashes: Hashes
    offsets: NDArray[np.int64]

    def ngrams(self, n: int) -> tuple[Hashes, NDArray[np.int64]]:
        """Hashes of the n-grams of every text, one after another, and their offsets [num_texts + 1].

        A text of w words has w - n + 1 of them; if 0 < w < n it has one, of all its words; without words, none.
        """
        assert n >= 1
        sizes = np.diff(self.offsets)
        counts = np.where(sizes > 0, np.maximum(sizes - n + 1, 1), 0)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        first = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1] - offsets[:-1], counts)
        sums = self._sums(n)[first]
        short = np.flatnonzero((sizes > 0) & (sizes < n))
        sums[offsets[short]] = self._whole(short)
        return mix(sums), offsets

    def ngrams_at(self, first: NDArray[np.int64], n: int) -> Hashes:
        """Hashes of the n-grams that begin with the words `first` [k]; each must end within its text."""
        with np.errstate(over="ignore"):
            words = self.hashes[first[:, None] + np.arange(n)]
            return mix((words * _powers(WORD_MULTIPLIER, n)).sum(axis=1, dtype=np.uint64))

    def of_texts(self) -> Hashes:
        """One hash per text, of all its words in order [num_texts]; 0 for a text without words."""
        filled = np.flatnonzero(np.diff(self.offsets) > 0)
        found = np.zeros(len(self.offsets) - 1, dtype=np.uint64)
        found[filled] = mix(self._whole(filled))
        return found

    def _sums(self, n: int) -> Hashes:
        """sum_{k < n} hashes[i + k] * M ** k for each word i, across the borders of texts."""
        padded = np.concatenate([self.hashes, np.zeros(n - 1, dtype=np.uint64)])
        sums = np.zeros(len(self.hashes), dtype=np.uint64)
        with np.errstate(over="ignore"):
            for k in reversed(range(n)):  # Horner
                sums *= WORD_MULTIPLIER
                sums += padded[k : k + len(sums)]
        return sums

    def _whole(self, texts: NDArray[np.int64]) -> Hashes:
        """sum_k hashes[k] * M ** k over all words of each of `texts`, none of which is empty."""
        if not len(texts):
            return np.empty(0, dtype=np.uint64)
        sizes = np.diff(self.offsets)[texts]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        places = np.arange(sizes.sum()) - np.repeat(starts, sizes)
        words = self.hashes[places + np.repeat(self.offsets[texts], sizes)]
        with np.errstate(over="ignore"):
            return np.add.reduceat(words * _powers(WORD_MULTIPLIER, int(sizes.max()))[places], starts)


def words_of(texts: Sequence[str]) -> Words:
    """The words of `texts`, hashed all at once: takes about 40 bytes of memory per character."""
    joined = "\n".join(texts)
    # `take` with native integers is 3 times as fast as indexing with the narrow ones
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.intp)
    ends = np.cumsum([len(text) + 1 for text in texts], dtype=np.int64)  # where the text after it starts
    characters = _characters()
    kinds = characters.kinds.take(codes)
    places = np.flatnonzero(kinds != SEPARATOR)
    if not len(places):
        return Words(np.empty(0, dtype=np.uint64), np.zeros(len(texts) + 1, dtype=np.int64))
    solo = kinds.take(places) == SOLO
    begins = np.empty(len(places), dtype=np.bool_)
    begins[0] = True
    begins[1:] = (np.diff(places) > 1) | solo[1:] | solo[:-1]
    starts = np.flatnonzero(begins)
    offsets = np.concatenate([[0], np.searchsorted(places.take(starts), ends)])
    return Words(_word_hashes(characters.values.take(codes.take(places)), starts), offsets)


def _word_hashes(values: Hashes, starts: NDArray[np.int64]) -> Hashes:
    """One hash per word from the values of its characters; a word goes from its start to the next."""
    sizes = np.diff(starts, append=len(values))
    places = np.arange(len(values)) - np.repeat(starts, sizes)
    powers = _powers(CHARACTER_MULTIPLIER, 4096)  # and again from the start in "words" longer than that
    with np.errstate(over="ignore"):
        sums = np.cumsum(values * powers.take(places, mode="wrap"), dtype=np.uint64)[starts + sizes - 1]
        sums[1:] -= sums[:-1].copy()  # twice as fast as np.add.reduceat
        return mix(sums)


def ngrams(text: str, n: int) -> Hashes:
    """Hashes of the n-grams of one text, in order [num_words - n + 1]; see `Words.ngrams` for shorter texts."""
    return words_of([text]).ngrams(n)[0]


def chunks(texts: Sequence[str]) -> Iterator[slice]:
    """Consecutive slices of `texts` of about CHUNK_CHARACTERS each, none empty."""
    start, characters = 0, 0
    for i, text in enumerate(texts):
        characters += len(text) + 1
        if characters >= CHUNK_CHARACTERS or i == len(texts) - 1:
            yield slice(start, i + 1)
            start, characters = i + 1, 0
