"""A trace of a few steps, for `placement.profile`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from scaling.child import FinetuneSpec
from scaling.ranks import this_rank
from scaling.spec import RunSpec

SKIPPED, WARMING, TRACED = 24, 2, 4
"""Steps: the first ones compile and allocate; a run of fewer than all of these leaves no trace."""

Item = TypeVar("Item")


def profiled(spec: RunSpec | FinetuneSpec, run_dir: Path, batches: Iterable[Item]) -> Iterator[Item]:
    """The batches of a run as they come, while what is done with a few of them is traced if the placement says so.

    Each rank leaves `run_dir/profile/rank<R>.json`, a Chrome trace: ui.perfetto.dev shows it.
    """
    if not spec.placement.profile:
        yield from batches
        return
    folder = run_dir / "profile"
    folder.mkdir(exist_ok=True)
    with profile(
        activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])],
        schedule=schedule(skip_first=SKIPPED, wait=0, warmup=WARMING, active=TRACED, repeat=1),
        on_trace_ready=lambda trace: trace.export_chrome_trace(str(folder / f"rank{this_rank()}.json")),
    ) as trace:
        for batch in batches:
            yield batch
            trace.step()
