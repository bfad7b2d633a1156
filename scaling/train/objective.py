"""What is predicted: from sequences to examples, and from a model to nats per predicted token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from scaling.objective import CausalLM, MaskedNextSentence, NoObjective, Objective
from scaling.tokenizer import AnyTokenizer
from scaling.train.attention import attention_options, document_mask
from scaling.train.model import FAMILIES, has_pairs
from scaling.train.tensors import RowTensors

NOT_PREDICTED = -100
"""The target of a position at which nothing is predicted, as torch and `transformers` mark it: it costs 0 nats."""


@dataclass(frozen=True, slots=True)
class Examples(RowTensors):
    """inputs [n, T]; targets [n, P]: the tokens to predict, or NOT_PREDICTED.

    positions [n, P]: from where in the input they are predicted; None: from all but the last.
    segments [n, T]: the number of each token's document within its sequence, where documents are kept apart.
    exchanged [n]: 1 where the second half of a sequence is of another one, else 0; None where that is not asked.
    """

    inputs: Tensor
    targets: Tensor
    positions: Tensor | None = None
    segments: Tensor | None = None
    exchanged: Tensor | None = None


def num_draws(objective: Objective, sequence_length: int) -> int:
    """How many uniform numbers the examples of one sequence take."""
    if isinstance(objective, CausalLM | NoObjective):
        return 0
    return 3 * sequence_length + (1 if isinstance(objective, MaskedNextSentence) else 0)


def make_examples(
    objective: Objective,
    sequences: NDArray[np.int64],
    uniforms: NDArray[np.float64],
    tokenizer: AnyTokenizer,
    segments: NDArray[np.int64] | None = None,
    for_training: bool = True,
) -> Examples:
    """Examples of one batch. sequences [n, T]; uniforms [n, num_draws] in [0, 1) belong to the sequences.

    Masked LM masks exactly round(mask_frac * T) positions of each sequence, so that every micro-batch
    weighs the same and splitting a batch cannot change its loss.

    With next sentences, rows 2j and 2j + 1 must be sequences 2k and 2k + 1 of the stream: a draw that belongs to 2k
    says whether they exchange their second halves. Only in training: validation text is scored as it is.

    segments [n, T] keep the documents of a sequence apart. A causal model is then not asked for the first
    token of a document, whose only context is another document; masks are placed as without segments.
    """
    num_sequences, length = sequences.shape
    documents = None if segments is None else torch.from_numpy(segments)
    if isinstance(objective, CausalLM):
        targets = sequences[:, 1:].copy()
        if segments is not None:
            targets[~_goes_on(segments)] = NOT_PREDICTED
        return Examples(torch.from_numpy(sequences), torch.from_numpy(targets), segments=documents)
    assert not isinstance(objective, NoObjective), "pretraining refuses it"
    exchanged = None
    if isinstance(objective, MaskedNextSentence) and for_training:
        sequences, exchanged = exchange_halves(sequences, uniforms[:, -1])
    ranks, fates, draws = uniforms[:, : 3 * length].reshape(num_sequences, 3, length).swapaxes(0, 1)
    num_masked = max(1, round(objective.mask_frac * length))
    positions = np.sort(np.argsort(ranks, axis=1, kind="stable")[:, :num_masked], axis=1)
    targets = np.take_along_axis(sequences, positions, axis=1)
    fate = np.take_along_axis(fates, positions, axis=1)
    drawn = np.take_along_axis(draws, positions, axis=1)
    first_word = tokenizer.first_word_id
    random_tokens = first_word + (drawn * (tokenizer.vocab_size - first_word)).astype(np.int64)
    assert tokenizer.mask_id is not None, "the spec has checked it"
    shown = np.where(fate < 0.8, tokenizer.mask_id, np.where(fate < 0.9, random_tokens, targets))
    inputs = sequences.copy()
    np.put_along_axis(inputs, positions, shown, axis=1)
    return Examples(
        torch.from_numpy(inputs),
        torch.from_numpy(targets),
        torch.from_numpy(positions),
        documents,
        None if exchanged is None else torch.from_numpy(exchanged),
    )


def exchange_halves(
    sequences: NDArray[np.int64], uniforms: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sequences of which some pairs have exchanged their second halves [n, T], and 1 for those, else 0 [n].

    uniforms [n]: of a pair, that of its first sequence counts.
    """
    num_sequences, length = sequences.shape
    if num_sequences % 2:
        raise ValueError(f"objective 'mlm_nsp' takes pairs of sequences, got {num_sequences}")
    is_exchanged = np.repeat(uniforms[::2] < 0.5, 2)
    partner = np.arange(num_sequences) ^ is_exchanged  # 2j and 2j + 1 swap
    paired = sequences.copy()
    paired[:, length // 2 :] = sequences[partner, length // 2 :]
    return paired, is_exchanged.astype(np.int64)


def token_weight(objective: Objective, segments: NDArray[np.int64] | None) -> float:
    """What each predicted token of a whole batch weighs in the mean over all n P targets: n P / predicted tokens.

    segments [n, T] are those of all sequences of the batch, over all ranks and micro-batches; None where documents
    are not kept apart. Micro-batches of a batch have equally many targets but not equally many predicted tokens, so
    the mean over what each predicts would depend on the split. The mean over all its targets (0 nats where
    nothing is predicted) times this weight does not: averaged over micro-batches and ranks, that is

        sum of nats / number of predicted tokens, both of the whole batch.

    1 where every target is predicted. ValueError if none is.
    """
    if segments is None or not isinstance(objective, CausalLM):
        return 1.0
    goes_on = _goes_on(segments)
    if not goes_on.any():
        raise ValueError(
            "batch.isolate_documents leaves nothing to predict in a batch: each of its documents has one token"
        )
    return goes_on.size / int(goes_on.sum())


def _goes_on(segments: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a token is of the same document as the one before it [n, T - 1]."""
    return segments[:, 1:] == segments[:, :-1]


def restarted_positions(segments: Tensor) -> Tensor:
    """The position of each token within its document [n, T], of segments [n, T]."""
    places = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    is_first = torch.ones_like(segments, dtype=torch.bool)
    is_first[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return places - torch.where(is_first, places, 0).cummax(dim=1).values


ROWS_MULTIPLE = 64
"""GPUs multiply bf16 matrices of odd sizes slowly: a vocabulary is filled up to a multiple of this, and cut back."""


def project(hidden: Tensor, head: nn.Linear) -> Tensor:
    """`head(hidden)` [..., V], on a GPU through a matrix of aligned size: rows of zeros are added and left out."""
    missing = -head.out_features % ROWS_MULTIPLE
    is_in_pieces = hasattr(head.weight, "ds_id")  # ZeRO-3 gathers a weight for its own module only
    if not missing or is_in_pieces or hidden.device.type == "cpu":
        return head(hidden)
    return padded_project(hidden, head, missing)


def padded_project(hidden: Tensor, head: nn.Linear, missing: int) -> Tensor:
    """`head(hidden)` [..., V] with `missing` rows of zeros below the weight."""
    bias = None if head.bias is None else functional.pad(head.bias, (0, missing))
    logits = functional.linear(hidden, functional.pad(head.weight, (0, 0, 0, missing)), bias)
    return logits[..., : head.out_features]


class TokenLoss(nn.Module):
    """A `transformers` model that gives nats per predicted token [n, P]; the head sees those positions only.

    Where nothing is predicted (NOT_PREDICTED) there are 0 nats, and no gradient. Where `exchanged` is asked, the nats
    of the answer are added to each of a sequence's P, so that their mean is that of the masked tokens plus that of the
    pairs.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.family = FAMILIES[model.config.model_type]

    def forward(
        self,
        inputs: Tensor,
        targets: Tensor,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        exchanged: Tensor | None = None,
    ) -> Tensor:
        hidden = self.model.base_model(input_ids=inputs, **self._options(inputs, segments)).last_hidden_state  # [n,T,h]
        if positions is None:
            seen = hidden[:, :-1]
        else:
            seen = hidden.gather(1, positions.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
        logits = project(self.family.transform(self.model, seen), self.model.get_output_embeddings())  # [n, P, V]
        nats = functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), reduction="none", ignore_index=NOT_PREDICTED
        ).view_as(targets)
        if exchanged is None:
            return nats
        answer = self.model.cls.seq_relationship(self.model.base_model.pooler(hidden))  # [n, 2]
        return nats + functional.cross_entropy(answer.float(), exchanged, reduction="none").unsqueeze(1)

    def _options(self, inputs: Tensor, segments: Tensor | None) -> dict[str, Any]:
        """`transformers` finds packed documents by their positions too, but for decoders only (5.23)."""
        mask = None
        options: dict[str, Any] = {}
        if has_pairs(self.model):  # in validation, too, where the halves belong together
            second_half = torch.arange(inputs.shape[1], device=inputs.device) >= inputs.shape[1] // 2
            options["token_type_ids"] = second_half.long().expand_as(inputs)
        if segments is not None:
            options["position_ids"] = restarted_positions(segments)
            mask = document_mask(segments, self.family.is_causal, self.model.dtype)
        return options | attention_options(self.model, inputs.shape[1], mask)
