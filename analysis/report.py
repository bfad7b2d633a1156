"""Write the report: one self-contained HTML page, the same in Markdown, figures, tables, summary.json.

The same logs give the same bytes: no clock, no random number, fixed font, sorted rows. Whatever a log holds
(names of runs, domains, reasons) is text here: escaped in HTML and Markdown, made inert in CSV and LaTeX, never a
path.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from analysis.downstream.task_study import study_of_tasks, task_study
from analysis.page import render
from analysis.page.answer import Answer, answer
from analysis.page.language import speaking
from analysis.page.page import Page, page
from analysis.page.processes import side_by_side
from analysis.page.summary import plain, summary
from analysis.page.writing import write_whole
from analysis.runs.points import Study, build_study
from analysis.runs.records import read_runs


@dataclass(frozen=True)
class Report:
    """A report as written. path: its HTML file; figures/ and tables/ lie beside it."""

    path: Path
    page: Page

    @property
    def study(self) -> Study:
        return self.page.study

    @property
    def results(self) -> Answer:
        return self.page.results

    @property
    def headline(self) -> str:
        return self.results.headline


def report(places: Sequence[str], out: Path, api: Any = None, language: str = "en") -> Report:
    """Read the runs in `places` and write the report into `out`.

    places: folders with offline W&B logs, or `wandb:entity/project?group=NAME`. api: a wandb.Api for the
    latter. language: en or zh. Raises AnalysisError where the runs do not make a study, OSError where `out` cannot be
    written.
    """
    with speaking(language):
        logs = read_runs(places, api)
        tasks = task_study(logs)
        has_losses = tasks is None or any(run.state == "complete" for run in logs.runs)
        study = build_study(logs) if has_losses or tasks is None else study_of_tasks(tasks)
        shown = page(study, answer(study, tasks))
        for name, content in _files(shown).items():
            write_whole(out / name, content)
    return Report(out / "report.html", shown)


def _files(shown: Page) -> dict[str, bytes]:
    """The files of a report by their path in its folder; the page comes last: it stands for the whole."""
    jobs: dict[str, Callable[[], bytes]] = {
        "summary.json": partial(_summary, shown),
        "report.md": lambda: render.markdown(shown).encode(),
        "report.html": lambda: render.html(shown).encode(),
    }
    return {**shown.files, **dict(zip(jobs, side_by_side(list(jobs.values())), strict=True))}


def _summary(shown: Page) -> bytes:
    facts = summary(shown.study, shown.results) | {
        part.section.key: part.section.facts for part in shown.parts if part.section.facts is not None
    }
    return json.dumps(plain(facts), indent=1, ensure_ascii=False, allow_nan=False).encode()
