"""A task, from what its configuration says to checked rows in three splits; kept in the cache by what it holds.

cache/tasks/<address>/      the rows of each split (data/tasks/stored.py), and what was counted
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from scaling.data.cache import build_once, read_manifest
from scaling.data.ngrams import Hashes
from scaling.data.tasks.columns import HIDDEN, LABELS, columns_of
from scaling.data.tasks.items import AnyItem, LabelledText, LabelledTokens, SplitName, TaskData
from scaling.data.tasks.labels import Labels, read_names
from scaling.data.tasks.overlap import conflicts, is_held_out, overlaps, text_keys
from scaling.data.tasks.raw_items import NO_LABELS, labels_in, read_split
from scaling.data.tasks.splits import cut
from scaling.data.tasks.stored import as_text, read_items
from scaling.data.tasks.tables import content_of, given_splits, pinned
from scaling.identity import digest
from scaling.task import AnyTask, Classification

TASK_VERSION = 1
"""Raised when a change of code changes the items of a task."""

Read = TypeVar("Read")

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def resolve_task(task: AnyTask, cache: Path) -> tuple[AnyTask, dict[str, str]]:
    """A task that says all that it means (the revision pinned, labels named), and the fingerprint of each split given.

    Its rows are read and checked once; ValueError in one line for whatever is wrong with them.
    """
    task = _with_revision(task)
    if LABELS.get(task.kind) is not None and isinstance(named := getattr(task, "labels"), str):  # noqa: B009
        task = task.model_copy(update={"labels": read_names(named)})
    content = task_content(task, cache)
    if LABELS.get(task.kind) is not None and getattr(task, "labels") is None:  # noqa: B009
        task = task.model_copy(update={"labels": _label_names(task, content, cache)})
    _check_alert(task)
    _entry(task, content, cache)
    return task, content


def task_content(task: AnyTask, cache: Path) -> dict[str, str]:
    """The fingerprint of each split that is given; those that are cut follow from `train` and the task's own fields."""
    return {split: with_split(split, partial(content_of, task.rows, split, cache)) for split in given_splits(task.rows)}


def check_task_content(task: AnyTask, content: Mapping[str, str], cache: Path) -> None:
    """ValueError if a split no longer holds what a spec was made of: it must not pass for the same run."""
    for split, now in task_content(task, cache).items():
        if now != content.get(split):
            raise ValueError(f"task.rows.{split} changed since this run was specified")


def read_task(task: AnyTask, cache: Path) -> TaskData[Any]:
    """All that a task holds: from the cache, or read, checked and split now."""
    task = _with_revision(task)
    if LABELS.get(task.kind) is not None and not isinstance(getattr(task, "labels"), tuple):  # noqa: B009
        task, content = resolve_task(task, cache)
    else:
        content = task_content(task, cache)
    entry = _entry(task, content, cache)
    manifest = read_manifest(entry)
    splits = {split: read_items(entry / f"{split}.json", task.kind) for split in SPLITS}
    return TaskData(**splits, labels=tuple(manifest["labels"]), facts=manifest["facts"])


def _with_revision(task: AnyTask) -> AnyTask:
    try:
        return task.model_copy(update={"rows": pinned(task.rows)})
    except ValueError as error:
        raise ValueError(f"task.rows: {error}") from error.__cause__


def _label_names(task: AnyTask, content: Mapping[str, str], cache: Path) -> tuple[str, ...]:
    def build(folder: Path) -> dict[str, Any]:
        return {"labels": list(with_split("train", lambda: labels_in(task)).names)}

    entry = build_once(cache / "tasks", digest({"what": "labels", **_identity(task, content)}), build)
    return tuple(read_manifest(entry)["labels"])


def _entry(task: AnyTask, content: Mapping[str, str], cache: Path) -> Path:
    def build(folder: Path) -> dict[str, Any]:
        labels = with_split("train", lambda: labels_in(task)) if LABELS.get(task.kind) else NO_LABELS
        splits, facts = _built(task, labels)
        for split, items in splits.items():
            (folder / f"{split}.json").write_text(as_text(items), encoding="utf-8")
        return {"labels": list(labels.names), "facts": facts}

    return build_once(cache / "tasks", digest(_identity(task, content)), build)


def _identity(task: AnyTask, content: Mapping[str, str]) -> dict[str, Any]:
    named = getattr(task, "labels", None)
    return {
        "version": TASK_VERSION,
        "kind": task.kind,
        "columns": columns_of(task),
        "labels": named if named is None else list(named),
        "splitting": task.splitting.model_dump(mode="json"),
        "content": dict(content),
    }


def with_split(split: SplitName, read: Callable[[], Read]) -> Read:
    """What `read` gives; its errors name the field of the split."""
    try:
        return read()
    except ValueError as error:
        raise ValueError(f"task.rows.{split}: {error}") from error.__cause__


def _check_alert(task: AnyTask) -> None:
    if isinstance(task, Classification) and task.alert is not None and task.alert.label not in (task.labels or ()):
        raise ValueError(f"task.alert.label must be one of {list(task.labels or ())}, got {task.alert.label!r}")


# ---- reading ---------------------------------------------------------------------------------------


def _built(task: AnyTask, labels: Labels) -> tuple[dict[SplitName, tuple[AnyItem, ...]], dict[str, Any]]:
    given = given_splits(task.rows)
    read = {split: with_split(split, partial(read_split, task, split, labels)) for split in given}
    splits: dict[SplitName, tuple[AnyItem, ...]] = {split: raw.items for split, raw in read.items()}
    keys: dict[SplitName, Hashes] = {split: text_keys(items) for split, items in splits.items()}
    if wanted := [split for split in SPLITS if split not in given]:
        rows, whole, whole_keys = read["train"], splits["train"], keys["train"]
        for split, places in cut(rows.items, rows.groups, whole_keys, task.splitting, wanted).items():
            splits[split] = tuple(whole[place] for place in places.tolist())
            keys[split] = whole_keys[places]
    splits = {split: splits[split] for split in SPLITS}
    keys = {split: keys[split] for split in SPLITS}
    facts: dict[str, Any] = {
        "split": {split: "given" if split in given else "cut from train" for split in SPLITS},
        "left_out": {split: dict(raw.left_out) for split, raw in read.items() if raw.left_out},
        "answers_moved": {split: raw.moved for split, raw in read.items() if raw.moved},
        "overlap": overlaps(keys),
        "removed_from_train": 0,
        "conflicting_labels": conflicts(keys, splits),
    }
    if task.splitting.overlap == "remove":
        stays = np.flatnonzero(~is_held_out(keys))
        facts["removed_from_train"] = len(splits["train"]) - len(stays)
        splits["train"] = tuple(splits["train"][place] for place in stays.tolist())
        if not splits["train"]:
            raise ValueError("task.splitting.overlap=remove leaves no training rows: all of their texts are held out")
    facts["rows"] = {split: len(items) for split, items in splits.items()}
    if labels.names:
        facts |= _label_facts(splits, labels.names)
    return splits, facts


def _label_facts(splits: Mapping[SplitName, Sequence[AnyItem]], names: Sequence[str]) -> dict[str, Any]:
    """Counts by label, of words where words are labelled; ValueError if there is nothing to tell apart."""
    counts = {split: label_counts(items, names) for split, items in splits.items()}
    present = [name for name, num in counts["train"].items() if num]
    if len(present) < 2:
        raise ValueError(
            f"task.rows.train has rows of the label {present} alone: wanted at least 2 labels (labels of {HIDDEN} are"
            " left out unless task.labels names them)"
        )
    missing = [name for name in names if name not in present]
    unseen = {
        split: {name: counts[split][name] for name in missing if counts[split][name]}
        for split in ("validation", "test")
    }
    return {
        "labels": counts,
        "labels_without_training_rows": missing,
        "held_out_rows_of_them": {split: held for split, held in unseen.items() if held},
    }


def label_counts(items: Sequence[AnyItem], names: Sequence[str]) -> dict[str, int]:
    """How often each label is given, to a text or to a word."""
    counts: Counter[int] = Counter()
    for item in items:
        if isinstance(item, LabelledText):
            counts[item.label] += 1
        elif isinstance(item, LabelledTokens):
            counts.update(item.tags)
    return {name: counts[place] for place, name in enumerate(names)}
