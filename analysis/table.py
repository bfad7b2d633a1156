"""A table: built once, shown as HTML and Markdown, written as CSV."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass

from analysis.fitting.result import Estimate


@dataclass(frozen=True)
class Multiplier(Estimate):
    """An estimate whose value 0 or inf tells that the data set only a bound."""


Cell = str | int | float | bool | None | Estimate


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

    @property
    def is_number(self) -> list[bool]:
        """Per column, whether its cells are numbers (to be set flush right)."""
        cells = [[row[i] for row in self.rows if row[i] is not None] for i in range(len(self.columns))]
        return [
            bool(column)
            and all(isinstance(cell, int | float | Estimate) and not isinstance(cell, bool) for cell in column)
            for column in cells
        ]


def cell_text(cell: Cell) -> str:
    """A value for people: 4 digits, thousands apart, a dash where nothing is known."""
    if cell is None:
        return "–"
    if isinstance(cell, Multiplier) and cell.value in (0.0, math.inf):
        return _bound_text(cell)
    if isinstance(cell, Estimate):
        return estimate_text(cell)
    if isinstance(cell, bool):
        return "yes" if cell else "no"
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
        return "no limit"
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
            return "no limit"
        return f"{end:.3g}" if abs(end) >= 1e7 else f"{end:,.{places}f}"

    if not (math.isfinite(lo) or math.isfinite(hi)):
        return f"{text(value)} (no interval)"
    return f"{text(value)} ({text(lo)} to {text(hi)})"


def _bound_text(m: Multiplier) -> str:
    """A multiplier that is a bound, in the words of the headline; also where the interval sets no limit."""
    end, word = (m.hi, "below") if m.value == 0 else (m.lo, "above")
    if end == m.value:
        return f"{word} all that was measured"
    if not (math.isfinite(end) and end > 0):
        return "no limit"
    return f"{word} {end:.2f}" if end >= 0.1 else f"{word} {end:.2g}"


def csv_bytes(table: Table) -> bytes:
    """The table as CSV (RFC 4180, UTF-8). Text that a spreadsheet would run as a formula gets a leading '."""
    spread = [any(isinstance(row[i], Estimate) for row in table.rows) for i in range(len(table.columns))]
    header: list[str] = []
    for column, wide in zip(table.columns, spread, strict=True):
        header += [column, f"{column} lo", f"{column} hi"] if wide else [column]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([_inert(name) for name in header])
    for row in table.rows:
        cells: list[object] = []
        for cell, wide in zip(row, spread, strict=True):
            if wide:
                cells += [cell.value, cell.lo, cell.hi] if isinstance(cell, Estimate) else [cell, None, None]
            else:
                cells.append(cell)
        writer.writerow([_raw(cell) for cell in cells])
    return out.getvalue().encode()


def _raw(cell: object) -> str:
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return ""
    if isinstance(cell, str):
        return _inert(cell)
    return str(cell).lower() if isinstance(cell, bool) else repr(cell)


def _inert(text: str) -> str:
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
