"""What a model costs: bytes on disk, time, memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import zstandard
from safetensors.torch import save_file
from torch import Tensor, nn

from scaling.compression import NUM_ROUNDS

Answer = Callable[[Sequence[int]], object]
"""Answers the rows of these numbers, all at once."""


@dataclass(frozen=True, slots=True)
class Cost:
    """num_bytes: of its weights, as saved; num_bytes_packed: the same file compressed by zstd, which drops zeros.

    num_params: weights of body and head, and those that are not 0. milliseconds: of one pass, by rows per pass.
    peak_memory_bytes: weights, and the most that answering a batch of the largest size holds besides.
    """

    num_bytes: int
    num_bytes_packed: int
    num_params: int
    num_nonzero: int
    milliseconds: Mapping[int, float]
    peak_memory_bytes: int

    def flat(self) -> dict[str, float]:
        """By the names of the log."""
        return {
            "bytes": self.num_bytes,
            "bytes_packed": self.num_bytes_packed,
            "num_params": self.num_params,
            "nonzero_params": self.num_nonzero,
            "peak_memory_bytes": self.peak_memory_bytes,
            **{f"latency_ms_batch{size}": of_size for size, of_size in self.milliseconds.items()},
            **{f"rows_per_second_batch{size}": 1000 * size / of_size for size, of_size in self.milliseconds.items()},
        }


def plain_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The weights of a module as tensors that can be saved: what torchao keeps in one is several here."""
    found: dict[str, Tensor] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        found |= {name if part == "" else f"{name}.{part}": inner for part, inner in _inner(tensor.detach())}
    return {name: tensor.cpu().contiguous() for name, tensor in found.items()}


def _inner(tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    if not hasattr(tensor, "__tensor_flatten__"):
        yield "", tensor
        return
    for part in tensor.__tensor_flatten__()[0]:
        yield part, getattr(tensor, part)


def save_weights(module: nn.Module, path: Path) -> tuple[int, int]:
    """Write the weights of a module as safetensors. Returns the bytes of the file, and as zstd packs it."""
    shared: dict[tuple[int, ...], str] = {}
    tensors = {}
    for name, tensor in plain_tensors(module).items():  # tied ones once
        first = shared.setdefault((tensor.data_ptr(), *tensor.shape), name)
        if first == name:
            tensors[name] = tensor
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    with path.open("rb") as file:
        packed = sum(map(len, zstandard.ZstdCompressor(level=3).read_to_iter(file)))
    return path.stat().st_size, packed


def count_params(module: nn.Module) -> tuple[int, int]:
    """The weights of a module, and those that are not 0."""
    weights = [parameter.detach() for parameter in module.parameters()]
    whole = [weight.dequantize() if hasattr(weight, "__tensor_flatten__") else weight for weight in weights]
    return sum(weight.numel() for weight in whole), sum(int(weight.count_nonzero()) for weight in whole)


def milliseconds(
    answers: Mapping[str, Answer], batches: Mapping[int, Sequence[Sequence[int]]], device: torch.device
) -> dict[str, dict[int, float]]:
    """The median time of a pass of each model, by rows per pass.

    batches: by rows per pass, which rows are answered together. Models take turns, so that what else the machine does
    falls on all of them. Every pass is answered once before: a GPU plans its attention anew for each length of rows.
    """
    found: dict[str, dict[int, float]] = {name: {} for name in answers}
    for size, passes in batches.items():
        taken: dict[str, list[float]] = {name: [] for name in answers}
        for answer in answers.values():
            for rows in passes:
                answer(rows)
        for turn, rows in enumerate(passes):
            for name in list(answers)[:: -1 if turn % 2 else 1]:
                taken[name].append(_seconds(answers[name], rows, device))
        for name, seconds in taken.items():
            found[name][size] = 1000 * median(seconds)
    return found


def _seconds(answer: Answer, rows: Sequence[int], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    answer(rows)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def passes(num_rows: int, size: int, order: Sequence[int]) -> list[list[int]]:
    """Which rows each pass answers: `size` of them, after one another in `order`, from the beginning again."""
    return [[order[(turn * size + place) % num_rows] for place in range(size)] for turn in range(NUM_ROUNDS)]


def peak_memory(module: nn.Module, answer: Answer, rows: Sequence[int], device: torch.device) -> int:
    """Bytes of the weights, and the most that torch holds besides while rows are answered."""
    weights = sum(inner.nbytes for tensor in module.state_dict(keep_vars=True).values() for _, inner in _inner(tensor))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        answer(rows)
        torch.cuda.synchronize(device)
        return weights + torch.cuda.max_memory_allocated(device) - before
    return weights + _most_held(lambda: answer(rows))


def _most_held(act: Callable[[], object]) -> int:
    """The most bytes that torch holds on the CPU in the course of `act`, besides what it held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        act()
    kineto: Any = profile.profiler
    changes = [event for event in kineto.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most
