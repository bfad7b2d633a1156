"""Runs side by side spread over the GPUs of a machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from lab import SpecMaker

from scaling.devices import check_devices, gpus, seats
from scaling.placement import Placement


@pytest.mark.parametrize(
    ("visible", "placement", "expected"),
    [
        ("0,1,2,3", {}, ["0", "1", "2", "3"]),
        ("0,1", {"runs_per_device": 2}, ["0", "1", "0", "1"]),
        ("0,1,2,3", {"ranks": 2}, ["0,1", "2,3"]),
        ("4, 5,6", {"ranks": 2}, ["4,5"]),
        ("0", {"ranks": 2}, [None]),
        ("", {"runs_per_device": 3}, [None] * 3),
        ("0,1", {"device": "cpu", "runs_per_device": 2}, [None, None]),
        ("0,1", {"ranks": 2, "nodes": 2}, [None]),
    ],
)
def test_each_run_has_its_gpus(
    monkeypatch: pytest.MonkeyPatch, visible: str, placement: dict[str, Any], expected: list[str | None]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert seats(Placement.model_validate(placement)) == expected


def test_gpus_are_counted_as_the_driver_lists_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1)'\necho 'GPU 1: NVIDIA H200 (UUID: GPU-2)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert gpus() == ["0", "1"]
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert gpus() == []


PLUS_PLUS = {"placement.device": "auto", "precision": "bf16", "zero.stage": 3, "zero.zero_quantized_weights": True}
DRIVE = {"zero.stage": 3, "zero.offload_param.device": "nvme", "zero.offload_param.nvme_path": "/nowhere"}


@pytest.mark.parametrize(
    ("visible", "changes", "error"),
    [
        ("", {"placement.device": "cuda"}, "placement.device=cuda needs a GPU, got none on this machine"),
        (
            "0",
            {"placement.device": "auto", "placement.ranks": 2},
            "placement.ranks / placement.nodes must be at most 1, the GPUs of this machine, got 2 / 1",
        ),
        ("", PLUS_PLUS, "zero.zero_quantized_weights=True needs a GPU, got none on this machine"),
        ("0", DRIVE, "zero.offload_param.nvme_path: wanted a folder to write to, got '/nowhere'"),
    ],
)
def test_what_this_machine_has_not_is_refused(
    monkeypatch: pytest.MonkeyPatch, spec: SpecMaker, visible: str, changes: dict[str, Any], error: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ValueError, match=re.escape(error)):
        check_devices([spec(), spec(changes)])


@pytest.mark.parametrize(
    ("visible", "changes"),
    [
        ("0,1", {"placement.device": "cuda", "placement.ranks": 2}),
        ("0", {"placement.device": "cuda", "placement.ranks": 2, "placement.nodes": 2}),
        ("0", {"placement.ranks": 2}),  # on its cores
        ("", {"placement.device": "auto", "placement.ranks": 2}),
        ("0", PLUS_PLUS),
        ("", {**DRIVE, "zero.offload_param.nvme_path": "."}),
    ],
)
def test_what_this_machine_has_is_not_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spec: SpecMaker, visible: str, changes: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    check_devices([spec(changes)])
