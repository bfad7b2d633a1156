"""Engines side by side on the same batches: they agree, and each goes on from its state to the same bits."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lab import Lab, SpecMaker

from scaling.ranks import join_ranks, leave_ranks
from scaling.spec import RunSpec
from scaling.train.batches import Batch
from scaling.train.checkpoint import newest_checkpoint, save_checkpoint
from scaling.train.engine import Engine, TrainState, open_engine
from scaling.train.model import build_model
from scaling.train.objective import TokenLoss, make_examples, num_draws
from scaling.train.recorder import DivergedError

NUM_STEPS, HALF = 6, 3
CPU_OFFLOAD = {"zero.offload_optimizer": {"device": "cpu"}}
MICRO = {"placement.micro_batch": 1}
DEEPSPEED = {"placement.engine": "deepspeed"}  # which one rank does not need
RATE = 1e-2
NO_LIBRARY = 77
"""The exit code of a process that cannot try what it should."""

FP32 = {
    "plain": {},
    "plain-micro": MICRO,
    "plain-recomputed": {"placement.activation_checkpointing": True},
    **{f"stage{stage}": {"zero.stage": stage, **DEEPSPEED} for stage in (0, 1, 2, 3)},
    **{f"stage{stage}-micro": {"zero.stage": stage, **MICRO, **DEEPSPEED} for stage in (1, 2, 3)},
    **{f"stage{stage}-offload": {"zero.stage": stage, **CPU_OFFLOAD} for stage in (1, 2, 3)},
    "stage2-offload-micro": {"zero.stage": 2, **CPU_OFFLOAD, **MICRO},
    "stage3-all-offload": {"zero.stage": 3, **CPU_OFFLOAD, "zero.offload_param": {"device": "cpu"}},
    "stage3-recomputed": {"zero.stage": 3, **DEEPSPEED, "placement.activation_checkpointing": True},
}
SIXTEEN = {
    "stage2": {"zero.stage": 2, **DEEPSPEED},
    "stage1-skip": {"zero.stage": 1, "optimizer.nonfinite": "skip", **DEEPSPEED},
    **{f"stage{stage}-micro": {"zero.stage": stage, **MICRO, **DEEPSPEED} for stage in (1, 2, 3)},
    "stage2-offload": {"zero.stage": 2, **CPU_OFFLOAD},
    "stage3-offload-micro": {"zero.stage": 3, **CPU_OFFLOAD, **MICRO},
}


def made_up(spec: RunSpec, step: int) -> Batch:
    """A batch that depends on the step alone."""
    rng = np.random.default_rng(step)
    num_sequences, length = spec.batch.num_sequences, spec.batch.sequence_length
    sequences = rng.integers(3, 40, (num_sequences, length))
    draws = rng.random((num_sequences, num_draws(spec.objective, length)))
    examples = make_examples(spec.objective, sequences, draws, spec.tokenizer)
    return Batch(step, step * num_sequences, examples, torch.ones(()))


def opened(spec: RunSpec, state: TrainState | None) -> Engine:
    module = TokenLoss(build_model(spec))
    if state is not None:
        module.load_state_dict(state.weights, strict=False)
    return open_engine(spec, module, state)


def train(spec: RunSpec, engine: Engine, steps: range) -> list[float]:
    for step in steps:
        engine.train(made_up(spec, step), RATE)
    return engine.look().losses.tolist()


def compare(specs: Mapping[str, RunSpec], folder: Path) -> None:
    """Body of a process: train each spec straight on and with a break, and leave losses and states in `folder`."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name, spec in specs.items():
        join_ranks(spec)
        engine = opened(spec, None)
        losses = train(spec, engine, range(HALF))
        save_checkpoint(folder / name / "broken", engine.state(HALF, None), name)
        losses += train(spec, engine, range(HALF, NUM_STEPS))
        save_checkpoint(folder / name / "straight", engine.state(NUM_STEPS, None), name)
        broken = newest_checkpoint(folder / name / "broken", name, HALF)
        engine = opened(spec, broken)
        assert train(spec, engine, range(HALF, NUM_STEPS)) == losses[HALF:], name
        save_checkpoint(folder / name / "broken", engine.state(NUM_STEPS, None), name)
        (folder / name / "losses.txt").write_text("\n".join(map(repr, losses)))
    leave_ranks()


def run(
    lab: Lab, specs: Mapping[str, RunSpec], folder: Path, body: Callable[..., None] = compare
) -> dict[str, list[float]]:
    """The losses by name; that a break changes no bit of losses or state is checked here."""
    process = lab.context.Process(target=body, args=(specs, folder))
    process.start()
    process.join(200)
    if process.exitcode == NO_LIBRARY:
        pytest.skip("libaio is not installed")
    assert process.exitcode == 0
    for name in specs:
        for file in ("weights", "exp_avg", "exp_avg_sq"):
            path = Path(f"step-{NUM_STEPS:08d}") / f"{file}.safetensors"
            straight, broken = (folder / name / kind / path for kind in ("straight", "broken"))
            assert straight.read_bytes() == broken.read_bytes(), (name, file)
    return {name: [float(line) for line in (folder / name / "losses.txt").read_text().split()] for name in specs}


def test_every_stage_and_offload_trains_as_plain_torch_does(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    losses = run(lab, {name: spec(changes) for name, changes in FP32.items()}, tmp_path)
    assert losses["plain"][-1] < losses["plain"][0] - 0.1
    for name, found in losses.items():
        assert found == pytest.approx(losses["plain"], rel=1e-4), name


def test_a_stage_that_shares_nothing_out_changes_no_bit(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    alone = {f"stage{stage}": spec({"zero.stage": stage, "precision": "bf16"}) for stage in (0, 1, 2, 3)}
    losses = run(lab, alone, tmp_path)
    assert all(found == losses["stage0"] for found in losses.values())
    weights = f"straight/step-{NUM_STEPS:08d}/weights.safetensors"
    assert len({(tmp_path / name / weights).read_bytes() for name in alone}) == 1


def fall_over(spec: RunSpec, folder: Path) -> None:
    """Body of a process: weights that give a gradient that is no number, in the second step."""
    warnings.simplefilter("ignore")
    engine = opened(spec, None)
    fresh = engine.state(0, None)
    name = next(iter(fresh.weights))
    engine = opened(spec, replace(fresh, weights={**fresh.weights, name: fresh.weights[name] * float("inf")}))
    engine.train(made_up(spec, 0), RATE)
    assert not np.isfinite(engine.look().grad_norms).any()


@pytest.mark.parametrize("nonfinite", ["stop", "skip"])
def test_a_gradient_that_is_no_number_is_seen_though_no_step_waits_for_it(
    lab: Lab, spec: SpecMaker, tmp_path: Path, nonfinite: str
) -> None:
    changes = {"precision": "bf16", "zero.stage": 1, "optimizer.nonfinite": nonfinite, **DEEPSPEED}
    process = lab.context.Process(target=fall_over, args=(spec(changes), tmp_path))
    process.start()
    process.join(120)
    assert process.exitcode == 0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_train_as_fp32_does_within_their_rounding(
    lab: Lab, spec: SpecMaker, tmp_path: Path, precision: str
) -> None:
    specs = {name: spec({**changes, "precision": precision}) for name, changes in SIXTEEN.items()}
    losses = run(lab, {"fp32": spec({}), **specs}, tmp_path)
    for name in specs:
        assert losses[name] == pytest.approx(losses["fp32"], rel=0.01), name
        assert losses[name] != losses["fp32"], name


def overflow(spec: RunSpec, folder: Path) -> None:
    """Body of a process: start with a loss scaled far too much, and end with weights far too large."""
    warnings.simplefilter("ignore")
    fresh = opened(spec, None).state(0, None)
    assert fresh.scaler["cur_scale"] == 2**16
    engine = opened(spec, replace(fresh, scaler={**fresh.scaler, "cur_scale": 2.0**26}))
    for step in range(12):
        engine.train(made_up(spec, step), RATE)
    look, middle = engine.look(), engine.state(12, None)
    left_out = int(np.isinf(look.grad_norms).sum())
    assert 1 < left_out < 12
    assert np.isinf(look.grad_norms[:left_out]).all(), "then the scale is right"
    assert np.isfinite(look.losses).all()
    assert middle.scaler["updates"] == 12 - left_out
    assert middle.scaler["cur_scale"] == 2.0 ** (26 - left_out + 1), "the first time is let pass"
    save_checkpoint(folder, middle, "run")
    losses = train(spec, engine, range(12, 20))
    ended = engine.state(20, None)
    resumed = opened(spec, newest_checkpoint(folder, "run", 12))
    assert train(spec, resumed, range(12, 20)) == losses
    again = resumed.state(20, None)
    assert again.scaler == ended.scaler
    assert all(torch.equal(again.weights[name], weight) for name, weight in ended.weights.items())

    huge = {name: 1e5 * weight for name, weight in fresh.weights.items()}
    engine = opened(spec, replace(fresh, weights=huge, scaler={**fresh.scaler, "cur_scale": 1.0}))
    with pytest.raises(DivergedError, match="step 1, sequences 0 to 3: the gradient overflows fp16"):
        engine.train(made_up(spec, 0), RATE)


@pytest.mark.parametrize("stage", [2, 3])
def test_the_scale_of_a_loss_in_fp16_is_found_kept_and_resumed(
    lab: Lab, spec: SpecMaker, tmp_path: Path, stage: int
) -> None:
    process = lab.context.Process(target=overflow, args=(spec({"precision": "fp16", "zero.stage": stage}), tmp_path))
    process.start()
    process.join(120)
    assert process.exitcode == 0


def refused(spec: RunSpec, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        opened(spec, None)


def test_a_drive_that_cannot_be_written_is_refused(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    offload = {"device": "nvme", "nvme_path": str(tmp_path / "file")}
    run = spec({"zero.stage": 3, "zero.offload_optimizer": offload})
    expected = "zero.offload_optimizer.nvme_path must be a folder that can be written, got '.*/file'"
    process = lab.context.Process(target=refused, args=(run, expected))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def no_library(spec: RunSpec) -> None:
    """Body of a process on a machine without libaio."""
    from deepspeed.ops.op_builder.cpu.async_io import AsyncIOBuilder

    AsyncIOBuilder.is_compatible = lambda self, verbose=False: False
    refused(spec, "zero.offload_optimizer.device=nvme needs DeepSpeed's async_io, which is built with a C")


def test_a_drive_without_its_library_is_refused(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    offload = {"device": "nvme", "nvme_path": str(tmp_path / "drive")}
    process = lab.context.Process(target=no_library, args=(spec({"zero.stage": 3, "zero.offload_optimizer": offload}),))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def swapped(specs: Mapping[str, RunSpec], folder: Path) -> None:
    """Body of a process: as `compare`, if this machine has what DeepSpeed's file access is built with."""
    from deepspeed.ops.op_builder.cpu.async_io import AsyncIOBuilder

    if not AsyncIOBuilder().is_compatible():
        raise SystemExit(NO_LIBRARY)
    compare(specs, folder)
    assert list((folder / "drive").glob("swapped-*/**/*.swp")), "nothing was swapped out"


@pytest.mark.slow
def test_an_optimiser_and_weights_on_a_drive_train_as_in_memory(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    """Large enough that a rank's part is swapped at all: from 1 MiB on."""
    large = {"model.hidden_size": 128, "model.intermediate_size": 512, "model.num_layers": 3}
    drive = {"device": "nvme", "nvme_path": str(tmp_path / "drive")}
    optimizer = {**large, "zero.stage": 3, "zero.offload_optimizer": drive}
    specs = {
        "plain": spec(large),
        "optimizer": spec(optimizer),
        "both": spec({**optimizer, "zero.offload_param": {**drive, "buffer_size": 2_000_000}}),
    }
    losses = run(lab, specs, tmp_path, swapped)
    for name in ("optimizer", "both"):
        assert losses[name] == pytest.approx(losses["plain"], rel=1e-4)
    assert not list((tmp_path / "drive").iterdir()), "what was swapped out is removed at the end"
