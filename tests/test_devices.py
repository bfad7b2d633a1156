"""Runs side by side spread over the GPUs of a machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scaling.devices import gpus, seats
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
