"""Where the layers of a model are, and the parts of each that methods change."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D


@dataclass(frozen=True, slots=True)
class Places:
    """Names within a layer. attention: the module that calls the attention function. projections: what makes queries,
    keys and values, in this order or in one. output: what its heads are brought together by. feed_forward: the last
    linear layer of the feed-forward."""

    attention: str
    projections: tuple[str, ...]
    output: str
    feed_forward: str


PLACES = {
    "llama": Places("self_attn", ("q_proj", "k_proj", "v_proj"), "self_attn.o_proj", "mlp.down_proj"),
    "gpt2": Places("attn", ("c_attn",), "attn.c_proj", "mlp.c_proj"),
    "bert": Places("attention.self", ("query", "key", "value"), "attention.output.dense", "output.dense"),
    "modernbert": Places("attn", ("Wqkv",), "attn.Wo", "mlp.Wo"),
}
"""By `model_type`."""

EMBEDDINGS = re.compile(r"embed|\bwte\b|\bwpe\b|\bshared\b")
"""What the names of embeddings, and of the norms and positions among them, have in common."""


def places_of(model: PreTrainedModel, what: str) -> Places:
    """Where things are in each layer; ValueError that begins with `what` if that is not known of the family."""
    family = model.config.model_type
    if family not in PLACES:
        raise ValueError(f"{what} is for models of the families {', '.join(sorted(PLACES))}, got {family!r}")
    return PLACES[family]


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """The transformer layers by name, the lowest first; an encoder's before its decoder's."""
    return {name: part for name, part in model.named_modules() if isinstance(part, GradientCheckpointingLayer)}


def linear_layers(model: nn.Module) -> dict[str, nn.Linear | Conv1D]:
    """The linear layers within the transformer layers, by name in the model."""
    return {
        f"{layer_name}.{name}": part
        for layer_name, layer in layers_of(model).items()
        for name, part in layer.named_modules()
        if isinstance(part, nn.Linear | Conv1D)
    }


def num_features(linear: nn.Linear | Conv1D) -> tuple[int, int]:
    """In and out; GPT-2's layers hold their weights the other way round."""
    rows, columns = linear.weight.shape
    return (rows, columns) if isinstance(linear, Conv1D) else (columns, rows)


def replace(model: nn.Module, name: str, part: nn.Module) -> None:
    """Put a module where another of that name is."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, part)
