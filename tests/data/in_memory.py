"""Packed documents without files: what a stream reads, small enough to replay by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from scaling.budget import Budget, Repetition
from scaling.data.stream import MixtureStream
from scaling.mixture import Stage
from scaling.recipe import Order, Shuffled
from scaling.spec import Seeds

T = 4
BASE = 10_000

Made = tuple[tuple[Stage, ...], dict[str, int]]


@dataclass(frozen=True)
class InMemory:
    """Each sequence is one document and is filled with the number base + k, so that it says where it is from.

    Every third sequence is a planted copy; lengths and scores repeat, so that an order by them has ties.
    """

    base: int
    num_sequences: int
    sequence_length: int = T

    @property
    def num_tokens(self) -> int:
        return self.num_sequences * self.sequence_length

    @property
    def document_lengths(self) -> NDArray[np.int64]:
        return np.arange(self.num_sequences) * 7 % 11 + 1

    @property
    def scores(self) -> NDArray[np.float64]:
        return np.arange(self.num_sequences) * 5 % 13 / 13

    def rows(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.repeat(index + self.base, self.sequence_length).reshape(len(index), self.sequence_length)

    def segments(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.rows(index) % 2

    def mean(self, per_document: NDArray[Any]) -> NDArray[np.float64]:
        assert len(per_document) == self.num_sequences
        return per_document.astype(np.float64)

    def planted_tokens(self, index: NDArray[np.int64]) -> int:
        return int((index % 3 == 0).sum()) * self.sequence_length


def documents(sizes: Mapping[str, int]) -> dict[str, InMemory]:
    """Domains of so many sequences; the n-th by name starts at n x 10,000."""
    return {name: InMemory(BASE * n, num) for n, (name, num) in enumerate(sorted(sizes.items()))}


def stages(*parts: tuple[int | None, dict[str, float]]) -> tuple[Stage, ...]:
    """Stages until so many sequences."""
    return tuple(Stage(weights=weights, until_tokens=None if end is None else end * T) for end, weights in parts)


def make_stream(
    mixture: Mapping[str, float] | tuple[Stage, ...],
    sizes: Mapping[str, int],
    num: int,
    unique_tokens: int | None = None,
    repetition: Repetition | None = None,
    max_epochs: float | None = 1.0,
    seeds: Seeds = Seeds(),  # noqa: B008, frozen
    order: Order = Shuffled(),  # noqa: B008, frozen
) -> MixtureStream:
    """A stream of `num` sequences over made-up domains of `sizes` sequences."""
    packed = documents(sizes)
    return MixtureStream(
        documents=packed,
        stages=mixture if isinstance(mixture, tuple) else stages((None, dict(mixture))),
        order=order,
        budget=Budget(num_tokens=num * T, unique_tokens=unique_tokens, repetition=repetition, max_epochs=max_epochs),
        seeds=seeds,
        max_sequences=num,
        scores={name: of_domain.scores for name, of_domain in packed.items()},
    )


@st.composite
def weights(draw: st.DrawFn) -> dict[str, float]:
    raw = draw(st.lists(st.integers(1, 1000), min_size=1, max_size=7))
    return {name: weight / sum(raw) for name, weight in zip("abcdefg", raw, strict=False)}


@st.composite
def mixtures(draw: st.DrawFn, max_stages: int = 3) -> Made:
    """Stages over up to seven domains, and the sequences that each domain has."""
    parts = draw(st.lists(weights(), min_size=1, max_size=max_stages))
    ends = sorted(draw(st.sets(st.integers(1, 150), min_size=len(parts) - 1, max_size=len(parts) - 1)))
    sizes = {name: draw(st.integers(1, 40)) for name in sorted({name for part in parts for name in part})}
    return stages(*zip([*ends, None], parts, strict=True)), sizes
