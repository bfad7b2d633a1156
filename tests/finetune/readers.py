"""Tokenizers and models made for the tests: a tokenizer of each kind that learned from what it is to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from scaling.data.tokenizer import END_OF_TEXT, MASK, PAD, UNKNOWN, _train
from scaling.finetune.reader import Reader, open_reader
from scaling.model import Family
from scaling.tokenizer import Tokenizer


def own_reader(folder: Path, kind: str, texts: Sequence[str], family: Family, vocab_size: int = 400) -> Reader:
    """A reader of a tokenizer as a pretraining run leaves it in `folder`."""
    spec = Tokenizer.model_validate({"kind": kind, "vocab_size": vocab_size, "domains": ["made"]})
    folder.mkdir(exist_ok=True)
    PreTrainedTokenizerFast(
        tokenizer_object=_train(spec, iter(texts)),
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        mask_token=MASK,
        **({"unk_token": UNKNOWN} if kind == "wordpiece" else {}),
    ).save_pretrained(folder)
    return open_reader(folder, family)


def leave_encoder_decoder(folder: Path, family: Family, texts: Sequence[str]) -> PreTrainedModel:
    """A tiny T5 or BART with random weights, left in `folder` with a tokenizer, as the hub has them."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    first = ["<pad>", "</s>", "<unk>"] if family == "t5" else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=first,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    named = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    if family == "bart":
        named |= {"bos_token": "<s>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)
    size = tokenizer.get_vocab_size()
    torch.manual_seed(0)
    model: PreTrainedModel
    if family == "t5":
        model = T5ForConditionalGeneration(
            T5Config(
                vocab_size=size,
                d_model=32,
                d_kv=16,
                d_ff=64,
                num_layers=1,
                num_decoder_layers=2,
                num_heads=2,
                decoder_start_token_id=0,
            )
        )
    else:
        model = BartForConditionalGeneration(
            BartConfig(
                vocab_size=size,
                d_model=32,
                encoder_layers=1,
                decoder_layers=2,
                encoder_ffn_dim=64,
                decoder_ffn_dim=64,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                max_position_embeddings=64,
                init_std=0.1,  # of a width of 32; 0.02 as at 1024 learns next to nothing
            )
        )
    model.save_pretrained(folder)
    return model
