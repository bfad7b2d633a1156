"""How a model is adapted to a task: which weights learn, how fast, and what is put in between.

An adaptation is a class in `scaling.method` and a function here, in `ADAPTATIONS`, that makes of a model what learns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from scaling.child import FinetuneSpec
from scaling.data.randomness import key
from scaling.finetune.layers import EMBEDDINGS, layers_of
from scaling.method import AdaLora, Adapter, Full, HeadOnly, Lora, Method, Prefix, TopLayers
from scaling.spec import AdamW
from scaling.train.engine import Group

DROPOUTS = ("dropout", "attention_dropout")
"""Where modules of transformers hold a dropout that is no module."""


def adapt(module: nn.Module, spec: FinetuneSpec) -> None:
    """Make of a task's module, whose body is `module.model`, what a spec's method trains: in place, the same each time.

    What learns afterwards asks for a gradient, nothing else does: the head always, and of the body what the adaptation
    says. ValueError if the adaptation cannot be had for this model.
    """
    model: PreTrainedModel = module.model
    method, adaptation = spec.method, spec.method.adaptation
    set_dropout(model, 0.0 if isinstance(adaptation, HeadOnly) else method.dropout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(key("adaptation", spec.seed)) % 2**63)
        ADAPTATIONS[type(adaptation)](module, model, adaptation)


def set_dropout(model: nn.Module, share: float) -> None:
    """Leave out this share of what each of a model's places for dropout lets through; in training only."""
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = share
        for name in DROPOUTS:
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, share)
        if isinstance(getattr(part, "out_drop", None), nn.Identity):  # ModernBERT's, built without dropout
            part.out_drop = nn.Dropout(share).train(part.training)


# ---- what learns ---------------------------------------------------------------------------------------


def _full(module: nn.Module, model: PreTrainedModel, method: Full) -> None:
    """All weights, which they do already."""


def _head_only(module: nn.Module, model: PreTrainedModel, method: HeadOnly) -> None:
    """Where a task has no head of its own (a text is made), that is the projection onto the vocabulary."""
    model.requires_grad_(False)
    _thaw_projection(module, model)


def _top_layers(module: nn.Module, model: PreTrainedModel, method: TopLayers) -> None:
    layers = list(layers_of(model))
    frozen = tuple(f"{name}." for name in layers[: len(layers) - method.num_layers])
    if model.config.is_encoder_decoder and method.num_layers <= len(layers_of(model.get_decoder())):
        model.get_encoder().requires_grad_(False)  # its last norm, too
    for name, parameter in model.named_parameters():
        if name.startswith(frozen) or EMBEDDINGS.search(name):
            parameter.requires_grad_(False)


def _lora(module: nn.Module, model: PreTrainedModel, method: Lora) -> None:
    from scaling.finetune.methods_lora import insert_lora

    insert_lora(model, method)


def _adalora(module: nn.Module, model: PreTrainedModel, method: AdaLora) -> None:
    from scaling.finetune.methods_adalora import insert_adalora

    insert_adalora(module, model, method)


def _prefix(module: nn.Module, model: PreTrainedModel, method: Prefix) -> None:
    from scaling.finetune.methods_prefix import insert_prefix

    insert_prefix(model, method)


def _adapter(module: nn.Module, model: PreTrainedModel, method: Adapter) -> None:
    from scaling.finetune.methods_adapter import insert_adapters

    insert_adapters(model, method)


ADAPTATIONS: Mapping[type, Callable[[nn.Module, PreTrainedModel, Any], None]] = {
    Full: _full,
    HeadOnly: _head_only,
    TopLayers: _top_layers,
    Lora: _lora,
    AdaLora: _adalora,
    Prefix: _prefix,
    Adapter: _adapter,
}


def _thaw_projection(module: nn.Module, model: PreTrainedModel) -> None:
    within = {id(parameter) for parameter in model.parameters()}
    projection = model.get_output_embeddings()
    if projection is not None and all(id(parameter) in within for parameter in module.parameters()):
        projection.requires_grad_(True)


# ---- how fast ------------------------------------------------------------------------------------------


def groups(module: nn.Module, method: Method, optimizer: AdamW) -> list[Group]:
    """What learns, by decay and learning rate: vectors do not decay, and lower layers learn more slowly if they shall.

    With a decay of d over L layers, layer i from 0 learns at d^(L - i) of the rate of the head, and the embeddings at
    d^(L + 1), as in Howard and Ruder 2018; the norm after the layers as the head.
    """
    decay = getattr(method.adaptation, "layer_decay", 1.0)
    depths = _depths(module)
    found: dict[tuple[float, bool], list[str]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            found.setdefault((decay ** depths[name], parameter.ndim >= 2), []).append(name)
    return [
        Group(tuple(found[place]), optimizer.weight_decay if place[1] else 0.0, place[0])
        for place in sorted(found, reverse=True)
    ]


def _depths(module: nn.Module) -> dict[str, int]:
    """How many layers each parameter is below the head, by name: 0 for the head, 1 for the last layer."""
    layers = [f"model.{name}." for name in layers_of(module.model)]  # type: ignore[arg-type]
    depths = {}
    for name, _ in module.named_parameters():
        below = next((len(layers) - index for index, layer in enumerate(layers) if name.startswith(layer)), None)
        if below is None:
            below = len(layers) + 1 if name.startswith("model.") and EMBEDDINGS.search(name) else 0
        depths[name] = below
    return depths


# ---- while it learns, and after ------------------------------------------------------------------------


def after_step(module: nn.Module, method: Method, num_done: int, num_steps: int) -> None:
    """What a method does besides learning, after `num_done` of its steps; every rank calls it."""
    if isinstance(method.adaptation, AdaLora):
        from scaling.finetune.methods_adalora import share_out

        share_out(module, num_done, num_steps)


def method_state(module: nn.Module, method: Method) -> dict[str, Tensor]:
    """What goes on with a method besides the weights that learn: fp32 tensors on the CPU by name; mostly nothing."""
    if isinstance(method.adaptation, AdaLora):
        from scaling.finetune.methods_adalora import allocation

        return allocation(module)
    return {}


def load_method_state(module: nn.Module, method: Method, state: Mapping[str, Tensor]) -> None:
    """The opposite of `method_state`; `state` may hold weights, too."""
    if isinstance(method.adaptation, AdaLora):
        from scaling.finetune.methods_adalora import load_allocation

        load_allocation(module, state)


def merge(module: nn.Module, method: Method) -> bool:
    """Add to the body's weights what was put beside them. Whether the body is then what `transformers` reads.

    Prefixes and adapters cannot be merged.
    """
    model: PreTrainedModel = module.model
    if isinstance(method.adaptation, Lora):
        from scaling.finetune.methods_lora import merge_lora

        merge_lora(model)
    elif isinstance(method.adaptation, AdaLora):
        from scaling.finetune.methods_adalora import merge_adalora

        merge_adalora(model)
    return not isinstance(method.adaptation, Prefix | Adapter)
