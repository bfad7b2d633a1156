"""A run that was killed and started again leaves the record that an unbroken one leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab import Lab, SpecMaker, newest_step, points, wandb_files

from scaling.launch import run_warnings

OFTEN = {"placement.checkpoint_seconds": 0}
TWO_RANKS = {"placement.ranks": 2}
ALONE = {"placement.engine": "deepspeed"}  # which one rank does not need
COSINE = {"kind": "cosine", "warmup_tokens": 512}
"""Nothing is shared through a trunk, so that the resumed run has its own checkpoint alone."""


def assert_same_bits(one: Path, other: Path) -> None:
    assert (one / "points.jsonl").read_bytes() == (other / "points.jsonl").read_bytes()
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (one, other)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param({**ALONE, "zero.stage": 0}, id="stage0"),
        pytest.param({**ALONE, "zero.stage": 1}, id="stage1"),
        pytest.param({**ALONE, "zero.stage": 2, "precision": "bf16"}, id="stage2-bf16"),
        pytest.param({**ALONE, "zero.stage": 3}, id="stage3"),
        pytest.param({"zero.stage": 1, "placement.ranks": 2}, id="stage1-ranks2"),
        pytest.param({"zero.stage": 3, "placement.ranks": 2}, id="stage3-ranks2"),
        pytest.param({**TWO_RANKS, "zero.stage": 2, "precision": "fp16"}, id="fp16", marks=pytest.mark.slow),
        pytest.param(
            {**TWO_RANKS, "zero.stage": 1, "precision": "bf16", "placement.micro_batch": 1},
            id="bf16-micro",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {**TWO_RANKS, "zero.stage": 3, "zero.offload_optimizer": {"device": "cpu"}},
            id="offload",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {**TWO_RANKS, "zero.stage": 3, "placement.activation_checkpointing": True},
            id="recomputed",
            marks=pytest.mark.slow,
        ),
        pytest.param({"objective.kind": "mlm", "placement.micro_batch": 2}, id="mlm"),
        pytest.param({"budget.unique_tokens": 2560, "budget.max_epochs": None}, id="fourth-epoch"),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bits(
    lab: Lab, spec: SpecMaker, tmp_path: Path, changes: dict[str, Any]
) -> None:
    run = {"schedule": COSINE, "budget.num_tokens": 80 * 128, **changes}
    unbroken = lab.start(spec(run), tmp_path / "unbroken")  # side by side
    lab.kill_after_checkpoint(spec({**run, **OFTEN}), tmp_path / "broken")
    assert len(points(tmp_path / "broken")) < 5
    lab.complete(spec({**run, **OFTEN}), tmp_path / "broken")
    unbroken.join(120)
    assert len(points(tmp_path / "unbroken")) == 5
    assert_same_bits(tmp_path / "unbroken", tmp_path / "broken")
    assert not (tmp_path / "broken" / "checkpoints").exists()


def test_a_run_killed_twice_starts_at_its_checkpoint_and_not_at_the_beginning(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    long = {"schedule": COSINE, "budget.num_tokens": 400 * 128, "budget.max_epochs": None}
    for count in (1, 6):
        lab.kill_after_checkpoint(spec({**long, **OFTEN}), tmp_path / "run", count)
    step = newest_step(tmp_path / "run")
    lab.complete(spec({**long, **OFTEN}), tmp_path / "run")
    first_row = next(row for row in wandb_files(tmp_path / "run")[-1].history if "train/loss" in row)
    assert first_row["tokens"] == (step + 20) * 128
    told = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert f"resumed at step {step} of 400, from the checkpoint step-{step:08d}\n" in told
    lab.complete(spec(long), tmp_path / "whole")
    assert_same_bits(tmp_path / "whole", tmp_path / "run")


def test_a_run_whose_newest_checkpoint_is_torn_goes_on_from_the_older_one(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    run = spec({"schedule": COSINE, "budget.num_tokens": 200 * 128, **OFTEN})
    lab.kill_after_checkpoint(run, tmp_path / "run", count=2)
    newest = tmp_path / "run" / "checkpoints" / f"step-{newest_step(tmp_path / 'run'):08d}"
    with (newest / "exp_avg.safetensors").open("r+b") as file:
        file.truncate(1000)
    lab.complete(run, tmp_path / "run")
    (warning,) = run_warnings(tmp_path / "run")
    assert "the hash of exp_avg.safetensors does not match" in warning
    lab.complete(spec({"schedule": COSINE, "budget.num_tokens": 200 * 128}), tmp_path / "whole")
    assert_same_bits(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"zero.stage": 3, "placement.ranks": 2}, {}, id="stage3-ranks2-to-stage0"),
        pytest.param({"zero.stage": 1}, {"zero.stage": 3, "placement.micro_batch": 2}, id="stage1-to-stage3-micro2"),
    ],
)
def test_a_run_goes_on_under_another_placement_to_the_same_losses(
    lab: Lab, spec: SpecMaker, tmp_path: Path, before: dict[str, Any], after: dict[str, Any]
) -> None:
    long = {"schedule": COSINE, "budget.num_tokens": 80 * 128, **OFTEN}
    lab.complete(spec(long), tmp_path / "unbroken")
    lab.kill_after_checkpoint(spec({**long, **before}), tmp_path / "broken")
    lab.complete(spec({**long, **after}), tmp_path / "broken")
    expected, found = points(tmp_path / "unbroken"), points(tmp_path / "broken")
    assert [point.tokens for point in found] == [point.tokens for point in expected]
    for domain, sums in found[-1].domains.items():
        # the order of floating-point sums differs, and training amplifies that
        assert sums.loss == pytest.approx(expected[-1].domains[domain].loss, rel=1e-3)
