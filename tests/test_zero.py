"""What cannot be placed is an error of the spec: nothing has started by then."""

from __future__ import annotations

from typing import Any

import pytest
from lab import SpecMaker
from pydantic import ValidationError

from scaling.identity import fingerprint
from scaling.placement import Zero

NVME = {"device": "nvme", "nvme_path": "/drive"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"zero.stage": 1, "zero.offload_param": {"device": "cpu"}},
            "zero.offload_param.device=cpu needs zero.stage",
        ),
        ({"zero.stage": 2, "zero.offload_optimizer": NVME}, "zero.offload_optimizer.device=nvme needs zero.stage 3"),
        (
            {"zero.stage": 3, "zero.offload_param": {"device": "nvme"}},
            "zero.offload_param.nvme_path must name a",
        ),
        (
            {"zero.stage": 2, "zero.zero_hpz_partition_size": 2},
            "zero.zero_hpz_partition_size=2 needs zero.stage 3",
        ),
        (
            {"zero.stage": 3, "zero.zero_hpz_partition_size": 3, "placement.ranks": 2},
            "zero.zero_hpz_partition_size must divide placement.ranks=2, got 3",
        ),
        (
            {"zero.stage": 3, "zero.zero_quantized_gradients": True},
            "zero.zero_quantized_gradients=True needs GPUs, got placement.device=cpu",
        ),
        (
            {"zero.stage": 3, "zero.zero_quantized_weights": True, "placement.device": "cuda"},
            "zero.zero_quantized_weights=True needs precision bf16 or fp16, got fp32",
        ),
        ({"precision": "bf16", "placement.ranks": 2}, "precision=bf16 on several ranks needs zero.stage 1, 2 or 3"),
        (
            {"precision": "bf16", "placement.engine": "deepspeed"},
            "precision=bf16 with placement.engine=deepspeed needs zero.stage 1, 2 or 3",
        ),
        ({"precision": "fp16"}, "precision=fp16 needs zero.stage 1, 2 or 3"),
        (
            {"zero.stage": 3, "zero.offload_param": {"device": "cpu"}, "placement.compile": True},
            "placement.compile=True needs weights that stay in place: zero.offload_param.device=none, got cpu",
        ),
        ({"zero.allgather_bucket_size": 3}, "multiple of 2"),
    ],
)
def test_what_cannot_be_placed_is_refused_with_field_value_and_what_was_wanted(
    spec: SpecMaker, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValidationError, match=expected):
        spec(changes)


def test_runs_recorded_with_the_old_offload_key_are_read(spec: SpecMaker) -> None:
    assert Zero.model_validate({"stage": 0, "offload": "none"}) == Zero()
    assert Zero.model_validate({"stage": 2, "offload": "cpu"}).offload_optimizer.device == "cpu"
    with pytest.raises(ValidationError, match="extra"):
        Zero.model_validate({"stage": 2, "offload": "moon"})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        *(({"zero.stage": stage}, False) for stage in (1, 2, 3)),
        ({"placement.ranks": 2}, True),
        ({"placement.engine": "deepspeed"}, True),
        ({"zero.stage": 1, "precision": "fp16"}, True),
        ({"zero.stage": 1, "zero.offload_optimizer": {"device": "cpu"}}, True),
        ({"zero.stage": 3, "zero.offload_param": {"device": "cpu"}}, True),
        ({"zero.stage": 3, "zero.zero_quantized_weights": True, "precision": "bf16", "placement.device": "cuda"}, True),
    ],
)
def test_deepspeed_is_needed_where_there_is_something_to_share_offload_scale_or_round(
    spec: SpecMaker, changes: dict[str, Any], expected: bool
) -> None:
    assert spec(changes).needs_deepspeed == expected


def test_where_a_run_keeps_its_optimiser_is_not_its_identity(spec: SpecMaker) -> None:
    assert fingerprint(spec({"zero.stage": 3, "zero.offload_optimizer": NVME})) == fingerprint(spec())
