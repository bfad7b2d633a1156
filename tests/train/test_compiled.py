"""A model that one process has compiled and another loads: the same bits, and nothing is unpickled that is not ours."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lab import Lab, SpecMaker
from safetensors.torch import load_file
from test_plain import RATE, made

from scaling.spec import RunSpec
from scaling.train import compiled
from scaling.train.compiled import Compiled, address
from scaling.train.engine import Look, usual_groups
from scaling.train.model import build_model
from scaling.train.objective import TokenLoss
from scaling.train.plain import PlainEngine

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for CPUs with a C++ compiler")

WAYS = [
    {},
    {"precision": "bf16", "batch.isolate_documents": True},
    {"model.kind": "gpt2", "placement.activation_checkpointing": True},
    {"model.kind": "modernbert", "objective.kind": "mlm"},
    {"model.kind": "bert", "objective.kind": "mlm_nsp"},
]


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """Several add the gradients of an embedding in any order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(spec: RunSpec, cache: Path | None) -> tuple[Look, dict[str, torch.Tensor]]:
    """Losses and norms, and the weights, after some steps of a fresh engine."""
    torch._dynamo.reset()
    module = TokenLoss(build_model(spec))
    engine = PlainEngine(spec, module, None, usual_groups(module, spec.optimizer), cache)
    for batch in made(spec, 4):
        engine.train(batch, RATE)
    return engine.look(), engine.weights()


def assert_same_bits(one: tuple[Look, dict[str, torch.Tensor]], other: tuple[Look, dict[str, torch.Tensor]]) -> None:
    assert one[0].losses.tolist() == other[0].losses.tolist()
    assert one[0].grad_norms.tolist() == other[0].grad_norms.tolist()
    assert one[1].keys() == other[1].keys()
    for name, tensor in one[1].items():
        assert torch.equal(tensor, other[1][name]), name


@pytest.mark.slow
@needs_compiler
@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("way", WAYS)
def test_a_loaded_model_computes_the_bits_of_one_compiled_here(
    spec: SpecMaker, tmp_path: Path, way: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = spec({**way, "placement.compile": True})
    usual, kept = trained(run, None), trained(run, tmp_path)
    for name in ("_compile", "usual"):
        monkeypatch.delattr(compiled, name)
    loaded = trained(run, tmp_path)
    assert_same_bits(usual, kept)
    assert_same_bits(usual, loaded)


@pytest.mark.slow
@needs_compiler
@pytest.mark.usefixtures("_one_thread")
def test_a_damaged_file_is_refused_once_and_made_anew(
    spec: SpecMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = spec({"placement.compile": True})
    whole = trained(run, tmp_path)
    (file,) = (tmp_path / "compiled").iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert_same_bits(whole, trained(run, tmp_path))
    assert caplog.text.count("it does not match its hash") == 1
    assert_same_bits(whole, trained(run, tmp_path))
    assert caplog.text.count("is refused") == 1


@pytest.mark.slow
@needs_compiler
def test_a_later_run_loads_what_the_first_has_compiled_and_ends_in_the_same_bits(
    spec: SpecMaker, lab: Lab, tmp_path: Path
) -> None:
    run = spec({"placement.compile": True, "budget.num_tokens": 40 * 128})
    fresh = lab.with_no_trunks(tmp_path)
    points = fresh.complete(run, tmp_path / "first")
    (file,) = (fresh.cache / "compiled").iterdir()
    written = file.stat().st_mtime_ns
    shutil.rmtree(fresh.cache / "trunks")
    assert fresh.complete(run, tmp_path / "second") == points
    assert [found.stat().st_mtime_ns for found in (fresh.cache / "compiled").iterdir()] == [written]
    first, second = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("first", "second"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def module_and_inputs(spec: RunSpec) -> tuple[TokenLoss, dict[str, torch.Tensor]]:
    return TokenLoss(build_model(spec)), next(made(spec, 1)).examples.tensors()


def test_an_address_is_of_all_that_a_trace_depends_on_and_not_of_the_weights(spec: SpecMaker) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"model.num_layers": 2},
        {"model.num_heads": 4},
        {"model.kind": "gpt2"},
        {"batch.sequence_length": 64},
        {"batch.num_sequences": 8},
    ]
    addresses = [address(*module_and_inputs(spec(change)), "here") for change in changes]
    assert len(set(addresses)) == len(changes)
    assert address(*module_and_inputs(spec({"seeds.init": 7, "optimizer.learning_rate": 0.5})), "here") == addresses[0]
    module, inputs = module_and_inputs(spec())
    assert address(module, inputs, "there") not in addresses
    assert address(module.to(torch.bfloat16), inputs, "here") not in addresses


def sha256(name: str, pickled: bytes) -> bytes:
    return hashlib.sha256(name.encode() + pickled).digest()


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.sprung,)


@pytest.mark.parametrize(
    ("mode", "name", "reason"),
    [(0o600, "another", "does not match its hash"), (0o660, None, "others than this user may have written it")],
)
def test_nothing_is_unpickled_that_others_may_have_written_or_that_is_of_another_address(
    spec: SpecMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    mode: int,
    name: str | None,
    reason: str,
) -> None:
    module, inputs = module_and_inputs(spec())
    file = tmp_path / "compiled" / address(module, inputs, "here")
    file.parent.mkdir()
    pickled = pickle.dumps(Trap(tmp_path / "sprung"))
    file.write_bytes(sha256(name or file.name, pickled) + pickled)
    file.chmod(mode)
    monkeypatch.setattr(compiled, "_compile", _out_of_order)
    monkeypatch.setattr(compiled, "usual", lambda module: module)
    nats = Compiled(module, "here", tmp_path)(**inputs)
    assert torch.equal(nats, module(**inputs))
    assert reason in caplog.text
    assert not (tmp_path / "sprung").exists()
    file.write_bytes(sha256(file.name, pickled) + pickled)
    file.chmod(0o600)
    Compiled(module, "here", tmp_path)(**inputs)
    assert (tmp_path / "sprung").exists()  # a trap that would have sprung


def test_where_torch_has_no_such_way_the_model_is_compiled_as_usual(
    spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module, inputs = module_and_inputs(spec())
    monkeypatch.setattr(compiled, "_compile", _out_of_order)
    monkeypatch.setattr(compiled, "usual", lambda module: module)
    caplog.set_level("INFO", "scaling")
    forward = Compiled(module, "here", tmp_path)
    for _ in range(2):
        assert torch.equal(forward(**inputs), module(**inputs))
    assert caplog.text.count("is compiled for this process alone: no such function") == 1
    assert not (tmp_path / "compiled").exists()


def test_where_nothing_can_be_written_what_was_compiled_is_used_and_not_compiled_again(
    spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Function:
        def __call__(self, module: TokenLoss, **inputs: torch.Tensor) -> torch.Tensor:
            return module(**inputs)

        @staticmethod
        def serialize(function: Function) -> SimpleNamespace:
            return SimpleNamespace(serialized_data=b"of torch")

    module, inputs = module_and_inputs(spec())
    monkeypatch.setattr(compiled, "_compile", lambda module, inputs: Function())
    monkeypatch.setattr(compiled, "usual", _out_of_order)
    caplog.set_level("INFO", "scaling")
    (tmp_path / "compiled").touch()  # no folder can be made
    assert torch.equal(Compiled(module, "here", tmp_path)(**inputs), module(**inputs))
    assert "the compiled model is not kept: " in caplog.text


def _out_of_order(*args: Any) -> Any:
    raise AttributeError("no such function")
