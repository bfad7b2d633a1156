"""Every kind of task through the whole loop; rows are encoded once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import Bench, make_bench, summary
from lab import SpecMaker
from pydantic import TypeAdapter

import scaling.finetune.kinds.classification as kind_module
from scaling.data.tasks.read import resolve_task
from scaling.finetune.begin import begin
from scaling.task import AnyTask, metric_of

WORDS = ["aba", "cada", "lima", "pon", "moco", "hik"]


def row(kind: str, number: int) -> dict[str, Any]:
    """A row of a kind; all of them can be learned."""
    first, second, third = (WORDS[(number * step + step) % 6] for step in (1, 2, 5))
    if kind == "similarity":
        return {"text": first, "second": second, "score": float(first == second)}
    if kind == "tokens":
        return {"tokens": [first, second, third], "tags": ["O", "B-x" if number % 2 else "O", "O"]}
    if kind == "qa":
        context = f"{first} {second} {third}"
        answer = {"text": [second], "answer_start": [len(first) + 1]}
        return {"question": first, "context": context, "answers": answer}
    return {"source": f"{first} {second}", "target": first}


@pytest.fixture(scope="module")
def benches(spec: SpecMaker, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bench]:
    """By objective."""
    torch.set_num_threads(1)
    changes: dict[str, dict[str, Any]] = {"mlm": {}, "clm": {"objective.kind": "clm"}}
    return {
        name: make_bench(spec, shared_cache, tmp_path_factory.mktemp(name), change) for name, change in changes.items()
    }


@pytest.mark.parametrize(
    ("kind", "objective"),
    [("similarity", "mlm"), ("tokens", "mlm"), ("tokens", "clm"), ("qa", "mlm"), ("generation", "clm")],
)
def test_a_task_of_each_kind_is_learned_and_measured(
    benches: dict[str, Bench], tmp_path: Path, kind: str, objective: str
) -> None:
    bench = benches[objective]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"id": str(n), **row(kind, n)}) + "\n" for n in range(80)), encoding="utf-8")
    options: dict[str, dict[str, Any]] = {
        "generation": {"max_target_tokens": 6, "separator": " "},
        "qa": {"stride": 4},
    }
    tree = {"kind": kind, "name": kind, "rows": {"kind": "local", "train": str(rows)}, **options.get(kind, {})}
    task, content = resolve_task(TypeAdapter(AnyTask).validate_python(tree), bench.cache)
    changes = {"task": task.model_dump(mode="json"), "content": content, "schedule.num_epochs": 2.0}
    folder = bench.run(bench.spec({**changes, "batch.max_length": 32}), f"{kind}-{objective}")
    found = summary(folder)
    metric = f"task/{kind}/{metric_of(task)}"
    assert found["state"] == "complete"
    assert found[f"{metric}_lo"] <= found[metric] <= found[f"{metric}_hi"]
    assert len((folder / "predictions.jsonl").read_text().splitlines()) == found[f"task/{kind}/num_items"]


def test_rows_are_encoded_once_for_all_subsets_and_seeds(
    benches: dict[str, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = benches["mlm"]
    spec = bench.spec({"batch.max_length": 24})
    first = begin(spec, bench.runs / "a", bench.cache)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("it is encoded again")

    monkeypatch.setattr(kind_module.ClassificationKind, "encode", fail)
    again = begin(spec.model_copy(update={"seed": 3, "num_examples": 50}), bench.runs / "a", bench.cache)
    assert len(first.train) == 192
    assert len(again.train) == 50
    by_text = {item.text: row.inputs.tolist() for item, row in zip(first.items, first.train, strict=True)}
    for item, encoded in zip(again.items, again.train, strict=True):
        assert encoded.inputs.tolist() == by_text[item.text]
        assert encoded.targets.tolist() == [item.label]


def test_copies_that_are_made_of_rows_are_encoded_behind_them(benches: dict[str, Bench]) -> None:
    bench = benches["mlm"]
    spec = bench.spec({"method.augmentation": {"kind": "swap", "frac": 0.5}, "num_examples": 40})
    opened = begin(spec, bench.runs / "a", bench.cache)
    assert len(opened.items) == len(opened.train) == 80
    for place, (item, encoded) in enumerate(zip(opened.items, opened.train, strict=True)):
        assert encoded.item == place
        assert encoded.targets.tolist() == [item.label]
        assert opened.reader.tokenizer.decode(encoded.inputs.tolist()).strip() == item.text.strip()
