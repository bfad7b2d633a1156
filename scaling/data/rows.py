"""One row of a table as a Document: which column is what, and what a column may hold."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scaling.document import Document
from scaling.source import Hub, Local

MAX_DOCUMENT_BYTES = 1 << 30
"""Longer is no document but a file without line breaks, or an attack on the memory."""

ID_DIGITS = 16
"""Of the SHA-256 of a text: its id where no column has one."""

SURROGATES = re.compile("[\ud800-\udfff]")
KINDS = {
    str: "text",
    bytes: "bytes",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "nothing",
}


class InputError(ValueError):
    """What is wrong with an input, in one line that continues after its name: `'a.csv'` "has no column ..."."""


def wanted_columns(source: Local | Hub) -> list[str]:
    """The columns that a source names, each once."""
    named = (source.text, source.id, source.group)
    return list(dict.fromkeys(column for column in named if column is not None))


def check_columns(wanted: Iterable[str], present: Sequence[str]) -> None:
    """InputError if a table lacks a column."""
    for column in wanted:
        if column not in present:
            raise InputError(f"has no column {column!r}: its columns are {sorted(present)}")


def to_document(domain: str, source: Local | Hub, row: Mapping[str, Any]) -> Document:
    """The document that a row holds. A text of null is empty; a group of null or "" is none.

    Raises InputError for a text or an id that is not there, is of another type or is too long.
    """
    if source.text not in row:
        raise InputError(f"has no column {source.text!r}: its columns are {sorted(row)}")
    text = row[source.text]
    if text is None:
        text = ""
    elif not isinstance(text, str):
        raise InputError(f"column {source.text!r} holds {kind_of(text)}: wanted text")
    text = without_surrogates(text)
    group = row.get(source.group) if source.group is not None else None
    return Document(
        _id(source.id, row) if source.id is not None else hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS],
        domain,
        text,
        None if group is None or group == "" else without_surrogates(str(group)),
    )


def without_surrogates(text: str) -> str:
    r"""The text itself if it is valid Unicode, else with U+FFFD for each lone surrogate.

    JSON can hold half a character ("\ud83d"), where a program cut a text in UTF-16: no file or tokenizer takes it.
    """
    try:
        num_bytes = len(text.encode())
    except UnicodeEncodeError:
        return without_surrogates(SURROGATES.sub("\ufffd", text))
    if num_bytes > MAX_DOCUMENT_BYTES:
        raise InputError(f"holds a text of {num_bytes:,} bytes: wanted at most {MAX_DOCUMENT_BYTES:,}")
    return text


def kind_of(value: Any) -> str:
    """What a value is, in the words of JSON."""
    return KINDS.get(type(value), type(value).__name__)


def first_line(error: BaseException) -> str:
    """The first line of the innermost error: libraries wrap what went wrong in what they were doing."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _id(column: str, row: Mapping[str, Any]) -> str:
    if column not in row:
        raise InputError(f"has no column {column!r}: its columns are {sorted(row)}")
    value = row[column]
    if value is None or value == "" or isinstance(value, list | dict):
        held = "nothing" if value == "" else kind_of(value)
        raise InputError(f"column {column!r} holds {held}: wanted an id (without `id`, the id is a hash of the text)")
    return without_surrogates(str(value))
