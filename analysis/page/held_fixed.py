"""What a study holds fixed: the settings that are equal in the specs of all its runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analysis.page.labels import canonical
from analysis.page.language import say
from analysis.page.table import Table
from analysis.runs.points import Study
from analysis.runs.recipes import at_path

PARTS = (
    ("model", "model"),
    ("objective", "objective"),
    ("tokenizer", "tokenizer"),
    ("batch", "batch"),
    ("hyperparameters", "hyperparameters"),
    ("schedule", "schedule"),
    ("optimizer", "optimizer"),
    ("degraders", "recipe.degraders"),
    ("decontamination", "recipe.decontamination"),
    ("dedup", "recipe.dedup"),
    ("filters", "recipe.filters"),
    ("quality", "recipe.quality"),
    ("mixture", "recipe.mixture"),
)
MOST_ITEMS = 5
"""Longer lists, such as stop words, are counted."""
MISSING = object()


def held_fixed_table(study: Study) -> Table:
    """A row per part of the specs: what of it all runs share. A part that shares nothing has none."""
    specs = [run.spec for run in study.runs]
    rows = [
        (say(name), text) for name, path in PARTS if (text := _shared([at_path(spec, path, MISSING) for spec in specs]))
    ]
    if len(counts := {run.num_params for run in study.runs}) == 1:
        rows.insert(0, (say("parameters N"), f"{counts.pop():,}"))
    rows += _domains([spec["recipe"]["corpus"]["domains"] for spec in specs])
    return Table("held_fixed", (say("what"), say("in all runs")), tuple(rows))


def shared_settings(specs: Sequence[Mapping[str, Any]], parts: Sequence[tuple[str, str]], name: str) -> Table:
    """What specs share of their parts, each told by its name and its path, as a table of that name."""
    rows = tuple((told, text) for told, path in parts if (text := _shared([at_path(s, path, MISSING) for s in specs])))
    return Table(name, (say("what"), say("in all runs")), rows)


def _shared(values: Sequence[Any]) -> str:
    """What the values have in common, in words; empty if no more than a kind. Lists are shared whole or not."""
    first = values[0]
    if any(value is MISSING for value in values):
        return ""
    distinct = list({canonical(value): value for value in values}.values())
    if len(distinct) == 1:
        return _text(first)
    if not all(isinstance(value, Mapping) for value in distinct):
        return ""
    if len({canonical(value.get("kind")) for value in distinct}) > 1:
        return ""  # settings of two kinds of part may share a name and not a meaning
    same = {key: first[key] for key in first if len({canonical(value.get(key)) for value in distinct}) == 1}
    return _text(same) if {*same} - {"kind"} else ""


def _text(value: Any) -> str:
    """A value in full, its kind first; settings that are not set are left out; long lists are counted."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]  # a value, as the spec has it: not translated
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        named = [f"{key} {_text(of)}" for key, of in value.items() if key != "kind" and of is not None]
        return ", ".join(([str(value["kind"])] if value.get("kind") else []) + named)
    if isinstance(value, Sequence) and not isinstance(value, str):
        if any(isinstance(item, Mapping) for item in value):
            return "; ".join(map(_text, value))
        if len(value) > MOST_ITEMS:
            return f"{len(value)} entries"
        return " ".join(map(_text, value)) or "none"
    return str(value)


def _domains(corpora: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """The domains that all runs draw from: the kind of their source, and its licence where it is stated."""
    for name in sorted(corpora[0]):
        if any(name not in corpus for corpus in corpora):
            continue
        told = {key: _shared([corpus[name].get(key, MISSING) for corpus in corpora]) for key in ("kind", "licence")}
        if not told["kind"]:
            continue
        what = say("domain {domain}", domain=name)
        if told["licence"] in ("", "none"):
            yield what, say("{kind} source", kind=told["kind"])
        else:
            yield what, say("{kind} source, licence {licence}", kind=told["kind"], licence=told["licence"])
