"""Low-rank updates whose ranks are shared out by importance (AdaLoRA: Zhang et al. 2023).

`peft` has the layers and the allocator, but its allocator reads `.grad` and writes into weights. Our engines have
neither: gradients go to a flat buffer or to other ranks, and the weights that count are fp32 masters. So sensitivity
is gathered here by hooks, and what is pruned is masked: a masked triplet still gets the gradient that it would get, and
may come back, as in the paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from scaling.finetune.layers import linear_layers, num_features, replace
from scaling.method import AdaLora
from scaling.ranks import num_ranks
from scaling.train.objective import NOT_PREDICTED

INITIAL_STD = 0.02
SMOOTHING = 0.85
"""beta_1 and beta_2 of the paper's eq. 9 and 10; its default, as `peft` has it."""
ORTHOGONALITY = 0.5
"""gamma of eq. 4, as `peft` has it."""
WARMUP_FRAC, FINAL_FRAC = 0.1, 0.5
"""Of the steps: how long all triplets stay, and how long the last choice stands. About what the paper has for GLUE."""
FACTORS = ("right", "values", "left")


class RankedLinear(nn.Module):
    """W x + alpha / r left (values * mask * right) x: a linear layer with triplets of which some are left out.

    right [r, in], values [r, 1], left [out, r]; r: the initial rank; mask [r]: which triplets count.
    """

    mask: Tensor

    def __init__(self, base: nn.Linear | Conv1D, method: AdaLora) -> None:
        super().__init__()
        self.base = base
        num_in, num_out = num_features(base)
        rank = method.initial_rank
        self.right = nn.Parameter(torch.randn(rank, num_in) * INITIAL_STD)
        self.values = nn.Parameter(torch.zeros(rank, 1))
        self.left = nn.Parameter(torch.randn(num_out, rank) * INITIAL_STD)
        self.register_buffer("mask", torch.ones(rank, dtype=torch.bool), persistent=False)
        self.dropout = nn.Dropout(method.dropout)
        self.target_rank = method.rank
        self.scale = method.alpha / rank
        self.penalty: Tensor | None = None
        # Not buffers: DeepSpeed would round them to the precision that computes.
        self.sensitivity: dict[str, Tensor] = {}
        self.importance: dict[str, Tensor] = {}
        self.uncertainty: dict[str, Tensor] = {}

    @property
    def weight(self) -> Tensor:
        """Of the plain layer; T5 looks at its precision."""
        return self.base.weight

    def forward(self, hidden: Tensor) -> Tensor:
        right, values, left = (self._watched(name) for name in FACTORS)
        if self.training and torch.is_grad_enabled():
            self.penalty = _away_from_orthogonal(right) + _away_from_orthogonal(left.T)
        kept = values + (values * self.mask.unsqueeze(1) - values).detach()
        return self.base(hidden) + (self.dropout(hidden) @ (right * kept).T @ left.T) * self.scale

    def update(self) -> Tensor:
        """What is added to the weight of a plain linear layer [out, in]."""
        return (self.left @ (self.right * self.values * self.mask.unsqueeze(1))) * self.scale

    def _watched(self, name: str) -> Tensor:
        """A factor, whose sensitivity w dL/dw is summed up as the gradient comes, over the micro-batches of a step."""
        factor = getattr(self, name)
        if not (self.training and torch.is_grad_enabled()):
            return factor
        if name not in self.sensitivity:
            self.sensitivity[name] = torch.zeros(factor.shape, device=factor.device)
        held, seen = factor.detach(), factor.view_as(factor)

        def gather(gradient: Tensor) -> None:
            self.sensitivity[name].add_(held.float() * gradient.float())

        seen.register_hook(gather)
        return seen

    def smooth(self) -> None:
        """Take the step's sensitivity into its running mean, and how far it strayed from that; eq. 8 to 10."""
        for name, summed in self.sensitivity.items():
            for kept in (self.importance, self.uncertainty):
                kept[name] = kept[name].to(summed.device) if name in kept else torch.zeros_like(summed)
            # A step that loss scaling leaves out says nothing.
            now = torch.where(torch.isfinite(summed), summed, 0.0).abs()
            self.importance[name].lerp_(now, 1 - SMOOTHING)
            self.uncertainty[name].lerp_((now - self.importance[name]).abs(), 1 - SMOOTHING)
            summed.zero_()

    def scores(self) -> Tensor:
        """The importance of each triplet [r]; eq. 7 and 11."""
        score = {name: self.importance[name] * self.uncertainty[name] for name in FACTORS}
        return score["values"].squeeze(1) + score["right"].mean(1) + score["left"].mean(0)


def _away_from_orthogonal(rows: Tensor) -> Tensor:
    """||R R^T - 1||^2 of R [r, n]; eq. 4."""
    return (rows @ rows.T - torch.eye(len(rows), dtype=rows.dtype, device=rows.device)).float().square().sum()


def insert_adalora(module: nn.Module, model: PreTrainedModel, method: AdaLora) -> None:
    """Around each linear layer of each transformer layer of `model`; all else of it is frozen.

    module: the task's, whose loss then counts how far the factors are from orthogonal.
    """
    model.requires_grad_(False)
    for name, base in linear_layers(model).items():
        replace(model, name, RankedLinear(base, method))
    module.register_forward_hook(_with_penalty, with_kwargs=True)


def _with_penalty(module: nn.Module, _: Any, given: dict[str, Any], result: Tensor) -> Tensor:
    """Losses [n, P] with the penalty added to each that is predicted: so its mean over those is the penalty."""
    targets = given.get("targets")
    if targets is None or not module.training or not torch.is_grad_enabled():
        return result
    penalties = [layer.penalty for layer in ranked_layers(module) if layer.penalty is not None]
    penalty = ORTHOGONALITY * torch.stack(penalties).mean()
    is_predicted = targets != NOT_PREDICTED
    if result.shape[1] == 1 or is_predicted.ndim != 2:
        return result + penalty
    return result + penalty * is_predicted[:, is_predicted.shape[1] - result.shape[1] :]


def ranked_layers(module: nn.Module) -> list[RankedLinear]:
    return [part for part in module.modules() if isinstance(part, RankedLinear)]


def num_kept(initial: int, target: int, step: int, num_steps: int) -> int:
    """Triplets of all matrices together after `step` steps; eq. 12: all, then fewer by a cube, then the target."""
    first, last = WARMUP_FRAC * num_steps, (1 - FINAL_FRAC) * num_steps
    if step <= first:
        return initial
    left = max(0.0, (last - step) / (last - first))
    return target + round((initial - target) * left**3)


def share_out(module: nn.Module, step: int, num_steps: int) -> None:
    """Choose the triplets that count from now on; every rank calls it after each step."""
    layers = ranked_layers(module)
    if num_ranks() > 1:
        summed = [tensor for layer in layers for tensor in layer.sensitivity.values()]
        whole = torch.cat([tensor.flatten() for tensor in summed])
        distributed.all_reduce(whole)
        for tensor, part in zip(summed, whole.split([tensor.numel() for tensor in summed]), strict=True):
            tensor.copy_(part.view_as(tensor))
    for layer in layers:
        layer.smooth()
    if step > (1 - FINAL_FRAC) * num_steps + 1:  # the last choice stands
        return
    scores = torch.cat([layer.scores() for layer in layers])
    kept = num_kept(len(scores), sum(layer.target_rank for layer in layers), step, num_steps)
    mask = torch.zeros_like(scores, dtype=torch.bool)
    mask[scores.argsort(descending=True, stable=True)[:kept]] = True
    for layer, part in zip(layers, mask.split([len(layer.mask) for layer in layers]), strict=True):
        layer.mask.copy_(part)


def _remembered(module: nn.Module) -> Iterator[tuple[str, RankedLinear]]:
    return ((name, part) for name, part in module.named_modules() if isinstance(part, RankedLinear))


def allocation(module: nn.Module) -> dict[str, Tensor]:
    """What the choice of triplets goes on from, besides weights: fp32 tensors on the CPU by name."""
    state = {}
    for name, layer in _remembered(module):
        state[f"{name}.mask"] = layer.mask.float().cpu()
        for factor in layer.importance:
            state[f"{name}.{factor}.importance"] = layer.importance[factor].cpu().clone()
            state[f"{name}.{factor}.uncertainty"] = layer.uncertainty[factor].cpu().clone()
    return state


def load_allocation(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """The opposite of `allocation`, of a module on any device."""
    for name, layer in _remembered(module):
        layer.mask.copy_(state[f"{name}.mask"] > 0)
        for factor in FACTORS:
            if f"{name}.{factor}.importance" in state:
                layer.importance[factor] = state[f"{name}.{factor}.importance"].clone()
                layer.uncertainty[factor] = state[f"{name}.{factor}.uncertainty"].clone()


@torch.no_grad()
def merge_adalora(model: PreTrainedModel) -> None:
    """Add the updates to the weights that they are of, and leave plain linear layers."""
    for name, part in list(model.named_modules()):
        if isinstance(part, RankedLinear):
            update = part.update()
            part.base.weight += update.T if isinstance(part.base, Conv1D) else update
            replace(model, name, part.base)
