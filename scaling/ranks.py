"""The ranks of one run: how they find each other, and the little that they say to each other besides gradients."""

from __future__ import annotations

import os

import torch
from torch import Tensor, distributed

from scaling.child import AnySpec


def device_of(spec: AnySpec) -> torch.device:
    """The device of this rank."""
    kind = spec.placement.device
    if kind == "cuda" or (kind == "auto" and torch.cuda.is_available()):
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def join_ranks(spec: AnySpec) -> None:
    """Enter the process group of a run of several ranks, whose launcher has told each where to meet the others."""
    device = device_of(spec)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if spec.placement.ranks > 1:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")


def join_alone(device: torch.device) -> None:
    """A process group of one, for a library that wants one; it needs no port."""
    if not distributed.is_initialized():
        for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
            os.environ[name] = value
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, store=distributed.HashStore(), rank=0, world_size=1)


def leave_ranks() -> None:
    """Leave the process group; without it, gloo sometimes aborts at exit."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def this_rank() -> int:
    """From 0 on; rank 0 keeps the record."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def num_ranks() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def from_rank_0(value: int) -> int:
    """The value that rank 0 has; every rank must ask."""
    if num_ranks() == 1:
        return value
    shared = torch.tensor([value])
    distributed.broadcast(shared, src=0)
    return int(shared.item())


def of_all_ranks(word: str) -> list[str]:
    """The words that all ranks have, equally long and in their order; every rank must ask."""
    if num_ranks() == 1:
        return [word]
    own = torch.tensor(list(word.encode()), dtype=torch.uint8)
    found = [torch.empty_like(own) for _ in range(num_ranks())]
    distributed.all_gather(found, own)
    return [bytes(each.tolist()).decode() for each in found]


def any_rank(is_so: bool) -> bool:
    """Whether it is so on any rank; every rank must ask. Goes between the CPUs, so it waits for no device."""
    if num_ranks() == 1:
        return is_so
    shared = torch.tensor([int(is_so)])
    distributed.all_reduce(shared, distributed.ReduceOp.MAX)
    return bool(shared.item())


class Vote:
    """A question that all ranks are asked again and again, between their CPUs, so it waits for no device.

    But for the first, the answer is the last one's: to wait until the others are asked, too, took 2.9 of 14 ms of a
    step (two H200, 5 M parameters).
    """

    def __init__(self) -> None:
        self._asked: tuple[Tensor, distributed.Work] | None = None

    def any(self, is_so: bool) -> bool:
        """Whether it was so on any rank when they were last asked; alone, whether it is so. Every rank must ask."""
        if num_ranks() == 1:
            return is_so
        if any_rank(is_so) if self._asked is None else self.close():
            return True
        shared = torch.tensor([int(is_so)])
        self._asked = shared, distributed.all_reduce(shared, distributed.ReduceOp.MAX, async_op=True)
        return False

    def close(self) -> bool:
        """Hear the last answer; without it, a rank may leave while another still asks."""
        if self._asked is None:
            return False
        shared, asking = self._asked
        asking.wait()
        self._asked = None
        return bool(shared.item())


def min_over_ranks(value: int) -> int:
    """The least value that any rank has; every rank must ask."""
    if num_ranks() == 1:
        return value
    shared = torch.tensor([value])
    distributed.all_reduce(shared, distributed.ReduceOp.MIN)
    return int(shared.item())


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of a tensor on the CPU over all ranks."""
    if num_ranks() > 1:
        distributed.all_reduce(values)
    return values
