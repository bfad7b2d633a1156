"""Low-rank updates of linear layers, by `peft`, without its wrapper: a model stays what it is, and names stay short."""

from __future__ import annotations

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from scaling.finetune.layers import linear_layers, replace
from scaling.method import Lora


def insert_lora(model: PreTrainedModel, method: Lora) -> None:
    """Beside each linear layer of each transformer layer; all else of the model is frozen.

    The second factor begins at 0, so the model begins as it was.
    """
    linear = linear_layers(model)
    config = LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=list(linear),
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in linear.values()),
    )
    inject_adapter_in_model(config, model)


def merge_lora(model: PreTrainedModel) -> None:
    """Add the updates to the weights that they are of, and leave plain linear layers."""
    for name, part in list(model.named_modules()):
        if isinstance(part, BaseTunerLayer):
            part.merge()
            replace(model, name, part.get_base_layer())
