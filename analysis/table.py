"""A table: built once, shown as HTML and Markdown, written as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from analysis.fitting.result import Estimate
from analysis.language import in_english, say


@dataclass(frozen=True)
class Multiplier(Estimate):
    """An estimate whose value 0 or inf tells that the data set only a bound."""


Plain = str | int | float | bool | None
Cell = Plain | Estimate


@dataclass(frozen=True)
class Table:
    """Named columns and rows of values. An Estimate is one cell on paper and three columns in CSV."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def texts(self) -> list[list[str]]:
        """The rows as people read them."""
        return [[cell_text(cell) for cell in row] for row in self.rows]

    @cached_property  # asked for every cell
    def is_number(self) -> list[bool]:
        """Per column, whether its cells are numbers (to be set flush right)."""
        cells = [[row[i] for row in self.rows if row[i] is not None] for i in range(len(self.columns))]
        return [
            bool(column)
            and all(isinstance(cell, int | float | Estimate) and not isinstance(cell, bool) for cell in column)
            for column in cells
        ]

    @property
    def spread(self) -> tuple[list[str], list[Sequence[Plain]]]:
        """Names and cells of columns as programs read them: in English, an Estimate as value, lower and upper end."""
        header: list[str] = []
        columns: list[Sequence[Plain]] = []
        for i, column in enumerate(self.columns):
            cells = [row[i] for row in self.rows]
            name = str(in_english(column))
            if any(issubclass(kind, Estimate) for kind in set(map(type, cells))):
                ends = [(x.value, x.lo, x.hi) if isinstance(x, Estimate) else (x, None, None) for x in cells]
                header += [name, f"{name} lo", f"{name} hi"]
                columns += [[end[k] for end in ends] for k in range(3)]
            else:
                header.append(name)
                columns.append(cells)  # type: ignore[arg-type]  # no Estimate is among them
        return header, columns


def cell_text(cell: Cell) -> str:
    """A value for people: 4 digits, thousands apart, a dash where nothing is known."""
    if cell is None:
        return "–"
    if isinstance(cell, Multiplier) and cell.value in (0.0, math.inf):
        return _bound_text(cell)
    if isinstance(cell, Estimate):
        return estimate_text(cell)
    if isinstance(cell, bool):
        return say("yes") if cell else say("no")
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return number_text(cell)
    return cell


def number_text(value: float, digits: int = 4) -> str:
    """A number to some significant digits; a dash for nan."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return say("no limit")
    if value == 0 or not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits}g}"
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def estimate_text(estimate: Estimate) -> str:
    """value (lo to hi), to as many places as the interval is wide; an end without limit is said in words."""
    value, lo, hi = estimate.value, estimate.lo, estimate.hi
    ends = [end for end in (value, lo, hi) if math.isfinite(end)]
    wide = max(ends) - min(ends) if ends else 0.0
    places = min(6, max(0, 1 - math.floor(math.log10(wide)))) if wide > 0 else 4

    def text(end: float) -> str:
        if not math.isfinite(end):
            return say("no limit")
        return f"{end:.3g}" if abs(end) >= 1e7 else f"{end:,.{places}f}"

    if not (math.isfinite(lo) or math.isfinite(hi)):
        return say("{value} (no interval)", value=text(value))
    return say("{value} ({lo} to {hi})", value=text(value), lo=text(lo), hi=text(hi))


def _bound_text(m: Multiplier) -> str:
    """A multiplier that is a bound, in the words of the headline; also where the interval sets no limit."""
    is_upper = m.value == 0
    end = m.hi if is_upper else m.lo
    if end == m.value:
        return say("below all that was measured") if is_upper else say("above all that was measured")
    if not (math.isfinite(end) and end > 0):
        return say("no limit")
    number = f"{end:.2f}" if end >= 0.1 else f"{end:.2g}"
    return say("below {hi}", hi=number) if is_upper else say("above {lo}", lo=number)


def csv_bytes(table: Table) -> bytes:
    """The table as CSV (RFC 4180, UTF-8). Text that a spreadsheet would run as a formula gets a leading '."""
    header, columns = table.spread
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([_inert(name) for name in header])
    writer.writerows(zip(*map(_raw_column, columns), strict=True))
    return out.getvalue().encode()


def _raw_column(cells: Sequence[Plain]) -> Sequence[Plain]:
    """Cells as `csv` writes them right; by columns, since a table of points has millions."""
    kinds = set(map(type, cells))
    if kinds <= {int, type(None)}:
        return cells
    if kinds <= {int, float, type(None)}:
        return [cell if cell is None or -math.inf < cell < math.inf else None for cell in cells]  # type: ignore[operator]
    if kinds <= {str, bool, type(None)}:
        known = {cell: _raw(cell) for cell in set(cells)}
        return [known[cell] for cell in cells]
    return [_raw(cell) for cell in cells]


def _raw(cell: Plain) -> Plain:
    if isinstance(cell, str):
        return _inert(str(in_english(cell)))
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float):
        return float(cell) if math.isfinite(cell) else None  # NumPy's own would be written with its type
    return cell


def _inert(text: str) -> str:
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
