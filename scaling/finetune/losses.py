"""What a wrong answer costs: cross entropy and focal loss, by class weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scaling.method import Focal, TaskLossRule
from scaling.train.objective import NOT_PREDICTED


def class_weights(rule: TaskLossRule, counts: Sequence[int]) -> Tensor | None:
    """What each label weighs [C]; None: all the same. counts: training rows (or words) by label.

    `balanced`: rows / (C' rows of the label), C' labels that occur: their mean over the training rows is 1. A label
    that does not occur is never a target, and weighs nothing where smoothing would spread to it.
    """
    if rule.class_weights == "none":
        return None
    rows = torch.tensor(counts, dtype=torch.float64)
    occurs = rows > 0
    return torch.where(occurs, rows.sum() / (occurs.sum() * rows.clamp(min=1)), 0.0).float()


def task_loss(rule: TaskLossRule, logits: Tensor, targets: Tensor, class_weights: Tensor | None) -> Tensor:
    """The loss of each target [n, P], in fp32: 0 where NOT_PREDICTED.

    logits [n, C] with targets [n] or [n, 1], P = 1; or logits [n, P, C] with targets [n, P]. An answer that is
    impossible has a logit of -inf: no smoothing reaches it. class_weights [C], or None.

    Cross entropy, w_y nats of y, or with smoothing e, as torch has it but over the possible answers C:

        (1 - e) w_y (-ln p_y) + e / C sum_c w_c (-ln p_c)

    Focal (Lin et al. 2017, eq. 5): w_y (1 - p_y)^gamma (-ln p_y).
    """
    if logits.ndim == 2:
        logits, targets = logits.unsqueeze(1), targets.reshape(-1, 1)
    log_p = logits.float().log_softmax(-1)  # [n, P, C]
    is_predicted = targets != NOT_PREDICTED
    right = targets.where(is_predicted, 0).unsqueeze(-1)
    log_right = log_p.gather(-1, right).squeeze(-1)
    weight = is_predicted.float() if class_weights is None else class_weights[right.squeeze(-1)] * is_predicted
    if isinstance(rule, Focal):
        # Below 1e-6 the power of a gamma under 1 has a gradient without bound.
        unsure = -torch.expm1(log_right)
        return _times(weight, -log_right * unsure.clamp(min=1e-6).pow(rule.gamma), is_predicted)
    losses = _times(weight, -log_right, is_predicted)
    if rule.label_smoothing == 0:
        return losses
    is_possible = ~torch.isneginf(log_p)
    spread = -log_p.masked_fill(~is_possible, 0.0)
    if class_weights is not None:
        spread = spread * class_weights
    spread = spread.sum(-1) / is_possible.sum(-1)
    return (1 - rule.label_smoothing) * losses + rule.label_smoothing * spread * is_predicted


def _times(weight: Tensor, losses: Tensor, is_predicted: Tensor) -> Tensor:
    """`weight * losses`; 0 where nothing is predicted, though the answer that stands there be impossible."""
    return weight * losses.masked_fill(~is_predicted, 0.0)
