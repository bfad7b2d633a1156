"""RunSpec: all that one run is, as one frozen tree; its identity; its file.

The nouns live here and carry no behaviour beyond their own arithmetic; what is done with them lives in
`scaling.data`, `scaling.train` and `scaling.study`. Variants of a part are told apart by `kind`, so no
configuration can name Python code to run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from scaling.budget import Budget, Proxy, repeated_domains
from scaling.files import write_json
from scaling.hyperparameters import Fixed, Hyperparameters
from scaling.mixture import Stages
from scaling.model import Anatomy, Checkpoint, Model, anatomy_of
from scaling.objective import TRAINS, MaskedLM, MaskedNextSentence, NoObjective, Objective, pair_params
from scaling.part import Name, Part, Share
from scaling.placement import Placement, Precision, Zero, check_placement, needs_deepspeed
from scaling.recipe import Recipe
from scaling.tokenizer import AnyTokenizer, CheckpointTokenizer, Tokenizer

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
    """AdamW (Loshchilov and Hutter 2019); weight decay applies to matrices only.

    nonfinite: what a loss or gradient that is no number does: end the run as diverged, or have its step left out.
    """

    kind: Literal["adamw"] = "adamw"
    learning_rate: float = Field(gt=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    nonfinite: Literal["stop", "skip"] = "stop"


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
    """One run, in full. `content` is the fingerprint of the text that each domain and reference holds.

    hyperparameters: the rule by which learning rate, batch and warmup came about; they themselves stand in their parts.
    """

    name: Name
    study: Study
    recipe: Recipe
    tokenizer: AnyTokenizer
    model: Model
    objective: Objective
    budget: Budget
    schedule: Schedule
    optimizer: AdamW
    batch: Batch
    hyperparameters: Hyperparameters = Fixed()
    precision: Precision = "fp32"
    seeds: Seeds = Seeds()
    evaluation: Evaluation = Evaluation()
    content: dict[Name, str]
    zero: Zero = Zero()
    placement: Placement = Placement()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _fits_together(self) -> RunSpec:
        batch, placement = self.batch, self.placement
        domains = set(self.recipe.corpus.domains)
        assert set(self.content) == set(self.recipe.corpus.sources)
        if self.budget.num_tokens < batch.num_tokens:
            raise ValueError(
                f"budget.num_tokens must hold one batch of {batch.num_tokens} tokens, got {self.budget.num_tokens}"
            )
        if self.study.target not in domains:
            raise ValueError(f"study.target must be one of the domains {sorted(domains)}, got {self.study.target!r}")
        if unknown := sorted(repeated_domains(self.budget) - domains):
            raise ValueError(f"budget.repetition names {unknown}, but corpus.domains has {sorted(domains)}")
        if isinstance(self.tokenizer, Tokenizer) and (unknown := sorted(set(self.tokenizer.domains) - domains)):
            raise ValueError(f"tokenizer.domains names {unknown}, but corpus.domains has {sorted(domains)}")
        if batch.num_sequences % (placement.ranks * (placement.micro_batch or 1)):
            raise ValueError(
                f"batch.num_sequences must be a multiple of placement.ranks x micro_batch, got {batch.num_sequences}"
                f" and {placement.ranks} x {placement.micro_batch or 1}"
            )
        return self

    @model_validator(mode="after")
    def _can_be_placed(self) -> RunSpec:
        check_placement(self.zero, self.placement, self.precision)
        return self

    @model_validator(mode="after")
    def _objective_fits(self) -> RunSpec:
        """Model, tokenizer and objective go together."""
        objective, tokenizer, batch = self.objective, self.tokenizer, self.batch
        if isinstance(self.model, Checkpoint) != isinstance(tokenizer, CheckpointTokenizer):
            raise ValueError(
                "model and tokenizer must both be of kind checkpoint, or neither,"
                f" got {self.model.kind!r} and {tokenizer.kind!r}"
            )
        anatomy = self.anatomy
        if anatomy.family not in TRAINS[objective.kind]:
            raise ValueError(
                f"objective={objective.kind} does not train model.kind={anatomy.family}, but one of"
                f" {list(TRAINS[objective.kind])}"
            )
        if batch.sequence_length > anatomy.max_length:
            raise ValueError(
                f"batch.sequence_length must be at most the {anatomy.max_length} positions of the checkpoint,"
                f" got {batch.sequence_length}"
            )
        if tokenizer.vocab_size > anatomy.vocab_size:
            raise ValueError(
                f"tokenizer has {tokenizer.vocab_size} ids, but the checkpoint's model {anatomy.vocab_size} tokens"
            )
        if isinstance(objective, MaskedLM | MaskedNextSentence) and tokenizer.mask_id is None:
            raise ValueError(f"objective {objective.kind!r} needs a mask, which the checkpoint's tokenizer has not")
        if isinstance(objective, MaskedNextSentence):
            if batch.isolate_documents:
                raise ValueError("batch.isolate_documents must be false under objective 'mlm_nsp', which joins texts")
            if self.micro_batch % 2:
                raise ValueError(
                    "objective 'mlm_nsp' exchanges halves within pairs of sequences: batch.num_sequences / ranks, and"
                    f" placement.micro_batch, must be even, got {self.micro_batch}"
                )
        return self

    @model_validator(mode="after")
    def _decays(self) -> RunSpec:
        schedule, num_steps = self.schedule, self.num_steps
        if schedule.warmup_tokens >= num_steps * self.batch.num_tokens:
            raise ValueError(
                f"schedule.warmup_tokens must leave a part of the {num_steps * self.batch.num_tokens} tokens for the"
                f" decay, got {schedule.warmup_tokens}"
            )
        is_long = num_steps >= 20  # a handful of steps decays in the one that it has
        if is_long and isinstance(schedule, WarmupStableDecay) and round(schedule.decay_frac * num_steps) < 2:
            raise ValueError(
                f"schedule.decay_frac must hold at least 2 of the {num_steps} steps, or the learning rate does not"
                f" decay, got {schedule.decay_frac:g}"
            )
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
    def needs_deepspeed(self) -> bool:
        """Whether one process of plain torch does not do."""
        return needs_deepspeed(self.zero, self.placement, self.precision)

    @property
    def anatomy(self) -> Anatomy:
        """What the model is made of."""
        return anatomy_of(self.model, self.tokenizer.vocab_size, self.batch.sequence_length)

    @property
    def num_params(self) -> int:
        """N: parameters without embeddings."""
        anatomy = self.anatomy
        return anatomy.num_params + pair_params(self.objective, anatomy.hidden_size)

    @property
    def predicted_frac(self) -> float:
        """The share of a sequence's tokens that are predicted."""
        return self.objective.mask_frac if isinstance(self.objective, MaskedLM | MaskedNextSentence) else 1.0

    @property
    def flops_per_token(self) -> float:
        """Training FLOPs per token: 6 (N + projection) + 12 w (positions attended to, over all layers).

        Two per weight and pass, backward twice the forward, plus attention of width w over the positions of each layer
        (Chowdhery et al. 2022, appendix B). Under masked LM, the head and its projection onto the vocabulary work at
        masked positions only; that of the pairs at one position of each sequence.
        """
        anatomy, length = self.anatomy, self.batch.sequence_length
        head = anatomy.head_params + anatomy.vocab_size * anatomy.hidden_size
        pair = pair_params(self.objective, anatomy.hidden_size)
        weights = anatomy.num_params - anatomy.head_params + self.predicted_frac * head + pair / length
        return 6 * weights + 12 * anatomy.attention_width * anatomy.attended(length)


def check_pretrains(spec: RunSpec) -> None:
    """ValueError if a run has nothing to learn by."""
    if isinstance(spec.objective, NoObjective):
        raise ValueError("objective=none pretrains nothing: it wants a task and finetune.start=initial, got no task")


def write_spec(path: Path, spec: RunSpec) -> None:
    """Write `spec.json`."""
    write_json(path, spec.model_dump(mode="json"))


def read_spec(path: Path) -> RunSpec:
    """Read `spec.json`; pydantic.ValidationError if it is not a RunSpec."""
    return RunSpec.model_validate_json(path.read_text(encoding="utf-8"))
