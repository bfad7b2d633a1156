"""Names of labels, and which label a row means by a name or a number."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.data.raw_text import file_text, lines
from scaling.data.rows import InputError
from scaling.data.tasks.columns import HIDDEN, RawLabel

MOST_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Labels:
    """names: by index. written: what numbers in the rows stand for, where their table says. is_by_name: rows name
    labels, or number names that the table has; else numbers are places in `names`."""

    names: tuple[str, ...]
    written: tuple[str, ...] | None
    is_by_name: bool

    def index(self, label: RawLabel) -> int:
        """The place of a label in `names`; InputError if it is none of them."""
        if self.is_by_name:
            name = _name(label, self.written)
            if name in self.names:
                return self.names.index(name)
        elif (place := _place(label, len(self.names))) is not None:
            return place
        raise InputError(f"holds the label {label!r}, which no training row has: wanted one of {_shown(self.names)}")

    def hides(self, label: RawLabel) -> bool:
        """Whether a row does not tell its label."""
        return label == HIDDEN and str(HIDDEN) not in self.names


def labels_of(
    named: tuple[str, ...] | None, written: tuple[str, ...] | None, in_training: Collection[RawLabel]
) -> Labels:
    """The labels of a task.

    named: as the task names them; None: as their table names them (`written`), else as the training rows do, sorted.
    Whether rows mean a name or a place in `named` is decided once, by all that the training rows hold.
    """
    told = [label for label in in_training if label != HIDDEN or (named is not None and str(HIDDEN) in named)]
    names = named or written or sorted_names(told)
    if len(set(names)) < len(names):
        raise InputError(f"has labels of one name: {_shown(names)}")
    strange = sorted({_name(label, written) for label in told} - set(names))
    if not strange:
        return Labels(names, written, is_by_name=True)
    if all(_place(label, len(names)) is not None for label in told):
        return Labels(names, written, is_by_name=False)
    raise InputError(
        f"holds the labels {_shown(strange)}: wanted those of task.labels, {_shown(names)}, or their places"
    )


def sorted_names(labels: Iterable[RawLabel]) -> tuple[str, ...]:
    """Distinct names, numbers by size."""
    names = {str(label) for label in labels}
    return tuple(sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names))


def read_names(path: str) -> tuple[str, ...]:
    """The names in a file: a list in JSON, or one a line."""
    try:
        text = "".join(file_text(Path(path).expanduser(), "utf-8", any_newline=True))
        names = json.loads(text) if text.lstrip().startswith("[") else [line.strip() for line in lines([text])]
    except (InputError, OSError) as error:
        raise ValueError(f"task.labels: {path!r} {error}") from None
    except ValueError as error:
        raise ValueError(f"task.labels: {path!r} is not JSON ({error})") from None
    names = [name for name in names if name != ""]
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"task.labels: {path!r} holds {_shown(names)}: wanted names, a list in JSON or one a line")
    return tuple(names)


def _name(label: RawLabel, written: Sequence[str] | None) -> str:
    if isinstance(label, int) and written is not None and 0 <= label < len(written):
        return written[label]
    return str(label)


def _place(label: RawLabel, num: int) -> int | None:
    if isinstance(label, str) and not label.isdecimal():
        return None
    return int(label) if 0 <= int(label) < num else None


def _shown(names: Sequence[object]) -> str:
    shown = ", ".join(str(name) for name in names[:MOST_SHOWN])
    return shown if len(names) <= MOST_SHOWN else f"{shown} and {len(names) - MOST_SHOWN} more"
