"""The loss as a compiler sees it: one graph without breaks, the same numbers, nothing that waits for the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lab import SpecMaker
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from scaling.tokenizer import Tokenizer
from scaling.train.model import build_model
from scaling.train.objective import Examples, TokenLoss, make_examples, num_draws, padded_project

TOKENIZER = Tokenizer(vocab_size=320, domains=("a",))
LENGTH = 160
"""Longer than the 129 positions that a local layer of ModernBERT sees."""

CASES = [
    ("llama", "clm", False),
    ("gpt2", "clm", False),
    ("gpt2", "clm", True),
    ("bert", "mlm", False),
    ("modernbert", "mlm", False),
    ("modernbert", "mlm", True),
    ("bert", "mlm_nsp", False),
]


def prepared(spec: SpecMaker, kind: str, objective: str, is_isolated: bool) -> tuple[TokenLoss, Examples]:
    run = spec(
        {
            "model.kind": kind,
            "objective.kind": objective,
            "model.num_layers": 2,
            "batch.sequence_length": LENGTH,
            "batch.isolate_documents": is_isolated,
        }
    )
    draw = np.random.default_rng(0)
    tokens = draw.integers(3, 320, (4, LENGTH))
    segments = np.sort(draw.integers(0, 3, (4, LENGTH))) if is_isolated else None
    uniforms = draw.random((4, num_draws(run.objective, LENGTH)))
    return TokenLoss(build_model(run)), make_examples(run.objective, tokens, uniforms, TOKENIZER, segments)


@pytest.mark.parametrize(("kind", "objective", "is_isolated"), CASES)
def test_the_loss_is_one_graph_and_the_graph_gives_the_same_loss_and_gradient(
    spec: SpecMaker, kind: str, objective: str, is_isolated: bool
) -> None:
    module, examples = prepared(spec, kind, objective, is_isolated)
    torch.compiler.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True, dynamic=False)
    plain, graphed = module(**examples.tensors()), compiled(**examples.tensors())
    torch.testing.assert_close(graphed, plain, rtol=1e-5, atol=1e-5)
    parameters = list(module.parameters())
    for one, other in zip(
        torch.autograd.grad(graphed.mean(), parameters), torch.autograd.grad(plain.mean(), parameters), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "objective", "is_isolated"), CASES)
def test_nothing_in_the_loss_reads_a_value_back_from_the_device(
    spec: SpecMaker, kind: str, objective: str, is_isolated: bool
) -> None:
    """On tensors without values, a shape that depends on data or an `item()` is an error."""
    module, examples = prepared(spec, kind, objective, is_isolated)
    tensors = examples.tensors()

    def loss(*given: torch.Tensor) -> torch.Tensor:
        return module(**dict(zip(tensors, given, strict=True))).mean()

    graph = make_fx(loss, tracing_mode="fake", _allow_non_fake_inputs=True)(*tensors.values())
    called = {str(node.target) for node in graph.graph.nodes}
    assert any("linear" in name or "mm" in name for name in called)
    assert not {name for name in called if "nonzero" in name or "local_scalar" in name or "masked_select" in name}


@pytest.mark.parametrize("has_bias", [False, True])
def test_a_head_that_is_filled_up_gives_the_same_logits_and_gradients(has_bias: bool) -> None:
    torch.manual_seed(0)
    head, hidden = nn.Linear(32, 317, bias=has_bias), torch.randn(4, 7, 32, requires_grad=True)
    inputs = [hidden, *head.parameters()]
    plain, padded = head(hidden), padded_project(hidden, head, -317 % 64)
    assert padded.shape == plain.shape
    torch.testing.assert_close(padded, plain, rtol=1e-6, atol=1e-6)
    weights = torch.randn_like(plain)
    for one, other in zip(
        torch.autograd.grad((padded * weights).sum(), inputs),
        torch.autograd.grad((plain * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
