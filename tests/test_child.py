"""What fine-tunings and compressions cannot be, from their specs alone: said before anything starts."""

from __future__ import annotations

from typing import Any

import pytest
from lab import SpecMaker, tuned_on
from pydantic import ValidationError

from scaling.child import CompressSpec, FinetuneSpec, check_is_smaller
from scaling.compression import Distillation, Heads
from scaling.model import anatomy
from scaling.spec import RunSpec

T5 = {
    "model_type": "t5",
    "vocab_size": 320,
    "d_model": 32,
    "d_ff": 64,
    "d_kv": 8,
    "num_heads": 4,
    "num_layers": 2,
}
IDS = {"vocab_size": 320, "end_of_text_id": 1, "mask_id": None, "pad_id": 0}
WRITING = {
    "kind": "generation",
    "name": "short",
    "rows": {"kind": "local", "train": "rows.jsonl"},
    "max_target_tokens": 8,
}
PAIRS = {"kind": "similarity", "name": "alike", "rows": {"kind": "local", "train": "rows.jsonl"}}
STUDENT = {"kind": "bert", "hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32}


@pytest.fixture
def reader_and_writer(spec: SpecMaker) -> RunSpec:
    """What a checkpoint of T5 gives."""
    return spec(
        {
            "model": {"kind": "checkpoint", "path": "t5", "content": "0", "anatomy": anatomy(T5).model_dump()},
            "tokenizer": {"kind": "checkpoint", "content": "0", **IDS},
            "objective.kind": "none",
        }
    )


def smaller(parent: FinetuneSpec, compress: dict[str, Any]) -> CompressSpec:
    tree = {"name": "smaller", "study": parent.study, "parent": parent, "compress": compress}
    return CompressSpec.model_validate(tree)


def bert(spec: SpecMaker, **changes: Any) -> FinetuneSpec:
    objective = changes.pop("objective", "mlm")
    return tuned_on(spec({"model.kind": "bert", "objective.kind": objective}), **changes)


@pytest.mark.parametrize("kind", ["adapter", "prefix"])
def test_what_stands_within_layers_is_refused_for_an_encoder_with_its_decoder(
    reader_and_writer: RunSpec, kind: str
) -> None:
    how = {"start": "initial", "task": WRITING}
    assert tuned_on(reader_and_writer, method={"adaptation": {"kind": "lora"}}, **how)
    with pytest.raises(
        ValidationError, match=rf"method\.adaptation\.kind={kind} wants a model that is an encoder .* t5"
    ):
        tuned_on(reader_and_writer, method={"adaptation": {"kind": kind}}, **how)


@pytest.mark.parametrize("compress", [{"kind": "heads"}, {"kind": "distillation", "student": STUDENT}])
def test_an_encoder_with_its_decoder_keeps_its_heads_and_teaches_nobody(
    reader_and_writer: RunSpec, compress: dict[str, Any]
) -> None:
    tuned = tuned_on(reader_and_writer, start="initial", task=WRITING)
    assert smaller(tuned, {"kind": "magnitude"})
    with pytest.raises(ValidationError, match=rf"compress\.kind={compress['kind']} wants a model that is .* got t5"):
        smaller(tuned, compress)


def test_adalora_is_refused_under_the_compiler(spec: SpecMaker) -> None:
    with pytest.raises(ValidationError, match=r"placement\.compile must not be true"):
        bert(spec, method={"adaptation": {"kind": "adalora"}}, placement={"compile": True})


def test_targets_that_leave_no_room_for_a_source_are_refused(spec: SpecMaker) -> None:
    assert tuned_on(spec(), task={**WRITING, "max_target_tokens": 30})
    with pytest.raises(
        ValidationError, match=r"task\.max_target_tokens must leave room .*max_length=32 tokens, got 31"
    ):
        tuned_on(spec(), task={**WRITING, "max_target_tokens": 31})


@pytest.mark.parametrize("frac", [0.2, 0.8])
def test_a_share_that_is_no_head_or_all_of_them_is_refused(spec: SpecMaker, frac: float) -> None:
    assert Heads(frac=frac).num_cut(5) in (1, 4)
    with pytest.raises(ValidationError, match=r"compress\.frac must cut at least 1 of the 2 heads of a layer"):
        smaller(bert(spec), {"kind": "heads", "frac": frac})


@pytest.mark.parametrize(
    ("student", "of", "said"),
    [
        ({"num_heads": 3}, {}, r"hidden_size must be a multiple of 2 x num_heads, got 16 and 3"),
        ({"kind": "llama"}, {"task": PAIRS}, r"kind must be bert, as its teacher"),
        ({"kind": "gpt2"}, {"objective": "mlm_nsp"}, r"kind must be bert, as its teacher"),
        ({}, {"precision": "fp16", "zero": {"stage": 1}}, r"precision must be fp32 or bf16, got fp16"),
    ],
)
def test_a_student_that_cannot_be_taught_is_refused(
    spec: SpecMaker, student: dict[str, Any], of: dict[str, Any], said: str
) -> None:
    assert smaller(bert(spec), {"kind": "distillation", "student": {**STUDENT, "kind": "llama"}})
    with pytest.raises(ValidationError, match=said):
        smaller(bert(spec, **of), {"kind": "distillation", "student": {**STUDENT, **student}})


def test_a_student_as_large_as_its_teacher_is_refused_but_its_record_is_read(spec: SpecMaker) -> None:
    tuned = bert(spec)
    check_is_smaller(tuned, Distillation.model_validate({"student": STUDENT}))
    same = Distillation.model_validate({"student": tuned.parent.model})
    with pytest.raises(ValueError, match=r"must be smaller than its teacher of (\d+) weights, got one of \1"):
        check_is_smaller(tuned, same)
    assert smaller(tuned, same.model_dump()).compress == same


def test_a_student_of_a_model_that_writes_writes(spec: SpecMaker) -> None:
    with pytest.raises(ValidationError, match=r"compress\.student\.kind must be one that writes, .* got bert"):
        smaller(tuned_on(spec(), task=WRITING), {"kind": "distillation", "student": STUDENT})
