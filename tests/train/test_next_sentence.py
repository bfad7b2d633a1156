"""Masked LM with next sentences: pairs that may exchange halves, and a model that must tell."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from lab import SpecMaker
from pydantic import ValidationError
from transformers import BertForPreTraining

from scaling.data.randomness import key, uniforms
from scaling.objective import MaskedLM, MaskedNextSentence
from scaling.tokenizer import Tokenizer
from scaling.train.model import build_model
from scaling.train.objective import TokenLoss, exchange_halves, make_examples, num_draws

TOKENIZER = Tokenizer(vocab_size=320, domains=("a",))
PAIRS = MaskedNextSentence()


def sequences(num: int, length: int) -> np.ndarray:
    return np.random.default_rng(0).integers(3, 320, (num, length))


def draws(start: int, num: int, length: int) -> np.ndarray:
    return uniforms(key("test"), start, num, num_draws(PAIRS, length))


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """A model this small is faster on one, and much faster where the cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("length", [8, 31, 32])
def test_every_token_is_read_once_at_its_place(length: int) -> None:
    """So the ledger of what was read stays exact."""
    tokens = sequences(200, length)
    paired, exchanged = exchange_halves(tokens, draws(0, 200, length)[:, -1])
    half = length // 2
    for first in range(0, 200, 2):
        pair, kept = paired[first : first + 2], tokens[first : first + 2]
        assert exchanged[first] == exchanged[first + 1]
        assert np.array_equal(pair[:, :half], kept[:, :half])
        assert np.array_equal(pair[:, half:], kept[::-1, half:] if exchanged[first] else kept[:, half:])
    assert 70 <= exchanged.sum() <= 130  # of 100 pairs, 50 expected, standard deviation 5


def test_a_pair_is_the_same_whatever_the_split_of_the_batch() -> None:
    tokens = sequences(8, 32)
    whole = make_examples(PAIRS, tokens, draws(0, 8, 32), TOKENIZER)
    parts = [make_examples(PAIRS, tokens[i : i + 2], draws(i, 2, 32), TOKENIZER) for i in range(0, 8, 2)]
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, torch.cat([part.tensors()[name] for part in parts])), name
    assert set(whole.exchanged.tolist()) == {0, 1}


def test_masks_are_where_masked_lm_puts_them() -> None:
    tokens = sequences(6, 32)
    paired = make_examples(PAIRS, tokens, draws(0, 6, 32), TOKENIZER)
    plain = make_examples(MaskedLM(), tokens, uniforms(key("test"), 0, 6, num_draws(MaskedLM(), 32)), TOKENIZER)
    assert torch.equal(paired.positions, plain.positions)
    assert not torch.equal(paired.targets, plain.targets)


def test_validation_text_is_scored_as_it_is() -> None:
    """And an odd number of sequences is no error."""
    tokens = sequences(5, 32)
    scored = make_examples(PAIRS, tokens, draws(0, 5, 32), TOKENIZER, for_training=False)
    plain = make_examples(MaskedLM(), tokens, uniforms(key("test"), 0, 5, num_draws(MaskedLM(), 32)), TOKENIZER)
    assert scored.exchanged is None
    assert torch.equal(scored.inputs, plain.inputs)
    with pytest.raises(ValueError, match="takes pairs of sequences, got 5"):
        make_examples(PAIRS, tokens, draws(0, 5, 32), TOKENIZER)


def test_the_loss_equals_that_of_transformers(spec: SpecMaker) -> None:
    model = build_model(spec({"objective.kind": "mlm_nsp", "model.num_layers": 2}))
    assert isinstance(model, BertForPreTraining)
    examples = make_examples(PAIRS, sequences(4, 32), draws(0, 4, 32), TOKENIZER)
    labels = torch.full_like(examples.inputs, -100).scatter(1, examples.positions, examples.targets)
    halves = (torch.arange(32) >= 16).long().expand(4, 32)
    theirs = model(
        input_ids=examples.inputs, token_type_ids=halves, labels=labels, next_sentence_label=examples.exchanged
    )
    module = TokenLoss(model)
    ours = module(**examples.tensors())
    torch.testing.assert_close(ours.mean(), theirs.loss, rtol=1e-6, atol=0)
    masked = module(examples.inputs, examples.targets, examples.positions)
    assert (ours - masked).std(dim=1).max() < 1e-6  # what a sequence's pair costs is added to each of its tokens
    assert (ours - masked).min() > 0.1


@pytest.mark.usefixtures("_one_thread")
def test_a_model_learns_to_tell_exchanged_halves(spec: SpecMaker) -> None:
    """The sequences of a pair are made of one token each, so halves that differ do not belong together."""
    run = spec({"objective.kind": "mlm_nsp", "batch.sequence_length": 8})
    module = TokenLoss(build_model(run))
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    tokens = np.repeat(np.resize([[5], [9]], (16, 1)), 8, axis=1)
    for step in range(150):
        examples = make_examples(run.objective, tokens, draws(16 * step, 16, 8), run.tokenizer)
        optimizer.zero_grad()
        module(**examples.tensors()).mean().backward()
        optimizer.step()
    fresh = make_examples(run.objective, np.tile(tokens, (8, 1)), draws(10_000, 128, 8), run.tokenizer)
    with torch.no_grad():
        pairs = module(**fresh.tensors()) - module(fresh.inputs, fresh.targets, fresh.positions)
    assert pairs.mean() < 0.5  # guessing costs 0.69 nats


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch.num_sequences": 5}, "must be even, got 5"),
        ({"placement.micro_batch": 1}, "must be even, got 1"),
        ({"placement.ranks": 4}, "must be even, got 1"),
        ({"batch.isolate_documents": True}, "isolate_documents must be false under objective 'mlm_nsp'"),
    ],
)
def test_what_breaks_pairs_is_refused(spec: SpecMaker, changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec({"objective.kind": "mlm_nsp", **changes})
