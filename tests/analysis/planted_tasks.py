"""Fine-tunings and compressions with a planted truth, as the W&B logs that real runs leave."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from planted import RICH, fingerprint, log_bytes, log_records, mixture_law, spec, weights_of

KINDS = {"classification": "accuracy", "tokens": "f1", "qa": "f1", "similarity": "pearson", "generation": "rouge_l"}
FULL: dict[str, Any] = {
    "adaptation": {"kind": "full", "layer_decay": 1.0},
    "loss": {"kind": "cross_entropy", "class_weights": "none", "label_smoothing": 0.0},
    "sampling": "as_is",
    "augmentation": None,
    "dropout": 0.1,
    "early_stopping": None,
    "keep": "best",
}
DEPTHS = {"pruned": {"kind": "magnitude", "frac": 0.5, "scope": "layer"}, "int8": {"kind": "int8_weights"}}
"""Compressions, by a name."""


@dataclass(frozen=True)
class PlantedTask:
    """A task whose metric follows a law: 1 - E - A / (transferred labels)^alpha.

    Labels n of a model pretrained on D tokens are worth n + worth D^power labels of one from scratch.
    """

    name: str
    kind: str = "classification"
    E: float = 0.08
    A: float = 2.2
    alpha: float = 0.35
    worth: float = 0.002
    power: float = 0.9
    all_labels: int = 4000
    baseline: float = 0.80
    num_items: int = 2000
    domain: str = "docs"

    @property
    def metric(self) -> str:
        return KINDS[self.kind]

    def effective(self, labels: int, tokens: int, weights: Mapping[str, float] = RICH) -> float:
        """Labels from scratch that the same metric takes."""
        return labels + self.worth * (tokens * (0.3 + 0.7 * weights.get(self.domain, 0.0))) ** self.power

    def score(self, labels: int, tokens: int, weights: Mapping[str, float] = RICH) -> float:
        """The metric of a large test set, without noise."""
        return 1 - self.E - self.A * self.effective(labels, tokens, weights) ** -self.alpha


def finetune_spec(
    task: PlantedTask, parent: Mapping[str, Any], seed: int, labels: int | None, start: str = "pretrained",
    method: Mapping[str, Any] = FULL,
) -> dict[str, Any]:  # fmt: skip
    """A FinetuneSpec as it is logged."""
    return {
        "kind": "finetune",
        "name": f"{task.name}-{start}",
        "study": {**parent["study"], "question": "Which task needs how much data?"},
        "parent": dict(parent),
        "start": start,
        "task": {"kind": task.kind, "name": task.name, "metric": None, "rows": {"kind": "local", "train": "x.jsonl"}},
        "method": dict(method),
        "num_examples": labels,
        "seed": seed,
        "batch": {"num_sequences": 32, "max_length": None},
        "schedule": {"kind": "linear", "num_epochs": 3.0, "min_steps": 0, "warmup_frac": 0.1},
        "optimizer": {"kind": "adamw", "learning_rate": 0.0003},
        "content": {"train": "ab", "validation": "cd", "test": "ef"},
        "placement": {"device": "auto", "ranks": 1},
        "tracking": {"mode": "offline", "project": "scaling", "entity": None},
    }


def scores(at: str, metric: str, value: float, num_items: int) -> dict[str, float]:
    """A metric with its interval over the rows, as it is logged."""
    half = 1.96 * float(np.sqrt(max(value * (1 - value), 1e-4) / num_items))
    return {f"{at}{metric}": value, f"{at}{metric}_lo": value - half, f"{at}{metric}_hi": value + half}


def replicates_of(task: PlantedTask, value: float, count: int, *who: object) -> str:
    """The metric of resamples of the rows, as it is logged: rows move all models alike, and each a little by itself."""
    sd = float(np.sqrt(max(value * (1 - value), 1e-4) / task.num_items))
    shared, own = (rng_of(task.name, "resamples", *key).standard_normal(count) for key in ((), who))
    return json.dumps([round(float(x), 6) for x in value + sd * (0.95 * shared + 0.31 * own)])


def details_of(classes: Sequence[str], value: float) -> dict[str, Any]:
    """What a log tells of each class: the last is in no row, and was never given."""
    report: dict[str, Any] = {
        name: {"precision": value, "recall": value - 0.01 * i, "f1": value - 0.005 * i, "num": 100 + i}
        for i, name in enumerate(classes)
    }
    if report:
        report[classes[-1]] = {"precision": None, "recall": None, "f1": None, "num": 0}
    return {"labels": list(classes), "report": report} if report else {}


def parent_facts(parent: Mapping[str, Any], num_tokens: int) -> dict[str, Any]:
    """What a child's summary tells of its parent."""
    weights = weights_of(parent)
    facts: dict[str, Any] = {"parent/fingerprint": fingerprint(parent), "parent/tokens": num_tokens}
    if not num_tokens:
        return facts
    facts |= {"parent/unique_tokens": num_tokens, "parent/flops": 700_000.0 * num_tokens}
    for domain, weight in weights.items():
        facts[f"parent/loss/{domain}"] = float(mixture_law(weights, domain).loss(num_tokens))
        facts |= {
            f"parent/ledger/{domain}/weight": weight,
            f"parent/ledger/{domain}/realised_weight": weight,
            f"parent/ledger/{domain}/tokens": round(num_tokens * weight),
            f"parent/ledger/{domain}/unique_tokens": round(num_tokens * weight),
        }
    return facts


def write_child(
    folder: Path, tree: Mapping[str, Any], summary: Mapping[str, Any] | None, job_type: str = "finetune",
    num_trainable: int | None = None,
) -> str:  # fmt: skip
    """Write one child's offline log; returns its fingerprint."""
    identity = fingerprint(tree)
    name = f"{tree['name']}-{identity[:8]}"
    config: dict[str, Any] = {
        "schema": 1, "fingerprint": identity, "results_version": 1, "spec": dict(tree), "num_params": 100_000,
        "environment": {"python": "3.11.7", "device": "cpu"},
    }  # fmt: skip
    if num_trainable is not None:
        config["num_trainable_params"] = num_trainable
    records = log_records(name, config, [{"examples": 100, "train/loss": 0.5}], summary)
    records[0].run.job_type = job_type
    path = folder / identity[:8] / "wandb" / "offline-run-0-x" / f"run-{records[0].run.run_id}.wandb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(log_bytes([record.SerializeToString() for record in records]))
    return identity


@dataclass
class Tuned:
    """A study of fine-tunings. seed_sd: of a run; shared_sd: what a seed does to all settings of a task alike.

    gain: what a kind of adaptation adds. replicates: resamples of the test rows that a log holds; None: it has none.
    classes: labels that a log tells of.
    """

    folder: Path
    seed_sd: float = 0.006
    shared_sd: float = 0.004
    has_baseline: bool = True
    gain: Callable[[str], float] = field(default=lambda kind: 0.0)
    replicates: int | None = None
    classes: tuple[str, ...] = ()

    def run(
        self, task: PlantedTask, num_tokens: int, seed: int, labels: int | None = None,
        weights: Mapping[str, float] = RICH, method: Mapping[str, Any] = FULL, compress: str | None = None,
        **changes: Any,
    ) -> None:  # fmt: skip
        """One fine-tuning, and what a compression makes of it where one is named; num_tokens 0: from scratch."""
        parent = spec(num_tokens or 1_000_000, 0, weights, **changes)
        parent = parent | {"study": {**parent["study"], "name": "tasks"}}
        start = "pretrained" if num_tokens else "initial"
        tree = finetune_spec(task, parent, seed, labels, start, method)
        rows = labels or task.all_labels
        value = self.measured(task, rows, num_tokens, weights, seed, start)
        value += self.gain(method["adaptation"]["kind"])
        at = f"task/{task.name}/"
        summary: dict[str, Any] = {
            "state": "complete", "seconds": 20.0 + rows / 100, "examples": 3 * rows, "steps": rows // 10,
            "best_step": rows // 10, "num_train_rows": rows, f"{at}num_items": task.num_items,
            f"{at}details": json.dumps(details_of(self.classes, value)),
            **scores(at, task.metric, value, task.num_items),
            **scores(f"{at}validation/", task.metric, value + 0.004, task.num_items // 2),
            **parent_facts(parent, num_tokens),
        }  # fmt: skip
        if self.has_baseline:
            baseline = task.baseline - 0.5 * rows**-0.5
            summary |= scores("baseline/tfidf_logreg/", task.metric, baseline, task.num_items)
        if self.replicates:
            summary[f"{at}replicates"] = replicates_of(task, value, self.replicates, seed, num_tokens)
            if self.has_baseline:
                at_baseline = replicates_of(task, baseline, self.replicates, "baseline")
                summary["baseline/tfidf_logreg/replicates"] = at_baseline
        kind = method["adaptation"]["kind"]
        identity = write_child(self.folder, tree, summary, num_trainable={"full": 100_000, "head": 130}.get(kind, 8192))
        if compress is not None:
            self.compress(task, tree, identity, compress, value, num_tokens)

    def measured(
        self, task: PlantedTask, labels: int, tokens: int, weights: Mapping[str, float], seed: int, start: str
    ) -> float:
        """The planted metric with what the seed and the test rows add."""
        shared = self.shared_sd * normal(task.name, "shared", seed)
        own = self.seed_sd * normal(task.name, labels, tokens, sorted(weights.items()), seed, start)
        truth = task.score(labels, tokens, weights)
        test = float(np.sqrt(truth * (1 - truth) / task.num_items)) * normal(task.name, "test rows")
        return truth + shared + own + test

    def compress(
        self, task: PlantedTask, tree: Mapping[str, Any], parent: str, name: str, value: float, num_tokens: int
    ) -> None:
        lost = {"pruned": 0.03, "int8": 0.002}[name]
        own = value - lost + 0.001 * normal(task.name, name, parent)
        compressed = {
            "kind": "compress", "name": f"{tree['name']}-{name}", "study": tree["study"], "parent": dict(tree),
            "compress": DEPTHS[name], "placement": {"device": "auto", "ranks": 1},
        }  # fmt: skip
        size = {"pruned": 400_000, "int8": 160_000}[name]
        speed = {"pruned": 1.0, "int8": 1.4}[name]
        busy = {"pruned": 1.0, "int8": 3.0}[name]  # what else the machine does falls on both models
        at = f"task/{task.name}/"
        summary = {
            "state": "complete", "seconds": 4.0, f"{at}num_items": task.num_items,
            **scores(at, task.metric, own, task.num_items), f"task_original/{task.name}/{task.metric}": value,
            "parent/fingerprint": parent,
            **{
                f"task_difference/{task.name}/{task.metric}{end}": own - value + half
                for end, half in (("", 0.0), ("_lo", -0.004), ("_hi", 0.004))
            },
        }  # fmt: skip
        for prefix, bytes_, faster, nonzero in (
            ("cost/", size, speed / busy, 55_000 if name == "pruned" else 100_000),
            ("cost/original/", 410_000, 1 / busy, 100_000),
        ):  # fmt: skip
            summary |= {
                f"{prefix}bytes": bytes_, f"{prefix}latency_ms_batch1": 2.4 / faster,
                f"{prefix}latency_ms_batch32": 21.0 / faster, f"{prefix}rows_per_second_batch1": 410.0 * faster,
                f"{prefix}rows_per_second_batch32": 1500.0 * faster, f"{prefix}peak_memory_bytes": 90 * 2**20,
                f"{prefix}num_params": 100_000, f"{prefix}nonzero_params": nonzero,
            }  # fmt: skip
        write_child(self.folder, compressed, summary, "compress")


def normal(*key: object) -> float:
    """A standard normal that depends on its key alone."""
    return float(rng_of(*key).standard_normal())


def rng_of(*key: object) -> np.random.Generator:
    """A generator that depends on its key alone."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


TASKS = (
    PlantedTask("sst2", baseline=0.79),
    PlantedTask("ag_news", E=0.06, A=1.4, baseline=0.90, worth=0.001, all_labels=8000),
    PlantedTask("conll2003", kind="tokens", E=0.1, A=4.0, baseline=0.62, worth=0.002, domain="code"),
)
SIZES = tuple(1_000_000 * 2**i for i in range(5))


def write_tasks(
    folder: Path, tasks: Sequence[PlantedTask] = TASKS, sizes: Sequence[int] = SIZES, seeds: int = 3,
    labels: Sequence[int | None] = (100, 1000, None), mixtures: Sequence[Mapping[str, float]] = (RICH,),
    compress: Sequence[str] = (), **settings: Any,
) -> Path:  # fmt: skip
    """Tasks x (from scratch, and every mixture and size) x labels x seeds; compressions of those with all labels."""
    tuned = Tuned(folder, **settings)
    for task in tasks:
        for count in labels:
            for seed in range(seeds):
                tuned.run(task, 0, seed, count)
                for weights in mixtures:
                    for size in sizes:
                        tuned.run(task, size, seed, count, weights)
                        for name in compress if count == labels[-1] else ():
                            tuned.run(task, size, seed, count, weights, compress=name)
    return folder
