"""Learning rate, batch and warmup: as they are written, or by declared rules in N and D.

A rule is a power law through a reference point that the user tuned. Its exponents are those of Step Law (Li et al.
2025, arXiv 2503.04715): over 3700 models of up to 1 B parameters (without embeddings, as our N) the best learning rate
went as 1.79 N^-0.713 D^0.307 and the best batch as 0.58 D^0.571 tokens, with no trend in N, on a broad optimum. Of
warmup it has no law: ours keeps the number of steps, so warmup tokens go as the batch.

Only the exponents are taken over: at our smallest model (N = 107k, D = 500k) the law itself gives a learning rate of
0.026, where 0.004 was tuned. Nor is the exponent in D beyond doubt: it is positive because the batch grows with D, and
where the batch does not, the best learning rate falls with D (Bjorck et al. 2025, arXiv 2409.19913).
`sweeps/lr_check.yaml` measures.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scaling.part import Part


class Fixed(Part):
    """The same at every N and D: what optimizer, batch and schedule say."""

    kind: Literal["fixed"] = "fixed"


Exponent = Annotated[float, Field(ge=-10, le=10)]


class PowerRule(Part):
    """reference x (N / N_ref)^params x (D / D_ref)^tokens. reference None: what the key says that the rule is for."""

    reference: float | None = Field(default=None, gt=0, le=1e15)
    params: Exponent = 0.0
    tokens: Exponent = 0.0


class BatchRule(PowerRule):
    """A rule for tokens per batch, rounded to a multiple of `multiple_of` sequences, at least one.

    The multiple must hold placement.ranks x micro_batch, and is declared, so that where a run computes does not
    change what it trains on.
    """

    multiple_of: int = Field(default=2, ge=1)


class WarmupRule(PowerRule):
    """A rule for tokens of warmup, of which there may be none."""

    reference: float | None = Field(default=None, ge=0, le=1e15)


class Scaled(Part):
    """Rules through a reference point of num_params N_ref (without embeddings) and num_tokens D_ref (trained on).

    Under rules that depend on D, runs that differ in their budget are no prefixes of each other and share no trunk.
    """

    kind: Literal["scaled"] = "scaled"
    num_params: int = Field(default=106_816, ge=1)
    num_tokens: int = Field(default=499_712, ge=1)
    learning_rate: PowerRule = PowerRule(params=-0.713, tokens=0.307)
    batch_tokens: BatchRule = BatchRule(tokens=0.571)
    warmup_tokens: WarmupRule = WarmupRule(tokens=0.571)


Hyperparameters = Annotated[Fixed | Scaled, Field(discriminator="kind")]


def value_of(rule: PowerRule, point: Scaled, num_params: int, num_tokens: int) -> float:
    """What a rule with a reference gives at N and D."""
    assert rule.reference is not None
    scale_params = (num_params / point.num_params) ** rule.params
    scale_tokens = (num_tokens / point.num_tokens) ** rule.tokens
    return rule.reference * scale_params * scale_tokens


def scaled_batch(point: Scaled, num_params: int, budget_tokens: int, sequence_length: int) -> tuple[int, int]:
    """Sequences per batch, and D, the tokens in whole batches of them within the budget.

    The batch follows from D and D from the batch, so they are sought together. Where rounding lets two batches call for
    each other, the smaller one is taken. A budget below one batch counts as D, for whoever checks it to refuse.
    """
    rule = point.batch_tokens
    unit = rule.multiple_of * sequence_length
    tried: list[int] = []
    num_tokens = budget_tokens
    while True:
        batch = unit * max(1, round(value_of(rule, point, num_params, num_tokens) / unit))
        if batch in tried:
            batch = min(tried[tried.index(batch) :])
            return batch // sequence_length, budget_tokens // batch * batch or budget_tokens
        tried.append(batch)
        num_tokens = budget_tokens // batch * batch or budget_tokens
