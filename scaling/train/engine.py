"""What takes the steps: forward, backward, clip, update.

One rank at ZeRO stage 0 has nothing to share out, so it needs no DeepSpeed (`plain.py`); everything else is DeepSpeed's
(`zero.py`). Both keep fp32 master weights and Adam moments, compute in the run's precision, and give and take the
state of training in one form, whatever the stage and the number of ranks: so a checkpoint of one placement continues
under another, is plain safetensors, and nothing is unpickled.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scaling.spec import RunSpec
from scaling.train.batches import Batch
from scaling.train.objective import TokenLoss

MOMENTS = ("exp_avg", "exp_avg_sq")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class TrainState:
    """step: optimiser steps taken. weights, exp_avg, exp_avg_sq: fp32 tensors on the CPU by parameter name.

    numerics: where and with what all of its steps were computed; None where that changed on the way.
    scaler: the numbers of fp16's loss scaling; `updates`, where steps were left out: those that were not.
    """

    step: int
    weights: dict[str, Tensor]
    exp_avg: dict[str, Tensor]
    exp_avg_sq: dict[str, Tensor]
    numerics: str | None
    scaler: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """Per step since the last look [steps]: mean nats per predicted token, and the gradient's norm before clipping."""

    losses: NDArray[np.float64]
    grad_norms: NDArray[np.float64]


class Engine(Protocol):
    """One rank of a model in training."""

    device: torch.device
    num_draws: int

    def train(self, batch: Batch, learning_rate: float) -> None:
        """One optimiser step. Does not wait for the device."""

    def look(self) -> Look:
        """What the steps since the last look came to, over all ranks. Waits for the device; every rank calls it."""

    def score(
        self, sequences: NDArray[np.int64], draws: NDArray[np.float64], segments: NDArray[np.int64] | None
    ) -> tuple[Tensor, Tensor]:
        """Nats [n, P] and the predicted tokens [n, P] of sequences [n, T]: 0 nats where NOT_PREDICTED.

        draws [n, num_draws] place the masks; segments [n, T], if any, keep the documents apart.
        """

    def state(self, step: int, numerics: str | None) -> TrainState:
        """The state after `step` steps. Every rank must call it; each gets the whole."""


def open_engine(spec: RunSpec, module: TokenLoss, state: TrainState | None) -> Engine:
    """An engine for `module` at its start, or, where it holds the weights of `state`, to go on from there."""
    if spec.placement.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or torch refuses; read when CUDA starts
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs a pass over memory, and finds bugs only
    if not spec.needs_deepspeed:
        from scaling.train.plain import PlainEngine

        return PlainEngine(spec, module, state)
    from scaling.train.zero import ZeroEngine  # some seconds of imports

    return ZeroEngine(spec, module, state)
