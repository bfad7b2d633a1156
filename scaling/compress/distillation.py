"""A smaller model, taught by the fine-tuned one (Hinton et al. 2015)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scaling.child import FinetuneSpec, student_of
from scaling.compression import Distillation
from scaling.finetune.batches import task_batches
from scaling.finetune.begin import Begin
from scaling.finetune.finetune import STEPS_BETWEEN_LOOKS, learning_rate_factor
from scaling.finetune.recorder import Recorder
from scaling.train.divergence import check_numbers
from scaling.train.engine import open_engine
from scaling.train.objective import NOT_PREDICTED


class TaughtLoss(nn.Module):
    """The loss of each target [n, P], from the student's logits [n, C] or [n, P, C]; what is 0 counts for nothing.

        (1 - w) rule + w T^2 sum_c q_c (ln q_c - ln p_c),   q, p: softmax of the teacher's and student's logits / T

    Where the answer is a number (C = 1), the square of their difference stands for the divergence.
    """

    def __init__(self, rule: nn.Module, method: Distillation) -> None:
        super().__init__()
        self.rule, self.method = rule, method
        self.teachers: Tensor | None = None

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        assert self.teachers is not None
        losses: Tensor = self.rule(logits, targets)
        apart = divergence(logits, self.teachers, self.method.temperature).reshape(losses.shape)
        if not targets.is_floating_point():
            apart = apart * (targets != NOT_PREDICTED).reshape(losses.shape)
        return (1 - self.method.weight) * losses + self.method.weight * apart


def divergence(logits: Tensor, teachers: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) [...], of logits [..., C]; what is impossible for both is left out."""
    logits, teachers = logits.float(), teachers.float()
    if logits.shape[-1] == 1:
        return (logits - teachers).squeeze(-1).square()
    log_p = (logits / temperature).log_softmax(-1)
    log_q = (teachers / temperature).log_softmax(-1)
    q = log_q.exp()
    return temperature**2 * torch.where(q > 0, q * (log_q - log_p), 0.0).sum(-1)


class Taught(nn.Module):
    """A student that learns from rows and from what its teacher makes of them: losses [n, P].

    Both are modules of one kind of task, whose `loss` is given logits and targets. The teacher is no part of this: none
    of its weights learns, or is kept in checkpoints.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, method: Distillation) -> None:
        super().__init__()
        self.student = student
        self.taught = TaughtLoss(student.loss, method)  # type: ignore[arg-type]
        student.loss = self.taught
        self._teacher = [teacher.eval().requires_grad_(False)]
        self._heard: list[Tensor] = []
        teacher.loss.register_forward_pre_hook(self._hear)  # type: ignore[union-attr]

    def forward(self, **examples: Any) -> Tensor:
        self._heard.clear()
        with torch.no_grad():
            self._teacher[0](**examples)
        self.taught.teachers = self._heard.pop()
        losses: Tensor = self.student(**examples)
        return losses

    def _hear(self, _: nn.Module, given: tuple[Any, ...]) -> None:
        self._heard.append(given[0])


def distilled(
    spec: FinetuneSpec, opened: Begin, teacher: nn.Module, method: Distillation, recorder: Recorder
) -> nn.Module:
    """A student that has learned the training rows, on the CPU in fp32. DivergedError if its loss makes no sense.

    spec: of the teacher, which is on its device, in the precision that the student is trained in, too.
    """
    student = student_of(spec, method)
    begun = replace(opened, spec=student, parent=None)
    taught = Taught(begun.module(), teacher, method)
    total, size = student.num_steps(len(opened.train)), student.batch.num_sequences
    engine = open_engine(student, taught, None)
    for batch in task_batches(student, opened.train, opened.kind.is_per_token, 0, total, engine.device):
        rate = student.optimizer.learning_rate * learning_rate_factor(student, batch.step, total)
        engine.train(batch, rate)
        done = batch.step + 1
        if done % STEPS_BETWEEN_LOOKS == 0 or done == total:
            look = engine.look()
            steps = np.arange(done - len(look.losses), done)
            check_numbers(look, student, steps, np.zeros(len(steps), dtype=bool))
            recorder.training(done * size, look.losses[-1], rate, look.grad_norms[-1])
    weights = engine.weights()
    return begun.module({name.removeprefix("student."): value for name, value in weights.items()})
