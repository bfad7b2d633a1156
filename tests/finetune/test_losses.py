"""What a wrong answer costs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scaling.finetune.losses import class_weights, task_loss
from scaling.method import CrossEntropy, Focal
from scaling.train.objective import NOT_PREDICTED

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0], [1.0, 1.0, -2.0]])
TARGETS = torch.tensor([0, 1, 2])
WEIGHTS = torch.tensor([0.5, 3.0, 1.25])


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_that_of_torch(weights: Tensor | None, smoothing: float) -> None:
    found = task_loss(CrossEntropy(label_smoothing=smoothing), LOGITS, TARGETS.unsqueeze(1), weights)
    right = functional.cross_entropy(LOGITS, TARGETS, weights, reduction="none", label_smoothing=smoothing)
    assert found.shape == (3, 1)
    torch.testing.assert_close(found.squeeze(1), right)


def test_focal_loss_counts_what_is_sure_less_by_the_power_of_gamma() -> None:
    nats = functional.cross_entropy(LOGITS, TARGETS, reduction="none")
    found = task_loss(Focal(gamma=3.0), LOGITS, TARGETS, WEIGHTS)
    torch.testing.assert_close(found.squeeze(1), WEIGHTS * (1 - (-nats).exp()) ** 3 * nats)
    torch.testing.assert_close(task_loss(Focal(gamma=0.0), LOGITS, TARGETS, None).squeeze(1), nats)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_has_a_gradient_where_the_answer_is_certain(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    task_loss(Focal(gamma=gamma), logits, torch.tensor([0]), None).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("rule", [CrossEntropy(), CrossEntropy(label_smoothing=0.1), Focal()])
def test_tokens_that_are_not_predicted_cost_nothing_and_teach_nothing(rule: CrossEntropy | Focal) -> None:
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([[0, NOT_PREDICTED, 2, 1], [NOT_PREDICTED, NOT_PREDICTED, 1, 0]])
    losses = task_loss(rule, logits, targets, WEIGHTS)
    losses.sum().backward()
    assert losses.shape == (2, 4)
    assert (losses[targets == NOT_PREDICTED] == 0).all()
    assert (losses[targets != NOT_PREDICTED] > 0).all()
    assert logits.grad is not None
    assert (logits.grad[targets == NOT_PREDICTED] == 0).all()


def test_smoothing_spreads_over_possible_answers_only() -> None:
    whole = torch.tensor([[1.0, 0.0, 2.0]])
    masked = torch.tensor([[1.0, 0.0, 2.0, -math.inf]], requires_grad=True)
    rule = CrossEntropy(label_smoothing=0.3)
    found = task_loss(rule, masked, torch.tensor([0]), None)
    torch.testing.assert_close(found, task_loss(rule, whole, torch.tensor([0]), None))
    found.sum().backward()
    assert masked.grad is not None
    assert torch.isfinite(masked.grad).all()


def test_balanced_weights_have_a_mean_of_one_over_the_training_rows() -> None:
    counts = [90, 9, 1, 0]
    weights = class_weights(CrossEntropy(class_weights="balanced"), counts)
    assert weights is not None
    assert weights.tolist() == pytest.approx([100 / 270, 100 / 27, 100 / 3, 0])
    assert sum(count * weight for count, weight in zip(counts, weights.tolist(), strict=True)) == pytest.approx(100)
    assert class_weights(CrossEntropy(), counts) is None
