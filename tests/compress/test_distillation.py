"""A student and its teacher."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import VOCAB_SIZE, texts, tiny_classifier, tiny_model
from torch import nn
from torch.nn import functional

from scaling.compress.distillation import Taught, Teacher, divergence
from scaling.compression import Distillation
from scaling.finetune.heads import TargetLoss, TokenModel
from scaling.finetune.kinds.generation import DecoderModel
from scaling.finetune.kinds.qa import SpanModel
from scaling.method import CrossEntropy
from scaling.model import Bert
from scaling.train.objective import NOT_PREDICTED

SIZE = Bert(hidden_size=32, num_layers=1, num_heads=2, intermediate_size=48)


def method(**changes: float) -> Distillation:
    return Distillation(student=SIZE, **changes)  # type: ignore[arg-type]


def test_the_divergence_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, teachers = torch.randn(2, 5, 4, generator=generator)
    right = functional.kl_div((logits / 3).log_softmax(-1), (teachers / 3).softmax(-1), reduction="none").sum(-1)
    torch.testing.assert_close(divergence(logits, teachers, 3.0), 9 * right)


def test_what_is_impossible_for_both_is_left_out() -> None:
    logits = torch.tensor([[1.0, 2.0, -math.inf]], requires_grad=True)
    teachers = torch.tensor([[0.5, -1.0, -math.inf]])
    found = divergence(logits, teachers, 2.0)
    torch.testing.assert_close(found, divergence(logits[:, :2], teachers[:, :2], 2.0))
    found.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_a_number_is_compared_with_the_teachers_number() -> None:
    torch.testing.assert_close(
        divergence(torch.tensor([[2.0], [1.0]]), torch.tensor([[0.5], [1.0]]), 2.0), torch.tensor([2.25, 0.0])
    )


def test_at_weight_zero_a_student_learns_the_labels_and_at_one_its_teacher() -> None:
    teacher = tiny_classifier("bert")
    student = tiny_classifier("gpt2")
    given = texts()
    labels = student(**given)
    free = Taught(tiny_classifier("gpt2"), Teacher(tiny_classifier("bert")), method(weight=0.0))
    torch.testing.assert_close(free(**given), labels)
    bound = Taught(tiny_classifier("gpt2"), Teacher(tiny_classifier("bert")), method(weight=1.0))
    asked = {name: tensor for name, tensor in given.items() if name != "targets"}
    torch.testing.assert_close(bound(**given).squeeze(1), divergence(student(**asked), teacher(**asked), 2.0))


def test_a_student_comes_to_answer_as_its_teacher_does_though_the_labels_say_otherwise() -> None:
    teacher = tiny_classifier("bert")
    given = texts(8)
    asked = {name: tensor for name, tensor in given.items() if name != "targets"}
    with torch.no_grad():
        told = teacher(**asked)
    given["targets"] = (told.argmax(1, keepdim=True) + 1) % 3
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    taught = Taught(tiny_classifier("gpt2"), Teacher(teacher), method(weight=0.9))
    assert not any("teacher" in name for name in taught.state_dict())
    optimizer = torch.optim.Adam(taught.parameters(), lr=0.01)
    taught.train()
    for _ in range(60):
        optimizer.zero_grad()
        taught(**given).mean().backward()
        optimizer.step()
    taught.eval()
    assert torch.equal(taught.student(**asked).argmax(1), told.argmax(1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def span_model() -> nn.Module:
    return SpanModel(tiny_model("bert"), 0.0, CrossEntropy())


def token_model() -> nn.Module:
    return TokenModel(tiny_model("bert"), 3, 0.0, TargetLoss(CrossEntropy(), None))


def writing_model() -> nn.Module:
    return DecoderModel(tiny_model("llama"), CrossEntropy(), 4)


@pytest.mark.parametrize("make", [span_model, token_model, writing_model])
def test_every_kind_of_task_can_be_taught(make: object) -> None:
    assert callable(make)
    given = texts()
    inputs = given["inputs"]
    if make is span_model:
        given["targets"] = torch.tensor([[1, 2], [0, 5], [3, 3]])
    else:
        given["targets"] = inputs % 3 if make is token_model else inputs % VOCAB_SIZE
        given["targets"][:, :5] = NOT_PREDICTED
        given["targets"][1, 6:] = NOT_PREDICTED
    torch.manual_seed(0)
    student, teacher = make().eval(), make().eval()
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    labels = student(**given)
    taught = Taught(student, Teacher(teacher), method(weight=0.5))
    losses = taught(**given)
    assert losses.shape == labels.shape
    assert torch.isfinite(losses).all()
    assert torch.equal(losses == 0, labels == 0)
    without = {name: tensor for name, tensor in given.items() if name != "targets"}
    assert torch.equal(taught(**without), student(**without)), "without targets there is nothing to teach"
    same = Taught(make().eval(), Teacher(make().eval()), method(weight=0.5))
    assert same(**given).shape == labels.shape
