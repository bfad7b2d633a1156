"""Build a model from its spec, or read the checkpoint that it names."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    AttentionInterface,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.utils.logging import disable_progress_bar

from scaling.data.pretrained import TOKENIZER_FILES, checked_folder
from scaling.data.tokenizer import END_OF_TEXT, MASK, PAD, UNKNOWN
from scaling.files import file_sha256, write_json
from scaling.model import GPT2_KEYS, Checkpoint
from scaling.objective import MaskedNextSentence
from scaling.spec import RunSpec

UNMASKED = "unmasked_sdpa"
"""torch's attention without the mask that `transformers` makes for it while torch compiles (5.17), though it says no
more than "causal" or nothing at all: kernels for any mask are much slower. A mask of ours is taken as it is."""
AttentionInterface.register(UNMASKED, sdpa_attention_forward)
disable_progress_bar()  # of reading and writing weights, in each run's log


@dataclass(frozen=True)
class Family:
    """What is particular to a family of models.

    without_dropout: one pass over fresh data does not overfit, and resume needs no random state.
    keys: what its config calls by another name. ends: the special tokens that our end of text is.
    attention: the function that `transformers` is to attend with; of an encoder-decoder, whose three kinds of attention
    want three masks, its own, for which it makes them.
    transform: of the last hidden state, before the projection onto the vocabulary; [..., h] to [..., h].
    """

    config: type[PreTrainedConfig]
    model: type[PreTrainedModel]
    without_dropout: Mapping[str, float]
    keys: Mapping[str, str] = field(default_factory=dict)
    ends: tuple[str, ...] = ("bos", "eos")
    is_causal: bool = False
    has_local_layers: bool = False
    attention: str = UNMASKED
    transform: Callable[[PreTrainedModel, Tensor], Tensor] = lambda model, hidden: hidden


FAMILIES = {
    "llama": Family(LlamaConfig, LlamaForCausalLM, {"attention_dropout": 0.0}, is_causal=True),
    "gpt2": Family(
        GPT2Config,
        GPT2LMHeadModel,
        {"embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0},
        keys={ours: own for own, ours in GPT2_KEYS.items()},
        is_causal=True,
    ),
    "bert": Family(
        BertConfig,
        BertForMaskedLM,
        {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        transform=lambda model, hidden: model.cls.predictions.transform(hidden),
    ),
    "modernbert": Family(
        ModernBertConfig,
        ModernBertForMaskedLM,
        {"embedding_dropout": 0.0, "attention_dropout": 0.0, "mlp_dropout": 0.0},
        ends=("bos", "eos", "cls", "sep"),
        has_local_layers=True,
        transform=lambda model, hidden: model.head(hidden),
    ),
    "t5": Family(T5Config, T5ForConditionalGeneration, {"dropout_rate": 0.0}, attention="sdpa"),
    "bart": Family(
        BartConfig,
        BartForConditionalGeneration,
        {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0},
        attention="sdpa",
    ),
}
"""By `model_type`, as a config.json has it."""

PAIR_WEIGHTS = ("bert.pooler.", "cls.seq_relationship.")
"""What a model needs to tell exchanged halves; a checkpoint need not have it."""


def has_pairs(model: PreTrainedModel) -> bool:
    """Whether a model is asked if the second half of a sequence follows its first."""
    return isinstance(model, BertForPreTraining)


def build_model(spec: RunSpec) -> PreTrainedModel:
    """A `transformers` model on the CPU in fp32.

    The weights depend on `seeds.init` only, or are those of the checkpoint: then ValueError if its files changed since
    the run was specified, or lack weights.
    """
    torch.manual_seed(spec.seeds.init)
    family, model, settings = _ways(spec)
    if isinstance(spec.model, Checkpoint):
        return _placed(spec, _read(checked_folder(spec.model), family, model, settings))
    tokenizer = spec.tokenizer
    shape = spec.model.config(tokenizer.vocab_size, spec.batch.sequence_length)
    config = family.config(
        **{family.keys.get(key, key): value for key, value in shape.items()},
        **{f"{name}_token_id": tokenizer.end_of_text_id for name in family.ends},
        pad_token_id=tokenizer.pad_id,
        # 0.02 as at width 768, and constant variance of activations at other widths. At width 64 a plain 0.02
        # cost 0.15 nats after 400k tokens and made the spread between seeds ten times as large.
        initializer_range=0.02 * math.sqrt(768 / spec.model.hidden_size),
        **settings,
    )
    return _placed(spec, model(config))


def read_model(spec: RunSpec, folder: Path) -> PreTrainedModel:
    """The model that a run of `spec` has left in `folder`, on the CPU in fp32. ValueError if it lacks weights."""
    return _placed(spec, _read(folder, *_ways(spec)))


def _ways(spec: RunSpec) -> tuple[Family, type[PreTrainedModel], dict[str, object]]:
    """The family of a run's model, its class, and its settings."""
    family = FAMILIES[spec.anatomy.family]
    model = BertForPreTraining if isinstance(spec.objective, MaskedNextSentence) else family.model
    return family, model, {**family.without_dropout, "attn_implementation": family.attention}


def _placed(spec: RunSpec, model: PreTrainedModel) -> PreTrainedModel:
    if spec.placement.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def _read(
    folder: Path, family: Family, model: type[PreTrainedModel], settings: Mapping[str, object]
) -> PreTrainedModel:
    config = family.config.from_pretrained(folder, **family.without_dropout)
    read, report = model.from_pretrained(
        folder,
        config=config,
        attn_implementation=settings["attn_implementation"],
        dtype=torch.float32,
        use_safetensors=True,
        output_loading_info=True,
    )
    lacking = sorted(name for name in report["missing_keys"] if not name.startswith(PAIR_WEIGHTS))
    if lacking or report["mismatched_keys"]:
        raise ValueError(
            f"model: the checkpoint {str(folder)!r} lacks weights of {model.__name__}:"
            f" {(lacking or sorted(report['mismatched_keys']))[:3]}"
        )
    return read.train()


HASHES = "model.json"
"""Beside the model that a run leaves: SHA-256 of each of its files."""


@contextmanager
def leaving_model(run_dir: Path) -> Iterator[Path]:
    """A folder to leave a model in, which becomes `run_dir/model` when all is there, with the hashes of its files."""
    final, beside = run_dir / "model", run_dir / ".model.writing"
    for folder in (final, beside):
        shutil.rmtree(folder, ignore_errors=True)
    yield beside
    for weights in beside.glob("*.safetensors"):  # which safetensors makes readable for its owner alone
        weights.chmod((beside / "config.json").stat().st_mode)
    write_json(run_dir / HASHES, {file.name: file_sha256(file) for file in sorted(beside.iterdir())})
    beside.rename(final)


def checked_model(run_dir: Path) -> Path:
    """The model that a run left. ValueError if it is not there, or not as it was left."""
    folder = run_dir / "model"
    advice = f"remove {str(run_dir)!r}, and the same command makes it again"
    if not folder.is_dir() or not (run_dir / HASHES).is_file():
        raise ValueError(f"{str(folder)!r}: wanted the model of a complete run, there is none; {advice}")
    for name, told in json.loads((run_dir / HASHES).read_text(encoding="utf-8")).items():
        file = folder / Path(name).name
        if not file.is_file() or file_sha256(file) != told:
            raise ValueError(f"{str(file)!r} is not what its run left: damaged or changed; {advice}")
    return folder


def export_tokenizer(spec: RunSpec, tokenizer: Path, folder: Path) -> None:
    """Leave the tokenizer beside its model as `transformers` reads it, with its special tokens named."""
    if isinstance(spec.model, Checkpoint):
        source = checked_folder(spec.model)
        for name in TOKENIZER_FILES:
            if (source / name).exists():
                shutil.copyfile(source / name, folder / name)
        return
    PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer),
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        mask_token=MASK,
        **({"unk_token": UNKNOWN} if spec.tokenizer.kind == "wordpiece" else {}),
        model_max_length=spec.batch.sequence_length,
    ).save_pretrained(folder)
