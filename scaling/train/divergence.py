"""Losses and gradients that are no number any more."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from scaling.child import FinetuneSpec
from scaling.spec import RunSpec
from scaling.train.engine import Look
from scaling.train.recorder import DivergedError

log = logging.getLogger(__name__)

MOST_LEFT_OUT = 0.1
"""Of the steps of a run, those that may be left out: with more, its data are not what it was trained on."""


def check_numbers(
    look: Look, spec: RunSpec | FinetuneSpec, steps: NDArray[np.int64], is_far: NDArray[np.bool_]
) -> None:
    """DivergedError, with the step and its sequences, if a loss or gradient is no number, or the loss too far off.

    steps, is_far: of each step in `look`. Where steps without a number are left out, each is warned of.
    """
    is_nonfinite = ~np.isfinite(look.losses)
    if spec.precision != "fp16":  # whose gradients overflow until the loss is scaled right
        is_nonfinite |= ~np.isfinite(look.grad_norms)
    said = [
        f"step {step + 1}, sequences {step * spec.batch.num_sequences} to {(step + 1) * spec.batch.num_sequences - 1}:"
        f" the loss is {loss:g}, the norm of its gradient {norm:g}"
        for step, loss, norm in zip(steps, look.losses, look.grad_norms, strict=True)
    ]
    is_bad = is_far | is_nonfinite
    if spec.optimizer.nonfinite == "skip":
        for index in np.flatnonzero(is_nonfinite):
            log.warning("left out: %s", said[index])
        is_bad = is_far & ~is_nonfinite
    if is_bad.any():
        raise DivergedError(said[int(is_bad.argmax())])


def check_left_out(spec: RunSpec | FinetuneSpec, num_steps: int, num_updates: int) -> int:
    """The steps that were left out of those taken; DivergedError if they are too many."""
    num_left_out = num_steps - num_updates
    if spec.precision != "fp16" and num_left_out > MOST_LEFT_OUT * num_steps:
        raise DivergedError(f"{num_left_out} of {num_steps} steps were left out, whose loss was no number")
    return num_left_out
