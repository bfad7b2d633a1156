"""Keys and values that are learned, before those of the text (Li and Liang 2021).

They join within the attention, where `transformers` lets a function of ours in: so an encoder takes them as a decoder
does, masks of ours hold, and they use up no positions. `peft` hands them over as a cache of past keys instead, which
encoders do not take.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from scaling.finetune.layers import layers_of, places_of
from scaling.method import Prefix

PREFIXED = "prefixed_sdpa"
KEYS_STD = 0.02


def prefixed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """torch's attention over the prefix of `module` and the text: queries [n, H, T, d], keys and values [n, K, S, d].

    attention_mask: added to the scores of the text, or boolean; every query sees the whole prefix. None: of a
    decoder, that queries, which are the last T of S tokens, do not look ahead.
    """
    prefix: Tensor = module.prefix  # type: ignore[assignment]  # [2, K, P, d]
    num_before, num_queries, num_keys = prefix.shape[2], query.shape[2], key.shape[2]
    if attention_mask is not None:
        seen = attention_mask.dtype == torch.bool
        attention_mask = functional.pad(
            attention_mask.expand(*attention_mask.shape[:3], num_keys), (num_before, 0), value=seen
        )
    elif options.get("is_causal", module.is_causal) and num_queries > 1:
        ones = torch.ones(num_queries, num_before + num_keys, dtype=torch.bool, device=query.device)
        attention_mask = ones.tril(num_before + num_keys - num_queries)[None, None]
    keys, values = prefix.to(key.dtype).unsqueeze(1).expand(2, key.shape[0], -1, -1, -1)
    options["is_causal"] = False
    return sdpa_attention_forward(
        module, query, torch.cat([keys, key], 2), torch.cat([values, value], 2), attention_mask, **options
    )


AttentionInterface.register(PREFIXED, prefixed_attention)


def insert_prefix(model: PreTrainedModel, method: Prefix) -> None:
    """Before the keys and values of each layer; all else of the model is frozen.

    ValueError for a family whose attention takes no function of ours.
    """
    place = places_of(model, "method.adaptation.kind=prefix").attention
    config = model.config
    num_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    model.requires_grad_(False)
    for layer in layers_of(model).values():
        prefix = torch.empty(2, num_heads, method.num_tokens, size)
        nn.init.normal_(prefix[0], std=KEYS_STD * math.sqrt(768 / config.hidden_size))
        nn.init.zeros_(prefix[1])
        layer.get_submodule(place).register_parameter("prefix", nn.Parameter(prefix))
    model.set_attn_implementation(PREFIXED)
