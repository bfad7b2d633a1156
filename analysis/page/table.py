"""A table: built once, shown as HTML and Markdown, written as CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from analysis.contrasts.verdict import chance
from analysis.fitting.result import Estimate
from analysis.page.labels import count_text
from analysis.page.language import Said, in_english, say


@dataclass(frozen=True)
class Multiplier(Estimate):
    """An estimate whose value 0 or inf tells that the data set only a bound."""


@dataclass(frozen=True)
class Quantity(Estimate):
    """An amount of data that reaches something: inf where none does, 0 where the smallest is more than enough.

    up_to: the largest that was looked at. nan: it cannot be told.
    """

    up_to: float = math.inf

    @property
    def plain(self) -> dict[str, float | None]:
        """For programs, null where the data set no limit: below the smallest that was measured no amount is known."""
        return {name: end or None for name, end in Estimate(self.value, self.lo, self.hi).plain.items()}

    @property
    def is_told(self) -> bool:
        """Whether the data set it a limit."""
        return not math.isnan(self.value) and (self.lo > 0 or math.isfinite(self.hi))


class Share(float):
    """A part of a whole, such as a recall: on paper to three places, in full for programs."""


class Rough(float):
    """A part of a whole of which chance is not known: on paper to two places, in full for programs."""


class Brief(float):
    """A number of which chance is not known: on paper to two digits, in full for programs."""


class Probability(float):
    """A probability: on paper to two places and never 0 or 1, in full for programs."""


class Cost(float):
    """What a choice costs, in nats per token, 0 or more: on paper to two places or too small, in full for programs."""


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
        every = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        for column, cells in zip(self.columns, every, strict=True):
            name = str(in_english(column))
            if any(issubclass(kind, Estimate) for kind in set(map(type, cells))):
                ends = [tuple(x.plain.values()) if isinstance(x, Estimate) else (x, None, None) for x in cells]
                header += [name, f"{name} lo", f"{name} hi"]
                columns += [[end[k] for end in ends] for k in range(3)]
            else:
                header.append(name)
                columns.append(cells)  # no Estimate is among them
        return header, columns


def cell_text(cell: Cell) -> str:
    """A value for people: 4 digits, thousands apart, a dash where nothing is known."""
    if cell is None:
        return "–"
    if isinstance(cell, Multiplier) and cell.value in (0.0, math.inf):
        return _bound_text(cell)
    if isinstance(cell, Quantity):
        return _quantity_text(cell)
    if isinstance(cell, Estimate):
        return estimate_text(cell)
    if isinstance(cell, bool):
        return say("yes") if cell else say("no")
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, Share):
        return f"{cell:.3f}"
    if isinstance(cell, Rough):
        return f"{cell:.2f}"
    if isinstance(cell, Brief):
        return number_text(cell, 2)
    if isinstance(cell, Probability):
        return chance(cell)
    if isinstance(cell, Cost):
        return say("less than 0.0001") if cell < 1e-4 else f"{cell:.2g}"
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
    """value (lo to hi), to as many places as the interval is wide; an end without limit is said in words.

    No end is rounded to the value that would tell nothing (0, of a multiplier 1) by the last two of its places: not
    where the interval is beyond it, nor where it is hardly within.
    """
    value, lo, hi = estimate.value, estimate.lo, estimate.hi
    ends = [end for end in (value, lo, hi) if math.isfinite(end)]
    wide = max(ends) - min(ends) if ends else 0.0
    places = max(0, 1 - math.floor(math.log10(wide))) if wide > 0 else 4
    if value and math.isfinite(value):  # a value is never rounded away to 0
        places = max(places, -math.floor(math.log10(abs(value))))
    nothing = 1.0 if isinstance(estimate, Multiplier) else 0.0
    if math.isfinite(lo) and math.isfinite(hi) and lo != nothing != hi:
        nearest = min(abs(lo - nothing), abs(hi - nothing))
        places = max(places, min(places + 2, math.ceil(-math.log10(2 * nearest))))
    is_tiny = places > 6 and max(map(abs, ends)) < 1e-4
    places = min(6, places)

    def text(end: float) -> str:
        if not math.isfinite(end):
            return say("no limit")
        return f"{end:.3g}" if is_tiny or abs(end) >= 1e7 else f"{round(end, places) + 0.0:,.{places}f}"  # no -0.000

    if isinstance(estimate, Multiplier) and lo <= 0:  # a multiplier has no lower end than 0
        lo = -math.inf
    if not (math.isfinite(lo) or math.isfinite(hi)):
        return say("{value} (no interval)", value=number_text(value, 3))
    if isinstance(estimate, Multiplier) and not math.isfinite(lo):
        return say("{value} (below {hi})", value=text(value), hi=text(hi))
    if isinstance(estimate, Multiplier) and not math.isfinite(hi):
        return say("{value} (above {lo})", value=text(value), lo=text(lo))
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


def _quantity_text(amount: Quantity) -> str:
    """An amount in k and M, with its interval; an end beyond what was measured is said in words."""
    if not amount.is_told and not math.isinf(amount.value):
        return say("cannot tell")
    value, lo, hi = (count_text(end) if math.isfinite(end) else "" for end in (amount.value, amount.lo, amount.hi))
    if math.isinf(amount.value) and math.isfinite(amount.up_to):
        most = count_text(amount.up_to)
        if 0 < amount.lo < amount.up_to:
            return say("not by {most} (above {lo})", most=most, lo=lo)
        return say("not by {most}", most=most)
    if math.isinf(amount.value):
        return say("not reached (more than {lo})", lo=lo) if amount.lo > 0 else say("not reached")
    if amount.value == 0:
        return say("at most {hi}", hi=hi)
    if amount.lo > 0 and hi:
        return say("{value} ({lo} to {hi})", value=value, lo=lo, hi=hi)
    if hi:
        return say("{value} (below {hi})", value=value, hi=hi)
    return say("{value} (above {lo})", value=value, lo=lo)


def csv_bytes(table: Table) -> bytes:
    """The table as CSV (RFC 4180, UTF-8). Text that a spreadsheet would run as a formula gets a leading '.

    By columns, each distinct value once: a table of points has millions of cells.
    """
    header, columns = table.spread
    rows = zip(*(map(known.__getitem__, cells) for known, cells in map(_raw_column, columns)), strict=True)
    lines = [",".join(_raw(name) for name in header), *map(",".join, rows), ""]
    return "\r\n".join(lines).encode()


def _raw_column(cells: Sequence[Plain]) -> tuple[Mapping[object, str], Sequence[object]]:
    """What stands for each distinct value, and the values: with their types where values of two may be equal."""
    keys: Sequence[object] = cells
    kinds = set(map(type, cells))
    if kinds == {float}:
        return {cell: repr(cell) if math.isfinite(cell) else "" for cell in set(cells)}, cells  # type: ignore[arg-type]
    if len(kinds - {type(None)}) > 1 or Said in kinds:  # 1 == 1.0 == True; two of one text may differ in English
        keys = [(type(cell), getattr(cell, "english", None), cell) for cell in cells]
    distinct = dict(zip(keys, cells, strict=True))
    return {key: _raw(cell) for key, cell in distinct.items()}, keys


def _raw(cell: Plain) -> str:
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, int | float):
        return repr(float(cell) if isinstance(cell, float) else int(cell))  # NumPy's own would name their type
    text = _inert(str(in_english(cell)))
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\r\n') else text


def _inert(text: str) -> str:
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
