"""Which rows each step trains on, and the tensors that they make: a pure function of the spec and the step.

The stream of rows is one epoch after another, each in an order of its own. Within windows of some batches, all of one
epoch, rows are sorted by length and cut into batches, and the batches shuffled: so a batch is padded little. It is
padded to one of few lengths, so that a GPU has few shapes to record. The encoded rows lie on the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scaling.child import FinetuneSpec
from scaling.data.randomness import key, permutation
from scaling.finetune.encoded import EncodedRows
from scaling.ranks import num_ranks, this_rank
from scaling.train.batches import Batch
from scaling.train.objective import NOT_PREDICTED
from scaling.train.tensors import RowTensors

BATCHES_PER_WINDOW = 50
"""Measured on SST-2, 32 rows a batch: 25 % of the positions are padding, in 7 shapes; windows of 10, 34 %; of 200,
22 %; shuffled rows padded to the longest of a batch, 67 %, that is 2.3 times the tokens."""

LENGTHS_PER_OCTAVE = 4
SHORTEST = 8
"""What rows are padded to: 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, ... tokens."""


@dataclass(frozen=True, slots=True)
class TaskRows(RowTensors):
    """inputs [n, T]; mask [n, T]: 1 where a token is real, 0 after the row; targets [n, T], [n, 1] or [n, 2], None
    where answers are asked for; types [n, T]: 0 for the first text, 1 for the second."""

    inputs: Tensor
    mask: Tensor
    targets: Tensor | None = None
    types: Tensor | None = None


def padded_length(length: int, longest: int) -> int:
    """The least of the few lengths that holds `length` tokens; at most `longest`, which holds all."""
    step = max(SHORTEST, 2 ** (max(1, length - 1).bit_length() - 1) // LENGTHS_PER_OCTAVE)
    return min(longest, -(-length // step) * step)


def window_at(step: int, num_rows: int, num_sequences: int, num_steps: int) -> range:
    """The steps of the window that `step` is in."""

    def first_of(epoch: int) -> int:
        return -(-epoch * num_rows // num_sequences)

    epoch = step * num_sequences // num_rows
    begin = first_of(epoch)
    begin += (step - begin) // BATCHES_PER_WINDOW * BATCHES_PER_WINDOW
    return range(begin, min(begin + BATCHES_PER_WINDOW, max(begin + 1, first_of(epoch + 1)), num_steps))


def rows_of(window: range, lengths: NDArray[np.int64], num_sequences: int, seed: int) -> NDArray[np.int64]:
    """The rows of each step of a window [steps, num_sequences], the shortest of a step first."""
    num_rows = len(lengths)
    positions = np.arange(window.start * num_sequences, window.stop * num_sequences)
    epochs, places = np.divmod(positions, num_rows)
    rows = np.empty_like(positions)
    for epoch in np.unique(epochs):
        is_of = epochs == epoch
        rows[is_of] = _order(seed, int(epoch), num_rows)[places[is_of]]
    by_length = rows[np.lexsort((positions, lengths[rows]))].reshape(len(window), num_sequences)
    return by_length[permutation(key("batches", seed, window.start), len(window))]


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, num_rows: int) -> NDArray[np.int64]:
    """Of the rows of an epoch; kept for its windows."""
    return permutation(key("rows", seed, epoch), num_rows)


class RowTable:
    """Encoded rows on a device, of which any become tensors there."""

    def __init__(self, rows: EncodedRows, pad_id: int, device: torch.device, is_per_token: bool | None = None) -> None:
        """is_per_token: of the targets; None for rows without any."""
        self._is_per_token, self._pad_id, self._device = is_per_token, pad_id, device
        self._starts = self._sent(rows.starts[:-1])
        self._lengths = self._sent(rows.lengths)
        self._inputs = self._sent(rows.inputs)
        self._types = None if rows.types is None else self._sent(rows.types)
        if is_per_token is not None:
            self._targets = self._sent(rows.targets if is_per_token else rows.targets.reshape(len(rows), -1))

    def tensors(self, index: Tensor, length: int) -> TaskRows:
        """Rows `index` [n], on the device, padded to `length` tokens."""
        columns = torch.arange(length, device=self._device)
        is_real = columns < self._lengths[index].unsqueeze(1)
        places = torch.where(is_real, self._starts[index].unsqueeze(1) + columns, 0)
        inputs = torch.where(is_real, self._inputs[places].long(), self._pad_id)
        types = None if self._types is None else torch.where(is_real, self._types[places].long(), 0)
        targets = None
        if self._is_per_token:
            targets = torch.where(is_real, self._targets[places], NOT_PREDICTED)
        elif self._is_per_token is not None:
            targets = self._targets[index]
        return TaskRows(inputs, is_real.long(), targets, types)

    def index(self, rows: NDArray[np.int64]) -> Tensor:
        """Numbers of rows, on the device."""
        return self._sent(rows)

    def _sent(self, array: NDArray[np.generic]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor


def task_batches(
    spec: FinetuneSpec, rows: EncodedRows, is_per_token: bool, first_step: int, last_step: int, device: torch.device
) -> Iterator[Batch]:
    """The batches of this rank from `first_step` up to `last_step`, the number of steps of the whole run."""
    size, lengths = spec.batch.num_sequences, rows.lengths
    table = RowTable(rows, pad_id(spec), device, is_per_token)
    predicted = _num_predicted(rows, is_per_token)
    share = size // num_ranks()
    own = slice(this_rank() * share, (this_rank() + 1) * share)
    step = first_step
    while step < last_step:
        window = window_at(step, len(rows), size, last_step)
        chosen = rows_of(window, lengths, size, spec.seed)
        index = table.index(chosen[:, own])
        weights = torch.from_numpy((size / predicted[chosen].sum(1).clip(min=1)).astype(np.float32))
        if device.type == "cuda":
            weights = weights.pin_memory().to(device, non_blocking=True)
        padded = [padded_length(int(longest), spec.max_length) for longest in lengths[chosen].max(1)]
        for place in range(step - window.start, len(window)):
            examples = table.tensors(index[place], padded[place])
            yield Batch(window[place], window[place] * size, examples, weights[place])
        step = window.stop


def pad_id(spec: FinetuneSpec) -> int:
    """What stands after a row; nothing sees it."""
    tokenizer = spec.parent.tokenizer
    return tokenizer.end_of_text_id if tokenizer.pad_id is None else tokenizer.pad_id


def _num_predicted(rows: EncodedRows, is_per_token: bool) -> NDArray[np.int64]:
    """Targets of each row; where a kind is not per token, one loss."""
    if not is_per_token:
        return np.ones(len(rows), dtype=np.int64)
    counted = np.concatenate([[0], np.cumsum(rows.targets != NOT_PREDICTED)])
    return counted[rows.target_starts[1:]] - counted[rows.target_starts[:-1]]
