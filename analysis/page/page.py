"""The page of a report: question, answer, one figure, caveats, then a list of sections."""

from __future__ import annotations

import pkgutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module

from analysis import sections
from analysis.contrasts.ranking import has_curves
from analysis.downstream.figures import scores_figure
from analysis.page import figures
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.page.part import Drawn, Part, SectionOf, file_name, has_english_figures, part_of
from analysis.page.processes import side_by_side
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section

HEADLINE = "headline"

NO_QUESTION = "What loss does this run reach?"
"""That of `conf/run.yaml`: who leaves it has not asked."""

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


@dataclass(frozen=True)
class Page:
    """All that a report shows, in its order. lead: the one figure that shows the answer. note: on the figures."""

    study: Study
    results: Answer
    lead: Drawn
    parts: tuple[Part, ...]
    note: str | None = None

    @property
    def question(self) -> str:
        """What was asked; where nothing was, what the answer is of."""
        if self.study.question != NO_QUESTION:
            return self.study.question
        if self.results.downstream is not None:
            return say("How well do the models do on the tasks?")
        return say("What loss do these runs reach?")

    @property
    def figures(self) -> tuple[Drawn, ...]:
        return (self.lead, *(figure for part in self.parts for figure in part.figures))

    @property
    def files(self) -> Mapping[str, bytes]:
        """Those of all figures and tables, by their path in the folder of the report."""
        every = [figure.files for figure in self.figures]
        every += [table.files for part in self.parts for table in part.written]
        return {path: content for files in every for path, content in files.items()}


def page(study: Study, results: Answer) -> Page:
    """Make every part, give every figure and table a file name of its own."""
    names = [name for name in section_names() if study.points or name in OF_TASKS]
    answering = _answering(study, results)
    makers = [*([_headline] if HEADLINE in answering else []), *map(_section_of, names)]
    with warnings.catch_warnings():  # a glyph that the font lacks, a crowded figure: nothing that a reader can mend
        warnings.simplefilter("ignore", UserWarning)
        made = side_by_side([partial(part_of, maker, study, results) for maker in makers])
        parts = [part for part in made if part is not None]
        if (lead := _first(parts, answering)) is None:
            headline = part_of(_headline, study, results)
            assert headline is not None
            (lead,) = headline.figures
    taken: set[str] = set()
    file = replace(lead, name=file_name(lead.name, "figure", taken))
    parts = [part.without(lead.name).with_file_names(taken) for part in parts]
    note = None
    if has_english_figures():
        note = say("The figures are in English: no font with Chinese characters was found (Debian: fonts-noto-cjk).")
    return Page(study, results, file, tuple(part for part in parts if part.says_something), note)


def _first(parts: Sequence[Part], names: Sequence[str]) -> Drawn | None:
    """The figure of the first of the names under which there is one."""
    figures = {figure.name: figure for part in reversed(parts) for figure in part.figures}
    return next((figures[name] for name in names if name in figures), None)


def _answering(study: Study, results: Answer) -> tuple[str, ...]:
    """The names of figures that may show the answer, the best one first."""
    if results.downstream is not None:
        return ("task_labels", "task_tokens") if results.downstream.is_of_labels else ("task_tokens", "task_labels")
    if results.lr_check is not None:
        return ("learning-rates",)
    return (HEADLINE,) if study.points and has_curves(study) else ("ranking",)


def _headline(study: Study, results: Answer) -> Section:
    """The figure of the answer where no section draws it, as a section of its own."""
    if results.downstream is not None:
        caption = say(
            "The deciding metric of each task, by start; dotted: the baseline. Bars: 95 % intervals, where known."
        )
        drawing = Drawing("task_scores", caption, scores_figure(results.downstream, study))
    else:
        caption = say("Validation loss on {domain} against tokens trained on, by recipe.", domain=study.target)
        drawing = Drawing(HEADLINE, caption, figures.headline_figure(study, results.fits, results.main))
    return Section(HEADLINE, "", drawings=(drawing,))


def section_names() -> list[str]:
    """The files of sections, in the order of the page."""
    names = [module.name for module in pkgutil.iter_modules(sections.__path__) if module.name != "section"]
    late = len(ORDER) - 1.5
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else late, name))


def _section_of(name: str) -> SectionOf:
    made: SectionOf = import_module(f"analysis.sections.{name}").section
    return made
