"""The smallest weights set to 0; they take part as before, but are easily packed."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import prune
from transformers import PreTrainedModel

from scaling.compression import Magnitude
from scaling.finetune.layers import linear_layers


def prune_magnitude(model: PreTrainedModel, method: Magnitude) -> None:
    """Set `frac` of the weights of the linear layers to 0, those of least magnitude: of each layer, or of all together.

    Biases, norms and embeddings stay.
    """
    layers: list[nn.Module] = list(linear_layers(model).values())
    if method.scope == "model":
        weights = [(layer, "weight") for layer in layers]
        prune.global_unstructured(weights, pruning_method=prune.L1Unstructured, amount=method.frac)
    for layer in layers:
        if method.scope == "layer":
            prune.l1_unstructured(layer, "weight", amount=method.frac)
        prune.remove(layer, "weight")
