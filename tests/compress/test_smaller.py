"""Weights set to 0, heads cut out, weights in 8 bits: of every family."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import HIDDEN_SIZE, NUM_HEADS, NUM_LAYERS, texts, tiny_classifier
from torch import Tensor, nn

from scaling.compress import cost
from scaling.compress.cost import count_params, milliseconds, passes, peak_memory, plain_tensors, save_weights
from scaling.compress.heads import cut_heads
from scaling.compress.pruning import prune_magnitude
from scaling.compress.quantisation import quantise
from scaling.compression import Heads, Int8Dynamic, Int8Weights, Magnitude
from scaling.finetune.layers import layers_of, linear_layers, places_of

FAMILIES = ("llama", "gpt2", "bert", "modernbert")


def logits(module: nn.Module) -> Tensor:
    with torch.no_grad():
        return module(**{name: tensor for name, tensor in texts().items() if name != "targets"})


# ---- pruning -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_of_each_layer_the_smallest_weights_become_zero(family: str) -> None:
    module = tiny_classifier(family)
    before = {name: part.weight.detach().clone() for name, part in linear_layers(module.model).items()}
    prune_magnitude(module.model, Magnitude(frac=0.3))
    for name, part in linear_layers(module.model).items():
        zeros = part.weight == 0
        assert zeros.sum() == round(0.3 * zeros.numel())
        assert before[name][zeros].abs().max() <= before[name][~zeros].abs().min()
        assert torch.equal(part.weight[~zeros], before[name][~zeros])
    assert set(module.state_dict()) == set(tiny_classifier(family).state_dict())


def test_of_all_layers_together_the_smallest_go_wherever_they_are() -> None:
    module = tiny_classifier("bert")
    layers = linear_layers(module.model)
    small = next(iter(layers.values()))
    with torch.no_grad():
        small.weight.mul_(1e-3)
    prune_magnitude(module.model, Magnitude(frac=0.5, scope="model"))
    assert (small.weight == 0).all()
    total = sum(part.weight.numel() for part in layers.values())
    assert sum(int((part.weight == 0).sum()) for part in layers.values()) == round(0.5 * total)


# ---- heads ---------------------------------------------------------------------------------------------------


def silence(module: nn.Module, family: str, units: list[int], num_units: int) -> None:
    """Let the output projection of each layer take nothing of these heads."""
    places = places_of(module.model, "test")
    for layer in layers_of(module.model).values():
        weight = layer.get_submodule(places.output).weight
        of_units = weight.data if family == "gpt2" else weight.data.T
        of_units.reshape(num_units, -1, HIDDEN_SIZE)[units] = 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_that_say_nothing_are_cut_and_the_answers_stay(family: str) -> None:
    module = tiny_classifier(family)
    num_units = 2 if family == "llama" else NUM_HEADS
    silent = [0] if family == "llama" else [1, 2]
    silence(module, family, silent, num_units)
    expected = logits(module)
    before = count_params(module)[0]
    kept = cut_heads(module.model, Heads(frac=0.5))
    assert list(kept.values()) == NUM_LAYERS * [[unit for unit in range(num_units) if unit not in silent]]
    torch.testing.assert_close(logits(module), expected, rtol=1e-4, atol=1e-5)
    half = HIDDEN_SIZE // 2
    biases = 0 if family in ("llama", "modernbert") else 3 * half
    keys = 2 * HIDDEN_SIZE * half // (2 if family == "llama" else 1)  # Llama's were half as many
    assert before - count_params(module)[0] == NUM_LAYERS * (2 * HIDDEN_SIZE * half + keys + biases)
    assert torch.isfinite(module.train()(**texts())).all()


@pytest.mark.parametrize("frac", [0.1, 0.9])
def test_cutting_no_head_or_all_is_refused(frac: float) -> None:
    with pytest.raises(ValueError, match=r"compress\.frac must cut at least 1 of the 4 heads"):
        cut_heads(tiny_classifier("bert").model, Heads(frac=frac))


# ---- 8 bits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", [Int8Weights(), Int8Dynamic()], ids=lambda method: method.kind)
def test_eight_bits_answer_nearly_alike_and_are_saved_in_eight(
    family: str, method: Int8Weights | Int8Dynamic, tmp_path: Path
) -> None:
    module = tiny_classifier(family)
    expected = logits(module)
    within = sum(part.weight.numel() for part in linear_layers(module.model).values())
    num_bytes, _ = save_weights(module, tmp_path / "original.safetensors")
    made = copy.deepcopy(module)
    quantise(made.model, method)
    found = logits(made)
    assert not torch.equal(found, expected)
    assert (found - expected).abs().max() < 0.2 * expected.abs().max()
    assert torch.equal(logits(module), expected)
    smaller, _ = save_weights(made, tmp_path / "smaller.safetensors")
    assert within * 2.5 < num_bytes - smaller < within * 3  # a scale for each row
    assert count_params(made)[0] == count_params(module)[0]


# ---- what it costs -------------------------------------------------------------------------------------------


def test_zeros_take_no_room_once_they_are_packed(tmp_path: Path) -> None:
    module = tiny_classifier("bert", hidden_size=64, intermediate_size=256)
    whole, packed = save_weights(module, tmp_path / "original.safetensors")
    assert packed > 0.8 * whole  # random weights cannot be packed
    prune_magnitude(module.model, Magnitude(frac=0.9))
    again, packed_again = save_weights(module, tmp_path / "pruned.safetensors")
    assert again == whole
    assert packed_again < 0.5 * packed
    params, nonzero = count_params(module)
    zeros = sum(round(0.9 * part.weight.numel()) for part in linear_layers(module.model).values())
    assert params - nonzero >= zeros
    saved = load_file(tmp_path / "pruned.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in plain_tensors(module).items() if name in saved)


def test_the_peak_of_memory_is_weights_and_what_a_pass_holds_at_most() -> None:
    module = nn.Sequential(nn.Linear(100, 1000, bias=False), nn.ReLU(), nn.Linear(1000, 1, bias=False))
    given = torch.zeros(50, 100)
    weights = 4 * (100 * 1000 + 1000)
    hidden = 4 * 50 * 1000

    def answer(rows: object) -> None:
        with torch.no_grad():
            module(given)

    found = peak_memory(module, answer, [0], torch.device("cpu"))
    assert weights + 2 * hidden <= found < weights + 2 * hidden + 10_000


def test_every_pass_has_all_its_rows_even_of_few() -> None:
    found = passes(3, 32, [2, 0, 1])
    assert {len(rows) for rows in found} == {32}
    assert found[0][:4] == [2, 0, 1, 2]
    assert found[1][0] == [2, 0, 1][32 % 3]
    assert math.prod(len(rows) for rows in passes(100, 1, list(range(100)))) == 1


def test_a_pass_is_timed_only_after_it_was_answered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answered: list[tuple[str, tuple[int, ...]]] = []

    def told(answer: cost.Answer, rows: Sequence[int], device: torch.device) -> float:
        had = len(answered)
        answer(rows)
        return 1.0 if answered[-1] in answered[:had] else 1000.0

    monkeypatch.setattr(cost, "_seconds", told)
    answers = {name: lambda rows, name=name: answered.append((name, tuple(rows))) for name in ("original", "smaller")}
    batches = {size: passes(100, size, list(range(100))) for size in (1, 2)}
    every = dict.fromkeys(batches, 1000.0)
    assert milliseconds(answers, batches, torch.device("cpu")) == {"original": every, "smaller": every}
    timed = {(name, tuple(rows)) for name in answers for of_size in batches.values() for rows in of_size}
    assert {call for call in answered if answered.count(call) == 2} == timed
