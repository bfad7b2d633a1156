"""The answers of a model to the rows of a task, whether it is in training or done."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scaling.finetune.batches import RowTable, padded_length
from scaling.finetune.encoded import EncodedRows
from scaling.finetune.kind import Encoded, Kind, Reader
from scaling.ranks import num_ranks, sum_over_ranks, this_rank
from scaling.train.plain import attention_kernels
from scaling.train.tensors import RowTensors

TOKENS_PER_PASS = {"cpu": 2**12, "cuda": 2**15}


class Predictor(Protocol):
    """A module on its device, or an engine that trains it."""

    device: torch.device

    def predict(self, examples: RowTensors) -> Tensor:
        """What the module says of examples, without dropout or gradients."""

    def whole(self) -> AbstractContextManager[nn.Module]:
        """The module with all of its weights on this rank, in evaluation mode."""


class Trained:
    """A module that learns no more, whole on each rank."""

    def __init__(self, module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self._module = module.to(device).eval()
        for parameter in module.parameters():
            parameter.data = parameter.data.to(dtype)

    @torch.no_grad()
    def predict(self, examples: RowTensors) -> Tensor:
        """What the module says of examples."""
        with attention_kernels(self.device):
            return self._module(**examples.to(self.device).tensors())

    @contextmanager
    def whole(self) -> Iterator[nn.Module]:
        """The module."""
        yield self._module


def free(device: torch.device) -> None:
    """Give back the device memory of what is no longer used."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def answers(
    kind: Kind, reader: Reader, model: Predictor, rows: EncodedRows, items: Sequence[Any], pad_id: int
) -> list[Any]:
    """The answer to each item. Every rank calls it, and gets all of them."""

    def predict(some: Sequence[Encoded]) -> Iterator[NDArray[Any]]:
        return _logits(model, EncodedRows.packed(some), pad_id)

    with torch.no_grad():
        return kind.answers(predict, rows, items, model.whole, reader)


def _logits(model: Predictor, rows: EncodedRows, pad_id: int) -> Iterator[NDArray[Any]]:
    """The logits of each row in order: [t, C] per token, else [C]. Every rank takes its turns, and gets all."""
    table = RowTable(rows, pad_id, model.device)
    rounds = _rounds(rows.lengths, TOKENS_PER_PASS[model.device.type])
    found = {}
    # Under ZeRO 3 every rank must take part in every pass, so the last turn is taken by all.
    for first in range(0, len(rounds), num_ranks()):
        turn = first + this_rank()
        index = rounds[min(turn, len(rounds) - 1)]
        length = padded_length(int(rows.lengths[index].max()), int(rows.lengths.max()))
        logits = model.predict(table.tensors(table.index(index), length))
        if turn < len(rounds):
            found[turn] = logits.float()
    is_long = logits.ndim == 3
    starts = rows.starts if is_long else np.arange(len(rows) + 1)
    flat = np.zeros((starts[-1], logits.shape[-1]), dtype=np.float32)
    for turn, of_turn in found.items():
        for row, of_row in zip(rounds[turn], of_turn.cpu().numpy(), strict=True):
            flat[starts[row] : starts[row + 1]] = of_row[: rows.lengths[row]] if is_long else of_row
    if num_ranks() > 1:
        sum_over_ranks(torch.from_numpy(flat))
    return (flat[starts[row] : starts[row + 1]] if is_long else flat[row] for row in range(len(rows)))


def _rounds(lengths: NDArray[np.int64], num_tokens: int) -> list[NDArray[np.int64]]:
    """Rows by length, as many at a time as make `num_tokens` tokens, padded; at least one."""
    order = np.argsort(lengths, kind="stable")[::-1].copy()  # torch takes no negative stride
    rounds, start = [], 0
    while start < len(order):
        stop = start + max(1, num_tokens // int(lengths[order[start]]))
        rounds.append(order[start:stop])
        start = stop
    return rounds
