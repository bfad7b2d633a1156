"""Which tokens see which: the masks that attention is given.

One additive mask serves decoder and encoder, `sdpa` and `eager`; a boolean one, `sdpa` would turn into this in every
layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from scaling.train.model import FAMILIES

UNSEEN = -30_000.0
"""Added to the score of what is not seen: exp of it is 0, and it is finite in fp16 and bf16. A row without any real
token, which fills up a batch, so stays a number, which -inf everywhere would not."""


def attention_options(model: PreTrainedModel, length: int, mask: Tensor | None) -> dict[str, Any]:
    """What the body of a model is called with so that its tokens see, of `length`, what `mask` lets them see.

    mask [n or 1, 1, T or 1, T]: added to the scores. None: all that the family sees. A decoder's mask must say, too,
    that it does not look ahead.
    """
    family = FAMILIES[model.config.model_type]
    options: dict[str, Any] = {}
    if family.is_causal:
        options["use_cache"] = False
    if mask is not None:
        options["attention_mask"] = mask
    if family.has_local_layers:
        options["attention_mask"] = {"full_attention": mask, "sliding_attention": _local(model, length, mask)}
    return options


def _local(model: PreTrainedModel, length: int, mask: Tensor | None) -> Tensor | None:
    """The mask of layers in which a token sees its neighbours only, within `mask`; None where that is all."""
    reach = model.config.sliding_window
    if length <= reach + 1:
        return mask
    local = local_mask(length, reach, model.get_input_embeddings().weight)
    return local if mask is None else local + mask


def document_mask(segments: Tensor, is_causal: bool, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of attention [n, 1, T, T]: 0 within a document, -inf elsewhere (or ahead)."""
    allowed = segments.unsqueeze(2) == segments.unsqueeze(1)
    if is_causal:
        allowed = allowed.tril()
    nothing = torch.zeros((), dtype=dtype, device=segments.device)
    return torch.where(allowed, nothing, -torch.inf).unsqueeze(1)


def padding_mask(model: PreTrainedModel, is_real: Tensor) -> Tensor | None:
    """What is added to the scores of attention [n, 1, 1, T], of 1 where a token is real and 0 after the text [n, T].

    None for a decoder: what comes after the text is ahead of all real tokens, and not seen.
    """
    if FAMILIES[model.config.model_type].is_causal:
        return None
    return ((1 - is_real.to(model.dtype)) * UNSEEN)[:, None, None]


def local_mask(length: int, reach: int, like: Tensor) -> Tensor:
    """What is added to the scores of attention [1, 1, T, T]: 0 up to `reach` positions away, -inf beyond."""
    beyond = torch.full((length, length), -torch.inf, dtype=like.dtype, device=like.device)
    return (beyond.triu(reach + 1) + beyond.tril(-reach - 1))[None, None]
