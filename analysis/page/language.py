"""The language of a report: sentences are written in English where they are made, and looked up in a catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Literal, get_args

Language = Literal["en", "zh"]
LANGUAGES: tuple[str, ...] = get_args(Language)
SEPARATORS: Mapping[str, Mapping[str, str]] = {"zh": {", ": "、", "; ": "；", " ": ""}}
CATALOGUES = Path(__file__).parent / "templates"

_language: ContextVar[str] = ContextVar("language", default="en")


class Said(str):
    """A sentence in another language that knows its English, in which files for programs are written."""

    english: str


def say(sentence: str, /, **values: object) -> str:
    """A sentence in the language of the report, its {fields} filled in.

    sentence: in English; the key in `templates/<language>.json`. What the catalogue lacks stays English.
    """
    language = _language.get()
    if language == "en":
        return sentence.format(**values) if values else sentence
    template = _catalogue(language).get(sentence, sentence)
    said = Said(template.format(**values) if values else template)
    known = {name: in_english(value) for name, value in values.items()}
    said.english = sentence.format(**known) if known else sentence
    return said


def listed(parts: Iterable[str], separator: str = ", ") -> str:
    """Things said one after another, as one."""
    parts = list(parts)
    own = SEPARATORS.get(_language.get(), {}).get(separator, separator)
    if own == separator and not any(isinstance(part, Said) for part in parts):
        return separator.join(parts)
    said = Said(own.join(parts))
    said.english = separator.join(str(in_english(part)) for part in parts)
    return said


def in_english(value: object) -> object:
    """What was said, in English; anything else as it is."""
    return value.english if isinstance(value, Said) else value


def spoken() -> str:
    """The language of the report that is being written."""
    return _language.get()


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Inside, `say` speaks this language. Raises ValueError for one that there is no catalogue of."""
    if language not in LANGUAGES:
        raise ValueError(f"report.language must be one of {', '.join(LANGUAGES)}, got {language!r}")
    token = _language.set(language)
    try:
        yield
    finally:
        _language.reset(token)


@cache
def _catalogue(language: str) -> Mapping[str, str]:
    if language == "en":
        return {}
    return dict(json.loads((CATALOGUES / f"{language}.json").read_text(encoding="utf-8")))
