"""What a fine-tuning came to: its scores, its answers, and what its parent had seen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaling.child import FinetuneSpec
from scaling.evaluate.metrics import Measured, Score, replicates, scores
from scaling.finetune.kind import Kind
from scaling.identity import fingerprint
from scaling.task import AnyTask, metric_of

NUM_REPLICATES = 200
"""Resamples of the test rows whose deciding metric is recorded, to pair models by their rows."""


def values(found: Measured) -> dict[str, float]:
    """Each metric of all rows."""
    weights = np.ones(len(found.stats))
    return {name: float(value) for name, value in found.values(weights).items()}


def score_facts(prefix: str, found: Mapping[str, Score]) -> dict[str, float]:
    """`<prefix>/<metric>`, with `_lo` and `_hi`, for the summary."""
    facts: dict[str, float] = {}
    for name, score in found.items():
        facts |= {f"{prefix}/{name}": score.value, f"{prefix}/{name}_lo": score.lo, f"{prefix}/{name}_hi": score.hi}
    return facts


def task_facts(spec: FinetuneSpec, validation: Measured, test: Measured) -> dict[str, Any]:
    """What the task came to, for the summary."""
    task, resamples = f"task/{spec.task.name}", spec.measuring.num_resamples
    return {
        **score_facts(task, scores(test, resamples, 0)),
        **score_facts(f"{task}/validation", scores(validation, resamples, 0)),
        f"{task}/num_items": len(test.stats),
        f"{task}/replicates": replicates_fact(spec.task, test),
        f"{task}/details": json.dumps(dict(test.details), sort_keys=True),
    }


def replicates_fact(task: AnyTask, test: Measured) -> str:
    """The deciding metric of the first resamples of the test rows, as JSON."""
    drawn = replicates(test, NUM_REPLICATES, 0)[metric_of(task)]
    return json.dumps([round(float(value), 6) for value in drawn])


def parent_facts(spec: FinetuneSpec, parent: Path | None) -> dict[str, float | str]:
    """What the parent was trained on, for the summary: nothing, where the child starts from its first weights.

    ValueError if the parent left no ledger.
    """
    facts: dict[str, float | str] = {"parent/fingerprint": fingerprint(spec.parent)}
    if parent is None:
        return {**facts, "parent/tokens": 0, "parent/unique_tokens": 0, "parent/flops": 0.0}
    path = parent / "ledger.json"
    if not path.exists():
        raise ValueError(f"finetune.parent: {str(path)!r} is not there: wanted a run that is complete")
    seen = json.loads(path.read_text(encoding="utf-8"))
    facts |= {
        "parent/tokens": seen["ledger/tokens"],
        "parent/unique_tokens": seen["ledger/unique_tokens"],
        "parent/flops": seen["flops"],
    }
    wanted = ("weight", "realised_weight", "tokens", "unique_tokens")
    for name, value in seen.items():
        place, *rest = name.split("/")
        if place == "loss" or (place == "ledger" and len(rest) > 1 and rest[-1] in wanted):
            facts[f"parent/{name}"] = value
    return facts


def write_predictions(path: Path, kind: Kind, items: Sequence[Any], answers: Sequence[Any]) -> None:
    """A line of JSON for each row of test: its id, the answer, the right one."""
    with path.open("w", encoding="utf-8") as file:
        for item, answer in zip(items, answers, strict=True):
            file.write(json.dumps({"id": item.id, **kind.shown(item, answer)}, ensure_ascii=False) + "\n")
