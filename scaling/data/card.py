"""The data card: what the recipes of a study hold, what each budget makes of them, and how they differ.

data_card.json, schema 2

recipes       per recipe: number, name (what tells it from the others), runs, in_words; tokenizer, steps, mixture
              (as declared, and its stages with weights), references; and
  domains       source, licence, content; train and validation: read and kept (documents, bytes, characters,
                tokens; unique_tokens: those of distinct texts), dropped (by reason, with ids or files), steps (what
                each keeps), clusters of duplicates, lengths, scores, languages
  budgets       per D, U and repetition: tokens, unique tokens and epochs of each domain
overlap       per domain, what each two recipes both keep; how much of held-out text was found and dropped
displacement  per recipe against the first: when one weight rises, which fell
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.cache import read_manifest
from scaling.data.card_comparison import Kept, displaced, in_words, names, overlaps
from scaling.data.card_page import page
from scaling.data.domain_card import train_card, validation_card
from scaling.data.local_files import files_by_id
from scaling.data.prepare import Prepared, open_stream
from scaling.data.selection import CONTAMINATED
from scaling.data.stream import MixtureStream
from scaling.files import write_json
from scaling.identity import digest
from scaling.source import Embedded, Local, Source
from scaling.spec import RunSpec

SCHEMA = 2

STEPS = ("degraders", "decontamination", "dedup", "filters", "quality", "order")


def run_card(spec: RunSpec, prepared: Prepared, stream: MixtureStream) -> dict[str, Any]:
    """The card of one run as JSON, for its log: its `recipe` and its `budget`; no ids of documents."""
    recipe = recipe_card(spec, prepared, stream)
    for _, dropped in _dropped(recipe):
        del dropped["examples"]
    return {"schema": SCHEMA, "recipe": recipe, "budget": budget_card(spec, stream)}


def write_data_card(folder: Path, specs: Sequence[RunSpec], prepared: Sequence[Prepared]) -> None:
    """Write `data_card.json` and `data_card.md`: every recipe of the runs once, with all its budgets."""
    members: dict[str, list[int]] = {}
    for index, spec in enumerate(specs):
        members.setdefault(_identity(spec), []).append(index)
    recipes, weights, kept, known = [], [], [], dict[tuple[str, ...], Kept]()
    files: dict[Source, dict[str, str]] = {}
    for number, indices in enumerate(members.values(), start=1):
        first = indices[0]
        budgets, stream = _budgets([specs[index] for index in indices], prepared[first])
        recipe = recipe_card(specs[first], prepared[first], stream)
        _name_files(recipe, specs[first], prepared[first], files)
        recipes.append(
            {
                "number": number,
                "runs": sorted({specs[index].name for index in indices}),
                "in_words": in_words(specs[first]),
                **recipe,
                "budgets": budgets,
            }
        )
        weights.append({name: seen["weight"] for name, seen in budgets[-1]["domains"].items()})
        kept.append({name: _kept(prepared[first], name, known) for name in prepared[first].train})
    for recipe, name in zip(recipes, names([recipe["in_words"] for recipe in recipes]), strict=True):
        recipe["name"] = name
    card = {
        "schema": SCHEMA,
        "study": specs[0].study.model_dump(mode="json"),
        "recipes": recipes,
        "overlap": overlaps(kept),
        "displacement": displaced(weights),
    }
    write_json(folder / "data_card.json", card)
    (folder / "data_card.md").write_text(page(card), encoding="utf-8")


def recipe_card(spec: RunSpec, prepared: Prepared, stream: MixtureStream) -> dict[str, Any]:
    """What a recipe is and holds, as JSON. stream: of any run of the recipe."""
    recipe, corpus = spec.recipe, spec.recipe.corpus
    held_out = next(iter(prepared.rules.values())).held_out
    domains = {
        name: {
            **_source(source),
            "content": spec.content[name],
            "train": train_card(prepared.rules[name], prepared.train[name]) if name in prepared.train else None,
            "validation": validation_card(held_out[name], prepared.validation[name]),
        }
        for name, source in sorted(corpus.domains.items())
    }
    return {
        "tokenizer": _tokenizer(spec, prepared),
        "validation_frac": corpus.validation_frac,
        "steps": recipe.model_dump(mode="json", include=set(STEPS)),
        "mixture": {
            "declared": recipe.mixture.model_dump(mode="json"),
            "stages": [stage.model_dump(mode="json") for stage in stream.stages],
        },
        "domains": domains,
        "references": {name: _source(source) for name, source in sorted(corpus.references.items())},
    }


def budget_card(spec: RunSpec, stream: MixtureStream) -> dict[str, Any]:
    """What a budget reads of each domain, and how often, as JSON. Equal to the run's exposure ledger."""
    length, budget = stream.sequence_length, spec.budget.model_dump(mode="json")
    domains = {
        name: {
            "weight": stream.weights[name],
            "tokens": stream.num_read[name] * length,
            "unique_tokens": min(stream.num_read[name], stream.offered[name]) * length,
            "offered_tokens": stream.offered[name] * length,
            "epochs": stream.num_read[name] / stream.offered[name],
        }
        for name in stream.domains
    }
    return {
        "budget": budget,
        "tokens": stream.max_sequences * length,
        "unique_tokens": sum(seen["unique_tokens"] for seen in domains.values()),
        "domains": domains,
    }


def _dropped(recipe: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was dropped for each reason on each side of each domain, with the domain's name."""
    for name, domain in recipe["domains"].items():
        for side in filter(None, (domain["train"], domain["validation"])):
            yield from ((name, dropped) for dropped in side["dropped"].values())


def _name_files(
    recipe: Mapping[str, Any], spec: RunSpec, prepared: Prepared, files: dict[Source, dict[str, str]]
) -> None:
    """Give, of documents that are a file each, the file: they have but a hash as id. `files` grows."""
    cache = next(iter(prepared.rules.values())).documents.cache
    for name, dropped in _dropped(recipe):
        source = spec.recipe.corpus.domains[name]
        if isinstance(source, Local) and dropped["examples"]:
            if source not in files:
                files[source] = files_by_id(source, cache)
            ids = [id.partition("+") for id in dropped["examples"]]  # a planted copy is numbered
            dropped["examples"] = [files[source].get(digits, digits) + plus + copy for digits, plus, copy in ids]


def _budgets(specs: Sequence[RunSpec], prepared: Prepared) -> tuple[list[dict[str, Any]], MixtureStream]:
    """The budgets of the runs of one recipe, each once, smallest first; and the stream of one of them."""
    distinct = {
        digest([spec.budget.model_dump(mode="json"), spec.batch.model_dump(mode="json")]): spec for spec in specs
    }
    found: dict[str, dict[str, Any]] = {}
    for spec in distinct.values():
        stream = open_stream(spec, prepared)
        card = budget_card(spec, stream)
        found[digest(card)] = card
    return sorted(found.values(), key=lambda card: (card["tokens"], card["unique_tokens"], digest(card))), stream


def _identity(spec: RunSpec) -> str:
    """What runs of one recipe have in common."""
    whole = spec.model_dump(mode="json", include={"recipe", "tokenizer", "content"})
    return digest(whole)


def _kept(prepared: Prepared, name: str, known: dict[tuple[str, ...], Kept]) -> Kept:
    """What a recipe keeps of a domain; `known` grows, so that a swarm of mixtures reads it once."""
    selected, rules = prepared.train[name], prepared.rules[name]
    place = (selected.selection.path.name, *(part.name for part in selected.store.parts))
    if place not in known:
        rows, dropped = selected.selection.kept, selected.dropped
        is_looked_for = rules.recipe.decontamination.kind != "none"
        known[place] = Kept(
            hashes=rules.documents.column("hash")[rows, 0],
            tokens=np.diff(selected.store.offsets)[rows],
            num_read=selected.store.num_documents + dropped.get("empty", 0),
            num_held_out=dropped.get(CONTAMINATED, 0) if is_looked_for else None,
        )
    return known[place]


def _source(source: Source) -> dict[str, Any]:
    licence = "of each installed package" if isinstance(source, Embedded) else source.licence
    return {"source": source.model_dump(mode="json"), "licence": licence}


def _tokenizer(spec: RunSpec, prepared: Prepared) -> dict[str, Any]:
    trained_on: Mapping[str, int] = read_manifest(prepared.tokenizer.path.parent)["trained_on_bytes"]
    return {
        "address": prepared.tokenizer.address,
        "kind": spec.tokenizer.kind,
        "vocab_size": prepared.tokenizer.vocab_size,
        "trained_on_bytes": dict(trained_on),
    }
