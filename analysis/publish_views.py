"""A saved workspace and a W&B report of a study, by `wandb-workspaces`. Saving them needs a server."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from analysis.page.language import say
from analysis.page.page import Page, Part
from analysis.runs.points import Study

WIDTH, FIGURE_HEIGHT, TABLE_HEIGHT = 24, 12, 8
"""Of panels, in the units of W&B's grid, which is 24 wide."""


SYMBOLS = ("So", "Sk", "Sm", "Sc", "Cs")


def save_views(page: Page, entity: str, project: str, run_id: str) -> tuple[str, ...]:
    """Save both; returns their URLs."""
    saved = workspace(page.study, entity, project).save(), written(page, entity, project, run_id).save()
    return tuple(str(view.url) for view in saved)


def workspace(study: Study, entity: str, project: str) -> ws.Workspace:
    """The runs of the study, its losses against tokens on a log axis, its training, and the figures of its reports."""
    losses: list[Any] = [_lines(say("loss on {domain}", domain=d), f"eval/{d}/loss", True) for d in study.domains]
    training: list[Any] = [_lines(key, key, True) for key in ("train/loss", "train/lr", "train/grad_norm")]
    speed: list[Any] = [_lines(key, key, False) for key in ("perf/tokens_per_second", "perf/mfu")]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=_name(study.name),
        sections=[
            ws.Section(name=str(say("Validation loss")), panels=losses, is_open=True, pinned=True),
            ws.Section(name=str(say("Training")), panels=training),
            ws.Section(name=str(say("Throughput")), panels=speed),
        ],
        runset_settings=ws.RunsetSettings(filters=_is("Group", study.name), groupby=[ws.Metric("JobType")]),
    )


def written(page: Page, entity: str, project: str, run_id: str) -> wr.Report:
    """The page as a W&B report: its words, and panels that show the figures and tables of the run `run_id`."""
    runs = wr.Runset(entity=entity, project=project, name="report", filters=_is("ID", run_id))
    blocks: list[Any] = [
        wr.P(page.study.question),
        wr.H1(str(page.results.headline)),
        _grid(runs, [_figure(page.lead.name)]),
    ]
    if page.results.caveats:
        blocks += [wr.H2(str(say("Caveats"))), wr.UnorderedList([str(text) for text in page.results.caveats])]
    for part in page.parts:
        blocks += _part_blocks(runs, part)
    return wr.Report(
        entity=entity,
        project=project,
        title=_name(page.study.name),
        description=page.study.question,
        blocks=blocks,
    )


def _part_blocks(runs: wr.Runset, part: Part) -> list[Any]:
    section = part.section
    blocks: list[Any] = [wr.H2(str(section.title)), *(wr.P(str(text)) for text in section.paragraphs)]
    if section.points:
        blocks.append(wr.UnorderedList([str(text) for text in section.points]))
    panels = [
        *(_figure(figure.name) for figure in part.figures),
        *(
            wr.WeavePanelSummaryTable(table_name=f"tables/{table.name}", layout=wr.Layout(w=WIDTH, h=TABLE_HEIGHT))
            for table in part.tables
        ),
    ]
    if panels:
        blocks.append(_grid(runs, panels))
    return [*blocks, *(wr.P(str(text)) for text in section.notes)]


def _grid(runs: wr.Runset, panels: list[Any]) -> wr.PanelGrid:
    return wr.PanelGrid(runsets=[runs], panels=panels)


def _figure(name: str) -> wr.MediaBrowser:
    return wr.MediaBrowser(media_keys=[f"figures/{name}"], layout=wr.Layout(w=WIDTH, h=FIGURE_HEIGHT))


def _lines(title: str, key: str, log_x: bool) -> wr.LinePlot:
    return wr.LinePlot(title=str(title), x="tokens", y=[key], log_x=log_x)


def _is(field: str, value: str) -> str:
    """A filter of runs: it is parsed as Python once =, < and > are doubled, inside texts too; so all signs are escaped.

    Not a FilterExpr: wandb-workspaces 0.4 writes its value between quotes as it is, whatever it holds.
    """
    quoted = re.sub(r"[^A-Za-z0-9_ -]", lambda sign: f"\\U{ord(sign[0]):08x}", value)
    return f"Metric('{field}') == '{quoted}'"


def _name(text: str) -> str:
    """Without symbols, which W&B refuses in the name of a view, emoji among them."""
    return "".join(letter for letter in text if unicodedata.category(letter) not in SYMBOLS) or "study"
