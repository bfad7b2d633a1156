"""What is known of a run: what it was to do, what it saw, and what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sums:
    """The exact sums behind one validation loss. `num_bytes` is None for masked LM, which has no bpb."""

    sum_nats: float
    num_tokens: int
    num_bytes: int | None

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.sum_nats / self.num_tokens

    @property
    def bpb(self) -> float | None:
        """Bits per byte."""
        return None if self.num_bytes is None else self.sum_nats / math.log(2) / self.num_bytes


@dataclass(frozen=True)
class EvalPoint:
    """One measurement: the tokens trained on so far, and the sums per domain.

    at_decay_end: whether the learning rate had ended its decay; None where the log does not say.
    """

    tokens: int
    at_decay_end: bool | None
    domains: Mapping[str, Sums]


@dataclass(frozen=True)
class Exposure:
    """What a run saw of one domain. epochs = tokens / unique tokens offered; documents: kept for training.

    planted_tokens: of the tokens seen, those of copies made on purpose; None where the log does not know them.
    """

    weight: float
    realised_weight: float
    tokens: int
    unique_tokens: int
    epochs: float
    documents: int
    dropped: Mapping[str, int]
    planted_tokens: int | None = None


@dataclass(frozen=True)
class Ledger:
    """What a run saw: D tokens, U unique tokens, and the share of each domain."""

    tokens: int
    unique_tokens: int
    sequences: int
    domains: Mapping[str, Exposure]

    @property
    def mean_epochs(self) -> float:
        """How often a token was seen, averaged over the tokens trained on; 1 without repetition."""
        seen = sum(exposure.tokens * max(1.0, exposure.epochs) for exposure in self.domains.values())
        return seen / max(1, sum(exposure.tokens for exposure in self.domains.values()))


@dataclass(frozen=True)
class Run:
    """One run. What only the end of a run knows (ledger, flops, seconds) is None unless it is complete.

    steps_left_out: of those trained, for a loss that was no number. final_lr_frac: the learning rate of the last step,
    as a part of the peak.
    is_elastic: it was interrupted and went on under another placement. schedule_ends_at: the tokens at which its
    learning rate ends its decay, None where the log does not say. tokens_per_second, mfu (0 to 1): medians over its
    looks, None where none was logged. results_version: of the code that made its numbers; None in logs from before it
    was told.
    """

    run_id: str
    name: str
    fingerprint: str
    spec: Mapping[str, Any]
    num_params: int
    flops_per_token: float
    environment: Mapping[str, str]
    state: str
    error: str | None
    points: tuple[EvalPoint, ...]
    ledger: Ledger | None = None
    flops: float | None = None
    seconds: float | None = None
    trunk_tokens: int = 0
    is_linked: bool = False
    is_elastic: bool = False
    steps_left_out: int = 0
    final_lr_frac: float | None = None
    schedule_ends_at: int | None = None
    tokens_per_second: float | None = None
    mfu: float | None = None
    results_version: int | None = None

    @property
    def mid_schedule(self) -> str | None:
        """Why the last loss of a complete run is not that at the end of its schedule; None if it may be."""
        tokens = self.points[-1].tokens if self.points else None
        if self.schedule_ends_at is not None and self.schedule_ends_at != tokens:
            return f"its schedule ends at {self.schedule_ends_at} tokens, its last loss is of {tokens}"
        if self.points and self.points[-1].at_decay_end is False:
            return "its last loss is not at the end of a decay"
        return None

    @property
    def is_schedule_known(self) -> bool:
        """Whether the log tells that the last loss is at the end of the schedule, or that it is not."""
        return self.schedule_ends_at is not None or any(p.at_decay_end is not None for p in self.points[-1:])

    @property
    def seeds(self) -> tuple[tuple[str, int], ...]:
        return tuple(sorted(self.spec["seeds"].items()))
