"""Which documents say again what an earlier one said: exactly, or nearly (MinHash)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.cache import build_once, read_manifest
from scaling.data.document_sets import DocumentSet
from scaling.data.near_duplicates import duplicates_of
from scaling.data.survey import signature_column
from scaling.identity import digest
from scaling.recipe import ExactDedup, NearDedup

DEDUP_VERSION = 1
"""Raised when a change of code changes which documents are duplicates."""

EXACT, NEAR = "duplicate", "near_duplicate"


def dedup_identity(sets: Mapping[str, DocumentSet], dedup: ExactDedup | NearDedup) -> str:
    """A digest of all that the duplicates among some sets depend on."""
    texts = {name: documents.identity for name, documents in sorted(sets.items())}
    return digest({"version": DEDUP_VERSION, "dedup": dedup.model_dump(mode="json"), "texts": texts})


def duplicates(
    sets: Mapping[str, DocumentSet], dedup: ExactDedup | NearDedup, cache: Path
) -> tuple[dict[str, dict[str, NDArray[np.bool_]]], dict[str, Any]]:
    """Per set and reason, which documents are dropped [num_documents]; and how many clusters there are, of what size.

    Of equal documents the first stays, by the name of the set and then the order of the source.
    """

    def build(folder: Path) -> dict[str, Any]:
        names = sorted(sets)
        sizes = [len(sets[name].column("num_bytes")) for name in names]
        leaders = {EXACT: _first_with_hash(np.concatenate([sets[name].column("hash") for name in names]))}
        if isinstance(dedup, NearDedup):
            signatures = np.empty((sum(sizes), dedup.num_permutations), dtype=np.uint32)  # once, whatever the parts
            start = 0
            for name in names:
                for arrays, _ in signature_column(sets[name], dedup).parts():
                    end = start + len(arrays["signatures"])
                    signatures[start:end] = arrays["signatures"]
                    start = end
            leaders[NEAR] = duplicates_of(signatures, dedup.threshold)
        clusters = {}
        for reason, leader in leaders.items():
            drops = leader != np.arange(len(leader))
            for name, part in zip(names, np.split(drops, np.cumsum(sizes)[:-1]), strict=True):
                np.save(folder / f"{name}.{reason}.npy", part)
            members = np.bincount(leader, minlength=1)
            clusters[reason] = {"clusters": int((members > 1).sum()), "largest": int(members.max())}
        return {"version": DEDUP_VERSION, "clusters": clusters}

    entry = build_once(cache / "duplicates", dedup_identity(sets, dedup), build)
    manifest = read_manifest(entry)
    flags = {
        name: {reason: np.load(entry / f"{name}.{reason}.npy") for reason in manifest["clusters"]} for name in sets
    }
    return flags, manifest["clusters"]


def _first_with_hash(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each document the first one of the same hash [num_documents]; hashes [num_documents, 2]."""
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: equal ones stay in order
    ordered = hashes[order]
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[np.maximum.accumulate(np.where(is_new, np.arange(len(order)), 0))]
    return first
