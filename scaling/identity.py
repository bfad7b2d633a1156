"""A run's identity: what can change its numbers, and nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from scaling.mixture import Weights
from scaling.recipe import Shuffled
from scaling.spec import RunSpec, WarmupStableDecay

RESULTS_VERSION = 2
"""Raised when a change of code changes the numbers of an unchanged spec; part of every fingerprint."""

NOT_IDENTITY = frozenset({"name", "study", "zero", "placement", "tracking"})
"""Fields of a RunSpec that cannot change its numbers (beyond floating-point order)."""


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def fingerprint(spec: RunSpec) -> str:
    """The run's identity: 64 hex digits over everything that can change its numbers.

    Paths and hub names are not in it: what a domain holds is (`content`), so moved files are the same run.
    """
    return digest(_identity(spec))


def trunk_identity(spec: RunSpec) -> str | None:
    """What runs that share a stable phase have in common: all but D, the decay and the evaluation.

    None where the learning rate, or what is read when, depends on D from the start: nothing can be shared.
    """
    if not isinstance(spec.schedule, WarmupStableDecay) or not is_nested(spec):
        return None
    tree = _identity(spec)
    del tree["evaluation"], tree["schedule"]["decay_frac"]
    del tree["budget"]["num_tokens"]
    return digest(tree)


def is_nested(spec: RunSpec) -> bool:
    """Whether a smaller budget reads a prefix of what a larger one reads."""
    return isinstance(spec.recipe.order, Shuffled) and spec.budget.repetition is None


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
    tree["results_version"] = RESULTS_VERSION
    del tree["budget"]["max_epochs"]  # a limit that is checked, and changes nothing
    return tree


def directory_name(spec: RunSpec) -> str:
    """The folder of a run: a name for people, and eight digits of its fingerprint."""
    return f"{spec.name}-{fingerprint(spec)[:8]}"
