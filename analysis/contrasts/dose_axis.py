"""The number in which the recipes of a study differ: its dose.

A dose is a share of documents harmed or kept, the weight of a domain, a threshold, U. Where recipes differ in
something else besides (the kind of scorer), there is one line for each; a recipe without harm or selection is
the zero of all lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis.page.labels import canonical, harm_dose, harm_name, value_text
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.runs.recipes import Recipe, varying_paths

MIN_DOSES = 3
"""Two doses are a contrast."""
MAX_LINES = 6
NOT_DOSES = ("seed", "index")
"""Numbers that only tell recipes apart."""
DEGRADERS, QUALITY = "recipe.degraders", "recipe.quality"


@dataclass(frozen=True)
class Axis:
    """A number in which recipes differ. lines: name -> (dose, recipe), ascending."""

    what: str
    is_share: bool
    lines: dict[str, list[tuple[float, Recipe]]]


def find_axis(recipes: Sequence[Recipe], study: Study, size: int) -> Axis | None:
    """The number in which recipes differ; of several that with the most values, the others make lines."""
    varying = varying_paths(recipes)
    found = []
    if any(path.startswith(DEGRADERS) for path in varying):
        found.append(_axis(_harm_name(recipes), True, recipes, _harm_dose, DEGRADERS))
    if any(path.startswith(QUALITY) for path in varying):
        found.append(_axis(say("share of text kept"), True, recipes, _keep_frac, QUALITY))
    if "budget.unique_tokens" in varying:
        unique = _unique_tokens(study, size)
        found.append(_axis(say("unique tokens U"), False, recipes, unique, "budget.unique_tokens"))
    for path in varying:
        if not path.startswith((DEGRADERS, QUALITY, "budget.unique_tokens")) and _is_number(path, recipes):
            found.append(_axis(_name(path, recipes), path.endswith("_frac"), recipes, _leaf(path), path))
    found += _weight_axes(recipes, study.target)
    kept = [axis for axis in found if axis is not None]
    return max(kept, key=lambda axis: sum(map(len, axis.lines.values())) / len(axis.lines), default=None)


def _axis(
    what: str, is_share: bool, recipes: Sequence[Recipe], dose_of: Callable[[Recipe], float | None], root: str
) -> Axis | None:
    """Lines of recipes that differ in the dose alone; None if they do not fall into a few lines of several doses.

    root: the part of the spec that holds the dose. A recipe that has a dose but nothing there stands on all lines.
    """
    varying = varying_paths(recipes)
    inside = [path for path in varying if path == root or path.startswith(root + ".")]
    outside = [path for path in varying if path not in inside]
    lines: dict[str, list[tuple[float, Recipe]]] = {}
    zeros: list[tuple[float, Recipe, str]] = []
    for recipe in recipes:
        dose = dose_of(recipe)
        if dose is None:
            continue
        rest = canonical([recipe.leaves.get(path) for path in outside])
        own = {path: recipe.leaves[path] for path in inside if path in recipe.leaves and not _is_dose(path, root)}
        if not _has(recipe, root):
            zeros.append((dose, recipe, rest))
        else:
            lines.setdefault(canonical([rest, own]), []).append((dose, recipe))
    for dose, recipe, rest in zeros:
        for doses in lines.values():
            if canonical([doses[0][1].leaves.get(path) for path in outside]) == rest:
                doses.append((dose, recipe))
    lines = {key: sorted(doses, key=lambda item: item[0]) for key, doses in lines.items() if len(doses) > 1}
    covered = {recipe.label for doses in lines.values() for _, recipe in doses}
    distinct = all(len({dose for dose, _ in doses}) == len(doses) for doses in lines.values())
    if not 0 < len(lines) <= MAX_LINES or not distinct or len(covered) * 2 < len(recipes):
        return None
    if max(map(len, lines.values())) < MIN_DOSES:
        return None
    return Axis(what, is_share, _named(lines, root, outside))


def _is_dose(path: str, root: str) -> bool:
    """Whether a leaf below the root is the dose itself; of a mixture, all of it is."""
    return path == root or root == "recipe.mixture" or path.split(".")[-1] in ("document_frac", "frac", "keep_frac")


def _named(
    lines: dict[str, list[tuple[float, Recipe]]], root: str, outside: Sequence[str]
) -> dict[str, list[tuple[float, Recipe]]]:
    """Lines by a short name: what differs between them."""
    if len(lines) == 1:
        return {"": next(iter(lines.values()))}
    first = [next(recipe for _, recipe in doses if _has(recipe, root)) for doses in lines.values()]
    varying = [path for path in varying_paths(first) if not _is_dose(path, root)]
    kinds = [path for path in varying if path.endswith(".kind")]
    named: dict[str, list[tuple[float, Recipe]]] = {}
    for recipe, doses in zip(first, lines.values(), strict=True):
        like = [other for other in first if all(other.leaves.get(k) == recipe.leaves.get(k) for k in kinds)]
        fields = [path for path in varying_paths(like) if path in varying and path in recipe.leaves]
        words = [harm_name(str(recipe.leaves[kind])) for kind in kinds if kind in recipe.leaves]
        words += [f"{path.split('.')[-1]} {value_text(recipe.leaves[path])}" for path in fields]
        name = ", ".join(words) or recipe.label
        named[name if name not in named else f"{name} (#{len(named) + 1})"] = doses
    return named


def _has(recipe: Recipe, root: str) -> bool:
    """Whether a recipe has the part that holds the dose: all have, but for harm and selection by score."""
    return root not in (DEGRADERS, QUALITY) or bool(recipe.tree["recipe"].get(root.split(".")[1]))


def _harm_name(recipes: Sequence[Recipe]) -> str:
    kinds = {step["kind"] for recipe in recipes for step in recipe.tree["recipe"]["degraders"]}
    if kinds == {"duplicates"}:
        return say("share of documents that are planted copies")
    if len(kinds) == 1:
        return say("share of documents with {harm}", harm=harm_name(kinds.pop()))
    return say("share of documents harmed")


def _harm_dose(recipe: Recipe) -> float | None:
    steps = recipe.tree["recipe"]["degraders"]
    return harm_dose(steps[0]) if len(steps) == 1 else None if steps else 0.0


def _keep_frac(recipe: Recipe) -> float | None:
    quality = recipe.tree["recipe"].get("quality")
    return float(quality["keep_frac"]) if quality else 1.0


def _unique_tokens(study: Study, size: int) -> Callable[[Recipe], float | None]:
    """U as asked for; where it is unlimited, as seen at the largest size."""

    def unique_tokens(recipe: Recipe) -> float | None:
        asked = recipe.leaves.get("budget.unique_tokens")
        seen = [p.unique_tokens for p in study.points_of(recipe.label, study.target) if p.tokens == size]
        return float(asked if asked is not None else max(seen))

    return unique_tokens


def _leaf(path: str) -> Callable[[Recipe], float | None]:
    return lambda recipe: None if recipe.leaves.get(path) is None else float(recipe.leaves[path])


def _is_number(path: str, recipes: Sequence[Recipe]) -> bool:
    values = [recipe.leaves.get(path) for recipe in recipes]
    known = [value for value in values if value is not None]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
    return numbers and len(set(known)) >= MIN_DOSES and path.split(".")[-1] not in NOT_DOSES


def _name(path: str, recipes: Sequence[Recipe]) -> str:
    parent, _, name = path.rpartition(".")
    kind = next((recipe.leaves[f"{parent}.kind"] for recipe in recipes if f"{parent}.kind" in recipe.leaves), None)
    if path.startswith("recipe.filters"):
        return f"{kind}.{name}"
    return f"{parent.split('.')[-1]} {name}".strip()


def _weight_axes(recipes: Sequence[Recipe], target: str) -> list[Axis | None]:
    """The weight of one domain, where the others keep their proportions; the target's own comes last."""
    mixtures = [recipe.weights for recipe in recipes if recipe.weights]
    staged = any(recipe.tree["recipe"]["mixture"]["kind"] == "stages" for recipe in recipes)
    if staged or len(mixtures) < len(recipes):
        return []
    domains = sorted({d for weights in mixtures for d in weights}, key=lambda domain: (domain == target, domain))
    for domain in domains:
        rests = []
        for weights in mixtures:
            rest = 1 - weights.get(domain, 0.0)
            if rest > 1e-6:
                rests.append([weights.get(d, 0.0) / rest for d in domains if d != domain])
        spread = max((max(column) - min(column) for column in zip(*rests, strict=True)), default=1.0)
        if spread < 1e-3 and len({round(w.get(domain, 0.0), 6) for w in mixtures}) >= MIN_DOSES:
            dose = _weight(domain)
            return [
                _axis(say("share of {domain} in the mixture", domain=domain), True, recipes, dose, "recipe.mixture")
            ]
    return []


def _weight(domain: str) -> Callable[[Recipe], float | None]:
    return lambda recipe: (recipe.weights or {}).get(domain, 0.0)
