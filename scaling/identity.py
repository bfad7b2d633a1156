"""A run's identity: what can change its numbers, and nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from scaling.child import AnySpec, CompressSpec, FinetuneSpec
from scaling.mixture import Weights
from scaling.model import Checkpoint
from scaling.recipe import Shuffled
from scaling.spec import RunSpec, WarmupStableDecay
from scaling.tokenizer import Tokenizer

RESULTS_VERSION = 3
"""Raised when a change of code changes the numbers of an unchanged spec; part of every fingerprint."""

FINETUNE_VERSION = 2
"""The same of fine-tuning."""

COMPRESS_VERSION = 2
"""The same of compression."""

NOT_IDENTITY = frozenset({"name", "study", "hyperparameters", "zero", "placement", "tracking"})
"""Fields of a RunSpec that cannot change its numbers beyond floating-point order; `_identity` adds what of them can."""


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def fingerprint(spec: AnySpec) -> str:
    """The run's identity: 64 hex digits over everything that can change its numbers.

    Paths and hub names are not in it: what a domain, or a split of a task, holds is (`content`), so moved files are the
    same run. Of a parent its own identity is in it, or, where a child starts from the parent's first weights, theirs.
    """
    if isinstance(spec, RunSpec):
        return digest(_identity(spec))
    tree = spec.model_dump(mode="json", exclude={*NOT_IDENTITY, "parent"})
    if isinstance(spec, CompressSpec):
        return digest({**tree, "parent": fingerprint(spec.parent), "version": COMPRESS_VERSION})
    del tree["task"]["rows"]  # `content` says what they hold
    tree["batch"]["max_length"] = spec.max_length
    return digest({**tree, "parent": _start_identity(spec), "version": FINETUNE_VERSION})


def _start_identity(spec: FinetuneSpec) -> str:
    """Of the weights that a fine-tuning begins with, and of the tokenizer."""
    parent = spec.parent
    if spec.start == "pretrained":
        return fingerprint(parent)
    tree = _identity(parent)
    texts = parent.tokenizer.domains if isinstance(parent.tokenizer, Tokenizer) else ()
    return digest(
        {
            "initial": tree["model"],
            "tokenizer": tree["tokenizer"],
            "texts": {name: parent.content[name] for name in texts},
            "validation_frac": tree["recipe"]["corpus"]["validation_frac"],
            "objective": parent.objective.kind,
            "sequence_length": parent.batch.sequence_length,
            "seed": parent.seeds.init,
            "results_version": RESULTS_VERSION,
        }
    )


def trunk_identity(spec: RunSpec) -> str | None:
    """What runs that share a stable phase have in common: all but D, the decay and the evaluation.

    None where the learning rate, or what is read when, depends on D from the start: nothing can be shared.
    """
    if why_no_trunk(spec) is not None:
        return None
    tree = _identity(spec)
    del tree["evaluation"], tree["schedule"]["decay_frac"]
    del tree["budget"]["num_tokens"]
    return digest(tree)


def why_no_trunk(spec: RunSpec) -> str | None:
    """Why a run shares no stable phase with runs that differ in budget alone; None if it does."""
    if not isinstance(spec.schedule, WarmupStableDecay):
        return f"the schedule is {spec.schedule.kind}, not wsd"
    if not isinstance(spec.recipe.order, Shuffled):
        return f"the order is {spec.recipe.order.kind}: a smaller budget is no prefix of a larger one"
    if spec.budget.repetition is not None:
        return "budget.repetition depends on D"
    return None


def apart_from_size(spec: RunSpec) -> str:
    """What runs have in common that differ in budget, and in what may be tuned to it: learning rate, warmup, batch."""
    tree = _identity(spec)
    del tree["evaluation"], tree["schedule"], tree["budget"]["num_tokens"]
    del tree["optimizer"]["learning_rate"], tree["batch"]["num_sequences"]
    return digest(tree)


def _identity(spec: RunSpec) -> dict[str, Any]:
    tree = spec.model_dump(mode="json", exclude=set(NOT_IDENTITY))
    recipe = spec.recipe.effective
    tree["recipe"] = recipe.model_dump(mode="json")
    del tree["recipe"]["corpus"]["domains"], tree["recipe"]["corpus"]["references"]  # `content` says what they hold
    tree["content"] = {name: spec.content[name] for name in recipe.used_texts}
    for field, scorer in recipe.scorers:
        tree["recipe"][field]["scorer"] = scorer.identity
    if isinstance(recipe.mixture, Weights):
        tree["recipe"]["mixture"]["weights"] = {
            name: weight for name, weight in recipe.mixture.weights.items() if weight
        }
    if isinstance(spec.model, Checkpoint):  # its content counts, not where it lies
        tree["model"] = {"kind": spec.model.kind, "content": spec.model.content}
    if spec.zero.quantized:  # weights and gradients are sent in 8 and 4 bits
        tree["quantized"] = spec.zero.quantized
    tree["results_version"] = RESULTS_VERSION
    del tree["budget"]["max_epochs"]  # a limit that is checked, and changes nothing
    return tree


def directory_name(spec: AnySpec) -> str:
    """The folder of a run: a name for people, and eight digits of its fingerprint."""
    return f"{spec.name}-{fingerprint(spec)[:8]}"
