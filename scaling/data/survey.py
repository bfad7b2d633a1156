"""The survey of a DocumentSet: per document, what a recipe's rules say of it, before anything is dropped.

Each column is an array over all documents, computed once per part and rule, and cached:

cache/columns/<address>/          verdicts, scores, signatures, overlap with held-out text
cache/scorers/<address>/          what a scorer has learnt
cache/held_out/<address>/         the n-grams of validation text and test sets

So a changed threshold of one filter computes one column again, and no other rule is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.cache import build_once, read_manifest
from scaling.data.contamination import (
    HashSet,
    HeldOut,
    Hits,
    document_counts,
    held_out_ngrams,
    hits,
    joined,
    leaks,
)
from scaling.data.document_sets import DocumentSet
from scaling.data.near_duplicates import signatures
from scaling.document import Document
from scaling.identity import digest
from scaling.recipe import Filter, NearDedup, NGramOverlap, Scorer

SURVEY_VERSION = 1
"""Raised when a change of code changes what a column holds."""

Batch = Mapping[str, Any]
Build = Callable[[Iterator[Batch]], tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]]]
"""From batches of `id` and `text` to arrays by name, and facts for the manifest."""


class Column:
    """One rule's word on every document of a set, in parts."""

    def __init__(self, documents: DocumentSet, rule: Mapping[str, Any], build: Build, needs_all: bool = False) -> None:
        """rule: all that the column depends on besides the documents, as JSON. needs_all: other domains are in it."""
        self.documents, self.needs_all = documents, needs_all
        self._rule, self._build = rule, build

    @property
    def addresses(self) -> tuple[str, ...]:
        identity = {"version": SURVEY_VERSION, "side": self.documents.side, "rule": self._rule}
        return tuple(digest({"part": part, **identity}) for part in self.documents.addresses)

    def build(self, part: int) -> Path:
        """The entry of one part, from the cache or computed now."""

        def build(folder: Path) -> dict[str, Any]:
            arrays, facts = self._build(self.documents.batches(part, "id", "text"))
            for name, array in arrays.items():
                np.save(folder / f"{name}.npy", array)
            self.documents.report(f"{self.documents.name}: {self._rule['what']}")
            return {"version": SURVEY_VERSION, "rule": self._rule, "domain": self.documents.name, **facts}

        return build_once(self.documents.cache / "columns", self.addresses[part], build)

    def build_all(self) -> None:
        """Every part."""
        for part in range(self.documents.num_parts):
            self.build(part)

    def parts(self) -> Iterator[tuple[dict[str, NDArray[Any]], dict[str, Any]]]:
        """Arrays and manifest of each part."""
        for part in range(self.documents.num_parts):
            entry = self.build(part)
            yield {path.stem: np.load(path) for path in entry.glob("*.npy")}, read_manifest(entry)


def _versions(libraries: Iterable[str]) -> dict[str, str | None]:
    """The version of each distribution that a rule stands on; None where it is not installed."""

    def found(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    return {name: found(name) for name in libraries}


# ---- filters -----------------------------------------------------------------------------------------


def verdicts(documents: DocumentSet, step: Filter) -> Column:
    """Why a filter would drop each document: `codes` [num_documents], 0: it would not; `reasons` name the rest."""

    def build(batches: Iterator[Batch]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        reasons: dict[str, int] = {}
        codes = bytearray()
        for batch in batches:
            for id, text in zip(batch["id"], batch["text"], strict=True):
                reason = step.reject(Document(id, documents.name, text))
                codes.append(0 if reason is None else reasons.setdefault(reason, len(reasons) + 1))
        return {"codes": np.frombuffer(bytes(codes), dtype=np.uint8)}, {"reasons": list(reasons)}

    rule = {"filter": step.model_dump(mode="json", exclude={"domains"}), "libraries": _versions(step.libraries)}
    return Column(documents, {"what": step.kind, **rule}, build)


def read_verdicts(column: Column) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Each reason, and which documents it drops [num_documents]."""
    parts = list(column.parts())
    for reason in sorted({reason for _, facts in parts for reason in facts["reasons"]}):
        found = [
            arrays["codes"] == (facts["reasons"].index(reason) + 1 if reason in facts["reasons"] else -1)
            for arrays, facts in parts
        ]
        yield reason, np.concatenate(found)


# ---- near duplicates ---------------------------------------------------------------------------------


def signature_column(documents: DocumentSet, dedup: NearDedup) -> Column:
    """MinHash signatures: `signatures` [num_documents, num_permutations]."""

    def build(batches: Iterator[Batch]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        found = [signatures(batch["text"], dedup.ngram, dedup.num_permutations) for batch in batches]
        empty = np.empty((0, dedup.num_permutations), dtype=np.uint32)
        return {"signatures": np.concatenate([empty, *found])}, {}

    rule = {"ngram": dedup.ngram, "num_permutations": dedup.num_permutations, "libraries": _versions(("rensa",))}
    return Column(documents, {"what": "signatures", **rule}, build)


# ---- scores ------------------------------------------------------------------------------------------


def score_column(documents: DocumentSet, scorer: Scorer, sources: Mapping[str, DocumentSet]) -> Column:
    """How good a scorer finds each document: `scores` [num_documents]. sources: what it may learn from."""

    def build(batches: Iterator[Batch]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        score = scorer.scorer(_fitted(scorer, sources, documents.cache))
        found = [score(batch["id"], batch["text"]) for batch in batches]
        return {"scores": np.concatenate([np.empty(0), *found])}, {}

    return Column(documents, {"what": f"{scorer.kind} scores", "scorer": scorer_identity(scorer, sources)}, build)


def scorer_identity(scorer: Scorer, sources: Mapping[str, DocumentSet]) -> dict[str, Any]:
    """All that a scorer's scores depend on, as JSON."""
    learnt = {name: sources[name].identity for name in scorer.learns_from}
    return {"scorer": scorer.identity, "libraries": _versions(scorer.libraries), "learns_from": learnt}


def _fitted(scorer: Scorer, sources: Mapping[str, DocumentSet], cache: Path) -> Path:
    def build(folder: Path) -> dict[str, Any]:
        scorer.fit({name: sources[name].texts() for name in scorer.learns_from}, folder)
        return {"version": SURVEY_VERSION, "kind": scorer.kind}

    return build_once(cache / "scorers", digest(scorer_identity(scorer, sources)), build)


# ---- decontamination ---------------------------------------------------------------------------------


def overlap_column(documents: DocumentSet, rule: NGramOverlap, held_out: Mapping[str, DocumentSet]) -> Column:
    """What each document shares with held-out text, given by name: the arrays of `Hits`."""
    identity = held_out_identity(rule, held_out)

    def build(batches: Iterator[Batch]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        wanted = _held_out(rule, held_out, documents.cache)
        found = joined([hits(batch["text"], wanted) for batch in batches])
        return {"offsets": found.offsets, "ngrams": found.ngrams, "copied": found.copied}, {}

    return Column(documents, {"what": "overlap with held-out text", "held_out": identity}, build, needs_all=True)


def read_leaks(column: Column, max_documents: int) -> NDArray[np.bool_]:
    """Which documents hold held-out text that at most `max_documents` of the set hold, or copy it [num_documents]."""
    found = joined([Hits(**arrays) for arrays, _ in column.parts()])
    return leaks(found, document_counts([found]), max_documents)


def held_out_identity(rule: NGramOverlap, held_out: Mapping[str, DocumentSet]) -> dict[str, Any]:
    """All that the held-out n-grams depend on, as JSON."""
    return {"n": rule.n, "texts": {name: texts.identity for name, texts in sorted(held_out.items())}}


def _held_out(rule: NGramOverlap, held_out: Mapping[str, DocumentSet], cache: Path) -> HeldOut:
    def build(folder: Path) -> dict[str, Any]:
        texts = (text for name in sorted(held_out) for text in held_out[name].texts())
        found = held_out_ngrams(texts, rule.n)
        np.save(folder / "ngrams.npy", found.ngrams.hashes)
        np.save(folder / "openings.npy", found.openings.hashes)
        return {"version": SURVEY_VERSION, "short_lengths": list(found.short_lengths)}

    entry = build_once(cache / "held_out", digest(held_out_identity(rule, held_out)), build)
    return HeldOut(
        n=rule.n,
        ngrams=HashSet(np.load(entry / "ngrams.npy")),
        short_lengths=tuple(read_manifest(entry)["short_lengths"]),
        openings=HashSet(np.load(entry / "openings.npy")),
    )
