"""From a RunSpec to all that its training reads: tokenizer, token stores, selections, stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scaling.data.cache import is_whole
from scaling.data.document_sets import DocumentSet
from scaling.data.mixtures import weights_of
from scaling.data.packing import PackedDocuments
from scaling.data.selection import Rules, Selected, read_scores, select, select_validation, validation_address
from scaling.data.split import Side
from scaling.data.stream import MixtureStream
from scaling.data.tokenizer import TrainedTokenizer, open_tokenizer, tokenizer_address
from scaling.data.tokens import build_store, build_store_part, store_address
from scaling.recipe import ByScore, NGramOverlap
from scaling.spec import RunSpec
from scaling.tokenizer import Tokenizer

Report = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """What a run reads. `train`: the domains with a weight; `validation`: every domain of the corpus."""

    tokenizer: TrainedTokenizer
    train: Mapping[str, Selected]
    validation: Mapping[str, Selected]
    rules: Mapping[str, Rules]

    @property
    def token_bytes(self) -> NDArray[np.int64] | None:
        """UTF-8 bytes of each token [vocab_size]; None where tokens are not bytes (WordPiece)."""
        return self.tokenizer.token_bytes


class Texts:
    """Every set of documents that a run may read, by name; nothing is read before it is asked for."""

    def __init__(self, spec: RunSpec, cache: Path, report: Report) -> None:
        self._spec, self._cache, self._report = spec, cache, report
        self._recipe = spec.recipe.effective
        corpus = self._recipe.corpus
        self.raw = {name: self._set(name, "train", corpus.validation_frac) for name in corpus.domains}
        self.train = {
            name: self._set(name, "train", corpus.validation_frac, is_degraded=True) for name in corpus.domains
        }
        self.validation = {name: self._set(name, "validation", corpus.validation_frac) for name in corpus.domains}
        self.references = {name: self._set(name, "train", 0) for name in corpus.references}

    def _set(self, name: str, side: Side, validation_frac: float, is_degraded: bool = False) -> DocumentSet:
        recipe = self._recipe
        return DocumentSet(
            field=f"corpus.{'domains' if name in recipe.corpus.domains else 'references'}.{name}",
            name=name,
            source=recipe.corpus.sources[name],
            content=self._spec.content[name],
            side=side,
            validation_frac=validation_frac,
            degraders=tuple(step for step in recipe.degraders if step.applies_to(name)) if is_degraded else (),
            cache=self._cache,
            report=self._report,
        )

    def rules(self, name: str) -> Rules:
        """All that decides on the training documents of a domain."""
        recipe = self._recipe
        rule = recipe.decontamination
        tests = rule.tests if isinstance(rule, NGramOverlap) else ()
        return Rules(
            name=name,
            recipe=recipe,
            corpus={trained: self.train[trained] for trained in recipe.trained_domains},
            held_out={**self.validation, **{test: self.references[test] for test in tests}},
            sources={**self.raw, **self.references},
        )


def prepare(spec: RunSpec, cache: Path, report: Report) -> Prepared:
    """Build what is missing in the cache, with one line to `report` for each part, and open it.

    When nothing is missing, no text is read. ValueError, in one line, for what is wrong with a source, or if
    a source changed since the spec was made.
    """
    recipe, texts = spec.recipe, Texts(spec, cache, report)
    tokenizer = open_tokenizer(spec, texts.raw, cache, report)
    rules = {name: texts.rules(name) for name in recipe.trained_domains}
    for each in rules.values():
        for column in each.ordering:
            column.build_all()
    validation = {
        name: Selected(build_store(documents, tokenizer), select_validation(documents))
        for name, documents in sorted(texts.validation.items())
    }
    train = {
        name: Selected(build_store(texts.train[name], tokenizer), select(rules[name]))
        for name in recipe.trained_domains
    }
    for side, chosen in (("train", train), ("validation", validation)):
        for name, selected in chosen.items():
            if not selected.selection.held["documents"]:
                raise ValueError(_nothing_left(spec, name, side, selected))
    return Prepared(tokenizer, train, validation, rules)


def prepare_tokenizer(spec: RunSpec, cache: Path, report: Report) -> TrainedTokenizer:
    """The tokenizer alone, for runs that read no other data of the spec."""
    return open_tokenizer(spec, Texts(spec, cache, report).raw, cache, report)


def prepared_tokenizer(spec: RunSpec, cache: Path) -> TrainedTokenizer | None:
    """The tokenizer if it is in the cache; None if it is not there yet."""
    raw = Texts(spec, cache, lambda line: None).raw
    domains = spec.tokenizer.domains if isinstance(spec.tokenizer, Tokenizer) else ()
    if not all(is_whole(cache / "domains" / spec.content[name]) for name in domains):
        return None
    if not is_whole(cache / "tokenizers" / tokenizer_address(spec.tokenizer, raw)):
        return None
    return open_tokenizer(spec, raw, cache, lambda line: None)


def prepare_shard(spec: RunSpec, shard: int, num_shards: int, cache: Path, report: Report) -> None:
    """Build the share of one of several machines: every `num_shards`-th part of all domains, from `shard` on.

    All that depends on one part alone is built; what looks at whole domains (overlap with held-out text,
    duplicates, selections) is left to `prepare`, which finds the rest done. A shard that was cut off goes on.
    """
    texts = Texts(spec, cache, report)
    tokenizer = open_tokenizer(spec, texts.raw, cache, report)
    jobs = [
        (documents, part)
        for documents in (*texts.validation.values(), *(texts.train[name] for name in spec.recipe.trained_domains))
        for part in range(documents.num_parts)
    ]
    for documents, part in jobs[shard::num_shards]:
        build_store_part(documents, part, tokenizer)
        if documents.side == "train":
            rules = texts.rules(documents.name)
            for column in (*rules.columns, *rules.ordering):
                if column.documents is documents and not column.needs_all:
                    column.build(part)


def is_prepared(spec: RunSpec, cache: Path) -> bool:
    """Whether `prepare` has nothing to build."""
    texts = Texts(spec, cache, lambda line: None)
    sets = [*texts.validation.values(), *(texts.train[name] for name in spec.recipe.trained_domains)]
    rules = [texts.rules(name) for name in spec.recipe.trained_domains]
    if not all(is_whole(cache / "domains" / spec.content[name]) for name in spec.recipe.effective.used_texts):
        return False
    tokenizer = tokenizer_address(spec.tokenizer, texts.raw)
    return is_whole(cache / "tokenizers" / tokenizer) and all(
        [
            *(
                is_whole(cache / "tokens" / store_address(part, documents, tokenizer))
                for documents in sets
                for part in documents.addresses
            ),
            *(is_whole(cache / "selections" / validation_address(texts)) for texts in texts.validation.values()),
            *(is_whole(cache / "selections" / each.address) for each in rules),
            *(
                is_whole(cache / "columns" / address)
                for each in rules
                for column in each.ordering
                for address in column.addresses
            ),
        ]
    )


def open_stream(spec: RunSpec, prepared: Prepared) -> MixtureStream:
    """The training sequences of a run, all batches of its budget."""
    order, length = spec.recipe.order, spec.batch.sequence_length
    scores = {}
    if isinstance(order, ByScore):
        scores = {
            name: read_scores(prepared.rules[name], order.scorer)[selected.selection.kept]
            for name, selected in prepared.train.items()
        }
    return MixtureStream(
        documents={name: packed(selected, length) for name, selected in prepared.train.items()},
        stages=weights_of(
            spec.recipe.mixture,
            {name: selected.store.offsets[-1] for name, selected in prepared.train.items()},
            {name: selected.counts.tokens for name, selected in prepared.train.items()},
        ),
        order=order,
        budget=spec.budget,
        seeds=spec.seeds,
        max_sequences=spec.num_steps * spec.batch.num_sequences,
        scores=scores,
    )


def packed(selected: Selected, sequence_length: int) -> PackedDocuments:
    """The kept documents of a domain as sequences."""
    selection = selected.selection
    return PackedDocuments(selected.store, selection.kept, sequence_length, selection.is_planted)


def _nothing_left(spec: RunSpec, name: str, side: str, selected: Selected) -> str:
    source = spec.recipe.corpus.domains[name]
    return (
        f"corpus.domains.{name}: no {side} document is left with"
        f" corpus.validation_frac={spec.recipe.corpus.validation_frac:g}"
        f" ({sum(selected.dropped.values())} dropped: {dict(selected.dropped)}): wanted more documents"
        + (" or a larger validation_frac" if side == "validation" else "")
        + (" or, of a txt file, unit=paragraph or unit=line" if ".txt" in getattr(source, "path", "") else "")
    )
