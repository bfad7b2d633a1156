"""The rows of a task as a model reads them, flat in memory, and on disk for all runs that read them alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.child import FinetuneSpec
from scaling.data.cache import build_once
from scaling.files import file_sha256
from scaling.finetune.kind import Encoded, Kind, Reader
from scaling.identity import digest

Index = NDArray[np.int64]

ENCODING_VERSION = 1
"""Raised when a change of code changes what is encoded."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedRows(Sequence[Encoded]):
    """Rows one after another.

    items [rows]: the item that each belongs to, ascending. starts [rows + 1]: where each begins in inputs [tokens],
    types [tokens] and spans [tokens, 2]. target_starts [rows + 1]: the same in `targets`. num_cut [rows].
    """

    items: Index
    starts: Index
    inputs: NDArray[np.int32]
    target_starts: Index
    targets: NDArray[Any]
    num_cut: Index
    types: NDArray[np.uint8] | None = None
    spans: NDArray[np.int32] | None = None

    @staticmethod
    def packed(rows: Sequence[Encoded]) -> EncodedRows:
        """From rows that lie apart. ValueError if there are none."""
        if isinstance(rows, EncodedRows):
            return rows
        if not rows:
            raise ValueError("a task needs at least one row that a model can read, got none")
        types = [np.zeros(len(row.inputs)) if row.types is None else row.types for row in rows]
        spans = [row.spans for row in rows if row.spans is not None]
        assert len(spans) in (0, len(rows))
        return EncodedRows(
            np.array([row.item for row in rows], dtype=np.int64),
            _starts([len(row.inputs) for row in rows]),
            np.concatenate([row.inputs for row in rows]).astype(np.int32),
            _starts([len(row.targets) for row in rows]),
            np.concatenate([row.targets for row in rows]),
            np.array([row.num_cut for row in rows], dtype=np.int64),
            np.concatenate(types).astype(np.uint8) if any(row.types is not None for row in rows) else None,
            np.concatenate(spans).astype(np.int32) if spans else None,
        )

    @staticmethod
    def joined(first: EncodedRows, second: EncodedRows) -> EncodedRows:
        """The items of the second are numbered after those of the first."""
        again = [replace(row, item=row.item + int(first.items[-1]) + 1) for row in second]
        return EncodedRows.packed([*first, *again])

    @property
    def lengths(self) -> Index:
        """Tokens of each row."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        tokens = slice(self.starts[index], self.starts[index + 1])
        return Encoded(
            int(self.items[index]),
            self.inputs[tokens].astype(np.int64),
            self.targets[self.target_starts[index] : self.target_starts[index + 1]],
            None if self.types is None else self.types[tokens].astype(np.int64),
            int(self.num_cut[index]),
            None if self.spans is None else self.spans[tokens].astype(np.int64),
        )

    def __iter__(self) -> Iterator[Encoded]:
        return (self[i] for i in range(len(self)))

    def of_items(self, chosen: Index) -> EncodedRows:
        """The rows of some items, one after another; item `chosen[i]` is item i of these."""
        first, last = (np.searchsorted(self.items, chosen, side) for side in ("left", "right"))
        rows = _spans(first, last - first)
        tokens = _spans(self.starts[rows], np.diff(self.starts)[rows])
        sizes = np.diff(self.target_starts)[rows]
        return EncodedRows(
            np.repeat(np.arange(len(chosen)), last - first),
            _starts(np.diff(self.starts)[rows]),
            self.inputs[tokens],
            _starts(sizes),
            self.targets[_spans(self.target_starts[rows], sizes)],
            self.num_cut[rows],
            None if self.types is None else self.types[tokens],
            None if self.spans is None else self.spans[tokens],
        )


def _starts(lengths: Sequence[int] | Index) -> Index:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def _spans(starts: Index, lengths: Index) -> Index:
    """start, start + 1, ... of each span, one after another."""
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)


class Encoder:
    """Encodes the items of one task for one model; what was encoded once is read from the cache."""

    def __init__(
        self, spec: FinetuneSpec, kind: Kind, reader: Reader, folder: Path, labels: Sequence[str], cache: Path
    ):
        """folder: that of the reader, with tokenizer.json. labels: of the task, by index."""
        self._kind, self._reader, self._max_length, self._cache = kind, reader, spec.max_length, cache / "encoded"
        self._identity = {
            "version": ENCODING_VERSION,
            "content": spec.content,
            "task": spec.task.model_dump(mode="json", exclude={"name", "rows", "metric", "alert"}),
            "labels": list(labels),
            "tokenizer": file_sha256(folder / "tokenizer.json"),
            "special": [reader.start, reader.between, reader.end, reader.has_types, reader.writes_apart],
            "max_length": spec.max_length,
        }

    def split(self, name: str, items: Sequence[Any]) -> EncodedRows:
        """All items of a split."""
        return self._encoded({"split": name}, items, name == "train")

    def training(self, split: Sequence[Any], items: Sequence[Any]) -> EncodedRows:
        """The items to train on: some of the split `train`, as often as they stand there, and what was made of them."""
        rows = self.split("train", split)
        places = {id(item): place for place, item in enumerate(split)}
        made = [item for item in items if id(item) not in places]
        if made:
            places |= {id(item): len(split) + place for place, item in enumerate(made)}
            contents = digest([asdict(item) for item in made])
            rows = EncodedRows.joined(rows, self._encoded({"made": contents}, made, True))
        return rows.of_items(np.array([places[id(item)] for item in items], dtype=np.int64))

    def _encoded(self, of: dict[str, Any], items: Sequence[Any], for_training: bool) -> EncodedRows:
        def build(folder: Path) -> dict[str, Any]:
            rows = self._kind.encode(items, self._reader, self._max_length, for_training)
            for name, array in _arrays(EncodedRows.packed(rows)).items():
                np.save(folder / f"{name}.npy", array, allow_pickle=False)
            return {"version": ENCODING_VERSION, "rows": len(rows)}

        entry = build_once(self._cache, digest({**self._identity, **of, "for_training": for_training})[:32], build)
        names = [field.name for field in fields(EncodedRows)]
        return EncodedRows(
            **{name: np.load(path, allow_pickle=False) for name in names if (path := entry / f"{name}.npy").exists()}
        )


def _arrays(rows: EncodedRows) -> dict[str, NDArray[Any]]:
    named = {field.name: getattr(rows, field.name) for field in fields(rows)}
    return {name: array for name, array in named.items() if array is not None}


def cut_facts(rows: EncodedRows) -> dict[str, int]:
    """What the context had no room for, for the record."""
    return {
        "tokens": int(rows.lengths.sum()),
        "tokens_cut": int(rows.num_cut.sum()),
        "rows_cut": int((rows.num_cut > 0).sum()),
    }
