"""What takes the steps: forward, backward, clip, update.

One rank has nothing to share out, so it needs no DeepSpeed (`plain.py`), whatever its ZeRO stage; several ranks,
offload, fp16 and quantised communication are DeepSpeed's (`zero.py`). Both keep fp32 master weights and Adam moments,
compute in the run's precision, and give and take the state of training in one form, whatever the stage and the number
of ranks: so a checkpoint of one placement continues under another, is plain safetensors, and nothing is unpickled.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scaling.child import FinetuneSpec
from scaling.data.randomness import key
from scaling.ranks import this_rank
from scaling.spec import AdamW, RunSpec
from scaling.train.batches import Batch
from scaling.train.tensors import RowTensors

log = logging.getLogger(__name__)

MOMENTS = ("exp_avg", "exp_avg_sq")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class TrainState:
    """step: optimiser steps taken. weights, exp_avg, exp_avg_sq: fp32 tensors on the CPU by parameter name, of those
    that learn.

    numerics: where and with what all of its steps were computed; None where that changed on the way.
    scaler: the numbers of fp16's loss scaling; `updates`, where steps were left out: those that were not.
    besides: what else a fine-tuning goes on from: its best weights so far, and what its method remembers.
    """

    step: int
    weights: dict[str, Tensor]
    exp_avg: dict[str, Tensor]
    exp_avg_sq: dict[str, Tensor]
    numerics: str | None
    scaler: dict[str, float] = field(default_factory=dict)
    besides: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that learn alike: how fast they decay, and their learning rate as a part of the run's."""

    names: tuple[str, ...]
    weight_decay: float
    rate_factor: float = 1.0


def usual_groups(module: nn.Module, optimizer: AdamW) -> list[Group]:
    """All that learns: matrices decay, the others do not."""
    learning = {name: parameter.ndim for name, parameter in module.named_parameters() if parameter.requires_grad}
    matrices = tuple(name for name, ndim in learning.items() if ndim >= 2)
    others = tuple(name for name, ndim in learning.items() if ndim < 2)
    return [Group(matrices, optimizer.weight_decay), Group(others, 0.0)]


def mean_loss(spec: RunSpec | FinetuneSpec, losses: Tensor) -> Tensor:
    """The mean of the losses [n, P] of a micro-batch, to be weighed by `Batch.weight`. [] fp32

    Of a fine-tuning, whose rows differ in length, over rows and not over targets: P depends on what it is padded to.
    """
    return losses.sum(1).mean() if isinstance(spec, FinetuneSpec) else losses.mean()


def seed_dropout(spec: RunSpec | FinetuneSpec, step: int) -> None:
    """What dropout leaves out in a step depends on the step alone. Pretraining has no dropout."""
    if isinstance(spec, FinetuneSpec):
        torch.manual_seed(int(key("dropout", spec.seed, step, this_rank())) % 2**63)


@dataclass(frozen=True, slots=True)
class Look:
    """Per step since the last look [steps]: mean nats per predicted token, and the gradient's norm before clipping."""

    losses: NDArray[np.float64]
    grad_norms: NDArray[np.float64]


class Engine(Protocol):
    """One rank of a model in training."""

    device: torch.device

    def train(self, batch: Batch, learning_rate: float) -> None:
        """One optimiser step. Does not wait for the device."""

    def look(self) -> Look:
        """What the steps since the last look came to, over all ranks. Waits for the device; every rank calls it."""

    def predict(self, examples: RowTensors) -> Tensor:
        """What the module says of examples, wherever they are, without dropout or gradients.

        Under ZeRO 3 every rank must call it equally often.
        """

    def whole(self) -> AbstractContextManager[nn.Module]:
        """The module with all of its weights on this rank, in evaluation mode. Every rank enters it."""

    def weights(self) -> dict[str, Tensor]:
        """What learns, as it is now: fp32 tensors on the CPU by name. Every rank must call it; each gets the whole."""

    def num_updates(self) -> int:
        """Steps that were taken and not left out."""

    def state(self, step: int, numerics: str | None) -> TrainState:
        """The state after `step` steps. Every rank must call it; each gets the whole."""


def open_engine(
    spec: RunSpec | FinetuneSpec,
    module: nn.Module,
    state: TrainState | None,
    groups: Sequence[Group] | None = None,
    cache: Path | None = None,
) -> Engine:
    """An engine for `module` at its start, or, where it holds the weights of `state`, to go on from there.

    module: gives the loss of its rows' predictions [n, P], 0 where nothing is predicted; parameters that ask for no
    gradient stay as they are. groups: those that do; None: as usual. cache: of `PlainEngine`.
    """
    groups = [group for group in groups or usual_groups(module, spec.optimizer) if group.names]
    if spec.placement.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or torch refuses; read when CUDA starts
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs a pass over memory, and finds bugs only
    if not spec.needs_deepspeed:
        if spec.zero.stage > 0:
            log.info("zero.stage=%d on one rank shares nothing out: plain torch computes the same", spec.zero.stage)
        from scaling.train.plain import PlainEngine

        return PlainEngine(spec, module, state, groups, cache)
    from scaling.train.zero import ZeroEngine  # some seconds of imports

    return ZeroEngine(spec, module, state, groups)
