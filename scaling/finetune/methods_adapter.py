"""Small layers with a bottleneck after each feed-forward (Houlsby et al. 2019; one a layer: Pfeiffer et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from scaling.finetune.layers import layers_of, num_features, places_of, replace
from scaling.method import Adapter

INITIAL_STD = 0.02


class Bottleneck(nn.Module):
    """x + up(gelu(down(x))) of the output x [..., h] of `base`; up begins at 0, so the model begins as it was."""

    def __init__(self, base: nn.Linear | Conv1D, size: int) -> None:
        super().__init__()
        width = num_features(base)[1]
        self.base = base
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        nn.init.normal_(self.down.weight, std=INITIAL_STD)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.base(hidden)
        return hidden + self.up(functional.gelu(self.down(hidden)))


def insert_adapters(model: PreTrainedModel, method: Adapter) -> None:
    """After the last linear layer of each feed-forward; all else of the model is frozen.

    ValueError for a family whose feed-forward is not known.
    """
    place = places_of(model, "method.adaptation.kind=adapter").feed_forward
    model.requires_grad_(False)
    for layer in layers_of(model).values():
        base = layer.get_submodule(place)
        assert isinstance(base, nn.Linear | Conv1D)
        with torch.device(base.weight.device):
            replace(layer, place, Bottleneck(base, method.size))
