"""Recipes: what a study varies apart from the number of tokens and the seeds; their labels and their order.

Runs that differ in nothing else lie on one curve over D, and seeds are its replicates.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from analysis.page.labels import AXES, canonical, count_text, harm_dose, mixture_text, value_text
from analysis.runs.run import Run

NOT_RECIPE = ("name", "study", "seeds", "zero", "placement", "tracking")
"""Parts of a spec that do not tell one recipe from another."""
DEDUP_STRENGTH = ("none", "exact", "near")


@dataclass(frozen=True)
class Recipe:
    """One curve of a study: its label, and all that is equal in its runs.

    tree: the parts of the spec. leaves: the same, flat: path -> value. weights: the share of each domain that the
    ledger of its largest run intends; None if no run is complete.
    """

    label: str
    tree: Mapping[str, Any]
    leaves: Mapping[str, Any]
    num_params: int
    weights: Mapping[str, float] | None

    def subtree(self, *roots: str) -> Mapping[str, Any]:
        """The leaves at or below the given paths."""
        if roots not in self._subtrees:
            leaves = self.leaves.items()
            self._subtrees[roots] = {p: value for p, value in leaves if any(_is_below(p, root) for root in roots)}
        return self._subtrees[roots]

    @cached_property  # every two recipes are compared by them
    def _subtrees(self) -> dict[tuple[str, ...], Mapping[str, Any]]:
        return {}


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root + ".")


# ---- from specs to recipes -------------------------------------------------------------------------


def group_recipes(runs: Sequence[Run], target: str) -> tuple[tuple[Recipe, ...], dict[str, str]]:
    """The recipes among runs, reference first, and the label of each run by fingerprint.

    The reference is the recipe that does least to the data (see `reference_first`). A label says what differs
    between the recipes of this study; the mixture, if nothing does.
    """
    trees = {run.fingerprint: recipe_tree(run.spec) for run in runs}
    keys = {fingerprint: canonical(tree) for fingerprint, tree in trees.items()}
    last: dict[str, Run] = {}
    weights: dict[str, Mapping[str, float]] = {}
    for run in sorted(runs, key=lambda run: (run.ledger.tokens if run.ledger else 0, run.name)):
        last[keys[run.fingerprint]] = run
        if run.ledger and run.ledger.domains:
            weights[keys[run.fingerprint]] = {domain: x.weight for domain, x in run.ledger.domains.items()}
    found: dict[str, Recipe] = {}
    for key, run in last.items():
        tree = trees[run.fingerprint]
        found[key] = Recipe("", tree, dict(flatten(tree)), run.num_params, weights.get(key))
    distinct = [found[key] for key in sorted(found)]
    usual = _usual_content([found[keys[run.fingerprint]] for run in runs])
    labels = _labels(distinct, target, usual)
    recipes = [
        Recipe(label, recipe.tree, recipe.leaves, recipe.num_params, recipe.weights)
        for label, recipe in zip(labels, distinct, strict=True)
    ]
    label_of = dict(zip(sorted(found), labels, strict=True))
    return tuple(sorted(recipes, key=lambda recipe: reference_first(recipe, target))), {
        fingerprint: label_of[key] for fingerprint, key in keys.items()
    }


def recipe_tree(spec: Mapping[str, Any]) -> dict[str, Any]:
    """All that makes a recipe. What a domain's text is counts, not where it lies; what changes nothing is left out.

    That is: a degrader with dose 0, the best 100 % of the documents, a domain of weight 0. Of scaled hyperparameters,
    the rules count and not what they give at each D.
    """
    tree = {key: value for key, value in spec.items() if key not in NOT_RECIPE}
    rules = tree["hyperparameters"] = spec.get("hyperparameters") or {"kind": "fixed"}
    if rules["kind"] == "scaled":  # what the rules give at each D is no choice of its own
        for part, name in (("optimizer", "learning_rate"), ("batch", "num_sequences"), ("schedule", "warmup_tokens")):
            tree[part] = {key: value for key, value in tree[part].items() if key != name}
    recipe = dict(tree["recipe"])
    recipe["corpus"] = {k: v for k, v in recipe["corpus"].items() if k not in ("domains", "references")}
    recipe["degraders"] = [step for step in recipe.get("degraders") or () if harm_dose(step) > 0]
    if (recipe.get("quality") or {}).get("keep_frac") == 1:
        recipe["quality"] = None
    mixture = {"kind": "weights", **recipe["mixture"]}
    if mixture["kind"] == "weights":
        mixture["weights"] = {domain: weight for domain, weight in mixture["weights"].items() if weight}
    recipe["mixture"] = mixture
    tree["recipe"] = recipe
    tree["budget"] = {k: v for k, v in tree["budget"].items() if k not in ("num_tokens", "max_epochs")}
    tree["evaluation"] = {k: v for k, v in tree["evaluation"].items() if k != "every_tokens"}
    return tree


def flatten(tree: Any, at: str = "") -> Iterable[tuple[str, Any]]:
    """The leaves of a tree, path -> value. Items of a list of parts are numbered; weights are one leaf."""
    is_parts = isinstance(tree, list) and tree and all(isinstance(item, Mapping) for item in tree)
    if is_parts or (isinstance(tree, Mapping) and tree and not at.endswith("weights")):
        for key, value in enumerate(tree) if is_parts else tree.items():
            yield from flatten(value, f"{at}.{key}" if at else str(key))
    else:
        yield at, tree


def varying_paths(recipes: Sequence[Recipe]) -> list[str]:
    """The leaves in which recipes differ, in alphabetical order."""
    paths = sorted({path for recipe in recipes for path in recipe.leaves})
    return [path for path in paths if len({canonical(recipe.leaves.get(path)) for recipe in recipes}) > 1]


def at_path(tree: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """The part of a tree at a dotted path."""
    for key in path.split("."):
        if not isinstance(tree, Mapping) or key not in tree:
            return default
        tree = tree[key]
    return tree


# ---- which comes first -----------------------------------------------------------------------------


def reference_first(recipe: Recipe, target: str) -> tuple[Any, ...]:
    """Sorts recipes so that the natural reference is first: the one that does least to the data.

    Least harm, then fewest filters and loosest thresholds, then all documents (or a random part) rather than the
    best ones, no dedup, no decontamination, shuffled, without repetition, the largest U, the most even mixture,
    the smallest share of the target domain; then the largest model, which the answer is to hold for; then by label.
    """
    part = recipe.tree["recipe"]
    quality, weights = part.get("quality"), recipe.weights or {}
    dedup = (part.get("dedup") or {}).get("kind", "none")
    unique = recipe.leaves.get("budget.unique_tokens")
    repetition = recipe.tree["budget"].get("repetition") or {}
    if part["mixture"]["kind"] == "weights":
        weights = part["mixture"]["weights"]
    return (
        sum(harm_dose(step) for step in part["degraders"]),
        len(part["filters"]),
        _strictness(part["filters"]),
        quality is not None,
        quality is not None and quality["scorer"]["kind"] != "random",
        -quality["keep_frac"] if quality else 0.0,
        DEDUP_STRENGTH.index(dedup) if dedup in DEDUP_STRENGTH else len(DEDUP_STRENGTH),
        (part.get("decontamination") or {}).get("kind", "none") != "none",
        (part.get("order") or {}).get("kind", "shuffled") != "shuffled",
        bool(recipe.tree.get("batch", {}).get("isolate_documents")),
        repetition.get("kind") is not None,
        sum(repetition["domains"].values()) if repetition.get("kind") == "epochs" else repetition.get("num_tokens", 0),
        -math.inf if unique is None else -float(unique),
        len(part["mixture"].get("stages", ())),
        round(sum(weight * math.log(weight) for weight in weights.values() if weight > 0), 9) if weights else 1.0,
        weights.get(target, 0.0),
        -recipe.num_params,
        recipe.label,
    )


def _strictness(filters: Sequence[Mapping[str, Any]]) -> tuple[float, ...]:
    """Grows as thresholds drop more: a minimum as it rises, a maximum as it falls."""
    return tuple(
        -float(value) if name.startswith("max") else float(value)
        for step in filters
        for name, value in sorted(step.items())
        if isinstance(value, int | float) and not isinstance(value, bool)
    )


def labels_without(recipes: Sequence[Recipe], paths: Sequence[str], target: str) -> dict[str, str]:
    """By each recipe's label, the one it would have without some leaves: the same for all that differ in no other."""
    bare = {}
    for recipe in recipes:
        tree = recipe.tree
        for path in paths:
            tree = _pruned(tree, path.split("."))
        bare[recipe.label] = replace(recipe, tree=tree, leaves=dict(flatten(tree)))
    found = {canonical(recipe.tree): recipe for recipe in bare.values()}
    labels = dict(zip(found, _labels(list(found.values()), target, _usual_content(recipes)), strict=True))
    return {label: labels[canonical(recipe.tree)] for label, recipe in bare.items()}


def _pruned(tree: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    """A tree without what stands at a path."""
    first, *rest = path
    if first not in tree:
        return tree
    if not rest:
        return {key: value for key, value in tree.items() if key != first}
    return {**tree, first: _pruned(tree[first], rest)}


# ---- labels ----------------------------------------------------------------------------------------


def _labels(recipes: Sequence[Recipe], target: str, usual: Mapping[str, str]) -> list[str]:
    """A label per recipe, all different: computed weights get more digits where they need them, else a number."""
    labels: list[str] = []
    varying = varying_paths(recipes)
    for decimals in range(3):
        labels = [_label(recipe, recipes, varying, target, usual, decimals) for recipe in recipes]
        if len(set(labels)) == len(labels):
            break
    counts = Counter(labels)
    return [f"{label} (#{i + 1})" if counts[label] > 1 else label for i, label in enumerate(labels)]


def _label(
    recipe: Recipe,
    recipes: Sequence[Recipe],
    varying: Sequence[str],
    target: str,
    usual: Mapping[str, str],
    decimals: int,
) -> str:
    """What differs, in words: "80 % docs / 20 % code, best 30 % by heuristic, U = 250k tokens".

    varying: the leaves in which the recipes differ. usual: the content of each domain whose text changed between runs;
    a recipe on another one says so.
    """
    words = [_mixture(recipe, recipes, target, decimals)] if _varies("recipe.mixture", varying) else []
    for root, text in AXES:
        if _varies(root, varying):
            parts = [at_path(other.tree, root) for other in recipes]
            known = [part for part in parts if part is not None] if root != "budget.unique_tokens" else parts
            own = at_path(recipe.tree, root)
            if own is not None or root in ("recipe.quality", "budget.unique_tokens", "budget.repetition"):
                words.append(text(own, known))
    if _varies("model", varying):
        words.append(f"N = {count_text(recipe.num_params)}")
    words += _other_words(recipe, recipes, varying)
    words = [word for word in words if word] or [_mixture(recipe, recipes, target, decimals)]
    changed = {path for path in usual if recipe.leaves.get(path, usual[path]) != usual[path]}
    other = sorted({str(recipe.leaves[path])[:8] for path in changed})
    return ", ".join(words) + (f", other data (content {', '.join(other)})" if other else "")


def _varies(root: str, varying: Sequence[str]) -> bool:
    return any(_is_below(path, root) for path in varying)


def _mixture(recipe: Recipe, recipes: Sequence[Recipe], target: str, decimals: int) -> str:
    parts = [other.tree["recipe"]["mixture"] for other in recipes]
    return mixture_text(recipe.tree["recipe"]["mixture"], parts, recipe.weights, target, decimals)


def _other_words(recipe: Recipe, recipes: Sequence[Recipe], varying: Sequence[str]) -> list[str]:
    """Any further leaf that differs among recipes whose part at that place is of the same kind."""
    words = []
    known = ("recipe.mixture", "model", "content", *(root for root, _ in AXES))
    for path in varying:
        if path not in recipe.leaves or any(_is_below(path, root) for root in known):
            continue
        parent, _, name = path.rpartition(".")
        like = [r for r in recipes if r.leaves.get(f"{parent}.kind") == recipe.leaves.get(f"{parent}.kind")]
        if name == "kind":
            words.append(str(recipe.leaves[path]))
        elif len({canonical(other.leaves.get(path)) for other in like}) > 1:
            words.append(f"{name} {value_text(recipe.leaves[path])}")
    return words


def _usual_content(recipes: Sequence[Recipe]) -> dict[str, str]:
    """For each domain whose text changed between recipes (of runs, repeated): path -> the most common content."""
    found: dict[str, Counter[str]] = {}
    for recipe in recipes:
        for path, value in recipe.leaves.items():
            if path.startswith("content."):
                found.setdefault(path, Counter())[str(value)] += 1
    changed = {path: counts for path, counts in found.items() if len(counts) > 1}
    return {path: min(counts, key=lambda text: (-counts[text], text)) for path, counts in changed.items()}


def changed_domains(recipes: Sequence[Recipe]) -> list[str]:
    """The domains whose text is not the same in all recipes: the data changed between two sweeps."""
    return sorted(path.removeprefix("content.") for path in _usual_content(recipes))
