"""Models of every family, small enough to be taken apart in a test."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from scaling.finetune.heads import TargetLoss, TextModel
from scaling.method import CrossEntropy
from scaling.train.model import FAMILIES, UNMASKED

VOCAB_SIZE, HIDDEN_SIZE, NUM_LAYERS, NUM_HEADS, NUM_LABELS = 64, 32, 2, 4, 3


def tiny_model(family: str, **changes: Any) -> PreTrainedModel:
    """A model with a projection onto its vocabulary; Llama's has two keys for four queries."""
    torch.manual_seed(0)
    found = FAMILIES[family]
    shape = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": HIDDEN_SIZE,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": NUM_HEADS,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        **({"num_key_value_heads": 2} if family == "llama" else {}),
        **changes,
    }
    ends = dict.fromkeys((f"{name}_token_id" for name in found.ends), 1)
    config = found.config(
        **{found.keys.get(key, key): value for key, value in shape.items()},
        **found.without_dropout,
        **ends,
        pad_token_id=0,
        initializer_range=0.1,
        attn_implementation=UNMASKED,
    )
    return found.model(config)


def tiny_classifier(family: str, **changes: Any) -> TextModel:
    """A model of texts with three labels, ready to answer."""
    model = tiny_model(family, **changes)
    torch.manual_seed(1)
    module = TextModel(model, NUM_LABELS, 0.0, TargetLoss(CrossEntropy(), None))
    nn.init.normal_(module.head.weight, std=0.5)
    return module.eval()


def texts(num_texts: int = 3, length: int = 10, seed: int = 0) -> dict[str, torch.Tensor]:
    """Texts of which the second is shorter, and their labels, as a module takes them."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(2, VOCAB_SIZE, (num_texts, length), generator=generator)
    mask = torch.ones_like(inputs)
    mask[1:2, 6:] = 0
    targets = torch.randint(NUM_LABELS, (num_texts, 1), generator=generator)
    return {"inputs": inputs, "mask": mask, "targets": targets}
