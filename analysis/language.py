"""The language of a report: sentences are written in English where they are made, and looked up in a catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Literal, get_args

Language = Literal["en", "zh"]
LANGUAGES: tuple[str, ...] = get_args(Language)
CATALOGUES = Path(__file__).parent / "templates"

_language: ContextVar[str] = ContextVar("language", default="en")


def say(sentence: str, **values: object) -> str:
    """A sentence in the language of the report, its {fields} filled in.

    sentence: in English; the key in `templates/<language>.json`. What the catalogue lacks stays English.
    """
    return _catalogue(_language.get()).get(sentence, sentence).format(**values) if values else _plain(sentence)


def _plain(sentence: str) -> str:
    return _catalogue(_language.get()).get(sentence, sentence)


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
