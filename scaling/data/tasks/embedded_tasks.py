"""Tasks for the demo, from what the Python installation holds; both have rows that nobody labelled by hand.

library: which library a paragraph of a docstring belongs to. Rows of a module are one group.
python_tokens: the kind of each token in pieces of source code, as `tokenize` tells them apart.
"""

from __future__ import annotations

import io
import keyword
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

from scaling.data import embedded
from scaling.data.ngrams import words_of
from scaling.data.rows import InputError
from scaling.data.tasks.columns import Row
from scaling.identity import digest

Task = Literal["library", "python_tokens"]

EMBEDDED_TASKS_VERSION = 1
"""Raised when a change of this file changes the rows."""

LIBRARIES = ("python", "torch", "transformers", "sympy", "scipy", "pandas", "networkx", "wandb", "deepspeed")
"""Of the embedded text, those with thirty modules or more."""

KINDS = ("NAME", "KEYWORD", "OP", "NUMBER", "STRING")

MAX_ROWS = 20_000
MAX_ROWS_OF_LIBRARY = 1200
MAX_PARAGRAPHS = 8
"""Of a module."""
MIN_WORDS, MAX_CHARACTERS = 12, 400
"""Of a paragraph."""
MIN_TOKENS, MAX_TOKENS, MAX_WORD = 16, 48, 40
"""Of a piece of code, and the characters of one token."""

TEXT_OF: dict[Task, Literal["docs", "code"]] = {"library": "docs", "python_tokens": "code"}


def fingerprint(part: Task) -> str:
    """64 hex digits over the files that the rows are drawn from, and how."""
    of_text = [LIBRARIES, MAX_ROWS_OF_LIBRARY, MAX_PARAGRAPHS, MIN_WORDS, MAX_CHARACTERS]
    of_code = [KINDS, MIN_TOKENS, MAX_TOKENS, MAX_WORD]
    how = [MAX_ROWS, of_text if part == "library" else of_code]
    held = {"version": EMBEDDED_TASKS_VERSION, "part": part, "how": how}
    return digest({**held, "text": embedded.fingerprint(TEXT_OF[part])})


def label_names(part: Task, columns: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The labels by column; none where a task has no such column, which `rows` refuses."""
    role, names = ("label", LIBRARIES) if part == "library" else ("tags", KINDS)
    return {columns[role]: names} if role in columns else {}


def rows(part: Task, columns: Mapping[str, str]) -> Iterator[tuple[str, Row]]:
    """The rows in a fixed order, each with the module that it is of, which is its `module`, too."""
    wanted, found = {"library": ("label", _paragraphs), "python_tokens": ("tags", _pieces)}[part]
    if wanted not in columns:
        raise InputError(f"part={part!r} goes with a task that has {wanted!r}, this one has {sorted(columns)}")
    for _, (module, row) in zip(range(MAX_ROWS), found(), strict=False):
        yield module, {"module": module, **{columns[role]: value for role, value in row.items() if role in columns}}


def _paragraphs() -> Iterator[tuple[str, Row]]:
    taken: Counter[str] = Counter()
    for module, text in embedded.texts("docs"):
        library = module.split("/")[0]
        if library not in LIBRARIES:
            continue
        paragraphs = [" ".join(paragraph.split())[:MAX_CHARACTERS] for paragraph in text.split("\n\n")]
        long = [paragraph for paragraph in paragraphs if len(words_of([paragraph]).hashes) >= MIN_WORDS]
        for paragraph in long[:MAX_PARAGRAPHS]:
            if taken[library] < MAX_ROWS_OF_LIBRARY:
                taken[library] += 1
                yield module, {"text": paragraph, "label": LIBRARIES.index(library)}


def _pieces() -> Iterator[tuple[str, Row]]:
    for module, text in embedded.texts("code"):
        words: list[str] = []
        kinds: list[str] = []
        for word, kind in _tokens(text):
            if kind == "end":
                if len(words) >= MIN_TOKENS:
                    yield module, {"tokens": words[:MAX_TOKENS], "tags": kinds[:MAX_TOKENS]}
                    words, kinds = [], []
            else:
                words.append(word)
                kinds.append(kind)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """The tokens of a source and their kinds, "end" at the end of each line of code; what is no Python ends it."""
    names = {tokenize.NAME: "NAME", tokenize.OP: "OP", tokenize.NUMBER: "NUMBER", tokenize.STRING: "STRING"}
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NEWLINE:
                yield "", "end"
            elif token.type in names and not any(map(str.isspace, token.string)) and len(token.string) <= MAX_WORD:
                yield token.string, "KEYWORD" if keyword.iskeyword(token.string) else names[token.type]
    except (tokenize.TokenError, SyntaxError):
        return
