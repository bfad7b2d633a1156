from __future__ import annotations

import numpy as np
import pytest
import torch
from lab import SpecMaker

from scaling.data.randomness import key, uniforms
from scaling.objective import CausalLM, MaskedLM
from scaling.tokenizer import Tokenizer
from scaling.train.model import UNMASKED, build_model
from scaling.train.objective import (
    NOT_PREDICTED,
    TokenLoss,
    make_examples,
    num_draws,
    restarted_positions,
    token_weight,
)

VOCAB = 320
TOKENIZER = Tokenizer(vocab_size=VOCAB, domains=("a",))
FIRST_WORD_ID = 3
OBJECTIVES = {"clm": CausalLM(), "mlm": MaskedLM()}
FAMILIES = [("llama", "clm", False), ("gpt2", "clm", False), ("bert", "mlm", True), ("modernbert", "mlm", True)]
"""Family, objective, and whether a token sees those after it."""


def sequences(num: int, length: int) -> np.ndarray:
    return np.random.default_rng(0).integers(FIRST_WORD_ID, VOCAB, (num, length))


def draws(num: int, length: int, start: int = 0) -> np.ndarray:
    return uniforms(key("test"), start, num, 3 * length)


def segments(*documents: list[int]) -> np.ndarray:
    """The segments of sequences of which the lengths of the documents are given."""
    return np.stack([np.repeat(np.arange(len(lengths)), lengths) for lengths in documents])


@pytest.mark.parametrize("length", [8, 32, 127, 128])
def test_every_sequence_has_the_same_exact_number_of_masked_positions(length: int) -> None:
    tokens = sequences(50, length)
    examples = make_examples(MaskedLM(mask_frac=0.15), tokens, draws(50, length), TOKENIZER)
    assert examples.positions.shape == (50, max(1, round(0.15 * length)))
    assert all(len(set(row.tolist())) == len(row) for row in examples.positions)
    assert torch.equal(examples.targets, torch.from_numpy(tokens).gather(1, examples.positions))


def test_eighty_percent_show_the_mask_ten_a_random_token_and_ten_themselves() -> None:
    tokens = sequences(4000, 32)
    examples = make_examples(MaskedLM(), tokens, draws(4000, 32), TOKENIZER)
    shown = examples.inputs.gather(1, examples.positions)
    is_mask, is_same = shown == TOKENIZER.mask_id, shown == examples.targets
    random = shown[~is_mask & ~is_same]
    # 20 000 masked positions: the standard error of a share is 0.3 %
    assert is_mask.double().mean() == pytest.approx(0.8, abs=0.01)
    assert is_same.double().mean() == pytest.approx(0.1, abs=0.01)
    assert (len(random) / shown.numel()) == pytest.approx(0.1, abs=0.01)
    assert random.min() >= FIRST_WORD_ID
    assert set(random.tolist()) == set(range(FIRST_WORD_ID, VOCAB))  # every word can be drawn


def test_positions_that_are_not_masked_stay_as_they_are() -> None:
    tokens = sequences(20, 32)
    examples = make_examples(MaskedLM(), tokens, draws(20, 32), TOKENIZER)
    others = torch.ones_like(examples.inputs, dtype=torch.bool).scatter(1, examples.positions, False)
    assert torch.equal(examples.inputs[others], torch.from_numpy(tokens)[others])


def test_masks_are_spread_over_all_positions() -> None:
    positions = make_examples(MaskedLM(), sequences(4000, 32), draws(4000, 32), TOKENIZER).positions
    counts = torch.bincount(positions.flatten(), minlength=32)
    assert counts.min() > 0.85 * counts.double().mean()  # 625 +- 23 expected


def test_masks_belong_to_the_sequence_whatever_the_split_of_the_batch() -> None:
    tokens = sequences(8, 32)
    whole = make_examples(MaskedLM(), tokens, draws(8, 32), TOKENIZER)
    parts = [make_examples(MaskedLM(), tokens[i : i + 2], draws(2, 32, start=i), TOKENIZER) for i in range(0, 8, 2)]
    for name in ("inputs", "targets", "positions"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))
    assert len({tuple(row.tolist()) for row in whole.positions}) > 1


def test_a_batch_is_not_changed_by_masking_it() -> None:
    tokens = sequences(4, 32)
    before = tokens.copy()
    make_examples(MaskedLM(mask_frac=0.5), tokens, draws(4, 32), TOKENIZER)
    assert np.array_equal(tokens, before)


def test_a_causal_model_predicts_each_token_but_the_first_from_those_before() -> None:
    tokens = sequences(3, 16)
    examples = make_examples(CausalLM(), tokens, np.empty((3, 0)), TOKENIZER)
    assert num_draws(CausalLM(), 16) == 0
    assert np.array_equal(examples.inputs, tokens)
    assert np.array_equal(examples.targets, tokens[:, 1:])
    assert examples.positions is None  # all but the last


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_loss_of_a_causal_model_equals_that_of_transformers(spec: SpecMaker, kind: str) -> None:
    model = build_model(spec({"model.kind": kind, "model.num_layers": 2})).eval()
    examples = make_examples(CausalLM(), sequences(4, 32), np.empty((4, 0)), TOKENIZER)
    ours = TokenLoss(model)(**examples.tensors())
    theirs = model(input_ids=examples.inputs, labels=examples.inputs).loss
    assert ours.shape == (4, 31)
    torch.testing.assert_close(ours.mean(), theirs, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_the_loss_of_a_masked_model_equals_that_of_transformers_and_training_mode_changes_nothing(
    spec: SpecMaker, kind: str
) -> None:
    """160 tokens: more than the 129 that a local layer of ModernBERT sees."""
    shape = {"model.kind": kind, "model.num_layers": 4, "batch.sequence_length": 160}
    model = build_model(spec({"objective.kind": "mlm", **shape}))
    examples = make_examples(MaskedLM(), sequences(4, 160), draws(4, 160), TOKENIZER)
    labels = torch.full_like(examples.inputs, -100).scatter(1, examples.positions, examples.targets)
    model.set_attn_implementation("sdpa")  # with the masks of transformers
    theirs = model.eval()(input_ids=examples.inputs, labels=labels).loss
    model.set_attn_implementation(UNMASKED)
    ours = TokenLoss(model.train())(**examples.tensors())
    torch.testing.assert_close(ours.mean(), theirs, rtol=1e-6, atol=0)


def test_an_encoder_reads_the_whole_sequence_and_a_decoder_only_what_came_before(spec: SpecMaker) -> None:
    tokens = torch.from_numpy(sequences(1, 32))
    changed = tokens.clone()
    changed[0, 20] = FIRST_WORD_ID + (changed[0, 20] - FIRST_WORD_ID + 1) % (VOCAB - FIRST_WORD_ID)
    for kind, objective, sees_ahead in FAMILIES:
        module = TokenLoss(build_model(spec({"model.kind": kind, "objective.kind": objective})))
        position, target = torch.tensor([[10]]), torch.tensor([[42]])
        same = torch.equal(module(tokens, target, position), module(changed, target, position))
        assert same is not sees_ahead


def test_a_causal_model_is_not_asked_for_the_first_token_of_an_isolated_document() -> None:
    tokens, apart = sequences(2, 8), segments([3, 1, 4], [8])
    plain = make_examples(CausalLM(), tokens, np.empty((2, 0)), TOKENIZER)
    isolated = make_examples(CausalLM(), tokens, np.empty((2, 0)), TOKENIZER, apart)
    expected = plain.targets.clone()
    expected[0, [2, 3]] = NOT_PREDICTED  # tokens 3 and 4 of the first sequence begin a document
    assert torch.equal(isolated.targets, expected)
    assert torch.equal(isolated.inputs, plain.inputs)


def test_isolated_documents_are_masked_as_others_are() -> None:
    tokens = sequences(2, 32)
    plain = make_examples(MaskedLM(), tokens, draws(2, 32), TOKENIZER)
    isolated = make_examples(MaskedLM(), tokens, draws(2, 32), TOKENIZER, segments([1, 31], [20, 12]))
    for name in ("inputs", "targets", "positions"):
        assert torch.equal(getattr(isolated, name), getattr(plain, name))


def test_positions_restart_at_each_document() -> None:
    found = restarted_positions(torch.from_numpy(segments([3, 1, 1, 3], [8], [1, 7])))
    assert found.tolist() == [[0, 1, 2, 0, 0, 0, 1, 2], [0, 1, 2, 3, 4, 5, 6, 7], [0, 0, 1, 2, 3, 4, 5, 6]]


LENGTHS = {"clm": [300, 1, 2, 337], "mlm": [300, 40, 300]}
"""640 tokens: longer than the blocks in which attention kernels walk through the keys."""


def nats_per_token(module: TokenLoss, tokens: np.ndarray, apart: np.ndarray | None) -> torch.Tensor:
    """Nats [n, T - 1]: of the next token of a causal model, of the token itself of a masked one."""
    examples = make_examples(CausalLM(), tokens, np.empty((len(tokens), 0)), TOKENIZER, apart)
    targets = examples.targets
    if not module.family.is_causal:
        targets = examples.inputs[:, :-1]
    with torch.no_grad():
        return module(examples.inputs, targets, examples.positions, examples.segments)


LONG = {"model.num_layers": 2, "batch.sequence_length": 640}
"""A ModernBERT of two layers has a global and a local one."""


@pytest.mark.parametrize("attention", [UNMASKED, "eager"])
@pytest.mark.parametrize(("family", "kind"), [(family, kind) for family, kind, _ in FAMILIES])
def test_not_a_bit_of_another_document_reaches_an_isolated_one(
    spec: SpecMaker, family: str, kind: str, attention: str
) -> None:
    model = build_model(spec({"model.kind": family, "objective.kind": kind, **LONG}))
    model.set_attn_implementation(attention)
    module = TokenLoss(model)
    tokens, apart = sequences(1, 640), segments(LENGTHS[kind])
    documents = apart[:, :-1]  # of the tokens from which there are nats
    before = nats_per_token(module, tokens, apart)
    for document in range(documents.max() + 1):
        changed = np.where(apart == document, FIRST_WORD_ID + (tokens - FIRST_WORD_ID + 1) % 300, tokens)
        after = nats_per_token(module, changed, apart)
        mine = torch.from_numpy(documents == document)
        assert torch.equal(after[~mine], before[~mine])
        predicted = mine & (before != 0)
        assert not torch.isclose(after[predicted], before[predicted]).all() or not predicted.any()
    if kind == "clm":
        assert torch.equal(before == 0, torch.from_numpy(apart[:, 1:] != documents))


@pytest.mark.parametrize("attention", [UNMASKED, "eager"])
@pytest.mark.parametrize(("family", "kind"), [(family, kind) for family, kind, _ in FAMILIES])
def test_an_isolated_document_costs_what_it_costs_alone(
    spec: SpecMaker, family: str, kind: str, attention: str
) -> None:
    model = build_model(spec({"model.kind": family, "objective.kind": kind, **LONG}))
    model.set_attn_implementation(attention)
    module = TokenLoss(model)
    tokens, apart = sequences(1, 640), segments(LENGTHS[kind])
    packed = nats_per_token(module, tokens, apart)
    together = nats_per_token(module, tokens, None)
    for start in np.flatnonzero(np.diff(apart[0], prepend=-1)):
        length = int((apart == apart[0, start]).sum())
        own = slice(start, start + length - 1)
        alone = nats_per_token(module, tokens[:, start : start + length], None)
        torch.testing.assert_close(packed[:, own], alone, rtol=1e-5, atol=1e-5)  # sums of up to 640 floats
        if length > 2 and (start or kind == "mlm"):
            assert not torch.allclose(together[:, own], alone, rtol=1e-3)


def gradient(module: TokenLoss, losses: list[torch.Tensor]) -> torch.Tensor:
    """That of the mean of the losses, which is what the ranks and micro-batches of a step come to."""
    parameters = list(module.parameters())
    parts = torch.autograd.grad(torch.stack(losses).mean(), parameters)
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("kind", ["clm", "mlm"])
def test_every_predicted_token_weighs_the_same_whatever_the_split_of_the_batch(spec: SpecMaker, kind: str) -> None:
    objective = OBJECTIVES[kind]
    module = TokenLoss(build_model(spec({"objective.kind": kind})))
    tokens = sequences(4, 16)
    apart = segments([16], [1] * 14 + [2], [2] * 8, [5, 11])
    uniform = draws(4, 16)[:, : num_draws(objective, 16)]

    def score(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        examples = make_examples(objective, tokens[rows], uniform[rows], TOKENIZER, apart[rows])
        nats = module(examples.inputs, examples.targets, examples.positions, examples.segments)
        return nats, examples.targets != NOT_PREDICTED

    weight = token_weight(objective, apart)
    nats, predicted = score(slice(0, 4))
    expected = gradient(module, [nats[predicted].mean()])
    assert weight == pytest.approx(predicted.numel() / int(predicted.sum()))
    for size in (1, 2, 4):
        scores = [score(slice(start, start + size)) for start in range(0, 4, size)]
        found = gradient(module, [weight * nats.mean() for nats, _ in scores])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)  # the order of float32 sums
    if kind == "clm":  # 15 + 1 + 8 + 14 tokens: a mean per sequence would give the second fifteen times its weight
        scores = [score(slice(row, row + 1)) for row in range(4)]
        naive = gradient(module, [nats[predicted].mean() for nats, predicted in scores])
        assert (naive - expected).norm() > 0.1 * expected.norm()


def test_a_token_weighs_exactly_one_where_every_target_is_predicted() -> None:
    """So that the loss is the plain mean, to the bit."""
    assert token_weight(CausalLM(), None) == 1
    assert token_weight(CausalLM(), segments([8], [8])) == 1
    assert token_weight(MaskedLM(), segments([3, 5], [1, 7])) == 1


def test_a_batch_with_nothing_to_predict_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch\.isolate_documents leaves nothing to predict"):
        token_weight(CausalLM(), segments([1] * 8, [1] * 8))
