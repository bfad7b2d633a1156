"""Points composed from a command line, over a corpus of two domains in the folder where one works."""

from __future__ import annotations

import sys

import pytest

from scaling.__main__ import compose_points
from scaling.config import Point
from scaling.spec import RunSpec

OWN = ["corpus=own", *(f"+corpus.domains.{d}={{kind:local,path:{d}.jsonl}}" for d in "ab")]


def compose(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[Point]:
    monkeypatch.setattr(sys, "argv", ["scaling"])
    return compose_points(list(arguments))


def one(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> RunSpec:
    (point,) = compose(monkeypatch, *OWN, *overrides)
    return point.spec


def sweep(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> list[RunSpec]:
    return [point.spec for point in compose(monkeypatch, "-m", *OWN, *overrides)]
