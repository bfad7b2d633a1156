"""Publish a report to W&B: a run of job_type `analysis` in the study's group, with figures, tables and parameters.

    config      schema, study (name, question, target, match, hold_out), domains, num_runs, versions
    history     figures/<name> (images), tables/<name> (W&B tables; an estimate is three columns), report (the page)
    summary     headline; fit/<domain>/<recipe>/<parameter>, with /lo and /hi where the data set a limit, and /status
    artifact    report-<study>: every file of the report

Offline it is written to `wandb/` beside the report, to be sent later by `wandb sync`. The same results are the same
run; other results are another one.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from analysis.page.language import in_english
from analysis.page.table import Plain
from analysis.report import Report
from analysis.runs.logs import AnalysisError

if TYPE_CHECKING:
    import wandb

Mode = Literal["offline", "online"]
SCHEMA = 1


@dataclass(frozen=True)
class Published:
    """Where a report went. place: the folder for `wandb sync`, or the URL of the run. views: URLs of what was saved."""

    run_id: str
    project: str
    entity: str | None
    place: str
    views: tuple[str, ...] = ()


def publish(report: Report, mode: Mode = "offline", project: str | None = None, entity: str | None = None) -> Published:
    """Log a report to W&B; online, save a workspace and a W&B report too, where `wandb-workspaces` is installed.

    project, entity: by default, where most runs of the study were logged. Raises AnalysisError where W&B refuses.
    """
    import wandb

    study = report.study
    known_project, known_entity = _home(report)
    run_id = "analysis-" + _digest(study.name, report)
    try:
        with _environment(WANDB_SILENT="true", WANDB_MODE=mode):  # else an offline run makes ready to send telemetry
            run = wandb.init(
                dir=report.path.parent,
                project=project or known_project,
                entity=entity or known_entity,
                mode=mode,
                id=run_id,
                name=f"report-{study.name}",
                group=study.name,
                job_type="analysis",
                resume="allow" if mode == "online" else None,
                config=_config(report),
                settings=wandb.Settings(
                    silent=True,
                    console="off",
                    disable_git=True,
                    disable_code=True,
                    x_disable_stats=True,
                    x_save_requirements=False,
                    reinit="create_new",  # beside a run that the caller has open, not into it
                ),
            )
            with run:
                _log(run, report)
        if mode == "offline":
            return Published(run_id, run.project, entity or known_entity, str(Path(run.dir).parent))
        views = _save_views(report, run.entity, run.project, run_id)
        return Published(run_id, run.project, run.entity, str(run.url), views)
    except Exception as error:  # wandb raises its own, requests' and ValueError here
        raise AnalysisError(f"cannot publish to W&B: {(str(error) or repr(error)).splitlines()[0]}") from error


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Inside, these variables are set; wandb reads some settings from nowhere else."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _home(report: Report) -> tuple[str, str | None]:
    """Project and entity that most runs of the study were logged to."""
    children = report.results.downstream.study.runs if report.results.downstream else ()
    specs = [*(run.spec for run in report.study.runs), *(run.spec for run in children)]
    places = Counter(
        (str(tracking.get("project") or "scaling"), tracking.get("entity"))
        for tracking in (spec.get("tracking") or {} for spec in specs)
    )
    return min(places, key=lambda place: (-places[place], place[0], place[1] or ""))


def _digest(name: str, report: Report) -> str:
    facts = (report.path.parent / "summary.json").read_bytes()
    return hashlib.sha256(name.encode() + b"\n" + facts).hexdigest()[:16]


def _config(report: Report) -> dict[str, Any]:
    study = report.study
    about = {key: getattr(study, key) for key in ("name", "question", "target", "match", "hold_out")}
    versions = sorted({run.results_version for run in study.runs if run.results_version is not None})
    return {
        "schema": SCHEMA,
        "study": about,
        "domains": list(study.domains),
        "num_runs": len(study.runs),
        "results_versions": versions,
    }


def _log(run: wandb.Run, report: Report) -> None:
    """Everything in one step, so that the newest step is a whole report."""
    import wandb

    folder = report.path.parent
    row: dict[str, Any] = {"report": wandb.Html(report.path.read_text(encoding="utf-8"), inject=False)}
    for figure in report.page.figures:
        row[f"figures/{figure.name}"] = wandb.Image(
            str(folder / "figures" / f"{figure.name}.png"), caption=figure.caption
        )
    for table in (table for part in report.page.parts for table in part.tables):
        header, columns = table.spread
        data = [[_finite(cell) for cell in row] for row in zip(*columns, strict=True)]
        row[f"tables/{table.name}"] = wandb.Table(columns=header, data=data, allow_mixed_types=True)
    run.log(row)
    run.summary.update(fit_summary(report) | {"headline": str(in_english(report.headline))})
    artifact = wandb.Artifact(f"report-{_plain(report.study.name)}", type="report")
    for path in ("report.html", "report.md", "summary.json"):
        artifact.add_file(str(folder / path), path)
    for part in ("figures", "tables"):
        artifact.add_dir(str(folder / part), part)
    run.log_artifact(artifact)


def fit_summary(report: Report) -> dict[str, float | str]:
    """The parameters of every fit, flat: `fit/<domain>/<recipe>/<parameter>`, `.../lo`, `.../hi`, and `.../status`.

    A name in a key keeps its letters, digits, - and _; where two become one, the later gets a number. What the data set
    no limit to is left out.
    """
    found: dict[str, float | str] = {}
    for fit in report.results.fits:
        base = at = f"fit/{_plain(fit.domain)}/{_plain(fit.recipe)}"
        count = 1
        while f"{at}/status" in found:
            count += 1
            at = f"{base}-{count}"
        found[f"{at}/status"] = fit.status.name.lower()
        for name, estimate in fit.params.items():
            ends = {"": estimate.value, "/lo": estimate.lo, "/hi": estimate.hi}
            found |= {f"{at}/{name}{end}": value for end, value in ends.items() if math.isfinite(value)}
    return found


def _save_views(report: Report, entity: str, project: str, run_id: str) -> tuple[str, ...]:
    try:
        from analysis.publish_views import save_views
    except ModuleNotFoundError as error:  # the extra `reports` is not installed
        if error.name is None or not error.name.startswith("wandb_workspaces"):
            raise
        return ()
    return save_views(report.page, entity, project, run_id)


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", str(in_english(name)))[:100]


def _finite(cell: Plain) -> Plain:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell
