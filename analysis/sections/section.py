"""What a part of the report is: the page is a list of them, in the order of `analysis/report.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from matplotlib.figure import Figure

from analysis.page.table import Table


@dataclass(frozen=True)
class Drawing:
    """A figure of a section. name: of its files, without suffix. caption: a sentence."""

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it, in this order: paragraphs, points, figures, tables, notes.

    key: of the anchor. tables are written as CSV and LaTeX under their own names; a table of `files` is written and
    not shown. facts: what of it goes into summary.json, under `key`.
    """

    key: str
    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    files: tuple[Table, ...] = ()
    facts: object = field(default=None)
