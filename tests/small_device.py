"""A device that has little memory."""

from __future__ import annotations

import torch


class Device:
    """Holds so many sequences; remembers what was tried."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.tried: list[int] = []

    def __call__(self, size: int) -> None:
        self.tried.append(size)
        if size > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
