"""DeepSpeed's step under ZeRO 1 and 2 with a handful of kernels where it has a dozen per parameter.

A small model's step waits for Python. Of some 700 small kernels that DeepSpeed 0.19.8 launches for 38 parameters
besides the model's own, 400 ask each gradient for infinities and 110 take its norm, and the host waits for the answers
three times. Here a gradient's norm is taken for all parameters in one pass, over both parameter groups and with one
message between the ranks; what is not finite makes it so; and nobody waits for it where nothing depends on it.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, distributed


def lighten(zero: Any) -> None:
    """Give DeepSpeed's optimizer of stage 1 or 2, which holds all on its device, these methods for its own."""
    zero.has_overflow_partitioned_grads_serial = MethodType(_has_overflow, zero)
    zero.scaled_global_norm = MethodType(_global_norm, zero)
    zero.unscale_and_clip_grads = MethodType(_unscale_and_clip, zero)


def _sum_of_squares(zero: Any) -> Tensor:
    """Of this rank's part of the gradient; no number where the gradient is none. []"""
    gradients = [gradient for group in zero.averaged_gradients.values() for gradient in group or ()]
    if not gradients:
        return torch.zeros((), device=zero.device)
    return torch.stack(torch._foreach_norm(gradients, 2, torch.float32)).square().sum()


def _has_overflow(zero: Any) -> Tensor:
    """Whether this rank's part of the gradient holds what is no number. [1]"""
    return ~torch.isfinite(_sum_of_squares(zero)).reshape(1)


def _global_norm(zero: Any, norm_type: int = 2) -> Tensor:
    """The norm of the gradient of all ranks, times the loss scale. []"""
    assert norm_type == 2
    square = _sum_of_squares(zero)
    distributed.all_reduce(square, group=zero.dp_process_group)
    return square.sqrt()


def _unscale_and_clip(zero: Any, gradients: list[Tensor], norm: Tensor) -> None:
    """As DeepSpeed does it, without a look at the norm: `step` has left out what must be."""
    scale = torch.as_tensor(zero.loss_scale, device=norm.device)
    if zero.clip_grad > 0:
        scale = scale * ((norm / zero.loss_scale + 1e-6) / zero.clip_grad).clamp(min=1.0)
    for gradient in gradients:
        gradient.mul_(1.0 / scale)
