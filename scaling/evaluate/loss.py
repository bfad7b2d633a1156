"""Validation loss per domain, as exact sums.

What is scored. Validation text is packed as training text is: documents one after the other, each with its
end-of-text, cut into sequences of T tokens. A causal model is scored on every token of a sequence but the first.
With `batch.isolate_documents` it sees, of its sequence, the token's own document alone, and the first token of a
document is not scored: nothing comes before it. A masked model is scored on its masked tokens in both cases. Tokens
and bytes are counted of what is scored, and of nothing else; end-of-text is a token of 0 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scaling.data.randomness import key, uniforms
from scaling.ranks import num_ranks, sum_over_ranks, this_rank
from scaling.record import DomainLoss
from scaling.spec import RunSpec

EVALUATION_TOKENS = {"cpu": 2**12, "cuda": 2**15}
"""Tokens of one evaluation pass: enough to amortise its calls, and small beside a training batch's memory."""


class Predictor(Protocol):
    """What evaluation needs of a model that is spread over ranks."""

    num_draws: int
    device: torch.device

    def score(
        self, sequences: NDArray[np.int64], draws: NDArray[np.float64], segments: NDArray[np.int64] | None
    ) -> tuple[Tensor, Tensor]:
        """Nats [n, P] and the predicted tokens [n, P] of sequences [n, T]: 0 nats at negative tokens, not predicted.

        segments [n, T], if any, keep the documents apart.
        """


class Packed(Protocol):
    """What evaluation reads of a domain: documents packed into sequences of T tokens."""

    @property
    def num_sequences(self) -> int: ...

    def rows(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The tokens of sequences [n, T]."""

    def segments(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of each token's document within its sequence [n, T]."""


def evaluate(
    spec: RunSpec, model: Predictor, validation: Mapping[str, Packed], token_bytes: NDArray[np.int64] | None
) -> dict[str, DomainLoss]:
    """The loss on each domain's validation text. Every rank calls it, takes its share, and gets the whole."""
    return {name: _evaluate_domain(spec, model, packed, token_bytes) for name, packed in validation.items()}


@torch.no_grad()
def _evaluate_domain(
    spec: RunSpec, model: Predictor, packed: Packed, token_bytes: NDArray[np.int64] | None
) -> DomainLoss:
    length = spec.batch.sequence_length
    count = min(packed.num_sequences, max(1, spec.evaluation.max_tokens // length))
    size = max(1, EVALUATION_TOKENS[model.device.type] // length)
    starts = list(range(0, count, size))
    sums = torch.zeros(3, dtype=torch.float64)
    # Under ZeRO-3 every rank must take part in every forward pass, so the last round is padded.
    for first in range(0, len(starts), num_ranks()):
        mine = first + this_rank()
        start = starts[mine] if mine < len(starts) else 0
        index = np.arange(start, min(start + size, count))
        segments = packed.segments(index) if spec.batch.isolate_documents else None
        draws = uniforms(key("validation"), start, len(index), model.num_draws)
        nats, targets = model.score(packed.rows(index), draws, segments)
        if mine < len(starts):
            scored = targets[targets >= 0].cpu().numpy()
            num_bytes = 0 if token_bytes is None else int(token_bytes[scored].sum())
            sums += torch.tensor([nats.double().sum().item(), len(scored), num_bytes], dtype=torch.float64)
    total = sum_over_ranks(sums)
    exact_bytes = spec.objective.kind == "clm" and token_bytes is not None
    return DomainLoss(total[0].item(), int(total[1].item()), int(total[2].item()) if exact_bytes else None)
