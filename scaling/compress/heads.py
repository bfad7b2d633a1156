"""Attention heads cut out of a model: its matrices become smaller."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from scaling.compression import Heads
from scaling.finetune.layers import layers_of, places_of


def cut_heads(model: PreTrainedModel, method: Heads) -> dict[str, list[int]]:
    """Cut `frac` of the heads of each layer, those whose part of the output projection has the smallest norm.

    Where queries share keys and values (GQA), a key with its values and all its queries is cut as one. Returns those
    that are kept, by layer. ValueError if that would cut none, or all; or for a family whose heads are not known.
    """
    places = places_of(model, "compress.kind=heads")
    config = model.config
    num_units = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    num_cut = method.num_cut(num_units)
    per_unit = config.num_attention_heads // num_units  # queries that share a key
    kept_of = {}
    for name, layer in layers_of(model).items():
        attention, output = layer.get_submodule(places.attention), layer.get_submodule(places.output)
        assert isinstance(output, nn.Linear | Conv1D)
        into_output = output.weight.detach() if isinstance(output, Conv1D) else output.weight.detach().T  # [in, out]
        norms = into_output.reshape(num_units, -1).norm(dim=1)
        kept = norms.argsort(stable=True)[num_cut:].sort().values
        queries = _features(kept, per_unit * size)
        keys = _features(kept, size)
        _keep_inputs(output, queries)
        parts = [attention.get_submodule(part) for part in places.projections]
        if len(parts) == 1:  # queries, keys and values after another; a key for each query
            of_all = num_units * size
            _keep_outputs(parts[0], torch.cat([keys, keys + of_all, keys + 2 * of_all]))
        else:
            for part, features in zip(parts, (queries, keys, keys), strict=True):
                _keep_outputs(part, features)
        _count(attention, len(kept), size)
        if isinstance(prefix := getattr(attention, "prefix", None), nn.Parameter):
            prefix.data = prefix.data[:, kept].contiguous()
        kept_of[name] = kept.tolist()
    return kept_of


def _features(units: Tensor, size: int) -> Tensor:
    """The places of units that have `size` features each."""
    return (units.unsqueeze(1) * size + torch.arange(size, device=units.device)).flatten()


def _keep_inputs(linear: nn.Module, features: Tensor) -> None:
    if isinstance(linear, Conv1D):
        linear.weight.data = linear.weight.data[features].contiguous()
        return
    assert isinstance(linear, nn.Linear)
    linear.weight.data = linear.weight.data[:, features].contiguous()
    linear.in_features = len(features)


def _keep_outputs(linear: nn.Module, features: Tensor) -> None:
    assert isinstance(linear, nn.Linear | Conv1D)
    if isinstance(linear, Conv1D):
        linear.weight.data = linear.weight.data[:, features].contiguous()
        linear.nf = len(features)
    else:
        linear.weight.data = linear.weight.data[features].contiguous()
        linear.out_features = len(features)
    if linear.bias is not None:
        linear.bias.data = linear.bias.data[features].contiguous()


def _count(attention: nn.Module, num_heads: int, size: int) -> None:
    """Tell an attention how many heads it has, where it remembers."""
    for name, value in (
        ("num_attention_heads", num_heads),
        ("num_heads", num_heads),
        ("all_head_size", num_heads * size),
        ("split_size", num_heads * size),
    ):
        if hasattr(attention, name):
            setattr(attention, name, value)
