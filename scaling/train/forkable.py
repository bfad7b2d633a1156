"""What is loaded before runs are forked, and so that the forks can still use a GPU.

Where torchao is installed, `transformers` imports it with its models (5.17), and torchao asks Triton for the device
(0.18), which starts CUDA; no fork of a process that has done so can use a GPU. So it is not seen meanwhile. It can be
imported afterwards.
"""

from __future__ import annotations

import sys

import torch

if "torchao" not in sys.modules:
    sys.modules["torchao"] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        import transformers.modeling_utils  # noqa: F401
    finally:
        del sys.modules["torchao"]

if torch.cuda.is_available():  # asks NVML and starts nothing; see `start_server`
    import torch._inductor.compile_fx  # 500 modules, which each run would load in its first step
    from torch._inductor.codecache import torch_key

    torch_key()  # reads all of torch's source
