"""Which weights learn, how fast, and what is put in between."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import HIDDEN_SIZE, NUM_LAYERS, VOCAB_SIZE, texts, tiny_classifier, tiny_model
from torch import Tensor, nn

from scaling.finetune.kinds.generation import DecoderModel, EncoderDecoderModel
from scaling.finetune.layers import layers_of
from scaling.finetune.methods import (
    adapt,
    after_step,
    groups,
    load_method_state,
    merge,
    method_state,
    set_dropout,
)
from scaling.finetune.methods_adalora import num_kept, ranked_layers
from scaling.method import (
    AdaLora,
    Adaptation,
    Adapter,
    CrossEntropy,
    Full,
    HeadOnly,
    Lora,
    Method,
    Prefix,
    TopLayers,
)
from scaling.spec import AdamW
from scaling.train.model import FAMILIES as ALL_FAMILIES

FAMILIES = ("llama", "gpt2", "bert", "modernbert")
INSERTED = [Lora(rank=4), AdaLora(initial_rank=4, rank=2), Prefix(num_tokens=3), Adapter(size=4)]
MERGED = INSERTED[:2]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    """Layers as small as these are slower in several."""
    torch.set_num_threads(1)


def spec_of(adaptation: Adaptation, dropout: float = 0.0, seed: int = 0) -> Any:
    """What `adapt` reads of a spec."""
    return SimpleNamespace(method=Method(adaptation=adaptation, dropout=dropout), seed=seed)


def adapted(family: str, adaptation: Adaptation, **options: Any) -> nn.Module:
    module = tiny_classifier(family)
    adapt(module, spec_of(adaptation, **options))
    return module


def learning(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def train(module: nn.Module, num_steps: int = 5, rate: float = 0.02) -> float:
    """Steps on a few texts; returns the last loss."""
    optimizer = torch.optim.Adam(learning(module).values(), lr=rate)
    module.train()
    for _ in range(num_steps):
        loss = module(**texts()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    module.eval()
    return loss.item()


def logits(module: nn.Module) -> Tensor:
    with torch.no_grad():
        return module(**{name: tensor for name, tensor in texts().items() if name != "targets"})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adaptation", INSERTED, ids=lambda adaptation: adaptation.kind)
def test_what_is_put_in_learns_and_the_model_stays(family: str, adaptation: Adaptation) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_classifier(family).model.state_dict().items()}
    module = adapted(family, adaptation)
    first = module(**texts()).mean().item()
    learned = learning(module)
    assert {"head.weight", "head.bias"} < set(learned)
    assert sum(parameter.numel() for parameter in learned.values()) < 0.5 * sum(map(torch.numel, before.values()))
    assert train(module, 15) < 0.8 * first
    kept = [name for name in module.state_dict() if name.startswith("model.")]
    for name, tensor in before.items():
        found = [own for own in kept if own.replace(".base_layer", "").replace(".base", "") == f"model.{name}"]
        assert len(found) == 1, name
        assert torch.equal(module.state_dict()[found[0]], tensor)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adaptation", [*MERGED, INSERTED[3]], ids=lambda adaptation: adaptation.kind)
def test_an_adaptation_begins_where_the_model_is(family: str, adaptation: Adaptation) -> None:
    assert torch.equal(logits(adapted(family, adaptation)), logits(tiny_classifier(family)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adaptation", MERGED, ids=lambda adaptation: adaptation.kind)
def test_merged_updates_give_the_same_answers_from_a_plain_model(family: str, adaptation: Adaptation) -> None:
    module = adapted(family, adaptation)
    train(module)
    if isinstance(adaptation, AdaLora):
        ranked_layers(module)[0].mask[1] = False
    expected = logits(module)
    assert merge(module, Method(adaptation=adaptation))
    assert set(module.state_dict()) == set(tiny_classifier(family).state_dict())
    torch.testing.assert_close(logits(module), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, logits(tiny_classifier(family)), atol=1e-2)


@pytest.mark.parametrize("adaptation", [Full(), *INSERTED], ids=lambda adaptation: adaptation.kind)
def test_what_learns_and_the_state_of_the_method_are_all_that_there_is_to_keep(adaptation: Adaptation) -> None:
    module, spec = adapted("bert", adaptation), spec_of(adaptation)
    train(module)
    after_step(module, spec.method, 5, 10)
    weights = {name: parameter.detach().clone() for name, parameter in learning(module).items()}
    remembered = method_state(module, spec.method)
    again = adapted("bert", adaptation)
    with torch.no_grad():
        for name, parameter in learning(again).items():
            parameter.copy_(weights[name])
    load_method_state(again, spec.method, remembered)
    assert torch.equal(logits(again), logits(module))
    for part in (module, again):  # and it goes on alike
        train(part)
        after_step(part, spec.method, 6, 10)
    assert torch.equal(logits(again), logits(module))
    assert {name: value.tolist() for name, value in method_state(again, spec.method).items()} == {
        name: value.tolist() for name, value in method_state(module, spec.method).items()
    }


def test_what_is_put_in_follows_from_the_seed() -> None:
    def drawn(seed: int) -> Tensor:
        return torch.cat([each.detach().flatten() for each in learning(adapted("llama", Lora(), seed=seed)).values()])

    torch.manual_seed(5)
    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))


# ---- the prefix --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_is_seen_by_all_and_hides_nothing_that_was_hidden(family: str) -> None:
    module = adapted(family, Prefix(num_tokens=3))
    for name, parameter in module.named_parameters():
        if name.endswith(".prefix"):
            nn.init.normal_(parameter)
    given = {name: tensor for name, tensor in texts().items() if name != "targets"}
    whole = module(**given)
    assert not torch.allclose(whole, logits(tiny_classifier(family)), atol=1e-3)
    other = given["inputs"].clone()
    other[1, 6:] = 2  # after the end of the second text
    torch.testing.assert_close(module(other, given["mask"]), whole)
    alone = module(given["inputs"][1:2, :6], given["mask"][1:2, :6])
    torch.testing.assert_close(alone, whole[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", [name for name in FAMILIES if ALL_FAMILIES[name].is_causal])
def test_a_decoder_does_not_look_ahead_with_a_prefix(family: str) -> None:
    module = adapted(family, Prefix(num_tokens=3))
    inputs = texts()["inputs"]
    changed = inputs.clone()
    changed[:, 5:] = 2
    first, second = (module.model(input_ids=each).last_hidden_state[:, :5] for each in (inputs, changed))
    assert torch.equal(first, second)


@pytest.mark.parametrize("adaptation", [Prefix(), Adapter()], ids=lambda adaptation: adaptation.kind)
def test_a_family_whose_layers_are_not_known_is_refused(adaptation: Adaptation) -> None:
    module = EncoderDecoderModel(tiny_model("t5"), CrossEntropy(), 4)
    with pytest.raises(ValueError, match=rf"kind={adaptation.kind} is for models of the families bert, .*, got 't5'"):
        adapt(module, spec_of(adaptation))


@pytest.mark.parametrize("family", ["t5", "bart"])
@pytest.mark.parametrize("adaptation", [Full(layer_decay=0.5), HeadOnly(), TopLayers(), Lora(), AdaLora()])
def test_an_encoder_with_its_decoder_learns_what_it_shall(family: str, adaptation: Adaptation) -> None:
    model = tiny_model(family)
    model.config.decoder_start_token_id = 0
    module = EncoderDecoderModel(model, CrossEntropy(), 4)
    adapt(module, spec_of(adaptation))
    found = groups(module, Method(adaptation=adaptation), AdamW(learning_rate=1e-3))
    inputs = texts()["inputs"]
    learned = learning(module)
    assert {name for group in found for name in group.names} == set(learned)
    gradients = torch.autograd.grad(module(inputs, targets=inputs).mean(), list(learned.values()))
    assert len(gradients) == len(learned)
    if isinstance(adaptation, TopLayers):
        assert not any(".encoder." in name for name in learned)
    if isinstance(adaptation, Full):
        assert min(group.rate_factor for group in found) == 0.5 ** (len(layers_of(model)) + 1)


# ---- what learns, and how fast -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_alone_learns_over_a_model_without_dropout(family: str) -> None:
    module = adapted(family, HeadOnly(), dropout=0.5)
    assert set(learning(module)) == {"head.weight", "head.bias"}
    torch.testing.assert_close(module.train()(**texts()), module.eval()(**texts()))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_layers_learn_and_the_first_do_not(family: str) -> None:
    module = adapted(family, TopLayers(num_layers=1))
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    train(module)
    changed = {name for name, parameter in module.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == set(learning(module))
    assert any(f".{NUM_LAYERS - 1}." in name for name in changed)
    assert not any(".0." in name or "embed" in name or "wte" in name for name in changed)


@pytest.mark.parametrize("family", FAMILIES)
def test_lower_layers_learn_more_slowly_and_embeddings_slowest(family: str) -> None:
    module, method = adapted(family, Full()), Method(adaptation=Full(layer_decay=0.5))
    found = groups(module, method, AdamW(learning_rate=1e-3, weight_decay=0.1))
    factors = {name: group.rate_factor for group in found for name in group.names}
    assert set(factors) == set(learning(module))
    for name, factor in factors.items():
        if name.startswith("head."):
            expected = 1.0
        elif ".1." in name:
            expected = 0.5
        elif ".0." in name:
            expected = 0.25
        elif any(word in name for word in ("embed", "wte", "wpe")):
            expected = 0.125
        else:
            expected = 1.0  # the norm after the layers
        assert factor == expected, name
    parameters = dict(module.named_parameters())
    assert {group.weight_decay for group in found for name in group.names if parameters[name].ndim == 1} == {0.0}
    assert {group.weight_decay for group in found for name in group.names if parameters[name].ndim == 2} == {0.1}


def test_where_there_is_no_head_the_projection_onto_the_vocabulary_learns() -> None:
    module = DecoderModel(tiny_model("gpt2"), CrossEntropy(), 4)
    adapt(module, spec_of(HeadOnly()))
    assert [tuple(parameter.shape) for parameter in learning(module).values()] == [(VOCAB_SIZE, HIDDEN_SIZE)]


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_makes_training_differ_and_answers_not(family: str) -> None:
    module = tiny_classifier(family)
    expected = logits(module)
    set_dropout(module.model, 0.5)
    assert torch.equal(logits(module), expected)
    module.train()
    assert not torch.equal(logits(module), logits(module))


# ---- AdaLoRA -------------------------------------------------------------------------------------------------


def test_ranks_go_to_the_layers_that_matter() -> None:
    """The task is told by the first layer's values alone: their gradients are a hundred times those of others."""
    adaptation = AdaLora(initial_rank=4, rank=2)
    module, spec = adapted("llama", adaptation), spec_of(adaptation)
    layers = ranked_layers(module)
    for layer in layers:
        nn.init.normal_(layer.values, std=0.1)
        if layer is not layers[2]:
            layer.left.register_hook(torch.zeros_like)
    module.train()
    for step in range(1, 21):
        module(**texts()).mean().backward()
        for layer in layers:
            if layer is not layers[2]:
                for summed in layer.sensitivity.values():
                    summed.mul_(0.01)
        after_step(module, spec.method, step, 20)
    kept = [int(layer.mask.sum()) for layer in layers]
    assert kept[2] == 4
    assert sum(kept) == 2 * len(layers)


def test_the_budget_falls_by_a_cube_and_then_stands() -> None:
    budget = [num_kept(120, 60, step, 100) for step in range(1, 101)]
    assert budget[:10] == [120] * 10
    assert budget == sorted(budget, reverse=True)
    assert budget[29] == 60 + round(60 * 0.5**3)
    assert set(budget[49:]) == {60}


def test_a_masked_triplet_says_nothing_but_still_learns() -> None:
    module = adapted("bert", AdaLora(initial_rank=4, rank=2))
    layer = ranked_layers(module)[0]
    nn.init.normal_(layer.values)
    expected = logits(module)
    layer.mask[0] = False
    assert not torch.allclose(logits(module), expected)
    module.train()(**texts()).mean().backward()
    assert layer.values.grad is not None
    assert (layer.values.grad != 0).all()
