"""What a recipe holds of one domain, in numbers: read, dropped and why, kept, and what the kept text is like.

cache/cards/<address>/          card.json: of one selection, so that a run reads its card in milliseconds
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.cache import build_once
from scaling.data.dedup import EXACT, NEAR
from scaling.data.document_sets import DocumentSet
from scaling.data.languages import language_column, language_shares
from scaling.data.selection import CONTAMINATED, Rules, Selected, read_scores
from scaling.data.survey import score_column
from scaling.files import write_json
from scaling.identity import digest
from scaling.recipe import ByScore, Scorer

CARD_VERSION = 1
"""Raised when a change of code changes what a card says."""

SCORE_BINS = 20
QUANTILES = {"min": 0.0, "5%": 0.05, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95, "max": 1.0}

Mask = NDArray[np.bool_]


def train_card(rules: Rules, selected: Selected) -> dict[str, Any]:
    """The training documents of a domain, as JSON."""
    documents = rules.documents
    scorers: dict[str, Scorer] = {}
    if rules.quality is not None:
        scorers["quality"] = rules.quality.scorer
    if isinstance(rules.recipe.order, ByScore):
        scorers["order"] = rules.recipe.order.scorer
    columns = {use: score_column(documents, scorer, rules.sources) for use, scorer in scorers.items()}

    def more(is_kept: Mask) -> dict[str, Any]:
        scores = {use: _scores(read_scores(rules, scorer), is_kept) for use, scorer in scorers.items()}
        return {"scores": {use: {"scorer": scorers[use].kind, **found} for use, found in scores.items()}}

    clean = rules.sources[rules.name] if documents.degraders else None
    scored = {use: column.addresses for use, column in columns.items()}
    card = _card(documents, selected, clean, {"scores": scored}, more)
    return {**card, "steps": _steps(rules, selected, card["read"])}


def validation_card(documents: DocumentSet, selected: Selected) -> dict[str, Any]:
    """The validation documents of a domain, as JSON."""
    return _card(documents, selected, None, {}, lambda is_kept: {})


def _card(
    documents: DocumentSet,
    selected: Selected,
    clean: DocumentSet | None,
    identity: Mapping[str, Any],
    more: Callable[[Mask], dict[str, Any]],
) -> dict[str, Any]:
    """From the cache, or computed now. clean: the same documents before degraders. more: what else to say of them."""

    def build(folder: Path) -> dict[str, Any]:
        card = _measured(documents, selected, clean) | more(selected.selection.codes == 0)
        write_json(folder / "card.json", card)
        return {"version": CARD_VERSION, "domain": documents.name}

    address = digest(
        {
            "version": CARD_VERSION,
            "selection": selected.selection.path.name,
            "tokens": [part.name for part in selected.store.parts],
            "languages": language_column(documents).addresses,
            **identity,
        }
    )
    entry = build_once(documents.cache / "cards", address, build)
    card: dict[str, Any] = json.loads((entry / "card.json").read_text(encoding="utf-8"))
    return card


def _measured(documents: DocumentSet, selected: Selected, clean: DocumentSet | None) -> dict[str, Any]:
    selection = selected.selection
    is_kept = selection.codes == 0
    tokens = np.diff(selected.store.offsets)
    hashes, is_planted = documents.column("hash"), documents.column("is_planted").astype(bool)
    sizes = {
        "bytes": documents.column("num_bytes"),
        "characters": documents.column("num_characters"),
        "tokens": tokens,
    }
    read = {"documents": len(tokens) + documents.num_empty, **{unit: int(size.sum()) for unit, size in sizes.items()}}
    kept = {"documents": int(is_kept.sum()), **{unit: int(size[is_kept].sum()) for unit, size in sizes.items()}}
    _, first = np.unique(hashes[is_kept], axis=0, return_index=True)
    kept["unique_tokens"] = int(tokens[is_kept][first].sum())
    if is_planted.any():
        read["planted_documents"], kept["planted_documents"] = int(is_planted.sum()), int((is_planted & is_kept).sum())
    if clean is not None:
        was = clean.column("hash")  # copies have no place among these
        is_harmed = (hashes[~is_planted] != was).any(axis=1)
        read["harmed_documents"] = int(is_harmed.sum())
        kept["harmed_documents"] = int((is_harmed & is_kept[~is_planted]).sum())
    column = language_column(documents)
    return {
        "read": read,
        "kept": kept,
        "dropped": {
            reason: {
                "documents": number,
                "bytes": selection.dropped_bytes.get(reason, 0),
                "examples": selection.examples.get(reason, []),
            }
            for reason, number in selection.dropped.items()
        },
        "clusters": dict(selection.clusters),
        "lengths": _lengths(tokens, is_kept),
        "languages": {
            "read": language_shares(column, np.ones(len(is_kept), dtype=bool)),
            "kept": language_shares(column, is_kept),
        },
    }


def _lengths(tokens: NDArray[np.int64], is_kept: Mask) -> dict[str, Any]:
    """Documents by tokens, end-of-text included: from 2^k to 2^(k + 1) - 1."""
    power = np.frexp(tokens)[1] - 1
    first, last = (int(power.min()), int(power.max())) if len(power) else (0, -1)
    bins = range(first, last + 1)
    kept = tokens[is_kept]
    return {
        "tokens_from": [2**k for k in bins],
        "read": [int((power == k).sum()) for k in bins],
        "kept": [int((power[is_kept] == k).sum()) for k in bins],
        "kept_tokens": _quantiles(kept),
    }


def _scores(scores: NDArray[np.float64], is_kept: Mask) -> dict[str, Any]:
    """Quantiles, and a histogram over equal steps from the lowest to the highest score."""
    edges = np.histogram_bin_edges(scores, SCORE_BINS)
    return {
        "read": _quantiles(scores),
        "kept": _quantiles(scores[is_kept]),
        "histogram": {
            "edges": [_rounded(edge) for edge in edges],
            "read": np.histogram(scores, edges)[0].tolist(),
            "kept": np.histogram(scores[is_kept], edges)[0].tolist(),
        },
    }


def _quantiles(values: NDArray[Any]) -> dict[str, float]:
    if not len(values):
        return {}
    found = np.quantile(values, list(QUANTILES.values()), method="nearest")
    return {name: _rounded(value) for name, value in zip(QUANTILES, found, strict=True)}


def _rounded(value: float) -> float:
    """6 digits: what is below is the noise of the platform."""
    return float(f"{float(value):.6g}")


def _steps(rules: Rules, selected: Selected, read: Mapping[str, int]) -> list[dict[str, Any]]:
    """What each step of the recipe keeps of what the steps before it left, as documents and bytes.

    Two filters of one kind share their reasons, and so are one step here.
    """
    selection, recipe = selected.selection, rules.recipe
    steps = {
        "empty": ["empty"] if "empty" in selection.dropped else [],
        "decontamination": [CONTAMINATED] if recipe.decontamination.kind != "none" else [],
        "dedup": [EXACT, NEAR] if recipe.dedup.kind != "none" else [],
    }
    low_score = None if rules.quality is None else f"{rules.quality.scorer.kind}.low_score"
    for kind, _ in rules.filters:
        steps[f"filters.{kind}"] = [
            reason for reason in selection.dropped if reason.startswith(f"{kind}.") and reason != low_score
        ]
    asked = [name for name in steps if steps[name] or name.startswith("filters.")]
    if low_score is not None:
        steps["quality"] = [low_score]
        asked.append("quality")
    left = {"documents": read["documents"], "bytes": read["bytes"]}
    found = []
    for name in asked:
        before = dict(left)
        for reason in steps[name]:
            left["documents"] -= selection.dropped.get(reason, 0)
            left["bytes"] -= selection.dropped_bytes.get(reason, 0)
        shares = {f"kept_{unit}_frac": _rounded(left[unit] / before[unit]) if before[unit] else None for unit in left}
        found.append({"step": name, **left, **shares})
    return found
