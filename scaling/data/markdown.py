"""Tables in Markdown whose cells may hold any text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

Cell = str | int | float | Sequence[str] | None

LONGEST_CELL = 240
LONGEST_ITEM = 48


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Iterator[str]:
    """The lines of a table; none if it has no rows. Columns of numbers are aligned on the right, lists are not."""
    if not rows:
        return
    cells = [[_cell(value) for value in row] for row in rows]
    columns = range(len(header))
    is_number = [all(_is_number(row[i], text[i]) for row, text in zip(rows, cells, strict=True)) for i in columns]
    yield f"| {' | '.join(map(escaped, header))} |"
    yield f"|{'|'.join('--:' if right else '---' for right in is_number)}|"
    yield from (f"| {' | '.join(row)} |" for row in cells)


def escaped(text: str, longest: int = LONGEST_CELL) -> str:
    """Text that stays one line and one cell, and is read as it is written."""
    text = "".join(c if c.isprintable() else " " for c in text)
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return re.sub(r"([\\`*\[\]<>|&])", r"\\\1", text)


def _item(text: str) -> str:
    """A member of a list; a long one without its middle: ids begin alike, as paths do, and their ends differ."""
    begin = LONGEST_ITEM // 3
    long = len(text) > LONGEST_ITEM
    return escaped(f"{text[:begin]}…{text[begin + 1 - LONGEST_ITEM :]}" if long else text)


def percent(share: float) -> str:
    return f"{share:.1%}"


def numbered(numbers: Iterable[int]) -> str:
    """Rising numbers, such as 1-3, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _is_number(value: Cell, text: str) -> bool:
    """Ids in a list are words, even if they are digits."""
    return (value is None or isinstance(value, str | int | float)) and re.match(r"-?\d|$", text) is not None


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float):
        return f"{int(value):,}" if value == int(value) else f"{value:.4g}"
    return escaped(value) if isinstance(value, str) else ", ".join(map(_item, value))
