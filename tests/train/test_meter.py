"""What a run costs is counted right: its phases, its device's peak, its memory, its trace."""

from __future__ import annotations

import contextlib
import json
import mmap
import time
from pathlib import Path

import pytest
import torch
from lab import Lab, SpecMaker

from scaling.train.meter import Phases, memory_bytes, peak_flops
from scaling.train.profile import TRACED

CPU = torch.device("cpu")


def test_each_moment_belongs_to_one_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    phases = Phases()
    now += 1
    with phases.during("data"):
        now += 2
    now += 4
    assert phases.enter("train") == "start"
    now += 8
    with phases.during("evaluate"):
        now += 16
        with contextlib.suppress(ZeroDivisionError), phases.during("checkpoint"):
            now += 32
            now /= 0
    now += 64
    assert phases.seconds() == {"start": 5, "data": 2, "train": 72, "evaluate": 16, "checkpoint": 32}
    now += 128
    assert phases.seconds()["train"] == 200


@pytest.mark.parametrize(
    ("name", "precision", "teraflops"),
    [
        ("NVIDIA H200", "bf16", 989.4),
        ("NVIDIA H200", "fp32", 66.9),
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4),
        ("NVIDIA H100 PCIe", "fp16", 756.0),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312.0),
        ("NVIDIA L40S", "bf16", 362.1),
        ("NVIDIA L4", "bf16", 121.0),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16", None),
        ("NVIDIA A1000", "bf16", None),
        ("NVIDIA L40", "bf16", None),
    ],
)
def test_the_peak_of_a_device_is_found_by_its_name_or_unknown(
    monkeypatch: pytest.MonkeyPatch, name: str, precision: str, teraflops: float | None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    expected = None if teraflops is None else pytest.approx(teraflops * 1e12)
    assert peak_flops(torch.device("cuda", 0), precision) == expected
    assert peak_flops(CPU, precision) is None


def test_memory_is_what_was_touched_and_its_peak_is_remembered() -> None:
    size = 256 * 2**20
    before = resident_bytes()
    with mmap.mmap(-1, 2 * size) as memory:
        memory.write(b"x" * 2 * size)
        peak = memory_bytes(CPU)
    assert peak is not None
    assert before + size < peak
    assert resident_bytes() + size < memory_bytes(CPU), "it is given back, and the peak stays"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_a_profiled_run_leaves_a_trace_of_a_few_steps_and_the_same_losses(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    schedule = {"kind": "cosine", "warmup_tokens": 512}  # no trunk that the second would go on from
    runs = {name: spec({"placement.profile": name == "traced", "schedule": schedule}) for name in ("traced", "plain")}
    points = {name: lab.complete(run, tmp_path / name) for name, run in runs.items()}
    trace = json.loads((tmp_path / "traced" / "profile" / "rank0.json").read_text(encoding="utf-8"))
    names = [event.get("name", "") for event in trace["traceEvents"]]
    assert len({name for name in names if name.startswith("ProfilerStep#")}) == TRACED
    assert any(name == "aten::mm" for name in names)
    assert points["traced"] == points["plain"]
    assert not (tmp_path / "plain" / "profile").exists()
