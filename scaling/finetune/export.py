"""The model that a fine-tuning leaves, and how it is read again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import modeling_utils

from scaling.child import FinetuneSpec
from scaling.files import write_json
from scaling.finetune.begin import Begin, Whole, at_rest
from scaling.finetune.kind import Kind, kind_of
from scaling.finetune.methods import adapt, merge
from scaling.identity import fingerprint
from scaling.ranks import this_rank
from scaling.train.model import checked_model, export_tokenizer, leaving_model, read_model

HEAD, ADAPTATION = "head.safetensors", "adaptation.safetensors"


def export(spec: FinetuneSpec, run_dir: Path, opened: Begin, whole: Whole) -> None:
    """Leave the model as a `transformers` folder with its tokenizer, and beside it its head; rank 0 writes.

    What a method put beside the weights is added to them; where that cannot be done, it lies beside the parent's.
    """
    if this_rank() != 0:
        return
    at_rest(whole)
    module = whole.module
    learned = {name: weight.data for name, weight in module.named_parameters() if weight.requires_grad}
    is_merged = merge(module, spec.method)
    with leaving_model(run_dir) as folder:
        with _wrapped_by_nothing():
            (whole.model if is_merged else opened.model()).save_pretrained(folder)
        of_head = {name: value.contiguous() for name, value in _head(module).items()}
        save_file(of_head, folder / HEAD)
        if not is_merged:
            save_file(
                {name: value for name, value in learned.items() if name.startswith("model.")}, folder / ADAPTATION
            )
        write_json(
            folder / "head.json",
            {
                "fingerprint": fingerprint(spec),
                "task": spec.task.model_dump(mode="json", exclude={"rows"}),
                "labels": list(opened.data.labels),
                "max_length": spec.max_length,
                "method": spec.method.model_dump(mode="json"),
                "is_merged": is_merged,
            },
        )
        export_tokenizer(spec.parent, opened.tokenizer / "tokenizer.json", folder)


@contextmanager
def _wrapped_by_nothing() -> Iterator[None]:
    """To tell whether DeepSpeed wraps a model, `save_pretrained` loads all of DeepSpeed (transformers 5.17): a quarter
    of a second at best, in each run."""
    original = modeling_utils.unwrap_model
    modeling_utils.unwrap_model = lambda model, recursive=False: model
    try:
        yield
    finally:
        modeling_utils.unwrap_model = original


def _head(module: nn.Module) -> dict[str, Tensor]:
    """What is not of the body."""
    return {name: value for name, value in module.state_dict().items() if not name.startswith("model.")}


@torch.no_grad()
def read_trained(spec: FinetuneSpec, run_dir: Path) -> tuple[nn.Module, Kind]:
    """The module that a fine-tuning left, on the CPU in fp32, and the kind of its task; what was merged stays so.

    ValueError if it is not there, or not as it was left.
    """
    folder = checked_model(run_dir)
    told = json.loads((folder / "head.json").read_text(encoding="utf-8"))
    kind = kind_of(spec.task, tuple(told["labels"]))
    module = kind.module(read_model(spec.parent, folder), spec.method.dropout, spec.method.loss, None)
    if not told["is_merged"]:
        adapt(module, spec)
        _set(module, load_file(folder / ADAPTATION))
    _set(module, load_file(folder / HEAD))
    return module.eval(), kind


def _set(module: nn.Module, weights: dict[str, Tensor]) -> None:
    found = module.load_state_dict(weights, strict=False)
    if found.unexpected_keys:
        raise ValueError(f"the model lacks a place for {found.unexpected_keys[:3]}")
