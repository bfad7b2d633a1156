"""From the stream to the device: the examples of this rank, many steps at once, ahead of their time on a GPU."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scaling.data.stream import MixtureStream
from scaling.ranks import device_of, num_ranks, this_rank
from scaling.spec import RunSpec
from scaling.train.objective import Examples, make_examples, num_draws, token_weight
from scaling.train.tensors import RowTensors

CHUNK_TOKENS = {"cpu": 2**14, "cuda": 2**18}
"""Tokens that are made into examples at once: numpy's and the transfer's fixed costs are shared by many steps."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one optimiser step trains on.

    first_sequence: where in the stream the whole batch begins. examples: of this rank's share, on its device.
    weight: what a target that is predicted weighs in the mean over all targets of the batch (`token_weight`), or, of a
    fine-tuning, in the mean over its rows; on the device.
    """

    step: int
    first_sequence: int
    examples: RowTensors
    weight: Tensor


def batches(spec: RunSpec, stream: MixtureStream, first_step: int) -> Iterator[Batch]:
    """The batches of this rank from `first_step` to the end of the budget."""
    device = device_of(spec)
    chunks = _chunks(spec, stream, first_step, device)
    share = spec.batch.num_sequences // num_ranks()
    for step, examples, weights in _ahead(chunks, device) if device.type == "cuda" else chunks:
        for k, weight in enumerate(weights):
            own = examples.rows(slice(k * share, (k + 1) * share))
            yield Batch(step + k, (step + k) * spec.batch.num_sequences, own, weight)


Chunk = tuple[int, Examples, Tensor]
"""The first step of several, their examples one after another, and the token weight of each."""


def _chunks(spec: RunSpec, stream: MixtureStream, first_step: int, device: torch.device) -> Iterator[Chunk]:
    num_sequences = spec.batch.num_sequences
    share = num_sequences // num_ranks()
    at_once = max(1, CHUNK_TOKENS[device.type] // (share * spec.batch.sequence_length))
    for start in range(first_step, spec.num_steps, at_once):
        steps = range(start, min(start + at_once, spec.num_steps))
        own = [(step * num_sequences + this_rank() * share, share) for step in steps]
        pieces = [(own[0][0], share * len(own))] if num_ranks() == 1 else own
        examples = [_examples(spec, stream, first, count) for first, count in pieces]
        weights = torch.tensor([_weight(spec, stream, step) for step in steps], dtype=torch.float32)
        yield start, Examples.joined(examples).to(device), weights.to(device)


def _examples(spec: RunSpec, stream: MixtureStream, first: int, count: int) -> Examples:
    draws = stream.uniforms(first, count, num_draws(spec.objective, spec.batch.sequence_length), "masks")
    segments = stream.segments(first, count) if spec.batch.isolate_documents else None
    return make_examples(spec.objective, stream.batch(first, count), draws, spec.tokenizer, segments)


def _weight(spec: RunSpec, stream: MixtureStream, step: int) -> float:
    """Over all ranks, so that the split of a batch changes nothing."""
    if not spec.batch.isolate_documents:
        return 1.0
    segments = stream.segments(step * spec.batch.num_sequences, spec.batch.num_sequences)
    return token_weight(spec.objective, segments)


def _ahead(chunks: Iterator[Chunk], device: torch.device) -> Iterator[Chunk]:
    """The same chunks, made by a thread and copied by a stream of their own while the device computes."""
    ready: queue.Queue[Any] = queue.Queue(maxsize=2)
    is_over = threading.Event()

    def put(item: Any) -> None:
        while not is_over.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def make() -> None:
        copying = torch.cuda.Stream(device)
        try:
            with torch.cuda.device(device), torch.cuda.stream(copying):
                for chunk in chunks:
                    put((chunk, copying.record_event()))
                    if is_over.is_set():
                        return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=make, name="batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            chunk, is_copied = item
            computing = torch.cuda.current_stream(device)
            computing.wait_event(is_copied)
            for tensor in (*chunk[1].tensors().values(), chunk[2]):
                tensor.record_stream(computing)  # its memory is the copying stream's
            yield chunk
    finally:
        is_over.set()
        thread.join()
