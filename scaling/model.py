"""What is trained: a transformer of some family and size, new or from a checkpoint, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from scaling.part import Part

Family = Literal["llama", "gpt2", "bert", "modernbert", "t5", "bart"]

ENCODER_DECODERS: tuple[Family, ...] = ("t5", "bart")
"""Those that read with one stack and write with another. They are taken from checkpoints, and not pretrained here."""


class Anatomy(Part):
    """What the costs of a model follow from.

    num_params: N, all weights but the embeddings and the projection onto the vocabulary. head_params: those of N that
    work at predicted positions only. embedding_params: token, position and type embeddings, and a projection that is
    not tied to them.
    attention_width: heads x their size. num_local_layers: of num_layers, those in which a token attends to
    `local_window` positions at most. is_gated: a feed-forward of three matrices rather than two.
    max_length: tokens of the longest sequence.
    """

    family: Family
    vocab_size: int
    max_length: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_params: int
    head_params: int
    embedding_params: int
    attention_width: int
    is_gated: bool
    num_local_layers: int = 0
    local_window: int = 0

    def attended(self, length: int) -> int:
        """Positions that a token attends to, summed over the layers: those of the future count, as is usual."""
        num_local = self.num_local_layers
        return (self.num_layers - num_local) * length + num_local * min(length, self.local_window)


# ---- from a config to its anatomy: what the classes of transformers build from it ----------------------


def _llama(config: Mapping[str, Any]) -> Anatomy:
    h, f, num_layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or h // heads
    q, kv = heads * size, (config.get("num_key_value_heads") or heads) * size
    biases = (q + 2 * kv + h if config.get("attention_bias") else 0) + (2 * f + h if config.get("mlp_bias") else 0)
    embeddings = config["vocab_size"] * h
    return Anatomy(
        **_sizes("llama", config),
        num_params=num_layers * (2 * h * q + 2 * h * kv + 3 * h * f + 2 * h + biases) + h,
        head_params=0,
        embedding_params=embeddings if config.get("tie_word_embeddings", False) else 2 * embeddings,
        attention_width=q,
        is_gated=True,
    )


def _gpt2(config: Mapping[str, Any]) -> Anatomy:
    h, f, num_layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    tokens = config["vocab_size"] * h * (1 if config.get("tie_word_embeddings", True) else 2)
    return Anatomy(
        **_sizes("gpt2", config),
        num_params=num_layers * (4 * h * h + 2 * h * f + 9 * h + f) + 2 * h,
        head_params=0,
        embedding_params=tokens + config["max_position_embeddings"] * h,
        attention_width=h,
        is_gated=False,
    )


def _bert(config: Mapping[str, Any]) -> Anatomy:
    h, f, num_layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    head = h * h + 3 * h + config["vocab_size"]
    tokens = config["vocab_size"] * h * (1 if config.get("tie_word_embeddings", True) else 2)
    return Anatomy(
        **_sizes("bert", config),
        num_params=num_layers * (4 * h * h + 2 * h * f + 9 * h + f) + 2 * h + head,
        head_params=head,
        embedding_params=tokens + (config["max_position_embeddings"] + config.get("type_vocab_size", 2)) * h,
        attention_width=h,
        is_gated=False,
    )


def _modernbert(config: Mapping[str, Any]) -> Anatomy:
    h, f, num_layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    norm = 2 * h if config.get("norm_bias") else h
    biases = (4 * h if config.get("attention_bias") else 0) + (2 * f + h if config.get("mlp_bias") else 0)
    head = h * h + norm + (h if config.get("classifier_bias") else 0)
    head += config["vocab_size"] if config.get("decoder_bias", True) else 0
    # A norm of the embeddings stands where the first layer has none before its attention.
    body = num_layers * (4 * h * h + 3 * h * f + 2 * norm + biases) + norm
    every = config.get("global_attn_every_n_layers", 3)
    of_pattern = ["sliding_attention" if layer % every else "full_attention" for layer in range(num_layers)]
    layer_types = config.get("layer_types") or of_pattern
    tokens = config["vocab_size"] * h * (1 if config.get("tie_word_embeddings", True) else 2)
    return Anatomy(
        **_sizes("modernbert", config),
        num_params=body + head,
        head_params=head,
        embedding_params=tokens,
        attention_width=h,
        is_gated=True,
        num_local_layers=layer_types.count("sliding_attention"),
        local_window=2 * (config.get("local_attention", 128) // 2) + 1,  # itself, and half of it on each side
    )


def _t5(config: Mapping[str, Any]) -> Anatomy:
    """Raffel et al. 2020; gated: T5 v1.1. Relative positions have no end, but none beyond 512 tokens was trained."""
    h, f, num_layers = config["d_model"], config["d_ff"], config["num_layers"]
    num_decoder_layers = config.get("num_decoder_layers") or num_layers
    width = config["num_heads"] * config["d_kv"]
    is_gated = str(config.get("feed_forward_proj", "relu")).startswith("gated-")
    attention, feed_forward = 4 * h * width + h, (3 if is_gated else 2) * h * f + h
    biases = 2 * config.get("relative_attention_num_buckets", 32) * config["num_heads"]
    stacks = num_layers * (attention + feed_forward) + num_decoder_layers * (2 * attention + feed_forward)
    embeddings = config["vocab_size"] * h * (1 if config.get("tie_word_embeddings", True) else 2)
    return Anatomy(
        family="t5",
        vocab_size=config["vocab_size"],
        max_length=config.get("n_positions", 512),
        hidden_size=h,
        intermediate_size=f,
        num_layers=num_layers + num_decoder_layers,
        num_params=stacks + 2 * h + biases,
        head_params=0,
        embedding_params=embeddings,
        attention_width=width,
        is_gated=is_gated,
    )


def _bart(config: Mapping[str, Any]) -> Anatomy:
    """Lewis et al. 2020."""
    h, vocab_size, length = config["d_model"], config["vocab_size"], config["max_position_embeddings"]
    f, decoder_f = config["encoder_ffn_dim"], config["decoder_ffn_dim"]
    attention = 4 * h * h + 4 * h + 2 * h
    encoder_layer = attention + 2 * h * f + f + h + 2 * h
    decoder_layer = 2 * attention + 2 * h * decoder_f + decoder_f + h + 2 * h
    num_layers, num_decoder_layers = config["encoder_layers"], config["decoder_layers"]
    return Anatomy(
        family="bart",
        vocab_size=vocab_size,
        max_length=length,
        hidden_size=h,
        intermediate_size=f,
        num_layers=num_layers + num_decoder_layers,
        num_params=num_layers * encoder_layer + num_decoder_layers * decoder_layer + 4 * h,
        head_params=0,
        embedding_params=vocab_size * h + 2 * (length + 2) * h,
        attention_width=h,
        is_gated=False,
    )


def _sizes(family: Family, config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "family": family,
        "vocab_size": config["vocab_size"],
        "max_length": config["max_position_embeddings"],
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["intermediate_size"],
        "num_layers": config["num_hidden_layers"],
    }


_ANATOMIES: dict[str, Callable[[Mapping[str, Any]], Anatomy]] = {
    "llama": _llama,
    "gpt2": _gpt2,
    "bert": _bert,
    "modernbert": _modernbert,
    "t5": _t5,
    "bart": _bart,
}

GPT2_KEYS = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "n_inner": "intermediate_size",
}
"""What GPT-2 alone calls by another name."""


def anatomy(config: Mapping[str, Any]) -> Anatomy:
    """What the model of a `config.json` of transformers is made of, read without transformers.

    ValueError if its family is none of ours, or if it does not say how large it is.
    """
    family = config.get("model_type")
    if family not in _ANATOMIES:
        raise ValueError(f"model_type must be one of {sorted(_ANATOMIES)}, got {family!r}")
    named = {GPT2_KEYS.get(key, key) if family == "gpt2" else key: value for key, value in config.items()}
    try:
        if family == "gpt2" and named.get("intermediate_size") is None:
            named["intermediate_size"] = 4 * named["hidden_size"]
        return _ANATOMIES[family](named)
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing") from None


# ---- what a spec says ----------------------------------------------------------------------------------


class Shape(Part):
    """The size of a new transformer: one rung of a ladder. Embeddings are tied, and there is no dropout."""

    hidden_size: int = Field(ge=8)
    num_layers: int = Field(ge=1)
    num_heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=8)

    @model_validator(mode="after")
    def _heads_are_even(self) -> Shape:
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size must be a multiple of 2 x num_heads, got {self.hidden_size} and {self.num_heads}"
            )
        return self

    def config(self, vocab_size: int, sequence_length: int) -> dict[str, Any]:
        """The same, as a `config.json` of transformers says it."""
        return {
            "vocab_size": vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": sequence_length,
            "tie_word_embeddings": True,
        }


class Llama(Shape):
    """Llama-style decoder: rotary positions, RMSNorm, SwiGLU (Touvron et al. 2023)."""

    kind: Literal["llama"] = "llama"


class Gpt2(Shape):
    """GPT-2 decoder: learned positions, LayerNorm before each part, GELU (Radford et al. 2019)."""

    kind: Literal["gpt2"] = "gpt2"


class Bert(Shape):
    """BERT encoder: learned positions, LayerNorm after each part, GELU (Devlin et al. 2019)."""

    kind: Literal["bert"] = "bert"


class ModernBert(Shape):
    """ModernBERT encoder: rotary positions, GeGLU, every third layer global, the others over 129 positions.

    Warner et al. 2024. A feed-forward of `intermediate_size` has three matrices here, as in Llama.
    """

    kind: Literal["modernbert"] = "modernbert"


class Checkpoint(Part):
    """A model to go on from, with its tokenizer: a `transformers` folder at `path`, or `repo` of the hub.

    revision: of the repo, pinned to a commit before the first run. content: a hash of config.json and the weights;
    anatomy: what its config.json says. Both are filled in when a run is specified.
    """

    kind: Literal["checkpoint"] = "checkpoint"
    path: str | None = Field(default=None, min_length=1)
    repo: str | None = Field(default=None, min_length=1)
    revision: str | None = Field(default=None, min_length=1)
    content: str | None = None
    anatomy: Anatomy | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Checkpoint:
        if (self.path is None) == (self.repo is None):
            raise ValueError(f"path or repo: wanted one of the two, got path={self.path!r}, repo={self.repo!r}")
        if self.repo is None and self.revision is not None:
            raise ValueError(f"revision goes with repo, got {self.revision!r} with path={self.path!r}")
        return self


Model = Annotated[Llama | Gpt2 | Bert | ModernBert | Checkpoint, Field(discriminator="kind")]


def anatomy_of(model: Model, vocab_size: int, sequence_length: int) -> Anatomy:
    """What a model is made of; vocab_size and sequence_length are those of a new one."""
    if isinstance(model, Checkpoint):
        assert model.anatomy is not None, "a checkpoint is looked at when its run is specified"
        return model.anatomy
    return anatomy({"model_type": model.kind, **model.config(vocab_size, sequence_length)})
