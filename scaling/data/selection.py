"""Selection: which documents of a domain a recipe trains on, and why it drops the others.

Computed from the columns of the survey alone. Reasons take effect in the order decontamination, dedup, filters,
quality; each document is counted under the first that drops it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.cache import build_once, read_manifest
from scaling.data.dedup import EXACT, dedup_identity, duplicates
from scaling.data.document_sets import Counts, DocumentSet
from scaling.data.survey import (
    Column,
    overlap_column,
    read_leaks,
    read_verdicts,
    score_column,
    signature_column,
    verdicts,
)
from scaling.data.tokens import TokenStore
from scaling.identity import digest
from scaling.recipe import ByScore, ExactDedup, NearDedup, NGramOverlap, Quality, Recipe, Scorer

SELECTION_VERSION = 1
"""Raised when a change of code changes what is selected."""

NUM_EXAMPLES = 5
CONTAMINATED = "contaminated"


@dataclass(frozen=True)
class Rules:
    """All that decides on the documents of one domain.

    corpus: the training documents of every domain that is trained on. held_out: validation of every domain, and
    test sets. sources: what scorers may learn from, by name.
    """

    name: str
    recipe: Recipe
    corpus: Mapping[str, DocumentSet]
    held_out: Mapping[str, DocumentSet]
    sources: Mapping[str, DocumentSet]

    @property
    def documents(self) -> DocumentSet:
        return self.corpus[self.name]

    @property
    def quality(self) -> Quality | None:
        quality = self.recipe.quality
        return quality if quality is not None and quality.applies_to(self.name) else None

    @property
    def compared(self) -> dict[str, DocumentSet]:
        """The sets among which duplicates are looked for."""
        dedup = self.recipe.dedup
        is_alone = isinstance(dedup, ExactDedup | NearDedup) and dedup.scope == "domain"
        return {self.name: self.documents} if is_alone else dict(self.corpus)

    @property
    def filters(self) -> list[tuple[str, Column]]:
        """Kind and verdicts of each filter that applies here, in order."""
        steps = [step for step in self.recipe.filters if step.applies_to(self.name)]
        return [(step.kind, verdicts(self.documents, step)) for step in steps]

    @property
    def columns(self) -> list[Column]:
        """Every column that the selection of this domain needs."""
        recipe, quality = self.recipe, self.quality
        columns = [column for _, column in self.filters]
        if isinstance(recipe.decontamination, NGramOverlap):
            columns.append(overlap_column(self.documents, recipe.decontamination, self.held_out))
        if isinstance(recipe.dedup, NearDedup):
            columns += [signature_column(documents, recipe.dedup) for documents in self.compared.values()]
        if quality is not None:
            columns.append(score_column(self.documents, quality.scorer, self.sources))
        return columns

    @property
    def ordering(self) -> list[Column]:
        """The scores that the order of training needs."""
        order = self.recipe.order
        return [score_column(self.documents, order.scorer, self.sources)] if isinstance(order, ByScore) else []

    @property
    def address(self) -> str:
        """A digest of all that the selection depends on."""
        rule, dedup, quality = self.recipe.decontamination, self.recipe.dedup, self.quality
        return digest(
            {
                "version": SELECTION_VERSION,
                "documents": self.documents.identity,
                "max_documents": rule.max_documents if isinstance(rule, NGramOverlap) else None,
                "dedup": None if dedup.kind == "none" else dedup_identity(self.compared, dedup),
                "columns": [address for column in self.columns for address in column.addresses],
                "filters": [kind for kind, _ in self.filters],
                "keep_frac": None if quality is None else quality.keep_frac,
            }
        )


@dataclass(frozen=True)
class Selection:
    """Which documents are kept.

    held: documents, characters and bytes that are kept. dropped: documents by reason. dropped_bytes: their text.
    examples: up to 5 ids by reason. clusters: of duplicates, among all that were compared.
    """

    path: Path
    held: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    dropped_bytes: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, list[str]] = field(default_factory=dict)
    clusters: Mapping[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def codes(self) -> NDArray[np.uint8]:
        """Per document of the set: 0 if it is kept, else 1 + the place of its reason among all reasons."""
        codes: NDArray[np.uint8] = np.load(self.path / "codes.npy")
        return codes

    @property
    def kept(self) -> NDArray[np.int64]:
        """The kept documents [num_kept], in the order of the source."""
        return np.flatnonzero(self.codes == 0)

    @functools.cached_property
    def is_planted(self) -> NDArray[np.bool_]:
        """Which of the kept documents are copies made on purpose [num_kept]."""
        is_planted: NDArray[np.bool_] = np.load(self.path / "is_planted.npy")
        return is_planted


def select(rules: Rules) -> Selection:
    """The selection of a domain, from the cache or computed now."""

    def build(folder: Path) -> dict[str, Any]:
        documents = rules.documents
        num_bytes = documents.column("num_bytes")
        codes = np.zeros(len(num_bytes), dtype=np.uint8)
        flags, clusters = _duplicates(rules)
        reasons: list[str] = []
        for reason, drops in _reasons(rules, flags):
            if reason not in reasons:  # two filters of one kind share theirs
                reasons.append(reason)
            codes[(codes == 0) & drops] = reasons.index(reason) + 1
        if rules.quality is not None:
            scores = read_scores(rules, rules.quality.scorer)
            worst = _worst(scores, documents.column("hash"), num_bytes, codes == 0, rules.quality.keep_frac)
            reasons.append(f"{rules.quality.scorer.kind}.low_score")
            codes[worst] = len(reasons)
        return {"version": SELECTION_VERSION, "domain": rules.name, "clusters": clusters} | _write(
            folder, documents, codes, reasons, num_bytes
        )

    return _open(build_once(rules.documents.cache / "selections", rules.address, build))


def select_validation(documents: DocumentSet) -> Selection:
    """Validation text: exact duplicates dropped, nothing filtered; the same for every recipe."""

    def build(folder: Path) -> dict[str, Any]:
        flags, clusters = duplicates({documents.name: documents}, ExactDedup(), documents.cache)
        codes = flags[documents.name][EXACT].astype(np.uint8)
        return {"version": SELECTION_VERSION, "domain": documents.name, "clusters": clusters} | _write(
            folder, documents, codes, [EXACT], documents.column("num_bytes")
        )

    return _open(build_once(documents.cache / "selections", validation_address(documents), build))


def validation_address(documents: DocumentSet) -> str:
    """A digest of all that the selection of validation text depends on."""
    return digest({"version": SELECTION_VERSION, "validation": documents.identity})


def read_scores(rules: Rules, scorer: Scorer) -> NDArray[np.float64]:
    """The scores of a domain's documents [num_documents]."""
    parts = [arrays["scores"] for arrays, _ in score_column(rules.documents, scorer, rules.sources).parts()]
    return np.concatenate(parts)


def _duplicates(rules: Rules) -> tuple[Mapping[str, NDArray[np.bool_]], Mapping[str, Any]]:
    """Which documents are duplicates, by reason, and the clusters that they form."""
    dedup = rules.recipe.dedup
    if not isinstance(dedup, ExactDedup | NearDedup):
        return {}, {}
    flags, clusters = duplicates(rules.compared, dedup, rules.documents.cache)
    return flags[rules.name], clusters


def _reasons(rules: Rules, flags: Mapping[str, NDArray[np.bool_]]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Each reason in its order, and which documents it would drop [num_documents]. flags: the duplicates."""
    rule = rules.recipe.decontamination
    if isinstance(rule, NGramOverlap):
        yield CONTAMINATED, read_leaks(overlap_column(rules.documents, rule, rules.held_out), rule.max_documents)
    yield from flags.items()
    for kind, column in rules.filters:
        for reason, drops in read_verdicts(column):
            yield f"{kind}.{reason}", drops


def _worst(
    scores: NDArray[np.float64],
    hashes: NDArray[np.uint64],
    num_bytes: NDArray[np.int64],
    is_left: NDArray[np.bool_],
    keep_frac: float,
) -> NDArray[np.int64]:
    """The documents that are not among the best which hold `keep_frac` of the bytes that are left.

    The document that crosses the line is kept. Equal scores are told apart by the hash of the text, so doses nest.
    """
    left = np.flatnonzero(is_left)
    best_first = left[np.lexsort((hashes[left, 1], hashes[left, 0], -scores[left]))]
    held_before = np.cumsum(num_bytes[best_first]) - num_bytes[best_first]
    return best_first[held_before >= keep_frac * num_bytes[left].sum()]


def _write(
    folder: Path, documents: DocumentSet, codes: NDArray[np.uint8], reasons: list[str], num_bytes: NDArray[np.int64]
) -> dict[str, Any]:
    """Write a selection's arrays, and return its facts."""
    is_kept = codes == 0
    np.save(folder / "codes.npy", codes)
    np.save(folder / "is_planted.npy", documents.column("is_planted")[is_kept].astype(bool))
    rows = {reason: np.flatnonzero(codes == code) for code, reason in enumerate(reasons, start=1)}
    rows = {reason: found for reason, found in rows.items() if len(found)}
    empty = {"empty": documents.num_empty} if documents.num_empty else {}
    return {
        "held": {
            "documents": int(is_kept.sum()),
            "characters": int(documents.column("num_characters")[is_kept].sum()),
            "bytes": int(num_bytes[is_kept].sum()),
        },
        "dropped": empty | {reason: len(found) for reason, found in rows.items()},
        "dropped_bytes": {reason: int(num_bytes[found].sum()) for reason, found in rows.items()},
        "examples": {
            reason: documents.ids([int(row) for row in found[:NUM_EXAMPLES]]) for reason, found in rows.items()
        },
    }


def _open(path: Path) -> Selection:
    manifest = read_manifest(path)
    return Selection(
        path, **{key: manifest[key] for key in ("held", "dropped", "dropped_bytes", "examples", "clusters")}
    )


@dataclass(frozen=True)
class Selected:
    """The documents of one domain that are read: all of them as tokens, and which of them."""

    store: TokenStore
    selection: Selection

    @functools.cached_property
    def counts(self) -> Counts:
        """What is kept."""
        lengths = np.diff(self.store.offsets)[self.selection.kept]
        return Counts(tokens=int(lengths.sum()), **self.selection.held)

    @property
    def dropped(self) -> Mapping[str, int]:
        """Documents that were not kept, by reason."""
        return self.selection.dropped
