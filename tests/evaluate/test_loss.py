from __future__ import annotations

import math
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import pytest
import torch
from lab import SpecMaker
from numpy.typing import NDArray
from torch import Tensor

from scaling.data.randomness import key, uniforms
from scaling.evaluate import loss as loss_module
from scaling.evaluate.loss import evaluate
from scaling.spec import RunSpec


@dataclass
class Rank:
    """A predictor whose nats are a known function of the token."""

    num_draws: int
    num_calls: int = 0
    device = torch.device("cpu")

    def score(
        self, sequences: NDArray[np.int64], draws: NDArray[np.float64], segments: NDArray[np.int64] | None
    ) -> tuple[Tensor, Tensor]:
        self.num_calls += 1
        targets = torch.from_numpy(sequences[:, 1:].copy())
        nats = targets.double() / 100 + (torch.from_numpy(draws).sum() if self.num_draws else 0)
        if segments is not None:
            is_first = torch.from_numpy(np.diff(segments, axis=1) != 0)
            nats, targets = nats.masked_fill(is_first, 0), targets.masked_fill(is_first, -100)
        return nats, targets


@dataclass
class Packed:
    """Sequences [n, 32] of documents of 9 tokens."""

    tokens: NDArray[np.int64]

    @property
    def num_sequences(self) -> int:
        return len(self.tokens)

    def rows(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.tokens[index]

    def segments(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        places = index[:, None] * 32 + np.arange(32)
        return places // 9 - places[:, :1] // 9


VALIDATION = Packed(np.random.default_rng(1).integers(4, 320, (11, 32)))
BYTES = np.arange(320) % 7


def measure(run: RunSpec, num_ranks: int = 1, token_bytes: NDArray[np.int64] | None = BYTES) -> tuple[float, int, int]:
    """Sums over ranks that are asked one after the other."""
    parts, calls = [], set()
    for number in range(num_ranks):
        rank = Rank(96 if run.objective.kind == "mlm" else 0)
        place = {"this_rank": lambda at=number: at, "num_ranks": lambda: num_ranks, "sum_over_ranks": lambda own: own}
        with patch.multiple(loss_module, **place):
            parts.append(evaluate(run, rank, {"alpha": VALIDATION}, token_bytes)["alpha"])
        calls.add(rank.num_calls)
    assert len(calls) == 1  # or ZeRO-3 would wait forever
    return (
        sum(part.sum_nats for part in parts),
        sum(part.num_tokens for part in parts),
        sum(part.num_bytes or 0 for part in parts),
    )


def test_the_sums_are_those_of_the_whole_sequences_of_the_validation_text(spec: SpecMaker) -> None:
    predicted = VALIDATION.tokens[:, 1:]
    nats, num_tokens, num_bytes = measure(spec({"evaluation.max_tokens": 100_000}))
    assert num_tokens == predicted.size
    assert num_bytes == BYTES[predicted].sum()
    assert nats == pytest.approx(predicted.sum() / 100, rel=1e-12)


def test_of_isolated_documents_the_first_token_is_not_scored_and_not_counted(spec: SpecMaker) -> None:
    run = spec({"evaluation.max_tokens": 100_000, "batch.isolate_documents": True})
    begins = np.arange(11 * 32).reshape(11, 32) % 9 == 0
    predicted = VALIDATION.tokens[:, 1:][~begins[:, 1:]]
    nats, num_tokens, num_bytes = measure(run)
    assert num_tokens == predicted.size < 11 * 31
    assert num_bytes == BYTES[predicted].sum()
    assert nats == pytest.approx(predicted.sum() / 100, rel=1e-12)
    assert measure(run, 3) == pytest.approx((nats, num_tokens, num_bytes), rel=1e-12)


def test_max_tokens_caps_the_validation_text_at_whole_sequences(spec: SpecMaker) -> None:
    assert measure(spec({"evaluation.max_tokens": 32 * 4 + 31}))[1] == 4 * 31
    assert measure(spec({"evaluation.max_tokens": 1}))[1] == 31


@pytest.mark.parametrize("num_ranks", [2, 3, 5])
@pytest.mark.parametrize("kind", ["clm", "mlm"])
def test_ranks_share_the_text_and_count_nothing_twice(
    spec: SpecMaker, monkeypatch: pytest.MonkeyPatch, kind: str, num_ranks: int
) -> None:
    monkeypatch.setattr(loss_module, "EVALUATION_TOKENS", {"cpu": 64})  # 6 passes: rounds that do not come out even
    run = spec({"objective.kind": kind})
    assert measure(run, num_ranks) == pytest.approx(measure(run), rel=1e-12)


def test_bytes_are_counted_for_causal_models_with_a_byte_level_tokenizer_only(spec: SpecMaker) -> None:
    def domain(run: RunSpec, token_bytes: NDArray[np.int64] | None) -> int | None:
        rank = Rank(96 if run.objective.kind == "mlm" else 0)
        return evaluate(run, rank, {"alpha": VALIDATION}, token_bytes)["alpha"].num_bytes

    assert domain(spec(), BYTES) is not None
    assert domain(spec(), None) is None
    assert domain(spec({"objective.kind": "mlm"}), BYTES) is None


def test_every_evaluation_masks_the_same_positions(spec: SpecMaker) -> None:
    seen = []

    class Spy(Rank):
        def score(
            self, sequences: NDArray[np.int64], draws: NDArray[np.float64], segments: NDArray[np.int64] | None
        ) -> tuple[Tensor, Tensor]:
            seen.append(draws)
            return Rank.score(self, sequences, draws, segments)

    for seed in (0, 1):
        evaluate(spec({"objective.kind": "mlm", "seeds.order": seed}), Spy(96), {"alpha": VALIDATION}, None)
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], uniforms(key("validation"), 0, 11, 96))


def test_a_uniform_guess_costs_the_logarithm_of_the_vocabulary(spec: SpecMaker) -> None:
    """Through the real model: with the head at zero, every token costs ln V nats."""
    from scaling.train.model import build_model
    from scaling.train.objective import TokenLoss, make_examples

    run = spec()
    model = build_model(run)
    torch.nn.init.zeros_(model.get_input_embeddings().weight)

    class Uniform(Rank):
        def score(
            self, sequences: NDArray[np.int64], draws: NDArray[np.float64], segments: NDArray[np.int64] | None
        ) -> tuple[Tensor, Tensor]:
            examples = make_examples(run.objective, sequences, draws, run.tokenizer, segments)
            return TokenLoss(model)(**examples.tensors()), examples.targets

    measured = evaluate(run, Uniform(0), {"alpha": VALIDATION}, BYTES)["alpha"]
    assert measured.loss == pytest.approx(math.log(320), rel=1e-6)
    assert measured.num_bytes is not None
    assert measured.bits_per_byte == pytest.approx(math.log2(320) * measured.num_tokens / measured.num_bytes, rel=1e-6)
