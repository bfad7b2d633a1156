"""Runs as a sweep file: one YAML that Hydra composes into exactly these runs.

They are no grid, so the file has a key of its own, `point`, which holds all that a run of it may need; the sweeper goes
through the points, and the sections of the config take what they need from there by interpolation. That replaces
what the defaults say, where a dictionary would be merged into them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.page.labels import canonical, flops_text
from analysis.planning.plan import Plan
from analysis.planning.planned_run import PlannedRun, flops_to_train
from analysis.runs.logs import AnalysisError

STEPS = ("degraders", "filters")
"""Parts of a recipe that are lists in a spec, and have names in a config."""
NOT_COPIED = ("name", "study", "content", "seeds", "recipe", "budget")


def sweep_yaml(plan: Plan, runs: Sequence[PlannedRun]) -> str:
    """The sweep file of `runs`. Raises AnalysisError where a seed has a name that no config can hold."""
    names = {label: f"r{i + 1}" for i, label in enumerate(dict.fromkeys(run.recipe for run in runs))}
    trees = {name: _sections(plan.specs[label]) for label, name in names.items()}
    keys = sorted({key for tree in trees.values() for key in tree})
    texts = {key: {canonical(tree.get(key)) for tree in trees.values()} for key in keys}
    varying = [key for key in keys if len(texts[key]) > 1]
    first = next(iter(trees.values()))
    lines = [
        "# @package _global_",
        f"# {_comment(plan.study['question'])}",
        f"# {len(runs)} further runs, {flops_text(flops_to_train([*plan.done, *runs]))} FLOPs, trunks counted once.",
        "study:",
        *(f"  {key}: {_text(plan.study[key])}" for key in ("name", "question", "target", "match", "hold_out")),
        "",
        "point:",
        f"  recipe: {next(iter(names.values()))}",
        "  num_tokens: null",
        f"  seeds: {_text({name: None for name, _ in runs[0].seeds})}",
        "  recipes:",
    ]
    for label, name in names.items():
        lines += [f"    # {_comment(label)}", f"    {name}:"]
        lines += [f"      {key}: {_text(trees[name].get(key))}" for key in varying] or ["      {}"]
    lines += ["  same:", *(f"    {key}: {_text(first[key])}" for key in keys if key not in varying), ""]
    for key in keys:
        where = f"point.recipes.${{point.recipe}}.{key}" if key in varying else f"point.same.{key}"
        if key != "budget":
            lines.append(f"{key}: ${{{where}}}")
            continue
        lines += ["budget:", "  num_tokens: ${point.num_tokens}"]
        lines += [f"  {field}: ${{{where}.{field}}}" for field in sorted(first["budget"])]
    lines += ["seeds: ${point.seeds}", "", "hydra:", "  mode: MULTIRUN", "  sweeper:", "    params:", "      point: >-"]
    ordered = sorted(runs, key=lambda run: (list(names).index(run.recipe), run.seeds, run.num_tokens))
    budgets = [plan.asked.get((run.recipe, run.num_tokens), run.num_tokens) for run in ordered]
    points = [
        f"        {{recipe: {names[run.recipe]}, num_tokens: {budget}, seeds: {_seeds(run)}}}"
        for run, budget in zip(ordered, budgets, strict=True)
    ]
    return "\n".join(lines) + "\n" + ",\n".join(points) + "\n"


def _sections(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of the config that a spec came from, without what differs between the runs of a recipe."""
    tree = {key: value for key, value in spec.items() if key not in NOT_COPIED}
    for key, value in spec["recipe"].items():
        tree[key] = _named(value) if key in STEPS else value
    tree["budget"] = {key: value for key, value in spec["budget"].items() if key != "num_tokens"}
    return tree


def _named(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {f"step{i + 1}_{step['kind']}": step for i, step in enumerate(steps)}


def _seeds(run: PlannedRun) -> str:
    if bad := [name for name, _ in run.seeds if not name.isidentifier()]:
        raise AnalysisError(f"seeds.{bad[0]!r} is no name that a sweep can hold")
    return "{" + ", ".join(f"{name}: {value}" for name, value in run.seeds) + "}"


def _text(value: Any) -> str:
    """A value as YAML in one line: JSON, with what omegaconf would take for an interpolation made plain text."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _comment(text: str) -> str:
    """One line of a comment, whatever the text."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())[:200]
