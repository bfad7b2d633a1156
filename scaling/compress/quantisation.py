"""Linear layers in 8 bits, by torchao."""

from __future__ import annotations

import logging
import os
import warnings

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from scaling.compression import Int8Dynamic, Int8Weights
from scaling.finetune.layers import linear_layers, replace


def quantise(model: PreTrainedModel, method: Int8Weights | Int8Dynamic) -> None:
    """Bring the weights of the linear layers within the transformer layers to 8 bits, one scale for each output.

    Embeddings, norms and heads stay as they are.
    """
    for name, linear in linear_layers(model).items():
        if isinstance(linear, Conv1D):
            replace(model, name, _as_linear(linear))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Its kernels are for other builds of torch, and none of them is of int8: it says so of each.
        os.environ.setdefault("TORCHAO_FORCE_SKIP_LOADING_SO_FILES", "1")
        logging.getLogger("torchao").setLevel(logging.ERROR)
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_

        # Not torch's compiler: its settings are those of all that the process compiles.
        options = {"set_inductor_config": False}
        config = (
            Int8WeightOnlyConfig(**options)
            if isinstance(method, Int8Weights)
            else Int8DynamicActivationInt8WeightConfig(**options)
        )
        chosen = {id(linear) for linear in linear_layers(model).values()}
        quantize_(model, config, filter_fn=lambda part, name: id(part) in chosen)


def _as_linear(conv: Conv1D) -> nn.Linear:
    """GPT-2's linear layer as torch has it."""
    num_in, num_out = conv.weight.shape
    linear = nn.Linear(num_in, num_out, device=conv.weight.device, dtype=conv.weight.dtype)
    linear.weight.data = conv.weight.data.T.contiguous()
    linear.bias.data = conv.bias.data
    return linear
