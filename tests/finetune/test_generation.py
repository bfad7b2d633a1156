"""Texts that are written: what is laid out and learned, and what greedy and beam search write, alone or in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from readers import leave_encoder_decoder, own_reader
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from scaling.data.tasks.items import SourceTarget
from scaling.finetune.decoding import write
from scaling.finetune.kind import Encoded, Kind, Reader, kind_of, open_reader
from scaling.finetune.methods_prefix import insert_prefix
from scaling.method import CrossEntropy, Prefix
from scaling.model import Family
from scaling.task import Generation, LocalRows
from scaling.train.model import FAMILIES
from scaling.train.objective import NOT_PREDICTED

WORDS = ["ba", "do", "gu", "ki", "le", "mo"]
TEXTS = [" ".join(WORDS), "双官能团活性艳蓝的应用性能", "=>"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of models as small as these, threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return own_reader(tmp_path_factory.mktemp("reader"), "bpe", TEXTS * 20, "llama")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], tuple[PreTrainedModel, Reader]]:
    """A T5 or BART as it is read from its folder, and its reader."""
    folders: dict[Family, Path] = {}

    def opened(family: Family) -> tuple[PreTrainedModel, Reader]:
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp(family)
            leave_encoder_decoder(folders[family], family, TEXTS * 20)
        of = FAMILIES[family]
        config = of.config.from_pretrained(folders[family], **of.without_dropout)
        model = of.model.from_pretrained(folders[family], config=config, attn_implementation=of.attention)
        return model.train(), open_reader(folders[family], family)

    return opened


def decoder(family: str, reader: Reader) -> PreTrainedModel:
    torch.manual_seed(0)
    size = reader.tokenizer.get_vocab_size()
    of = FAMILIES[family]
    shape: dict[str, Any] = {"vocab_size": size, "attn_implementation": of.attention, **of.without_dropout}
    if family == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=96, **shape))
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=96,
            **shape,
        )
    )


def task(**changes: Any) -> Generation:
    return Generation(name="told", rows=LocalRows(train="-"), **{"max_target_tokens": 8, "separator": "=>"} | changes)


def item(source: str, *targets: str) -> SourceTarget:
    return SourceTarget(source, source, targets)


def batch(rows: Sequence[Encoded], length: int | None = None) -> dict[str, Tensor]:
    width = length or max(len(row.inputs) for row in rows)

    def filled(arrays: Sequence[Any], value: int) -> Tensor:
        return torch.from_numpy(
            np.stack([np.pad(array, (0, width - len(array)), constant_values=value) for array in arrays])
        )

    given = {
        "inputs": filled([row.inputs for row in rows], 2),
        "mask": filled([np.ones_like(row.inputs) for row in rows], 0),
        "targets": filled([row.targets for row in rows], NOT_PREDICTED),
    }
    types = [row.types for row in rows if row.types is not None]
    return given | ({"types": filled(types, 0)} if types else {})


def whole(module: nn.Module) -> Callable[[], AbstractContextManager[nn.Module]]:
    return lambda: nullcontext(module)


def nothing(rows: Sequence[Encoded]) -> Iterator[Any]:
    raise AssertionError("a text is written, and no logits are asked for")


def train(kind: Kind, module: nn.Module, rows: Sequence[Encoded], steps: int, rate: float) -> None:
    optimizer, rng = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=0.0), np.random.default_rng(0)
    for _ in range(steps):
        given = batch([rows[index] for index in rng.integers(0, len(rows), 32)])
        losses = module(**given)
        loss = losses.sum() / (given["targets"] != NOT_PREDICTED).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_a_decoder_reads_source_and_separator_and_learns_target_and_end_alone(reader: Reader) -> None:
    (row,) = kind_of(task(), ()).encode([item("ba do", "gu ki", "mo")], reader, 64, for_training=True)
    source, separator, target = (ids.tolist() for ids in reader.encode(["ba do", "=>", "gu ki"]))
    assert row.inputs.tolist() == [reader.start, *source, *separator, *target, reader.end]
    before = len(source) + len(separator)
    assert row.targets.tolist() == [NOT_PREDICTED] * before + [*target, reader.end, NOT_PREDICTED]
    (asked,) = kind_of(task(), ()).encode([item("ba do", "gu ki")], reader, 64, for_training=False)
    assert asked.inputs.tolist() == [reader.start, *source, *separator]


def test_a_source_is_cut_alike_in_training_and_writing_and_leaves_room_for_any_target(reader: Reader) -> None:
    long = item("ba do gu ki le mo " * 20, "gu")
    kind = kind_of(task(max_target_tokens=20), ())
    (row,) = kind.encode([long], reader, 48, for_training=True)
    (asked,) = kind.encode([long], reader, 48, for_training=False)
    separator = reader.encode(["=>"])[0].tolist()
    assert len(asked.inputs) == 48 - 20 - 1
    assert asked.inputs[-len(separator) :].tolist() == separator
    assert row.inputs[: len(asked.inputs)].tolist() == asked.inputs.tolist()
    assert row.num_cut == asked.num_cut > 0
    (target,) = kind.encode([item("ba", "mo " * 50)], reader, 48, for_training=True)
    assert (target.targets != NOT_PREDICTED).sum() == 21


def test_targets_that_leave_a_source_no_room_are_refused(reader: Reader) -> None:
    with pytest.raises(ValueError, match=r"max_target_tokens of 'told' must leave room .*max_length=16 tokens, got 40"):
        kind_of(task(max_target_tokens=40), ()).encode([item("ba", "do")], reader, 16, for_training=True)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_decoders_loss_is_that_of_its_next_tokens_whatever_fills_up_the_batch(reader: Reader, family: str) -> None:
    kind, model = kind_of(task(), ()), decoder(family, reader)
    module = kind.module(model, 0.0, CrossEntropy(), None)
    rows = kind.encode([item("ba do gu", "gu"), item("ki", "le mo ba do gu ki")], reader, 64, for_training=True)
    given = batch(rows, length=40)
    losses = module(**given)
    assert losses.shape == given["targets"].shape
    assert torch.equal(losses == 0, given["targets"] == NOT_PREDICTED)
    model.set_attn_implementation("sdpa")
    for row, found in zip(rows, losses, strict=True):
        logits = model(torch.from_numpy(row.inputs)[None]).logits[0]
        wanted = torch.nn.functional.cross_entropy(logits, torch.from_numpy(row.targets), reduction="none")
        assert torch.allclose(found[: len(wanted)], wanted, atol=1e-5)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_batch_of_prompts_of_all_lengths_is_continued_as_each_alone(
    reader: Reader, family: str, num_beams: int
) -> None:
    model = decoder(family, reader)
    with torch.no_grad():  # random weights hardly look at what they read
        for parameter in model.parameters():
            parameter.mul_(3)
    generator = np.random.default_rng(0)
    prompts = [generator.integers(3, 250, length) for length in (1, 5, 30, 17, 2, 64)]
    before = model.config._attn_implementation
    together = write(model, prompts, 12, num_beams, reader.end)
    alone = [write(model, [prompt], 12, num_beams, reader.end)[0] for prompt in prompts]
    assert [ids.tolist() for ids in together] == [ids.tolist() for ids in alone]
    assert len({tuple(ids.tolist()) for ids in together}) > 1
    assert model.training
    assert model.config._attn_implementation == before
    if num_beams == 1:
        model.set_attn_implementation("eager")
        for prompt, ids in zip(prompts, together, strict=True):
            read = prompt.tolist()
            for wanted in ids.tolist():
                assert int(model(torch.tensor([read])).logits[0, -1].argmax()) == wanted
                read.append(wanted)


def test_a_prefix_is_written_with_in_batches_too(reader: Reader) -> None:
    model = decoder("llama", reader)
    insert_prefix(model, Prefix(num_tokens=4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
        for name, parameter in model.named_parameters():
            if name.endswith("prefix"):
                torch.nn.init.normal_(parameter)
    generator = np.random.default_rng(0)
    prompts = [generator.integers(3, 250, length) for length in (1, 5, 30, 17)]
    together = write(model, prompts, 12, 1, reader.end)
    assert [ids.tolist() for ids in together] == [
        write(model, [prompt], 12, 1, reader.end)[0].tolist() for prompt in prompts
    ]
    for prompt, ids in zip(prompts, together, strict=True):
        read = prompt.tolist()
        for wanted in ids.tolist():
            assert int(model(torch.tensor([read])).logits[0, -1].argmax()) == wanted
            read.append(wanted)


def reversals(number: int, seed: int) -> list[SourceTarget]:
    """Two words; right is the second, and then the first."""
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, len(WORDS), (number, 2))
    return [item(f"{WORDS[first]} {WORDS[second]}", f"{WORDS[second]} {WORDS[first]}") for first, second in pairs]


def test_a_decoder_learns_to_write_and_stops(reader: Reader) -> None:
    kind, model = kind_of(task(), ()), decoder("gpt2", reader)
    module = kind.module(model, 0.0, CrossEntropy(), None)
    train(kind, module, kind.encode(reversals(200, 0), reader, 64, for_training=True), steps=150, rate=5e-3)
    items = reversals(30, 1)
    asked = kind.encode(items, reader, 64, for_training=False)
    answers = kind.answers(nothing, asked, items, whole(module), reader)
    found = kind.measure(items, answers).values(np.ones(30))
    assert found["rouge_l"] > 0.9
    assert found["chrf"] > 0.8
    assert kind.shown(items[0], answers[0]) == {"id": items[0].id, "answer": answers[0], "right": [*items[0].targets]}


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_encoder_decoders_loss_is_transformers_own_whatever_fills_up_the_batch(
    checkpoint: Callable[[Family], tuple[PreTrainedModel, Reader]], family: Family
) -> None:
    model, reader = checkpoint(family)
    kind = kind_of(task(), ())
    rows = kind.encode([item("ba do gu ki le mo", "gu"), item("ki", "le mo ba do gu ki")], reader, 60, True)
    start = [] if family == "t5" else [reader.start]
    for row, (source, target) in zip(rows, (("ba do gu ki le mo", "gu"), ("ki", "le mo ba do gu ki")), strict=True):
        read, told = (start + ids.tolist() + [reader.end] for ids in reader.encode([source, target]))
        assert row.types is not None
        assert row.inputs[row.types == 0].tolist() == read
        assert row.targets[row.targets != NOT_PREDICTED].tolist() == told
    losses = kind.module(model, 0.0, CrossEntropy(), None)(**batch(rows, length=40))
    for row, found in zip(rows, losses, strict=True):
        assert row.types is not None
        told = torch.from_numpy(row.targets[row.targets != NOT_PREDICTED])[None]
        own = model(input_ids=torch.from_numpy(row.inputs[row.types == 0])[None], labels=told).loss
        assert torch.isclose(found.sum() / told.numel(), own, atol=1e-5)
        assert (found != 0).sum() == told.numel()


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_encoder_decoder_learns_to_write_and_batches_do_not_matter(
    checkpoint: Callable[[Family], tuple[PreTrainedModel, Reader]], family: Family
) -> None:
    model, reader = checkpoint(family)
    kind = kind_of(task(), ())
    module = kind.module(model, 0.0, CrossEntropy(), None)
    train(kind, module, kind.encode(reversals(200, 0), reader, 60, for_training=True), steps=200, rate=1e-2)
    items = [*reversals(20, 1), item("ba", "ba"), item("mo le ki gu do", "ba")]
    asked = kind.encode(items, reader, 60, for_training=False)
    answers = kind.answers(nothing, asked, items, whole(module), reader)
    assert kind.measure(items[:20], answers[:20]).values(np.ones(20))["rouge_l"] > 0.9
    alone = [
        kind.answers(nothing, [row], [one], whole(module), reader)[0] for row, one in zip(asked, items, strict=True)
    ]
    assert answers == alone
    beams = kind_of(task(num_beams=3), ())
    found = beams.measure(items[:20], beams.answers(nothing, asked, items, whole(module), reader)[:20])
    assert found.values(np.ones(20))["rouge_l"] > 0.9
