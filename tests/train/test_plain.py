"""The engine without DeepSpeed against a loop that anybody could write, and what it does with numbers that are none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lab import SpecMaker
from torch import nn

from scaling.spec import RunSpec
from scaling.train.batches import Batch
from scaling.train.engine import Look, usual_groups
from scaling.train.model import build_model
from scaling.train.objective import TokenLoss, make_examples, num_draws
from scaling.train.plain import PlainEngine
from scaling.train.pretrain import check
from scaling.train.recorder import DivergedError

FAMILIES = [("llama", "clm"), ("gpt2", "clm"), ("bert", "mlm"), ("modernbert", "mlm")]
RATE = 7e-3
"""Not that of the spec, with which an engine begins."""


def made(spec: RunSpec, num_steps: int, seed: int = 0) -> Iterator[Batch]:
    """Batches of random tokens."""
    rng = np.random.default_rng(seed)
    batch, vocab_size = spec.batch, spec.tokenizer.vocab_size
    for step in range(num_steps):
        sequences = rng.integers(5, vocab_size, (batch.num_sequences, batch.sequence_length))
        draws = rng.random((batch.num_sequences, num_draws(spec.objective, batch.sequence_length)))
        examples = make_examples(spec.objective, sequences, draws, spec.tokenizer)
        yield Batch(step, step * batch.num_sequences, examples, torch.ones(()))


def opened(spec: RunSpec, **rest: Any) -> PlainEngine:
    module = TokenLoss(build_model(spec))
    return PlainEngine(spec, module, rest.get("state"), usual_groups(module, spec.optimizer))


def trained(engine: PlainEngine, spec: RunSpec, num_steps: int) -> PlainEngine:
    for batch in made(spec, num_steps):
        engine.train(batch, RATE)
    return engine


def by_hand(spec: RunSpec, num_steps: int) -> tuple[dict[str, torch.Tensor], list[float], list[float]]:
    """Weights, losses and norms of the loop that the textbooks have: AdamW in two groups, clipping, no trick."""
    module = TokenLoss(build_model(spec))
    settings = spec.optimizer
    groups = [
        {"params": [p for p in module.parameters() if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in module.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(settings.beta1, settings.beta2), eps=settings.epsilon)
    losses, norms = [], []
    for batch in made(spec, num_steps):
        optimizer.zero_grad()
        loss = module(**batch.examples.tensors()).mean()
        loss.backward()
        norms.append(float(nn.utils.clip_grad_norm_(module.parameters(), settings.max_grad_norm)))
        losses.append(loss.item())
        optimizer.step()
    return {name: parameter.detach() for name, parameter in module.named_parameters()}, losses, norms


@pytest.mark.parametrize(("family", "objective"), FAMILIES)
def test_flat_buffers_train_as_a_loop_by_hand_does(spec: SpecMaker, family: str, objective: str) -> None:
    # The gradient of GPT-2's key biases is 0 but for rounding, which an epsilon of 1e-8 would blow up to whole steps.
    changes = {"optimizer.max_grad_norm": 0.5, "optimizer.epsilon": 1e-4}
    run = spec({"objective.kind": objective, "model.kind": family, **changes})
    weights, losses, norms = by_hand(run, 6)
    engine = trained(opened(run), run, 6)
    look = engine.look()
    assert look.losses == pytest.approx(losses, rel=1e-5)
    assert look.grad_norms == pytest.approx(norms, rel=1e-4)
    for name, tensor in engine.state(6, None).weights.items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-3, atol=1e-5)


def test_micro_batches_do_not_change_what_is_learned(spec: SpecMaker) -> None:
    whole, split = spec(), spec({"placement.micro_batch": 1})
    states = [trained(opened(run), run, 5).state(5, None) for run in (whole, split)]
    for name, tensor in states[0].weights.items():
        torch.testing.assert_close(tensor, states[1].weights[name], rtol=1e-3, atol=1e-5)


def test_an_engine_goes_on_from_a_state_to_the_same_bits(spec: SpecMaker) -> None:
    run = spec()
    batches = list(made(run, 8))
    unbroken, first = opened(run), opened(run)
    for batch in batches:
        unbroken.train(batch, RATE)
    for batch in batches[:3]:
        first.train(batch, RATE)
    state = first.state(3, "here")
    module = TokenLoss(build_model(run))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(state.weights[name])
    second = PlainEngine(run, module, state, usual_groups(module, run.optimizer))
    for batch in batches[3:]:
        second.train(batch, RATE)
    ours, theirs = second.state(8, None), unbroken.state(8, None)
    for key in ("weights", "exp_avg", "exp_avg_sq"):
        for name, tensor in getattr(ours, key).items():
            assert torch.equal(tensor, getattr(theirs, key)[name])


def test_bf16_keeps_updates_that_its_own_weights_could_not_hold(spec: SpecMaker) -> None:
    """2^-8 is the smallest relative step of bf16; a hundred steps of 1e-5 are lost in it, and not in fp32 masters."""
    run = spec({"precision": "bf16", "optimizer.weight_decay": 0.0})
    engine = opened(run)
    before = engine.state(0, None).weights
    for batch in made(run, 20):
        engine.train(batch, 1e-5)
    moved = engine.state(20, None).weights
    name = "model.model.norm.weight"
    assert 1e-5 < (moved[name] - before[name]).abs().max() < 2**-9
    assert engine._module.model.dtype == torch.bfloat16


def test_bf16_follows_fp32_to_within_its_rounding(spec: SpecMaker) -> None:
    runs = [spec({"precision": precision}) for precision in ("fp32", "bf16")]
    losses = [trained(opened(run), run, 30).look().losses for run in runs]
    assert np.abs(losses[0] - losses[1]).max() < 0.03  # of 5.8 nats; 2^-8 is 0.4 %
    assert not np.array_equal(losses[0], losses[1])


def poisoned(batch: Batch) -> Batch:
    return replace(batch, weight=torch.tensor(float("nan")))


def test_a_loss_that_is_no_number_ends_the_run_with_its_step_and_sequences(spec: SpecMaker) -> None:
    run = spec()
    engine = opened(run)
    for batch in made(run, 5):
        engine.train(poisoned(batch) if batch.step == 3 else batch, RATE)
    with pytest.raises(DivergedError, match=r"step 14, sequences 52 to 55: the loss is nan"):
        check(engine.look(), run, done=15)  # the steps 11 to 15 of a run; here the fourth of them is bad


def test_a_loss_far_above_that_of_guessing_ends_the_run_once_it_is_warm(spec: SpecMaker) -> None:
    run = spec()  # of 320 tokens: guessing costs 5.77 nats; the warmup takes 4 steps
    costs = np.array([5.8, 30.0, 5.7, 5.6, 5.5, 11.4])
    check(Look(costs, np.ones(6)), run, done=6)
    with pytest.raises(DivergedError, match=r"step 10, sequences 36 to 39: the loss is 12"):
        check(Look(np.array([5.0, 12.0]), np.ones(2)), run, done=10)


def test_a_step_whose_loss_is_no_number_is_left_out_where_the_config_says_so(spec: SpecMaker) -> None:
    run = spec({"optimizer.nonfinite": "skip"})
    engine, other = opened(run), opened(run)
    for batch in made(run, 6):
        engine.train(poisoned(batch) if batch.step == 2 else batch, RATE)
        if batch.step != 2:
            other.train(batch, RATE)
    look = engine.look()
    check(look, run, done=6)
    assert engine.state(6, None).scaler == {"updates": 5}
    assert opened(run, state=engine.state(6, None)).state(6, None).scaler == {"updates": 5}
    assert np.isnan(look.losses[2])
    assert np.isfinite(np.delete(look.losses, 2)).all()
    for name, tensor in engine.state(6, None).weights.items():
        assert torch.equal(tensor, other.state(5, None).weights[name])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for CPUs with a C++ compiler")
def test_a_compiled_model_trains_as_the_plain_one_does(spec: SpecMaker) -> None:
    runs = [spec({"placement.compile": compiled}) for compiled in (False, True)]
    losses = [trained(opened(run), run, 10).look().losses for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_skipped_steps_are_warned_of_and_a_loss_far_above_guessing_is_none_of_them(
    spec: SpecMaker, caplog: pytest.LogCaptureFixture
) -> None:
    run = spec({"optimizer.nonfinite": "skip"})
    check(Look(np.array([5.0, np.nan, 5.0]), np.ones(3)), run, done=20)
    assert "left out: step 19, sequences 72 to 75: the loss is nan" in caplog.text
    with pytest.raises(DivergedError, match=r"step 20, .* the loss is 30"):
        check(Look(np.array([np.nan, 30.0]), np.ones(2)), run, done=20)
