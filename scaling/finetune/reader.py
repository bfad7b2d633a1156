"""How a model reads the texts of a task: which tokens, which special ones around them, and what is cut off."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from scaling.data.tokenizer import END_OF_TEXT, UNKNOWN
from scaling.model import ENCODER_DECODERS, Family

Ids = NDArray[np.int64]

ROLES = {"start": ("cls_token", "bos_token", "eos_token"), "end": ("sep_token", "eos_token")}
"""What tokenizer_config.json calls the tokens around a text, the best first."""
SPELLINGS = {
    "start": (END_OF_TEXT, "[CLS]", "<s>", "<|begin_of_text|>"),
    "end": (END_OF_TEXT, "[SEP]", "</s>", "<|end_of_text|>"),
}
"""How they are spelled where no file names them: ours, BERT's, RoBERTa's and Llama's."""
FAMILIES_WITH_TYPES: tuple[Family, ...] = ("bert",)
"""Those that are told which of two texts a token is of."""
SPACE_MARKS = "▁Ġ"
"""How the first token of a word begins where a tokenizer puts a space before it by itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """One text, or two, as the model reads them: start, first, and where there is a second: between, second; end.

    inputs [t]. types [t]: 0 up to the second text, then 1; None for one text, or a model that is not told.
    starts: where the texts begin in `inputs`. kept: how many tokens of each are there. num_cut: how many are not.
    """

    inputs: Ids
    types: Ids | None
    starts: tuple[int, ...]
    kept: tuple[int, ...]
    num_cut: int


@dataclass(frozen=True, slots=True)
class Reader:
    """A tokenizer, and what it puts around a text.

    start, between, end: the ids of special tokens; all the same where a tokenizer has but an end of text. It stood
    before every text and after it in pretraining, too.
    writes_apart: a decoder of its own writes what is asked for, so that what is read and what is written stand apart.
    """

    tokenizer: tokenizers.Tokenizer
    start: int
    between: int
    end: int
    has_types: bool
    writes_apart: bool = False

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The tokens of each text, without special ones; a text that spells those is read as text."""
        return [np.array(found.ids, dtype=np.int64) for found in self._batch(texts)]

    def encode_with_offsets(self, texts: Sequence[str]) -> list[tuple[Ids, Ids]]:
        """The tokens of each text [t], and the characters that they stand for [t, 2]: first, and one after the last."""
        found = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [
            (np.array(one.ids, dtype=np.int64), np.array(one.offsets, dtype=np.int64).reshape(-1, 2)) for one in found
        ]

    def encode_words(self, rows: Sequence[Sequence[str]]) -> list[tuple[Ids, Ids]]:
        """The tokens of each row of words [t], and which of them is the first of each word [words].

        Words are read one by one, with the space that stands before them in a text: none at the beginning, nor at
        letters of a script without spaces. A word of which the tokenizer leaves nothing is an unknown token.
        """
        spelled = rows if self._puts_spaces() else [_with_spaces(words) for words in rows]
        different = sorted({word for words in spelled for word in words})
        tokens = dict(zip(different, (found.ids or [self._nothing()] for found in self._batch(different)), strict=True))
        pieces = [[tokens[word] for word in words] for words in spelled]
        return [
            (
                np.array([token for of_word in of_row for token in of_word], dtype=np.int64),
                np.cumsum([0, *(len(of_word) for of_word in of_row)], dtype=np.int64)[:-1],
            )
            for of_row in pieces
        ]

    def lay(self, first: Ids, second: Ids | None, max_length: int) -> Laid:
        """Tokens of one text, or two, with the special ones, cut to `max_length` tokens: of two, the longer first."""
        if second is None:
            kept = first[: max_length - 2]
            inputs = np.concatenate([[self.start], kept, [self.end]]).astype(np.int64)
            return Laid(inputs, None, (1,), (len(kept),), len(first) - len(kept))
        room = max_length - 3
        of_first = min(len(first), max(room - len(second), (room + 1) // 2))
        of_second = min(len(second), room - of_first)
        inputs = np.concatenate(
            [[self.start], first[:of_first], [self.between], second[:of_second], [self.end]], dtype=np.int64
        )
        types = np.zeros_like(inputs)
        types[of_first + 2 :] = 1
        return Laid(
            inputs,
            types if self.has_types else None,
            (1, of_first + 2),
            (of_first, of_second),
            len(first) + len(second) - of_first - of_second,
        )

    def _batch(self, texts: Sequence[str]) -> list[Any]:
        return self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)

    def _puts_spaces(self) -> bool:
        """Whether a word is read with a space before it though none is there."""
        tokens = self.tokenizer.encode("a", add_special_tokens=False).tokens
        return bool(tokens) and tokens[0][0] in SPACE_MARKS

    def _nothing(self) -> int:
        unknown = self.tokenizer.token_to_id(UNKNOWN)
        return self.between if unknown is None else int(unknown)


def open_reader(folder: Path, family: Family) -> Reader:
    """The reader of a model, from a folder with tokenizer.json, and tokenizer_config.json if that names its tokens.

    ValueError if there is none, or nothing that could stand at the end of a text.
    """
    path = folder / "tokenizer.json"
    if not path.exists():
        raise ValueError(f"{str(folder)!r}: wanted a tokenizer.json, there is none")
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    config = folder / "tokenizer_config.json"
    named: dict[str, Any] = json.loads(config.read_text(encoding="utf-8")) if config.exists() else {}

    def special(place: str) -> int:
        tokens = [named.get(role) for role in ROLES[place]]
        spelled = [token.get("content") if isinstance(token, dict) else token for token in tokens]
        for token in (*spelled, *SPELLINGS[place]):
            if token is not None and (found := tokenizer.token_to_id(token)) is not None:
                return int(found)
        raise ValueError(f"{str(folder)!r}: its tokenizer names no token for the {place} of a text (eos_token)")

    end = special("end")
    return Reader(tokenizer, special("start"), end, end, family in FAMILIES_WITH_TYPES, family in ENCODER_DECODERS)


def _with_spaces(words: Sequence[str]) -> list[str]:
    """Words with the space that stands before them in a text."""
    before = ["", *words]
    return [
        f" {word}" if previous and not (_has_no_spaces(previous[-1]) or _has_no_spaces(word[:1])) else word
        for previous, word in zip(before, words, strict=False)
    ]


def _has_no_spaces(letter: str) -> bool:
    """Whether a letter is of a script that puts no spaces between words: Chinese, Japanese, Thai, and full-width."""
    return any(
        low <= letter <= high
        for low, high in (
            ("\u0e00", "\u0eff"),
            ("\u2e80", "\ua4cf"),
            ("\uf900", "\ufaff"),
            ("\uff00", "\uffef"),
            ("\U00020000", "\U0003ffff"),
        )
    )
