"""A smaller model, taught by the fine-tuned one (Hinton et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scaling.child import CompressSpec, FinetuneSpec, student_of
from scaling.compression import Distillation
from scaling.finetune.batches import task_batches
from scaling.finetune.begin import Begin
from scaling.finetune.finetune import STEPS_BETWEEN_LOOKS, learning_rate_factor
from scaling.finetune.recorder import Recorder
from scaling.finetune.start import find_start, load
from scaling.finetune.trial import finetuning_trial
from scaling.identity import fingerprint
from scaling.train.checkpoint import keep_newest, save_checkpoint
from scaling.train.divergence import check_numbers
from scaling.train.engine import Look, open_engine
from scaling.train.objective import NOT_PREDICTED
from scaling.train.preemption import PreemptedError, Stop
from scaling.train.probe import with_micro_batch


@dataclass(frozen=True, slots=True)
class Attempted:
    """Where a compression is made, and by what it hears that it is to stop."""

    run_dir: Path
    cache: Path
    stop: Stop


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


class Teacher:
    """A fine-tuned module that says of rows what it makes its losses of: logits [n, C] or [n, P, C].

    It is heard once for all of its students: what each of them left there would keep that student as long as itself.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module.eval().requires_grad_(False)
        self._heard: list[Tensor] = []
        module.loss.register_forward_pre_hook(self._hear)  # type: ignore[union-attr]

    def __call__(self, **examples: Any) -> Tensor:
        with torch.no_grad():
            self._module(**examples)
        return self._heard.pop()

    def _hear(self, _: nn.Module, given: tuple[Any, ...]) -> None:
        self._heard.append(given[0])


class Taught(nn.Module):
    """A student that learns from rows and what its teacher makes of them: losses [n, P]; without targets its logits.

    Both are of one kind of task, whose `loss` is given logits and targets. The teacher is no part of this: none of its
    weights learns, or is kept in checkpoints.
    """

    def __init__(self, student: nn.Module, teacher: Teacher, method: Distillation) -> None:
        super().__init__()
        self.student = student
        self.taught = TaughtLoss(student.loss, method)  # type: ignore[arg-type]
        student.loss = self.taught
        self._teacher = teacher

    def forward(self, **examples: Any) -> Tensor:
        if examples.get("targets") is not None:
            self.taught.teachers = self._teacher(**examples)
        said: Tensor = self.student(**examples)
        return said


def distilled(
    spec: CompressSpec, tuned: FinetuneSpec, opened: Begin, teacher: nn.Module, recorder: Recorder, attempt: Attempted
) -> nn.Module:
    """A student that has learned the training rows, on the CPU in fp32, from its last checkpoint if there is one.

    tuned: the teacher's spec; it is on its device, in the precision that the student is trained in, too. Raises
    DivergedError if the loss makes no sense, PreemptedError.
    """
    assert isinstance(spec.compress, Distillation)
    method, stop = spec.compress, attempt.stop
    begun, heard = replace(opened, spec=student_of(tuned, method), parent=None), Teacher(teacher)

    def taught_anew() -> Taught:
        return Taught(begun.module(), heard, method)

    trial = finetuning_trial(begun.spec, begun)
    identity = {**trial.identity, "teacher": tuned.parent.model.model_dump(mode="json")}
    trial = replace(trial, module=taught_anew, identity=identity)
    student = with_micro_batch(begun.spec, attempt.cache, trial)
    total, size = student.num_steps(len(opened.train)), student.batch.num_sequences
    start = find_start(student, attempt.run_dir, total, owner=fingerprint(spec))
    recorder.goes_on(start.step, size)
    taught = taught_anew()
    if start.state is not None:
        load(taught, start.state.weights)
    engine = open_engine(student, taught, start.state)

    def keep(done: int) -> None:
        with recorder.during("checkpoint"):
            save_checkpoint(attempt.run_dir / "checkpoints", engine.state(done, start.numerics), fingerprint(spec))
            keep_newest(attempt.run_dir / "checkpoints", 2)
        recorder.checkpoint_written()

    batches = task_batches(student, opened.train, opened.kind.is_per_token, start.step, total, engine.device)
    for batch in recorder.steps(batches, size):
        if stop.is_requested:
            if batch.step > start.step:
                _check(engine.look(), student, batch.step)
                keep(batch.step)
            raise PreemptedError
        rate = student.optimizer.learning_rate * learning_rate_factor(student, batch.step, total)
        engine.train(batch, rate)
        done = batch.step + 1
        stop.raises = False  # from now on there is something to lose
        if done % STEPS_BETWEEN_LOOKS == 0 or done == total:
            look = engine.look()
            _check(look, student, done)
            recorder.training(done * size, look.losses[-1], rate, look.grad_norms[-1])
            if done == total or recorder.checkpoint_is_due():
                keep(done)
    stop.raises = True  # what is left is quickly done again
    if stop.is_requested:
        raise PreemptedError
    weights = engine.weights()
    return begun.module({name.removeprefix("student."): value for name, value in weights.items()})


def _check(look: Look, spec: FinetuneSpec, done: int) -> None:
    steps = np.arange(done - len(look.losses), done)
    check_numbers(look, spec, steps, np.zeros(len(steps), dtype=bool))
