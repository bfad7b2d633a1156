"""The micro-batch found from memory: the largest that a pass of the model and what its engine holds leave room for.

Tried with the bare model, forward and backward, before there is an engine. Meanwhile torch may take no more of the
device's memory than

    total x 90 % / runs side by side - what the engine will hold besides,

so that no memory of others is taken to find out. It will hold masters, moments and gradients (`scaling.memory`), a
bucket of DeepSpeed, two where communication overlaps, and, where training is recorded as CUDA graphs, which keep their
memory to themselves, one evaluation pass.

The bare model's weights and gradients are there when it is tried. Under stage 3, where fewer weights are there
at a time, this asks for more than is needed. So does it where the model will be compiled.

What was found is kept in the cache: bits depend on the micro-batch, so all runs of a sweep, and a run that is resumed,
take the same.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from filelock import FileLock
from torch import nn

from scaling.child import FinetuneSpec
from scaling.evaluate.loss import EVALUATION_TOKENS
from scaling.files import write_json
from scaling.identity import digest
from scaling.memory import state_of
from scaling.objective import MaskedNextSentence
from scaling.ranks import device_of, from_rank_0, min_over_ranks, this_rank
from scaling.spec import RunSpec
from scaling.train.engine import DTYPES, mean_loss
from scaling.train.model import build_model
from scaling.train.objective import Examples, TokenLoss, make_examples, num_draws
from scaling.train.plain import attention_kernels
from scaling.train.tensors import RowTensors

log = logging.getLogger(__name__)

SHARE_OF_MEMORY = 0.9
"""The rest is for the CUDA context, the libraries' own memory, and pieces too small to be used."""


Spec = TypeVar("Spec", RunSpec, FinetuneSpec)


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried of a run, and where it takes most: at its longest rows.

    length: tokens of a row. together: rows that no micro-batch may part. identity: of what the memory of a pass
    depends on, besides precision and placement, as JSON. module: made anew each time, on the CPU; gives the losses of
    rows [n, P]. rows: so many, to learn from or to evaluate, to be moved to the device. evaluated: how many at once.
    """

    length: int
    together: int
    identity: Mapping[str, Any]
    module: Callable[[], nn.Module]
    rows: Callable[[int, bool], RowTensors]
    evaluated: int


def pretraining_trial(spec: RunSpec) -> Trial:
    """Of a pretraining."""
    length = spec.batch.sequence_length
    return Trial(
        length=length,
        together=2 if isinstance(spec.objective, MaskedNextSentence) else 1,
        identity={
            **spec.model_dump(mode="json", include={"model", "objective", "batch"}),
            "vocab_size": spec.tokenizer.vocab_size,
        },
        module=lambda: TokenLoss(build_model(spec)),
        rows=lambda size, is_learned: _made_up(spec, size),
        evaluated=max(2, EVALUATION_TOKENS["cuda"] // length // 2 * 2),
    )


def with_micro_batch(spec: Spec, cache: Path, trial: Trial) -> Spec:
    """The spec with the micro-batch that its rank will take; the same on every rank, which must all call it.

    ValueError if not even the smallest leaves room.
    """
    device = device_of(spec)
    if spec.placement.micro_batch is not None or device.type == "cpu":
        return spec
    name = torch.cuda.get_device_name(device)
    found = found_micro_batch(spec, trial, cache, name, lambda size: _try(spec, trial, device, size))
    torch.cuda.empty_cache()
    return spec.model_copy(update={"placement": spec.placement.model_copy(update={"micro_batch": found})})


def found_micro_batch(
    spec: RunSpec | FinetuneSpec, trial: Trial, cache: Path, device: str, attempt: Callable[[int], None]
) -> int:
    """The largest micro-batch for which `attempt` raises no torch.OutOfMemoryError, from the cache if it is there."""
    file = cache / "micro_batches" / f"{_question(spec, trial, device)}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    sizes = micro_batches(spec, trial.together)
    with _held(file.with_suffix(".lock")):
        found = from_rank_0(json.loads(file.read_text(encoding="utf-8"))["micro_batch"] if file.exists() else 0)
        if not found:
            found = min_over_ranks(_back_off(sizes, attempt))
            if found and this_rank() == 0:
                log.info("micro-batch of %d sequences found", found)
                write_json(file, {"micro_batch": found, "device": device})
    if not found:
        raise ValueError(
            f"placement.micro_batch: {sizes[-1]} of {trial.length} tokens do not fit on the device; choose a higher"
            " zero.stage, an offload or placement.activation_checkpointing=true, and give placement.micro_batch where"
            " the bare model does not fit on one device"
        )
    return found


def micro_batches(spec: RunSpec | FinetuneSpec, together: int = 1) -> list[int]:
    """The micro-batches to try: a rank's whole share, and then its largest divisor of half the last or less."""
    share = spec.micro_batch
    sizes = [share]
    for size in range(share // 2, 0, -1):
        if share % size == 0 and size % together == 0 and size <= sizes[-1] // 2:
            sizes.append(size)
    return sizes


def bytes_besides(spec: RunSpec | FinetuneSpec, num_params: int, num_learning: int) -> int:
    """What the engine will hold on the device besides weights and a pass: see `state_of`, and DeepSpeed's buckets."""
    memory, zero = state_of(spec, num_params, num_learning), spec.zero
    overlaps = zero.stage == 3 if zero.overlap_comm is None else zero.overlap_comm
    bucket = min(zero.reduce_bucket_size, num_learning) * DTYPES[spec.precision].itemsize
    bucket *= zero.stage >= 1 and spec.needs_deepspeed
    return memory.masters + memory.moments + memory.gradients + bucket * (2 if overlaps else 1)


def _question(spec: RunSpec | FinetuneSpec, trial: Trial, device: str) -> str:
    """Hash of all that the answer depends on."""
    placement = spec.placement
    return digest(
        {
            **trial.identity,
            "precision": spec.precision,
            "placement": placement.model_dump(
                mode="json", include={"ranks", "runs_per_device", "activation_checkpointing"}
            ),
            "zero": spec.zero.model_dump(mode="json") if spec.needs_deepspeed else None,
            "device": device,
            "versions": {name: version(name) for name in ("torch", "transformers", "deepspeed")},
        }
    )[:32]


def _back_off(sizes: Sequence[int], attempt: Callable[[int], None]) -> int:
    """The largest micro-batch that fits here, 0 for none."""
    for size in sizes:
        try:
            attempt(size)
        except torch.OutOfMemoryError:
            continue
        return size
    return 0


def _try(spec: RunSpec | FinetuneSpec, trial: Trial, device: torch.device, size: int) -> None:
    """One pass over a micro-batch of the longest rows; torch.OutOfMemoryError if it does not fit."""
    module = trial.module().to(device, DTYPES[spec.precision]).train()
    weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
    besides = bytes_besides(spec, _count(module.parameters()), _count(weights))
    if not spec.needs_deepspeed:
        besides += _evaluation_bytes(module, trial.rows(trial.evaluated, False).to(device), device)
    rows = trial.rows(size, True).to(device)
    with _memory_of(spec, device, besides), attention_kernels(device):
        torch.autograd.grad(mean_loss(spec, module(**rows.tensors())), weights, allow_unused=True)
        torch.cuda.synchronize(device)


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _made_up(spec: RunSpec, size: int) -> Examples:
    length, rng = spec.batch.sequence_length, np.random.default_rng(0)
    sequences = rng.integers(spec.tokenizer.vocab_size, size=(size, length))
    segments = np.zeros_like(sequences) if spec.batch.isolate_documents else None
    draws = rng.random((size, num_draws(spec.objective, length)))
    return make_examples(spec.objective, sequences, draws, spec.tokenizer, segments)


@torch.no_grad()
def _evaluation_bytes(module: nn.Module, rows: RowTensors, device: torch.device) -> int:
    """What an evaluation pass takes: recorded graphs keep the memory of training to themselves."""
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    with attention_kernels(device):
        module.eval()(**rows.tensors())
    module.train()
    return torch.cuda.max_memory_allocated(device) - before


@contextmanager
def _memory_of(spec: RunSpec | FinetuneSpec, device: torch.device, besides: int) -> Iterator[None]:
    """Let torch take no more of the device than a run's share less what its engine holds."""
    total = torch.cuda.get_device_properties(device).total_memory
    share = SHARE_OF_MEMORY * total / spec.placement.runs_per_device - besides
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(max(0.0, share / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Rank 0 keeps other runs waiting, which ask the same; its own ranks follow it."""
    if this_rank() == 0:
        with FileLock(lock):
            yield
    else:
        yield
