"""MixtureStream: sequence i of a run, as a pure function of (recipe, seeds, i)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scaling.budget import Budget, Epochs, Proxy
from scaling.data.interleave import interleave_stages
from scaling.data.mixtures import weights_over
from scaling.data.randomness import key, permutation, shuffled_within_windows, uniforms
from scaling.mixture import Stage
from scaling.recipe import ByLength, ByScore, Order
from scaling.spec import Seeds

ORDER_WINDOW = 256
"""Sequences within which the order seed moves them in the first epoch."""

BLOCK_TOKENS = 2**16
"""Tokens read at once where small batches are asked for: finding them costs 50 us a domain, however few they are."""

COUNTED_AT_ONCE = 2**14
"""Sequences whose documents are looked up at once when planted tokens are counted: a bound on memory."""


class Packed(Protocol):
    """What a stream reads of PackedDocuments: the kept documents of a domain, cut into sequences of T tokens."""

    @property
    def sequence_length(self) -> int: ...

    @property
    def num_sequences(self) -> int: ...

    @property
    def num_tokens(self) -> int: ...

    @property
    def document_lengths(self) -> NDArray[Any]: ...

    def rows(self, index: NDArray[np.int64]) -> NDArray[np.int64]: ...

    def segments(self, index: NDArray[np.int64]) -> NDArray[np.int64]: ...

    def mean(self, per_document: NDArray[Any]) -> NDArray[np.float64]: ...

    def planted_tokens(self, index: NDArray[np.int64]) -> int: ...


_Reader = Callable[[Packed, NDArray[np.int64]], NDArray[np.int64]]


class MixtureStream:
    """The training sequences of a run.

    Which domain: Tijdeman's rule gives every prefix of every stage its shares to within one sequence, and
    sequence i has the same domain whatever the budget. A stage ends after floor(until_tokens / T) sequences.

    Which sequence of the domain: each domain has one fixed order, whatever U is. The seed `subset` shuffles
    the domain, so it says what comes first; the seed `order` shuffles within windows of 256 positions of that,
    so it changes when a sequence is seen and hardly which. What a domain offers is the first part of the fixed
    order, so a smaller U holds a part of a larger one. The first epoch reads the fixed order; every later one
    is a new shuffle, by the seed `order`, of what is offered.

    What a domain offers: floor(U w / T) sequences; or, under `repetition`, its sequences read / its epochs, to
    the nearest whole one; or all that it has.

    Order: `blocks` reads the domains of each stage one after another. `length` and `score` sort each epoch of
    each domain by the mean of its documents, weighted by tokens; the domains stay interleaved, so that shares
    hold in every prefix. Each epoch holds the sequences that it holds when shuffled.

    Names, not positions, enter the draws: the order of the weights changes nothing. All is precomputed for
    `max_sequences`, at up to 5 bytes each; under a shuffled order without repetition, a larger number has the
    same prefix.
    """

    def __init__(
        self,
        documents: Mapping[str, Packed],
        stages: Sequence[Stage],
        order: Order,
        budget: Budget,
        seeds: Seeds,
        max_sequences: int,
        scores: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """documents: of every domain that has a weight. scores: per document of those, where they give the order.

        ValueError if a domain with a weight has less than one sequence, or if what is offered depends on D in
        a way that the budget does not say.
        """
        self.stages = tuple(stages)
        self.max_sequences = max_sequences
        self.seeds = seeds
        self.budget = budget
        self.domains = tuple(sorted({name for stage in stages for name, weight in stage.weights.items() if weight}))
        self.documents = {name: documents[name] for name in self.domains}
        self.sequence_length = self.documents[self.domains[0]].sequence_length
        for name, packed in self.documents.items():
            if packed.num_sequences == 0:
                raise ValueError(
                    f"domain {name!r} has {packed.num_tokens} training tokens: wanted at least {self.sequence_length}"
                )
        self._check_offers()
        self.weights = self.weights_over(max_sequences)
        self._domain = interleave_stages(stages, self.domains, order, self.sequence_length, max_sequences)
        counts = np.bincount(self._domain, minlength=len(self.domains))
        self.num_read = dict(zip(self.domains, counts.tolist(), strict=True))
        self.offered = {name: min(self.available(name), self.wanted_unique(name)) for name in self.domains}
        largest = max(packed.num_sequences for packed in self.documents.values())
        self._row = np.empty(max_sequences, dtype=np.min_scalar_type(largest))
        for number, name in enumerate(self.domains):
            place = self._places(name, order, scores)
            self._row[self._domain == number] = self._reading_order(name, place)
        self._block: tuple[int, NDArray[np.int64]] = (0, np.empty((0, self.sequence_length), dtype=np.int64))

    # ---- how much of each domain -------------------------------------------------------------------------

    def weights_over(self, num_sequences: int) -> dict[str, float]:
        """The intended share of each domain in the first `num_sequences`."""
        weights = weights_over(self.stages, num_sequences * self.sequence_length, self.sequence_length)
        return {name: weights[name] for name in self.domains}

    def available(self, name: str) -> int:
        """Sequences that a domain has."""
        return self.documents[name].num_sequences

    def wanted_epochs(self, name: str) -> float | None:
        """How often the budget's repetition has a domain read; None where it leaves that open.

        Under `proxy`: the tokens that the large run intends for it / the tokens that it will have.
        """
        repetition = self.budget.repetition
        if isinstance(repetition, Epochs):
            return repetition.domains.get(name)
        if isinstance(repetition, Proxy):
            here = self.available(name) * self.sequence_length
            intended = weights_over(self.stages, repetition.num_tokens)[name] * repetition.num_tokens
            return intended / repetition.available_tokens.get(name, here)
        return None

    def wanted_unique(self, name: str) -> int:
        """Sequences that the budget has a domain offer, at least 1; all of them where it does not say."""
        epochs = self.wanted_epochs(name)
        if epochs:
            return max(1, int(self.num_read[name] / epochs + 0.5))
        if self.budget.unique_tokens is None:
            return self.available(name)
        # 1e-9: 0.2 * 640 must give whole sequences although 0.2 is no binary fraction
        return max(1, int(self.budget.unique_tokens * self.weights[name] / self.sequence_length + 1e-9))

    def _check_offers(self) -> None:
        budget, trained = self.budget, self.max_sequences * self.sequence_length
        if isinstance(budget.repetition, Proxy):
            if trained > budget.repetition.num_tokens:
                raise ValueError(
                    f"budget.repetition.num_tokens must be at least the run's own {trained} tokens,"
                    f" got {budget.repetition.num_tokens}"
                )
            if budget.unique_tokens is not None:
                raise ValueError(
                    "budget.repetition of kind proxy says how many unique tokens each domain offers:"
                    f" budget.unique_tokens must be null, got {budget.unique_tokens}"
                )
        named = set(budget.repetition.domains) if isinstance(budget.repetition, Epochs) else set()
        if budget.unique_tokens is not None and len(self.stages) > 1 and set(self.domains) - named:
            # a share of U that depends on how far D reaches would end nesting across D without saying so
            raise ValueError(
                f"budget.unique_tokens={budget.unique_tokens} has no share for each domain in a mixture of stages:"
                f" wanted epochs in budget.repetition for {sorted(set(self.domains) - named)}"
            )

    # ---- which sequence comes when -----------------------------------------------------------------------

    def _places(self, name: str, order: Order, scores: Mapping[str, NDArray[Any]] | None) -> NDArray[Any] | None:
        """What each sequence of a domain is sorted by, ascending [num_sequences of the domain]; None: by nothing."""
        packed = self.documents[name]
        if isinstance(order, ByLength):
            value = packed.mean(packed.document_lengths)
        elif isinstance(order, ByScore):
            assert scores is not None, "an order by score needs scores"
            value = packed.mean(scores[name])
        else:
            return None
        return -value if order.descending else value

    def _reading_order(self, name: str, place: NDArray[Any] | None) -> NDArray[np.int64]:
        """The sequences of a domain in the order of reading [num_read], over as many epochs as that takes."""
        size, offered, num = self.available(name), self.offered[name], self.num_read[name]
        fixed = permutation(key("subset", self.seeds.subset, name), size)
        fixed = fixed[shuffled_within_windows(key("order", self.seeds.order, name), size, ORDER_WINDOW)]
        epochs = [fixed[: min(offered, num)]]
        for epoch in range(2, -(-num // offered) + 1):
            shuffled = fixed[permutation(key("epoch", self.seeds.order, name, epoch), offered)]
            epochs.append(shuffled[: num - (epoch - 1) * offered])
        if place is not None:
            epochs = [epoch[np.argsort(place[epoch], kind="stable")] for epoch in epochs]
        return np.concatenate(epochs)

    # ---- reading -----------------------------------------------------------------------------------------

    def domain_of(self, i: int) -> str:
        return self.domains[self._domain[i]]

    def sequence(self, i: int) -> NDArray[np.int64]:
        """Sequence i [T]."""
        return self._gather(_rows, i, 1)[0]

    def batch(self, start: int, count: int) -> NDArray[np.int64]:
        """Sequences start, ..., start + count - 1 [count, T].

        Small batches are cut from a block that is read ahead; what they hold does not depend on that.
        """
        ahead = BLOCK_TOKENS // self.sequence_length
        if count * 8 > ahead:
            return self._gather(_rows, start, count)
        self._check_range(start, count)
        first, block = self._block
        if not first <= start <= start + count <= first + len(block):
            first, block = start, self._gather(_rows, start, min(ahead, self.max_sequences - start))
            self._block = first, block
        return block[start - first : start - first + count].copy()

    def segments(self, start: int, count: int) -> NDArray[np.int64]:
        """The number of the document that each token of those sequences belongs to: 0, 1, 2, ... [count, T]."""
        return self._gather(_segments, start, count)

    def _gather(self, of: _Reader, start: int, count: int) -> NDArray[np.int64]:
        self._check_range(start, count)
        domain, row = self._domain[start : start + count], self._row[start : start + count].astype(np.int64)
        read = np.empty((count, self.sequence_length), dtype=np.int64)
        for number in np.unique(domain):
            mine = np.flatnonzero(domain == number)
            read[mine] = of(self.documents[self.domains[number]], row[mine])
        return read

    def _check_range(self, start: int, count: int) -> None:
        if not 0 <= start <= start + count <= self.max_sequences:
            raise IndexError(f"sequences {start} to {start + count} of {self.max_sequences}")

    def uniforms(self, start: int, count: int, width: int, purpose: str) -> NDArray[np.float64]:
        """Numbers in [0, 1) [count, width] that belong to the sequences, not to who asks (masks)."""
        return uniforms(key("uniforms", self.seeds.order, purpose), start, count, width)

    def read(self, name: str, num_sequences: int) -> NDArray[np.int64]:
        """The sequences of a domain that the first `num_sequences` are, in order."""
        prefix = slice(0, num_sequences)
        return self._row[prefix][self._domain[prefix] == self.domains.index(name)].astype(np.int64)

    def planted_tokens(self, name: str, num_sequences: int) -> int:
        """Tokens of copies made on purpose among what the first `num_sequences` read of a domain."""
        rows = self.read(name, num_sequences)
        parts = (rows[start : start + COUNTED_AT_ONCE] for start in range(0, len(rows), COUNTED_AT_ONCE))
        return sum(self.documents[name].planted_tokens(part) for part in parts)


def _rows(packed: Packed, index: NDArray[np.int64]) -> NDArray[np.int64]:
    return packed.rows(index)


def _segments(packed: Packed, index: NDArray[np.int64]) -> NDArray[np.int64]:
    return packed.segments(index)


def check_budget(stream: MixtureStream) -> None:
    """ValueError, with the numbers, if a domain has less than the budget wants of it or is read too often."""
    length, budget = stream.sequence_length, stream.budget
    for name in stream.domains:
        has, wanted, num_read = stream.available(name), stream.wanted_unique(name), stream.num_read[name]
        epochs = stream.wanted_epochs(name)
        if epochs is not None:
            # Read once or less, it needs no more than is read. One sequence of grace, as below.
            if min(wanted, num_read) > has + 1:
                raise ValueError(
                    f"budget.repetition has {num_read * length} tokens of {name!r} read in {epochs:.4g} epochs, which "
                    f"wants {wanted * length} unique ones, of which it has {has * length}: more data, more epochs or "
                    "a smaller budget.num_tokens"
                )
            continue
        if wanted > has:
            raise ValueError(
                f"budget.unique_tokens={budget.unique_tokens} wants {wanted * length} tokens of {name!r} "
                f"(weight {stream.weights[name]:g}), which has {has * length}: more data or a smaller U"
            )
        offered = stream.offered[name]
        # One sequence of grace: shares are exact to one sequence, and U is rounded down to whole ones.
        if budget.max_epochs is not None and num_read > budget.max_epochs * offered + 1:
            raise ValueError(
                f"budget.max_epochs={budget.max_epochs:g} is exceeded by {name!r}: "
                f"{num_read * length} tokens wanted, {offered * length} available, {num_read / offered:.2f} "
                "epochs: more data, a smaller budget.num_tokens or a larger budget.max_epochs"
            )
