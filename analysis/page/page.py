"""The page of a report: question, answer, one figure, caveats, then a list of sections."""

from __future__ import annotations

import base64
import pkgutil
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module

from analysis import sections
from analysis.contrasts.ranking import has_curves
from analysis.downstream.figures import scores_figure
from analysis.page import figures
from analysis.page.answer import Answer
from analysis.page.fonts import chinese_font
from analysis.page.language import say, speaking, spoken
from analysis.page.saving import save_all
from analysis.page.table import Table
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section

OF_TASKS = (
    "downstream",
    "task_demand",
    "task_labels",
    "task_upstream",
    "task_methods",
    "task_compression",
    "noise",
    "task_classes",
    "task_runs",
)
"""The files of `analysis/sections` that need no pretraining beside them."""

ORDER = (
    *OF_TASKS[:-3],
    "curves",
    "residuals",
    "learning_rates",
    "dose",
    "contrasts",
    "mixture",
    "impact",
    "ranking",
    "decision",
    "noise",
    "fits",
    "ledger",
    "held_fixed",
    "runs",
    "task_classes",
    "task_runs",
    "cost",
    "next_runs",
    "provenance",
)
"""The files of `analysis/sections`, as they follow each other on the page; one that is not named comes last but one."""

WIDE_INCHES = 6.5

SectionOf = Callable[[Study, Answer], Section | None]


@dataclass(frozen=True)
class Drawn:
    """A figure as written: its file name without suffix, its caption, its bytes, its width in inches."""

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


@dataclass(frozen=True)
class Part:
    """A section with its figures drawn, its tables under the names of their files."""

    section: Section
    figures: tuple[Drawn, ...]
    tables: tuple[Table, ...]
    files: tuple[Table, ...]

    @property
    def says_something(self) -> bool:
        """Not a heading alone: what its only figure shows may stand at the top of the page."""
        s = self.section
        return bool(s.paragraphs or s.points or s.notes or s.facts or self.figures or self.tables or self.files)


@dataclass(frozen=True)
class Page:
    """All that a report shows, in its order. lead: the one figure that shows the answer. note: on the figures."""

    study: Study
    results: Answer
    lead: Drawn
    parts: tuple[Part, ...]
    note: str | None = None

    @property
    def figures(self) -> tuple[Drawn, ...]:
        return (self.lead, *(figure for part in self.parts for figure in part.figures))


def page(study: Study, results: Answer) -> Page:
    """Make every section, draw every figure once, give every figure and table a file name of its own."""
    with warnings.catch_warnings():  # a glyph that the font lacks, a crowded figure: nothing that a reader can mend
        warnings.simplefilter("ignore", UserWarning)
        found = _sections(study, results)
        lead, note = lead_drawing(study, results, found), None
        if spoken() == "zh" and chinese_font() is None:
            lead, found = _with_english_figures(study, results, lead, found)
            note = say(
                "The figures are in English: no font with Chinese characters was found (Debian: fonts-noto-cjk)."
            )
        names: set[str] = set()
        shown = [drawing for section in found for drawing in section.drawings if drawing.name != lead.name]
        drawn = _draw([lead, *shown], names)
        parts = [_part(section, lead, drawn, names) for section in found]
        return Page(study, results, drawn[lead], tuple(part for part in parts if part.says_something), note)


def _part(section: Section, lead: Drawing, drawn: Mapping[Drawing, Drawn], names: set[str]) -> Part:
    tables, files = (
        tuple(replace(table, name=_file_name(table.name, names, "table:")) for table in of)
        for of in (section.tables, section.files)
    )
    shown = (drawn[drawing] for drawing in section.drawings if drawing.name != lead.name)
    return Part(section, tuple(shown), tables, files)


def _sections(study: Study, results: Answer) -> list[Section]:
    names = [name for name in section_names() if study.points or name in OF_TASKS]
    return [made for name in names if (made := _section_of(name)(study, results)) is not None]


def _with_english_figures(
    study: Study, results: Answer, lead: Drawing, found: Sequence[Section]
) -> tuple[Drawing, list[Section]]:
    """The same with the figures as they are in English, the captions as they were."""
    with speaking("en"):
        english = _sections(study, results)
        first = lead_drawing(study, results, english)
    sections_of = []
    for section, other in zip(found, english, strict=True):
        drawings = zip(section.drawings, other.drawings, strict=True)
        sections_of.append(replace(section, drawings=tuple(replace(own, figure=of.figure) for own, of in drawings)))
    return replace(lead, figure=first.figure), sections_of


def section_names() -> list[str]:
    """The files of sections, in the order of the page."""
    names = [module.name for module in pkgutil.iter_modules(sections.__path__) if module.name != "section"]
    late = len(ORDER) - 1.5
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else late, name))


def lead_drawing(study: Study, results: Answer, found: Iterable[Section]) -> Drawing:
    """The figure of the answer: of tasks, of learning rates or of the ranking where they answer, else the curves."""
    answering = "learning-rates" if results.lr_check else None if study.points and has_curves(study) else "ranking"
    if results.downstream is not None:
        drawn = {drawing.name: drawing for section in found for drawing in section.drawings}
        names = ("task_tokens", "task_labels")
        for name in reversed(names) if results.downstream.is_of_labels else names:
            if name in drawn:
                return drawn[name]
        caption = say(
            "The deciding metric of each task, by start; dotted: the baseline. Bars: 95 % intervals, where known."
        )
        return Drawing("task_scores", caption, scores_figure(results.downstream, study))
    for drawing in (drawing for section in found for drawing in section.drawings):
        if drawing.name == answering:
            return drawing
    return Drawing(
        "headline",
        say("Validation loss on {domain} against tokens trained on, by recipe.", domain=study.target),
        figures.headline_figure(study, results.fits, results.main),
    )


def _section_of(name: str) -> SectionOf:
    made: SectionOf = import_module(f"analysis.sections.{name}").section
    return made


def _draw(drawings: Sequence[Drawing], names: set[str]) -> dict[Drawing, Drawn]:
    drawn = {}
    for drawing, (svg, png) in zip(drawings, save_all([each.figure for each in drawings]), strict=True):
        name = _file_name(drawing.name, names, "figure:")
        drawn[drawing] = Drawn(name, drawing.caption, svg, png, float(drawing.figure.get_figwidth()))
    return drawn


def _file_name(name: str, taken: set[str], kind: str) -> str:
    """A name that is a file name and no other's: two hostile ones may become one."""
    base = found = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    count = 1
    while kind + found in taken:
        count += 1
        found = f"{base}-{count}"
    taken.add(kind + found)
    return found
