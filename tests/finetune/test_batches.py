"""Which rows each step trains on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scaling.data.randomness import permutation
from scaling.finetune.batches import RowTable, padded_length, rows_of, window_at
from scaling.finetune.encoded import EncodedRows
from scaling.finetune.kind import Encoded
from scaling.finetune.predict import answers
from scaling.train.objective import NOT_PREDICTED
from scaling.train.tensors import RowTensors

NUM_ROWS, SIZE, STEPS = 1003, 8, 400


def some_lengths() -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(3, 60, NUM_ROWS)


def all_rows(num_rows: int, size: int, steps: int, seed: int = 0) -> list[list[int]]:
    """The rows of every step, each asked for alone."""
    lengths = some_lengths()[:num_rows]
    found = []
    for step in range(steps):
        window = window_at(step, num_rows, size, steps)
        assert step in window
        found.append(rows_of(window, lengths, size, seed)[step - window.start].tolist())
    return found


@pytest.mark.parametrize("num_rows", [NUM_ROWS, 1000, 50, 8, 5, 1])
def test_every_epoch_reads_every_row_once_and_every_batch_is_full(num_rows: int) -> None:
    found = all_rows(num_rows, SIZE, STEPS)
    assert all(len(rows) == SIZE for rows in found)
    seen = Counter(row for rows in found for row in rows)
    epochs = STEPS * SIZE / num_rows
    assert set(seen.values()) <= {int(epochs), int(np.ceil(epochs))}


def test_no_row_comes_again_before_the_next_epoch_may_begin() -> None:
    found = all_rows(NUM_ROWS, SIZE, NUM_ROWS // SIZE)
    assert max(Counter(row for rows in found for row in rows).values()) == 1


def test_each_epoch_and_each_seed_has_an_order_of_its_own() -> None:
    first, other = all_rows(1000, SIZE, 250), all_rows(1000, SIZE, 250, seed=1)
    assert first[:125] != first[125:]
    assert first != other


def test_rows_of_a_batch_are_about_equally_long() -> None:
    lengths = some_lengths()
    found = all_rows(NUM_ROWS, SIZE, 125)
    padded = sum(SIZE * int(lengths[rows].max()) for rows in found)
    shuffled = permutation(np.uint64(1), NUM_ROWS)[: 125 * SIZE].reshape(-1, SIZE)
    unsorted = sum(SIZE * int(lengths[rows].max()) for rows in shuffled)
    real = sum(int(lengths[rows].sum()) for rows in found)
    assert padded < 1.05 * real < unsorted / 1.5


def test_short_and_long_batches_come_in_no_order() -> None:
    lengths = some_lengths()
    longest = [int(lengths[rows].max()) for rows in all_rows(NUM_ROWS, SIZE, 50)]
    assert abs(np.corrcoef(longest, np.arange(50))[0, 1]) < 0.5


def test_lengths_are_few_and_hold_what_they_pad() -> None:
    padded = [padded_length(length, 500) for length in range(1, 501)]
    assert all(0 <= found - length < max(8, 0.26 * length) for length, found in enumerate(padded, 1))
    assert len(set(padded)) <= 21
    assert padded[-1] == 500


def rows_of_lengths(lengths: list[int], is_per_token: bool) -> EncodedRows:
    rows = []
    for item, length in enumerate(lengths):
        inputs = np.arange(1, length + 1) + 100 * item
        targets = inputs % 7 if is_per_token else np.array([item])
        rows.append(Encoded(item, inputs, targets, np.ones(length, dtype=np.int64) if item == 1 else None, item))
    return EncodedRows.packed(rows)


def test_rows_become_tensors_with_nothing_behind_their_end() -> None:
    table = RowTable(rows_of_lengths([3, 5, 2], is_per_token=True), 99, torch.device("cpu"), is_per_token=True)
    found = table.tensors(torch.tensor([2, 1]), 8)
    assert found.inputs[0].tolist() == [201, 202, 99, 99, 99, 99, 99, 99]
    assert found.mask.sum(1).tolist() == [2, 5]
    assert found.targets is not None
    assert found.types is not None
    assert found.targets[0].tolist() == [201 % 7, 202 % 7, *[NOT_PREDICTED] * 6]
    assert found.types.tolist() == [[0] * 8, [1] * 5 + [0] * 3]


def test_rows_of_chosen_items_are_those_items_in_that_order_and_as_often() -> None:
    rows = rows_of_lengths([3, 5, 2], is_per_token=False)
    found = rows.of_items(np.array([2, 0, 2]))
    assert [row.inputs.tolist() for row in found] == [[201, 202], [1, 2, 3], [201, 202]]
    assert [row.item for row in found] == [0, 1, 2]
    assert [row.targets.tolist() for row in found] == [[2], [0], [2]]
    assert [row.num_cut for row in found] == [2, 0, 2]


class Echo:
    """A model whose logits are the inputs."""

    device = torch.device("cpu")

    def predict(self, examples: RowTensors) -> torch.Tensor:
        inputs = examples.tensors()["inputs"]
        return torch.stack([inputs, -inputs], dim=-1).float()


class FirstOnly(Echo):
    """A model of whole rows: logits are the first token, and minus it."""

    def predict(self, examples: RowTensors) -> torch.Tensor:
        return Echo.predict(self, examples)[:, 0]


class Repeats:
    """A kind whose answer is what it is told."""

    def __init__(self, is_per_token: bool) -> None:
        self.is_per_token = is_per_token

    def answers(self, predict, encoded, items, whole, reader):  # type: ignore[no-untyped-def]
        return [logits.tolist() for logits in predict(encoded)]


def test_logits_come_in_the_order_of_the_rows_and_end_where_they_end() -> None:
    lengths = [3, 70, 2, 40, 3]
    rows = rows_of_lengths(lengths, is_per_token=True)
    Echo.whole = FirstOnly.whole = None  # type: ignore[attr-defined]
    per_token = answers(Repeats(True), None, Echo(), rows, lengths, 0)  # type: ignore[arg-type]
    assert [[pair[0] for pair in row] for row in per_token] == [row.inputs.tolist() for row in rows]
    whole = answers(Repeats(False), None, FirstOnly(), rows, lengths, 0)  # type: ignore[arg-type]
    assert whole == [[row.inputs[0], -row.inputs[0]] for row in rows]
