"""DocumentSet: the documents of one domain, on one side of the split, read once and kept in Parquet.

cache/domains/<content>/          which parts a domain has
cache/documents/<address>/        one part: train.parquet, validation.parquet
cache/documents/<address>/        the same, harmed on purpose: train.parquet

A part is a group of input files, so that machines can share the work; a domain is its parts in order. All that
is computed later (tokens, verdicts, scores) is computed per part from here, never from the source again.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.cache import build_once, is_whole, read_manifest
from scaling.data.documents import check_content, parts, read_part
from scaling.data.split import Side, side
from scaling.document import Document
from scaling.identity import digest
from scaling.recipe import Degrader
from scaling.source import Source

if TYPE_CHECKING:
    import pyarrow as pa

DOCUMENTS_VERSION = 1
"""Raised when a change of code changes what a part holds."""

ROW_GROUP_CHARACTERS = 2_000_000
ROW_GROUP_DOCUMENTS = 10_000


@dataclass(frozen=True)
class Counts:
    """How much text there is. `tokens` includes one end-of-text per document."""

    documents: int
    tokens: int
    characters: int
    bytes: int


@dataclass(frozen=True)
class DocumentSet:
    """Documents in the order of the source, those without text left out.

    field: where the configuration names the source, for errors. validation_frac: 0 puts all on the training
    side. degraders: harm done to the training side, in order.
    """

    field: str
    name: str
    source: Source
    content: str
    side: Side
    validation_frac: float
    degraders: tuple[Degrader, ...]
    cache: Path
    report: Callable[[str], None]

    @functools.cached_property
    def part_digests(self) -> tuple[str, ...]:
        """What each part holds; ValueError if the source is not what the spec was made of."""
        entry = self.cache / "domains" / self.content
        if not is_whole(entry):

            def build(folder: Path) -> dict[str, Any]:
                check_content(self.field, self.source, self.content, self.cache)
                return {"parts": [part.digest for part in parts(self.source, self.cache)]}

            build_once(self.cache / "domains", self.content, build)
        return tuple(read_manifest(entry)["parts"])

    @functools.cached_property
    def addresses(self) -> tuple[str, ...]:
        """Per part, a digest of all that its documents depend on."""
        return tuple(map(self._harmed_address if self.degraders else self._address, self.part_digests))

    @property
    def identity(self) -> list[str]:
        """What tells this set of documents from others, as JSON."""
        return [self.side, *self.addresses]

    @property
    def num_parts(self) -> int:
        return len(self.part_digests)

    def build(self, part: int) -> Path:
        """The entry of one part, from the cache or read now."""
        if not self.degraders:
            return build_once(self.cache / "documents", self.addresses[part], self._read(part))
        return build_once(self.cache / "documents", self.addresses[part], self._harm(part))

    def batches(self, part: int, *columns: str) -> Iterator[dict[str, Any]]:
        """Some columns of a part, a few megabytes at a time: id, text as lists; hash [n, 2], num_bytes,
        num_characters, is_planted as arrays [n]."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.build(part) / f"{self.side}.parquet", pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                yield _unpacked(file.read_row_group(group, columns=list(columns)))

    def texts(self) -> Iterator[str]:
        """All texts, part after part."""
        for part in range(self.num_parts):
            for batch in self.batches(part, "text"):
                yield from batch["text"]

    def column(self, name: str) -> NDArray[Any]:
        """One of the arrays over all parts [num_documents] or [num_documents, 2]."""
        found = [batch[name] for part in range(self.num_parts) for batch in self.batches(part, name)]
        empty = np.empty((0, 2), dtype=np.uint64) if name == "hash" else np.empty(0, dtype=np.int64)
        return np.concatenate([empty, *found]).astype(found[0].dtype if found else empty.dtype)

    def ids(self, rows: Sequence[int]) -> list[str]:
        """The ids of some documents, by their place in the whole set."""
        wanted, first = sorted(rows), 0
        found: dict[int, str] = {}
        for part in range(self.num_parts):
            for batch in self.batches(part, "id"):
                last = first + len(batch["id"])
                found |= {row: batch["id"][row - first] for row in wanted if first <= row < last}
                first = last
                if wanted and first > wanted[-1]:
                    return [found[row] for row in rows]
        return [found[row] for row in rows]

    @property
    def num_empty(self) -> int:
        """Documents without text."""
        manifests = (read_manifest(self.build(part)) for part in range(self.num_parts))
        return sum(manifest["empty"][self.side] for manifest in manifests)

    def _address(self, part: str) -> str:
        return digest({"version": DOCUMENTS_VERSION, "part": part, "validation_frac": self.validation_frac})

    def _harmed_address(self, part: str) -> str:
        steps = [step.model_dump(mode="json", exclude={"domains"}) for step in self.degraders]
        return digest({"documents": self._address(part), "degraders": steps})

    def _read(self, part: int) -> Callable[[Path], dict[str, Any]]:
        def build(folder: Path) -> dict[str, Any]:
            check_content(self.field, self.source, self.content, self.cache)
            found = parts(self.source, self.cache)
            empty = {"train": 0, "validation": 0}
            with _Writer(folder / "train.parquet") as train, _Writer(folder / "validation.parquet") as validation:
                for document in read_part(self.field, self.name, self.source, found[part]):
                    where = side(document, self.validation_frac)
                    if not document.text.strip():
                        empty[where] += 1
                    else:
                        (train if where == "train" else validation).add(document)
            check_content(self.field, self.source, self.content, self.cache)  # it may have changed while it was read
            num_read = train.num_documents + validation.num_documents
            self.report(f"{self.name}: {num_read:,} documents read")
            return {"version": DOCUMENTS_VERSION, "domain": self.name, "empty": empty}

        return build

    def _harm(self, part: int) -> Callable[[Path], dict[str, Any]]:
        clean = dataclasses.replace(self, degraders=())

        def build(folder: Path) -> dict[str, Any]:
            with _Writer(folder / "train.parquet") as train:
                for document in _documents(clean, part):
                    train.add(self._degraded(document))
                for document in _documents(clean, part):  # copies come last, far from what they copy
                    for number in range(sum(step.copies(document) for step in self.degraders)):
                        copy = dataclasses.replace(document, id=f"{document.id}+{number + 1}")  # harmed on its own
                        train.add(self._degraded(copy), is_planted=True)
            self.report(f"{self.name}: {train.num_documents:,} documents degraded")
            return {
                "version": DOCUMENTS_VERSION,
                "domain": self.name,
                "empty": read_manifest(clean.build(part))["empty"],
            }

        return build

    def _degraded(self, document: Document) -> Document:
        return functools.reduce(lambda harmed, step: step.degrade(harmed), self.degraders, document)


def text_hash(text: str) -> bytes:
    """16 bytes that tell texts apart."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class _Writer:
    """Documents into a Parquet file, a row group of bounded text at a time."""

    def __init__(self, path: Path) -> None:
        self.num_documents = 0
        self._path = path
        self._clear()

    def _clear(self) -> None:
        self._rows: dict[str, list[Any]] = {name: [] for name in _schema().names}
        self._num_characters = 0

    def __enter__(self) -> _Writer:
        import pyarrow.parquet as pq

        self._file = pq.ParquetWriter(self._path, _schema(), compression="zstd", compression_level=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._write()
        self._file.close()

    def add(self, document: Document, is_planted: bool = False) -> None:
        row = (
            document.id,
            document.text,
            text_hash(document.text),
            len(document.text.encode()),
            len(document.text),
            is_planted,
        )
        for values, value in zip(self._rows.values(), row, strict=True):
            values.append(value)
        self.num_documents += 1
        self._num_characters += len(document.text)
        if self._num_characters >= ROW_GROUP_CHARACTERS or len(self._rows["id"]) >= ROW_GROUP_DOCUMENTS:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa

        if self._rows["id"]:
            self._file.write_table(pa.table(self._rows, schema=_schema()))
            self._clear()


@functools.cache
def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.large_string()),
            ("text", pa.large_string()),
            ("hash", pa.binary(16)),
            ("num_bytes", pa.int64()),
            ("num_characters", pa.int64()),
            ("is_planted", pa.bool_()),
        ]
    )


def _unpacked(table: pa.Table) -> dict[str, Any]:
    unpacked: dict[str, Any] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in ("id", "text"):
            unpacked[name] = column.to_pylist()
        elif name == "hash":
            unpacked[name] = np.frombuffer(b"".join(column.to_pylist()), dtype="<u8").reshape(-1, 2)
        else:
            unpacked[name] = column.to_numpy(zero_copy_only=False)
    return unpacked


def _documents(documents: DocumentSet, part: int) -> Iterable[Document]:
    for batch in documents.batches(part, "id", "text"):
        for id, text in zip(batch["id"], batch["text"], strict=True):
            yield Document(id, documents.name, text)
