"""A model that was compiled once, loaded by every later process that would compile the same.

torch caches its kernels by itself, but finds them by tracing the model anew, which takes half of what a run of a small
model takes to its first step. Here all that torch made is kept, `compiled/<address>` in the cache: SHA-256 (32
bytes) of the address and the rest, and a pickle of torch's. The address holds all that the trace depends on, and the
user. A file is read if nobody but this user could have written it, and if it is whole and of its address; otherwise,
and where torch has no such way (before 2.11), the model is compiled as usual, to the same bits.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import platform
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scaling.files import write_bytes
from scaling.identity import digest
from scaling.train.environment import SOURCES
from scaling.train.objective import TokenLoss

log = logging.getLogger(__name__)

HASH_BYTES = hashlib.sha256().digest_size


class Compiled:
    """A module, to be called with inputs of the names, shapes and dtypes only that it is called with first."""

    def __init__(self, module: TokenLoss, numerics: str, cache: Path) -> None:
        """numerics: hash of where and with what the run computes. cache: keeps what is compiled."""
        self._module, self._numerics, self._folder = module, numerics, cache / "compiled"
        self._function: Callable[..., Tensor] | None = None

    def __call__(self, **inputs: Tensor) -> Tensor:
        if self._function is None:
            self._function = self._open(inputs)
        return self._function(**inputs)

    def _open(self, inputs: Mapping[str, Tensor]) -> Callable[..., Tensor]:
        file = self._folder / address(self._module, inputs, self._numerics)
        try:
            if file.exists():
                return partial(_read(file), self._module)
        except Exception as error:  # a pickle may raise anything
            log.warning("compiled model %s is refused: %s", file, error)
        try:
            function = _compile(self._module, inputs)
        except Exception as error:  # torch calls the interface experimental
            log.info("the model is compiled for this process alone: %s", error)
            return usual(self._module)
        try:
            pickled = type(function).serialize(function).serialized_data
            write_bytes(file, _sha256(file, pickled) + pickled, mode=0o600)
        except Exception as error:  # of torch, or of the disk: what is compiled serves this process as well
            log.info("the compiled model is not kept: %s", error)
        return partial(function, self._module)


def usual(module: torch.nn.Module) -> Callable[..., Tensor]:
    """`module`, compiled anew in this process for each shape that comes."""
    return torch.compile(module, fullgraph=True, dynamic=False)


def address(module: TokenLoss, inputs: Mapping[str, Tensor], numerics: str) -> str:
    """Hash of all that a trace of the module depends on."""
    from torch._inductor import config as inductor

    named = [*module.named_parameters(), *module.named_buffers(), *inputs.items()]
    return digest(
        {
            "user": os.geteuid(),  # who shares a cache with others reads none of theirs
            "sources": SOURCES,
            "numerics": numerics,
            "python": platform.python_version(),
            "inductor": inductor.get_hash().hex(),
            "module": str(module),
            "config": module.model.config.to_json_string(use_diff=False),
            "tensors": [
                [name, str(tensor.dtype), tensor.shape, tensor.stride(), str(tensor.device), tensor.requires_grad]
                for name, tensor in named
            ],
        }
    )[:32]


def _compile(module: TokenLoss, inputs: Mapping[str, Tensor]) -> Any:
    # The address guards; what torch would guard by cannot be pickled in full.
    options: dict[str, Any] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    with torch._dynamo.config.patch(enable_aot_compile=True):
        function: Any = torch.compile(module.forward, fullgraph=True, dynamic=False, options=options)
    return function.aot_compile(((), dict(inputs)))


def _read(file: Path) -> Any:
    with file.open("rb") as opened:
        status = os.fstat(opened.fileno())
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise ValueError("others than this user may have written it")
        sha256, pickled = opened.read(HASH_BYTES), opened.read()
    if _sha256(file, pickled) != sha256:
        raise ValueError("it does not match its hash")
    function: Any = torch.compiler.load_compiled_function(io.BytesIO(pickled))
    function.disable_guard_check()  # there are none
    return function


def _sha256(file: Path, pickled: bytes) -> bytes:
    return hashlib.sha256(file.name.encode() + pickled).digest()
