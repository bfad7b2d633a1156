"""A tiny parent and a tiny task to fine-tune it on, in this process."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import SpecMaker, wandb_files

from scaling.child import FinetuneSpec, write_spec
from scaling.data.prepare import prepare_tokenizer
from scaling.data.tasks.read import resolve_task
from scaling.finetune.finetune import finetune
from scaling.identity import directory_name, fingerprint
from scaling.spec import RunSpec
from scaling.status import Status, read_status
from scaling.task import Classification, LocalRows
from scaling.train.model import build_model, export_tokenizer, leaving_model
from scaling.train.preemption import Stop

NUM_ROWS = 240
GOOD, BAD, OTHERS = ["aba", "cada", "lima"], ["pon", "moco", "hik"], ["gel", "fen", "jod", "kib", "neg"]


def write_rows(path: Path, count: int = NUM_ROWS, seed: int = 0) -> None:
    """Texts of made-up words of which one is good or bad; the label says which."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            label = rng.random() < 0.5
            words = rng.choices(OTHERS, k=rng.randint(0, 6))
            words.insert(rng.randint(0, len(words)), rng.choice(GOOD if label else BAD))
            file.write(json.dumps({"id": f"row-{number}", "text": " ".join(words), "label": int(label)}) + "\n")


@dataclass(frozen=True)
class Bench:
    """Specs that differ in a few fields, and their runs, side by side in one folder."""

    parent: RunSpec
    task: Classification
    content: dict[str, str]
    runs: Path
    cache: Path

    def spec(self, changes: Mapping[str, Any] = {}) -> FinetuneSpec:
        """`{"method.adaptation": {"kind": "lora"}}` changes a field."""
        tree: dict[str, Any] = {
            "name": "child",
            "study": self.parent.study.model_dump(mode="json"),
            "parent": self.parent.model_dump(mode="json"),
            "task": self.task.model_dump(mode="json"),
            "batch": {"num_sequences": 8, "max_length": 32},
            "schedule": {"num_epochs": 5.0},
            "optimizer": {"learning_rate": 3e-3},
            "measuring": {"num_evaluations": 3, "num_resamples": 100},
            "content": self.content,
            "placement": {"device": "cpu", "threads": 1},
        }
        for path, value in changes.items():
            *parents, leaf = path.split(".")
            part = tree
            for name in parents:
                part = part.setdefault(name, {})
            part[leaf] = value
        return FinetuneSpec.model_validate(tree)

    def run(self, spec: FinetuneSpec, name: str, stop: Stop | None = None) -> Path:
        """The folder of a run that is made, or goes on, here and now."""
        folder = self.runs / name
        folder.mkdir(exist_ok=True)
        write_spec(folder / "spec.json", spec)
        finetune(spec, folder, self.cache, stop or Stop())
        return folder

    def status(self, name: str) -> Status:
        return read_status(self.runs / name)


def make_bench(spec: SpecMaker, cache: Path, folder: Path, changes: Mapping[str, Any] = {}) -> Bench:
    """A parent of one layer that has learned nothing, with the folder that a trained one leaves."""
    parent = spec({"objective.kind": "mlm", **changes})
    runs = folder / "runs"
    beside = runs / directory_name(parent)
    beside.mkdir(parents=True)
    write_spec(beside / "spec.json", parent)
    with leaving_model(beside) as model:
        build_model(parent).save_pretrained(model)
        export_tokenizer(parent, prepare_tokenizer(parent, cache, print).path, model)
    seen = {"ledger/tokens": 8192, "ledger/unique_tokens": 4096, "flops": 1e9, "loss/alpha": 5.5}
    of_alpha = {"weight": 0.75, "realised_weight": 0.75, "tokens": 6144, "unique_tokens": 3072, "epochs": 2.0}
    ledger = {f"ledger/alpha/{key}": value for key, value in of_alpha.items()}
    told = {"fingerprint": fingerprint(parent), **seen, **ledger}
    (beside / "ledger.json").write_text(json.dumps(told), encoding="utf-8")
    write_rows(folder / "rows.jsonl")
    task, content = resolve_task(Classification(name="mood", rows=LocalRows(train=str(folder / "rows.jsonl"))), cache)
    assert isinstance(task, Classification)
    return Bench(parent, task, content, runs, cache)


def summary(folder: Path) -> dict[str, Any]:
    """Of the last W&B file."""
    return wandb_files(folder)[-1].summary
