"""A checkpoint is read only if it is whole, ours and unharmed."""

from __future__ import annotations

import ast
import contextlib
import errno
import json
import logging
import os
import pickle
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import analysis
import scaling
from scaling.files import file_sha256, write_json
from scaling.identity import digest
from scaling.train import checkpoint
from scaling.train.checkpoint import keep_newest, newest_checkpoint, save_checkpoint
from scaling.train.engine import TrainState

OWNER, FOREIGN = "a" * 64, "b" * 64


def state(step: int, num: int = 100) -> TrainState:
    generator = torch.Generator().manual_seed(step)
    tensors = ({"layer.weight": torch.randn(num, generator=generator), "bias": torch.ones(3)} for _ in range(3))
    return TrainState(step, *tensors, numerics="n")


def step_of(found: TrainState | None) -> int | None:
    return None if found is None else found.step


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Checkpoints of step 20 and 40."""
    for step in (20, 40):
        save_checkpoint(tmp_path / "checkpoints", state(step), OWNER)
    return tmp_path / "checkpoints"


def test_a_checkpoint_is_read_as_it_was_written(folder: Path) -> None:
    found = newest_checkpoint(folder, OWNER, at_most=40)
    assert found is not None
    assert (found.step, found.numerics) == (40, "n")
    for name in ("weights", "exp_avg", "exp_avg_sq"):
        written = getattr(state(40), name)
        assert {key: value.tolist() for key, value in getattr(found, name).items()} == {
            key: value.tolist() for key, value in written.items()
        }


def test_only_checkpoints_within_the_asked_steps_are_read(folder: Path) -> None:
    assert step_of(newest_checkpoint(folder, OWNER, at_most=39)) == 20
    assert step_of(newest_checkpoint(folder, OWNER, at_most=19)) is None
    assert step_of(newest_checkpoint(folder, OWNER, at_most=39, at_least=21)) is None
    assert step_of(newest_checkpoint(folder / "none", OWNER, at_most=39)) is None


def test_the_numbers_of_loss_scaling_are_kept(tmp_path: Path) -> None:
    scaler = {"scale": 65536.0, "steps_since": 17.0, "tiny": 1e-300}
    save_checkpoint(tmp_path, replace(state(3), scaler=scaler), OWNER)
    found = newest_checkpoint(tmp_path, OWNER, at_most=3)
    assert found is not None
    assert found.scaler == scaler


def truncate(path: Path) -> None:
    os.truncate(path / "exp_avg.safetensors", 200)


def flip_a_bit(path: Path) -> None:
    data = bytearray((path / "weights.safetensors").read_bytes())
    data[-5] ^= 4
    (path / "weights.safetensors").write_bytes(data)


def lose_a_file(path: Path) -> None:
    (path / "exp_avg_sq.safetensors").unlink()


def lose_the_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def tear_the_manifest(path: Path) -> None:
    os.truncate(path / "manifest.json", 50)


def fill_the_manifest_with_noise(path: Path) -> None:
    (path / "manifest.json").write_bytes(b"\xff\xfe\x00")


def list_in_the_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("[1, 2]")


def forget_a_file_in_the_manifest(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]["weights.safetensors"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    flip_a_bit(path)


def claim_another_step(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "step": 30}))


def change_the_owner(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "owner": FOREIGN}))


def put_in_that_of_another_run(path: Path) -> None:
    shutil.rmtree(path)
    save_checkpoint(path.parent, state(40), FOREIGN)


def add_a_file(path: Path) -> None:
    (path / "weights.pt").write_bytes(b"")


def call_a_pickle_safetensors(path: Path) -> None:
    """With hashes that fit, as one would make who wants it to be opened."""
    (path / "weights.safetensors").write_bytes(pickle.dumps(Bomb()))
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["own_sha256"]
    manifest["sha256"]["weights.safetensors"] = file_sha256(path / "weights.safetensors")
    write_json(path / "manifest.json", {**manifest, "own_sha256": digest(manifest)})


class Bomb:
    """Unpickled, it would end the test."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (66,)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "hash of exp_avg.safetensors"),
        (flip_a_bit, "hash of weights.safetensors"),
        (lose_a_file, "exp_avg_sq.safetensors"),
        (lose_the_manifest, "manifest.json"),
        (tear_the_manifest, "manifest.json cannot be read"),
        (fill_the_manifest_with_noise, "manifest.json cannot be read"),
        (list_in_the_manifest, "manifest.json cannot be read"),
        (forget_a_file_in_the_manifest, "manifest.json does not match its own hash"),
        (claim_another_step, "manifest.json does not match its own hash"),
        (change_the_owner, "manifest.json does not match its own hash"),
        (put_in_that_of_another_run, "manifest.json: it belongs to bbbbbbbb, not to aaaaaaaa"),
        (add_a_file, "weights.pt"),
        (call_a_pickle_safetensors, "weights.safetensors holds no tensors"),
    ],
)
def test_a_damaged_checkpoint_is_refused_with_its_reason_and_the_older_one_read(
    folder: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None], reason: str
) -> None:
    damage(folder / "step-00000040")
    with caplog.at_level(logging.WARNING):
        assert step_of(newest_checkpoint(folder, OWNER, at_most=100)) == 20
    assert "is refused" in caplog.text
    assert reason in caplog.text


def test_a_damaged_checkpoint_is_replaced_by_a_new_one_of_its_step(folder: Path) -> None:
    flip_a_bit(folder / "step-00000040")
    save_checkpoint(folder, state(40), OWNER)
    assert step_of(newest_checkpoint(folder, OWNER, at_most=40)) == 40


def test_things_that_are_no_checkpoint_are_passed_over(folder: Path) -> None:
    (folder / "step-notes").mkdir()
    (folder / "step-00000060").write_text("a file")
    (folder / ".writing-xyz").mkdir()
    assert step_of(newest_checkpoint(folder, OWNER, at_most=100)) == 40


def test_only_the_newest_are_kept_and_what_a_killed_writer_left_is_removed(folder: Path) -> None:
    (folder / ".writing-xyz").mkdir()
    save_checkpoint(folder, state(60), OWNER)
    keep_newest(folder, 2)
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000040", "step-00000060"]


def test_any_bit_that_flips_in_any_file_is_noticed(folder: Path) -> None:
    """One in each byte of the manifest, and 200 in each other file."""
    path = folder / "step-00000040"
    rng = random.Random(0)
    for file in sorted(path.iterdir()):
        data = file.read_bytes()
        every = [8 * byte + byte % 8 for byte in range(len(data))]
        bits = every if file.name == "manifest.json" else rng.sample(range(8 * len(data)), 200)
        for bit in bits:
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            file.write_bytes(flipped)
            assert newest_checkpoint(folder, OWNER, at_most=40, at_least=40) is None, (file.name, bit)
        file.write_bytes(data)
    assert step_of(newest_checkpoint(folder, OWNER, at_most=100)) == 40


def test_a_disk_that_keeps_something_else_than_was_written_is_noticed_before_the_old_one_goes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def rot(descriptor: int) -> None:
        with contextlib.suppress(OSError):  # a folder
            os.pwrite(descriptor, b"x", 8)
        fsync(descriptor)

    monkeypatch.setattr(checkpoint.os, "fsync", rot)
    with pytest.raises(OSError, match=r"weights.safetensors does not read back as it was written"):
        save_checkpoint(folder, state(60), OWNER)
    monkeypatch.undo()
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000020", "step-00000040"]


def test_nothing_of_ours_opens_a_pickle() -> None:
    """Nor do ranks hand each other any: `broadcast_object_list` and its like unpickle what arrives."""
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
    calls = r"(torch|joblib)\.(load|save|dump)|.*_object(_list)?|.*\.read_pickle"
    found = []
    for package in (scaling, analysis):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = {alias.name for alias in node.names} if isinstance(node, ast.Import | ast.ImportFrom) else set()
                names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
                called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                allowed = (
                    isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False"
                )
                if names & modules or re.fullmatch(calls, called) or allowed:
                    found.append(f"{path.name}: {ast.unparse(node)}")
    assert not found


@pytest.mark.parametrize("failing", ["_write", "flush", "write_json"])
def test_a_write_that_fails_leaves_nothing_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, failing, full)
    with pytest.raises(OSError, match="No space left on device") as error:
        save_checkpoint(folder, state(60), OWNER)
    assert error.value.errno == errno.ENOSPC
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000020", "step-00000040"]
    assert step_of(newest_checkpoint(folder, OWNER, at_most=100)) == 40


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk, and not everywhere")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_a_disk_error_and_the_earlier_checkpoint_still_verifies(small_disk: Path) -> None:
    save_checkpoint(small_disk / "checkpoints", state(20), OWNER)
    with pytest.raises(OSError, match="cannot write checkpoint"):
        save_checkpoint(small_disk / "checkpoints", state(40, num=20_000), OWNER)
    assert [path.name for path in (small_disk / "checkpoints").iterdir()] == ["step-00000020"]
    assert step_of(newest_checkpoint(small_disk / "checkpoints", OWNER, at_most=100)) == 20
