"""RunSpec: all that one run is, as one frozen tree; its identity; its file.

The nouns live here and carry no behaviour beyond their own arithmetic; what is done with them lives in
`scaling.data`, `scaling.train` and `scaling.study`. Variants of a part are told apart by `kind`, so no
configuration can name Python code to run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from scaling.files import write_json
from scaling.mixture import Stages
from scaling.model import Model
from scaling.part import Name, Part, Share
from scaling.placement import Placement, Zero
from scaling.recipe import Recipe

# ---- what the study asks -----------------------------------------------------------------------


class Study(Part):
    """The question that a sweep answers, and the rules by which its answer is read.

    target: the domain whose validation loss decides.
    match: what two recipes must have in common to be compared.
    hold_out: how many of the largest budgets are kept out of the fit and predicted.
    """

    name: Name
    question: str = Field(min_length=1, max_length=500)
    target: Name
    match: Literal["tokens", "unique_tokens", "flops", "weights"] = "tokens"
    hold_out: int = Field(default=1, ge=0)


# ---- held fixed in a study -----------------------------------------------------------------------


class Tokenizer(Part):
    """A tokenizer trained on training documents: `num_bytes` of text, shared evenly by `domains`.

    It names its own domains, so that adding a point to a sweep retrains nothing.
    """

    kind: Literal["bpe", "wordpiece"] = "bpe"
    vocab_size: int = Field(ge=300, le=1_000_000)
    domains: Annotated[tuple[Name, ...], AfterValidator(lambda names: tuple(sorted(names)))] = Field(min_length=1)
    num_bytes: int = Field(default=10_000_000, ge=1)


class CausalLM(Part):
    """Predict each token from those before it."""

    kind: Literal["clm"] = "clm"


class MaskedLM(Part):
    """Predict masked tokens; of those, 80 % show the mask, 10 % a random token, 10 % themselves (BERT)."""

    kind: Literal["mlm"] = "mlm"
    mask_frac: float = Field(default=0.15, gt=0, lt=1)


Objective = Annotated[CausalLM | MaskedLM, Field(discriminator="kind")]


class Epochs(Part):
    """Domains that offer just so many unique tokens that they are read so often: {code: 4}."""

    kind: Literal["epochs"] = "epochs"
    domains: dict[Name, Annotated[float, Field(gt=0)]] = Field(min_length=1)


class Proxy(Part):
    """Each domain is repeated as often as a run over `num_tokens` would repeat it.

    available_tokens: what each domain will hold for that run; a domain left out: what it holds here.
    """

    kind: Literal["proxy"] = "proxy"
    num_tokens: int = Field(ge=1)
    available_tokens: dict[Name, Annotated[int, Field(ge=1)]] = Field(default={})


Repetition = Annotated[Epochs | Proxy, Field(discriminator="kind")]


class Budget(Part):
    """D and U, the two sizes of a run.

    num_tokens: D, the tokens trained on; rounded down to whole batches, and logged as trained.
    unique_tokens: U, the unique tokens offered, shared by the mixture's weights; None: all there are.
    repetition: how often single domains are read, whatever U is.
    max_epochs: how often any other domain may be read; 1 is repetition off, None sets no limit.
    """

    num_tokens: int = Field(ge=1)
    unique_tokens: int | None = Field(default=None, ge=1)
    repetition: Repetition | None = None
    max_epochs: float | None = Field(default=1.0, ge=1)


def repeated_domains(budget: Budget) -> frozenset[str]:
    """The domains that a budget's repetition names."""
    if budget.repetition is None:
        return frozenset()
    return frozenset(
        budget.repetition.domains if budget.repetition.kind == "epochs" else budget.repetition.available_tokens
    )


class WarmupStableDecay(Part):
    """Linear warmup, constant, then linear decay to 0 over the last `decay_frac` of the budget."""

    kind: Literal["wsd"] = "wsd"
    warmup_tokens: int = Field(ge=0)
    decay_frac: float = Field(gt=0, le=1)


class Cosine(Part):
    """Linear warmup, then half a cosine down to `final_frac` of the peak at the end of the budget."""

    kind: Literal["cosine"] = "cosine"
    warmup_tokens: int = Field(ge=0)
    final_frac: Share = 0.1


Schedule = Annotated[WarmupStableDecay | Cosine, Field(discriminator="kind")]


class AdamW(Part):
    """AdamW (Loshchilov and Hutter 2019); weight decay applies to matrices only."""

    kind: Literal["adamw"] = "adamw"
    learning_rate: float = Field(gt=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)


class Batch(Part):
    """The sequences of one optimiser step, over all ranks, and their length in tokens.

    isolate_documents: no token sees, or is predicted from, another document of its sequence.
    """

    num_sequences: int = Field(ge=1)
    sequence_length: int = Field(ge=8)
    isolate_documents: bool = False

    @property
    def num_tokens(self) -> int:
        return self.num_sequences * self.sequence_length


class Seeds(Part):
    """init: weights. order: order of sequences, and masks. subset: which part of a domain comes first."""

    init: int = Field(default=0, ge=0, lt=2**31)
    order: int = Field(default=0, ge=0, lt=2**31)
    subset: int = Field(default=0, ge=0, lt=2**31)


class Evaluation(Part):
    """Validation per domain: at most `max_tokens` tokens, at the end and every `every_tokens`."""

    max_tokens: int = Field(default=100_000, ge=1)
    every_tokens: int | None = Field(default=None, ge=1)


class Tracking(Part):
    """W&B: written to files that can be synced later (offline), or sent at once (online)."""

    mode: Literal["offline", "online"] = "offline"
    project: Name = "scaling"
    entity: Name | None = None


# ---- the whole -------------------------------------------------------------------------------------


class RunSpec(Part):
    """One run, in full. `content` is the fingerprint of the text that each domain and reference holds."""

    name: Name
    study: Study
    recipe: Recipe
    tokenizer: Tokenizer
    model: Model
    objective: Objective
    budget: Budget
    schedule: Schedule
    optimizer: AdamW
    batch: Batch
    precision: Literal["fp32", "bf16"] = "fp32"
    seeds: Seeds = Seeds()
    evaluation: Evaluation = Evaluation()
    content: dict[Name, str]
    zero: Zero = Zero()
    placement: Placement = Placement()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _fits_together(self) -> RunSpec:
        model, batch, zero, placement = self.model, self.batch, self.zero, self.placement
        domains = set(self.recipe.corpus.domains)
        assert set(self.content) == set(self.recipe.corpus.sources)
        if model.hidden_size % (2 * model.num_heads):
            raise ValueError(
                f"model.hidden_size must be a multiple of 2 x num_heads, got {model.hidden_size} and {model.num_heads}"
            )
        if (self.objective.kind == "clm") != (model.kind == "llama"):
            raise ValueError(f"objective {self.objective.kind!r} does not train a model of kind {model.kind!r}")
        if self.budget.num_tokens < batch.num_tokens:
            raise ValueError(
                f"budget.num_tokens must hold one batch of {batch.num_tokens} tokens, got {self.budget.num_tokens}"
            )
        if self.study.target not in domains:
            raise ValueError(f"study.target must be one of the domains {sorted(domains)}, got {self.study.target!r}")
        if unknown := sorted(repeated_domains(self.budget) - domains):
            raise ValueError(f"budget.repetition names {unknown}, but corpus.domains has {sorted(domains)}")
        if unknown := sorted(set(self.tokenizer.domains) - domains):
            raise ValueError(f"tokenizer.domains names {unknown}, but corpus.domains has {sorted(domains)}")
        if batch.num_sequences % (placement.ranks * (placement.micro_batch or 1)):
            raise ValueError(
                f"batch.num_sequences must be a multiple of placement.ranks x micro_batch, got {batch.num_sequences}"
                f" and {placement.ranks} x {placement.micro_batch or 1}"
            )
        if zero.offload == "cpu" and zero.stage == 0:
            raise ValueError("zero.offload=cpu needs zero.stage 1, 2 or 3, got 0")
        if self.precision == "bf16" and zero.stage == 0:
            raise ValueError("precision=bf16 needs zero.stage 1, 2 or 3 to keep fp32 weights, got 0")
        return self

    @model_validator(mode="after")
    def _offers_what_is_read(self) -> RunSpec:
        """What no data need be known for; the stream checks the same, and what depends on them."""
        budget, mixture, length = self.budget, self.recipe.mixture, self.batch.sequence_length
        stages = mixture.stages if isinstance(mixture, Stages) else ()
        if isinstance(budget.repetition, Proxy):
            trained = self.num_steps * self.batch.num_tokens
            if budget.repetition.num_tokens < trained:
                raise ValueError(
                    f"budget.repetition.num_tokens must be at least the run's own {trained} tokens,"
                    f" got {budget.repetition.num_tokens}"
                )
            if budget.unique_tokens is not None:
                raise ValueError(
                    "budget.unique_tokens must be null under budget.repetition of kind proxy, which says how many"
                    f" unique tokens each domain offers, got {budget.unique_tokens}"
                )
        ends = [stage.until_tokens // length for stage in stages if stage.until_tokens]
        if ends != sorted(set(ends)) or 0 in ends:
            raise ValueError(
                f"mixture.stages must each hold a sequence of {length} tokens,"
                f" got until_tokens={[stage.until_tokens for stage in stages]}"
            )
        read = {name for stage in stages for name, weight in stage.weights.items() if weight > 0}
        if (
            budget.unique_tokens is not None
            and len(stages) > 1
            and (shareless := sorted(read - repeated_domains(budget)))
        ):
            raise ValueError(
                f"budget.unique_tokens must be null, or budget.repetition name the epochs of {shareless}: a mixture of"
                f" stages has no one share for each domain, got {budget.unique_tokens}"
            )
        return self

    @property
    def num_steps(self) -> int:
        """Optimiser steps: the budget in whole batches."""
        return self.budget.num_tokens // self.batch.num_tokens

    @property
    def micro_batch(self) -> int:
        """Sequences per rank and forward pass."""
        return self.placement.micro_batch or self.batch.num_sequences // self.placement.ranks

    @property
    def num_params(self) -> int:
        """N: parameters without embeddings."""
        return self.model.num_params(self.tokenizer.vocab_size)

    @property
    def flops_per_token(self) -> float:
        """Training FLOPs per token: 6 (N + head) + 12 L h T.

        Two per weight and pass, backward twice the forward, plus attention over T positions (Chowdhery et
        al. 2022, appendix B). Under masked LM the head works at masked positions only.
        """
        model, length = self.model, self.batch.sequence_length
        predicted_frac = self.objective.mask_frac if isinstance(self.objective, MaskedLM) else 1.0
        head = self.tokenizer.vocab_size * model.hidden_size
        attention = 12 * model.num_layers * model.hidden_size * length
        return 6 * (self.num_params + predicted_frac * head) + attention


def write_spec(path: Path, spec: RunSpec) -> None:
    """Write `spec.json`."""
    write_json(path, spec.model_dump(mode="json"))


def read_spec(path: Path) -> RunSpec:
    """Read `spec.json`; pydantic.ValidationError if it is not a RunSpec."""
    return RunSpec.model_validate_json(path.read_text(encoding="utf-8"))
