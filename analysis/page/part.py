"""A part of the page: a section with its figures drawn and its tables written out, as bytes."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import matplotlib
from matplotlib.figure import Figure

from analysis.page.answer import Answer
from analysis.page.figures import STYLE
from analysis.page.fonts import chinese_font
from analysis.page.language import speaking, spoken
from analysis.page.latex import latex_bytes
from analysis.page.summary import plain
from analysis.page.table import Table, csv_bytes
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section

WIDE_INCHES = 6.5

SectionOf = Callable[[Study, Answer], Section | None]


@dataclass(frozen=True)
class Drawn:
    """A figure as its files hold it: their name without suffix, its caption, its bytes, its width in inches."""

    name: str
    caption: str
    svg: bytes
    png: bytes
    width: float

    @property
    def is_wide(self) -> bool:
        """Whether a phone has to scroll it: shrunk to its window the letters could not be read."""
        return self.width > WIDE_INCHES

    @property
    def data_uri(self) -> str:
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode()

    @property
    def files(self) -> Mapping[str, bytes]:
        return {f"figures/{self.name}.svg": self.svg, f"figures/{self.name}.png": self.png}


@dataclass(frozen=True)
class Written:
    """A table as its files hold it: their name without suffix, its bytes. latex: None where the page shows it not."""

    name: str
    csv: bytes
    latex: bytes | None = None

    @property
    def files(self) -> Mapping[str, bytes]:
        as_latex = {} if self.latex is None else {f"tables/{self.name}.tex": self.latex}
        return {f"tables/{self.name}.csv": self.csv} | as_latex


@dataclass(frozen=True)
class Part:
    """A section with its figures and tables as files; it keeps of these the tables that the page shows.

    written: those of `section.tables`, in their order, then further ones.
    """

    section: Section
    figures: tuple[Drawn, ...]
    written: tuple[Written, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        return self.section.tables

    @property
    def says_something(self) -> bool:
        """Not a heading alone: what its only figure shows may stand at the top of the page."""
        s = self.section
        return bool(s.paragraphs or s.points or s.notes or s.facts or self.figures or self.written)

    def without(self, figure: str) -> Part:
        """The same but for the figures of a name."""
        return replace(self, figures=tuple(each for each in self.figures if each.name != figure))

    def with_file_names(self, taken: set[str]) -> Part:
        """The same, each figure and table under the name of a file that is not `taken`."""
        figures = tuple(replace(each, name=file_name(each.name, "figure", taken)) for each in self.figures)
        written = tuple(replace(each, name=file_name(each.name, "table", taken)) for each in self.written)
        tables = tuple(replace(table, name=of.name) for table, of in zip(self.tables, written, strict=False))
        return Part(replace(self.section, tables=tables), figures, written)


def part_of(section_of: SectionOf, study: Study, results: Answer) -> Part | None:
    """Make a section, draw its figures, write its tables out."""
    if (section := section_of(study, results)) is None:
        return None
    drawings = section.drawings
    if drawings and has_english_figures():
        with speaking("en"):
            english = section_of(study, results)
        assert english is not None
        pairs = zip(drawings, english.drawings, strict=True)
        drawings = tuple(replace(own, figure=other.figure) for own, other in pairs)
    written = [Written(table.name, csv_bytes(table), latex_bytes(table)) for table in section.tables]
    written += [Written(table.name, csv_bytes(table)) for table in section.files]
    kept = replace(section, drawings=(), files=(), facts=plain(section.facts))
    return Part(kept, tuple(map(_drawn, drawings)), tuple(written))


def has_english_figures() -> bool:
    """Whether figures are in English because no font has the characters of the report's language."""
    return spoken() == "zh" and chinese_font() is None


def file_name(name: str, kind: str, taken: set[str]) -> str:
    """A name that is a file name and no other's of this kind: two hostile ones may become one."""
    base = found = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    count = 1
    while f"{kind}:{found}" in taken:
        count += 1
        found = f"{base}-{count}"
    taken.add(f"{kind}:{found}")
    return found


def _drawn(drawing: Drawing) -> Drawn:
    svg, png = svg_and_png(drawing.figure)
    return Drawn(drawing.name, drawing.caption, svg, png, float(drawing.figure.get_figwidth()))


def svg_and_png(figure: Figure) -> tuple[bytes, bytes]:
    """The figure without dates or versions: the same figure gives the same bytes."""
    svg, png = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.set_layout_engine("none")  # laid out once: that is most of the time of a figure
        figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
    return svg.getvalue(), png.getvalue()
