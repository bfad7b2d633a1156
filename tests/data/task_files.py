"""Little files of labelled rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scaling.task import Classification, LocalRows, Splitting


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """A jsonl file; its path."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def labelled(texts: Iterable[str], labels: Iterable[Any]) -> list[dict[str, Any]]:
    return [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]


def reviews(num: int, start: int = 0) -> list[dict[str, Any]]:
    """Distinct texts, every third of label 1."""
    return labelled(
        [f"review number {start + i} of film {i % 7}" for i in range(num)], [int(i % 3 == 0) for i in range(num)]
    )


def classification(
    folder: Path, splitting: Splitting | None = None, labels: Any = None, **splits: Any
) -> Classification:
    """A task of the rows of each split."""
    paths = {split: write_rows(folder / f"{split}.jsonl", rows) for split, rows in splits.items()}
    return Classification(name="made_up", rows=LocalRows(**paths), splitting=splitting or Splitting(), labels=labels)
