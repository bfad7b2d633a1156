"""Tensors that belong together, by name, with one row for each example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TypeVar

import torch
from torch import Tensor

Rows = TypeVar("Rows", bound="RowTensors")


class RowTensors:
    """Abstract: a frozen dataclass of tensors, of which some may be None; the module that learns takes them by name."""

    __slots__ = ()

    def tensors(self) -> dict[str, Tensor]:
        """Those that are there."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def rows(self: Rows, some: slice) -> Rows:
        """Those of some examples."""
        return self._each(lambda tensor: tensor[some])

    def to(self: Rows, device: torch.device) -> Rows:
        """The same on a device; to a GPU from pinned memory, so that nobody waits for the copy."""

        def moved(tensor: Tensor) -> Tensor:
            is_far = device.type == "cuda" and tensor.device.type == "cpu"
            return (tensor.pin_memory() if is_far else tensor).to(device, non_blocking=is_far)

        return self._each(moved)

    def copies(self: Rows) -> Rows:
        """The same in memory of their own."""
        return self._each(Tensor.clone)

    @classmethod
    def joined(cls: type[Rows], parts: Sequence[Rows]) -> Rows:
        """Several after another."""
        if len(parts) == 1:
            return parts[0]
        return cls(**{name: torch.cat([part.tensors()[name] for part in parts]) for name in parts[0].tensors()})

    def _each(self: Rows, change: Callable[[Tensor], Tensor]) -> Rows:
        return type(self)(**{name: change(tensor) for name, tensor in self.tensors().items()})
