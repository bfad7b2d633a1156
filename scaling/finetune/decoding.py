"""What a model writes by itself: greedy, or the best of several beams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from scaling.ranks import num_ranks, sum_over_ranks, this_rank

Ids = NDArray[np.int64]

ROWS_AT_ONCE = {"cpu": 16, "cuda": 128}
"""Texts that are written side by side, over all beams."""


@torch.no_grad()
def write(model: PreTrainedModel, prompts: Sequence[Ids], max_tokens: int, num_beams: int, end: int) -> list[Ids]:
    """What a model writes after each prompt, or, with a decoder of its own, about it: at most `max_tokens` tokens [t].

    What follows the first `end` is left out, and so is that. Prompts of one batch are filled up on the left: the next
    token is then last in each; positions count from where a prompt begins, and nothing sees what fills it up. What an
    encoder reads is filled up on the right: BART's counts its positions from the left, whatever fills up. Ranks share
    the texts out; every rank calls it and gets all of them.
    """
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    size = max(1, ROWS_AT_ONCE[model.device.type] // num_beams)
    batches = [order[first : first + size] for first in range(0, len(order), size)]
    written = torch.zeros(len(prompts), max_tokens, dtype=torch.int64)  # ids + 1; 0 after the end
    with _decoding(model):
        for batch in batches[this_rank() :: num_ranks()]:
            ids = _continued(model, [prompts[index] for index in batch], max_tokens, num_beams, end)
            before_end = (ids == end).cumsum(1) == 0
            written[batch, : ids.shape[1]] = torch.where(before_end, ids + 1, 0)
    rows = sum_over_ranks(written).numpy()
    return [row[row > 0] - 1 for row in rows]


def _continued(model: PreTrainedModel, prompts: Sequence[Ids], max_tokens: int, num_beams: int, end: int) -> Tensor:
    """What is written after each prompt, filled up with `end` [n, at most max_tokens], on the CPU."""
    length, reads_apart = max(len(prompt) for prompt in prompts), model.config.is_encoder_decoder
    inputs, mask = torch.full((len(prompts), length), end), torch.zeros(len(prompts), length, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        first = 0 if reads_apart else length - len(prompt)
        inputs[row, first : first + len(prompt)] = torch.from_numpy(prompt)
        mask[row, first : first + len(prompt)] = 1
    options: dict[str, Any] = {}
    if reads_apart:  # else it is made with as many layers as the encoder has (transformers 5.23)
        options["past_key_values"] = EncoderDecoderCache(DynamicCache(), DynamicCache())
    found = model.generate(
        input_ids=inputs.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=GenerationConfig(
            max_new_tokens=max_tokens,
            num_beams=num_beams,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=end,
            decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
        ),
        **options,
    )
    before = 1 if reads_apart else length
    return found[:, before:].cpu()


@contextmanager
def _decoding(model: PreTrainedModel) -> Iterator[None]:
    """A model that writes as it was trained to: without dropout, without what its checkpoint asks of texts (a length,
    beams, words not to repeat), and with masks over what fills up a batch, which `transformers` makes for attention
    functions that it knows to want them.
    """
    was_training, asked, attention = model.training, model.generation_config, model.config._attn_implementation
    masked = f"masked_{attention}"
    if attention not in ("sdpa", "eager"):
        AttentionInterface.register(masked, ALL_ATTENTION_FUNCTIONS[attention])
        AttentionMaskInterface.register(masked, sdpa_mask)
        model.set_attn_implementation(masked)
    model.eval()
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = asked
        model.train(was_training)
        if attention not in ("sdpa", "eager"):
            model.set_attn_implementation(attention)
