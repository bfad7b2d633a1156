"""Write the report: one self-contained HTML page, the same in Markdown, figures, tables, summary.json.

The same logs give the same bytes: no clock, no random number, fixed font, sorted rows. Whatever a log holds
(names of runs, domains, reasons) is text here: escaped in HTML and Markdown, made inert in CSV, never a
path.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis import data_figures, exposure, figures, tables
from analysis.answer import Answer, answer
from analysis.dose import DoseResponse
from analysis.fit import Fit
from analysis.held_fixed import held_fixed_table
from analysis.labels import count_text
from analysis.lr_check import best_table, gap_table
from analysis.points import Study, build_study
from analysis.ranking import Ranking, at_largest_size
from analysis.records import read_runs
from analysis.summary import summary
from analysis.table import csv_bytes

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Drawn:
    """A figure as written: its file name without suffix, its caption, its bytes."""

    name: str
    caption: str
    svg: bytes
    png: bytes

    @property
    def data_uri(self) -> str:
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode()


def report(places: Sequence[str], out: Path, api: Any = None) -> tuple[Path, str]:
    """Read the runs in `places` and write the report into `out`; returns the HTML file and the headline.

    places: folders with offline W&B logs, or `wandb:entity/project?group=NAME`. api: a wandb.Api for the
    latter. Raises AnalysisError where the runs do not make a study, OSError where `out` cannot be written.
    """
    study = build_study(read_runs(places, api))
    results = answer(study)
    with warnings.catch_warnings():  # a glyph that the font lacks, a crowded figure: nothing that a reader can mend
        warnings.simplefilter("ignore", UserWarning)
        drawn = _draw(study, results)
    shown = {
        "contrasts": tables.contrast_table(results.contrasts),
        "fits": tables.fit_table(results.fits, results.full_fits),
        "held_fixed": held_fixed_table(study),
        "runs": tables.run_table(study),
        "ledger": exposure.ledger_summary(study),
        "cost": tables.cost_table(study),
        "provenance": tables.provenance_table(study),
    }
    more = {
        "doses": tables.dose_table(results.dose) if results.dose else None,
        "ranking": tables.ranking_table(study, ranking) if (ranking := shown_ranking(study, results)) else None,
        "displacement": exposure.displacement_table(study),
        "best_rates": best_table(results.lr_check) if results.lr_check else None,
        "rate_gaps": gap_table(results.lr_check) if results.lr_check else None,
    }
    context = {
        "study": study,
        "results": results,
        "figures": drawn,
        "tables": {**shown, **more},
        "statuses": _statuses((*results.fits, *results.full_fits)),
        "methods": sorted({fit.interval_method for fit in results.fits if fit.law is not None}),
        "noise": _noise_text(study, results),
        "trunks": tables.trunk_text(study),
        "versions": {name: version(name) for name in ("numpy", "scipy", "matplotlib")},
        "count_text": count_text,
        "has_curves": has_curves(study),
        "ranking": ranking,
    }
    files: dict[str, bytes] = {
        f"figures/{figure.name}.{suffix}": getattr(figure, suffix) for figure in drawn for suffix in ("svg", "png")
    }
    written = (
        shown["fits"],
        shown["contrasts"],
        shown["runs"],
        exposure.ledger_table(study),
        tables.point_table(study),
        *(table for table in more.values() if table is not None),
    )
    files |= {f"tables/{table.name}.csv": csv_bytes(table) for table in written}
    files["summary.json"] = json.dumps(summary(study, results), indent=1, ensure_ascii=False, allow_nan=False).encode()
    files["report.md"] = _render("report.md.j2", context).encode()
    files["report.html"] = _render("report.html.j2", context).encode()  # last: it stands for the whole
    for name, content in files.items():
        _write(out / name, content)
    return out / "report.html", results.headline


# ---- the parts of the page -----------------------------------------------------------------------


def _draw(study: Study, results: Answer) -> tuple[Drawn, ...]:
    """All figures of the report; the first is that of the headline."""
    found = [*_draw_headline(study, results), *_draw_domains(study, results)]
    fits = [fit for fit in results.fits if fit.domain == study.target and fit.holds]
    if (residuals := figures.residual_figure(study, results.fits)) is not None:
        which = figures.MAX_RESIDUAL_PANELS if len(fits) > figures.MAX_RESIDUAL_PANELS else 0
        text = f"Measured against predicted loss on {study.target}, in per cent; hollow: held out of the fit."
        found.append(("residuals", text + f" The {which} recipes whose law fits worst." * bool(which), residuals))
    inner = {c.a for c in results.contrasts}  # a recipe that is itself contrasted is no reference
    on_target = [c for c in results.contrasts if c.domain == study.target and c.b not in inner]
    multiplier = figures.multiplier_figure(study, on_target) if results.lr_check is None else None  # one line per rate
    if multiplier is not None:
        text = "How many tokens of the reference one token of the recipe is worth, by the size of the weaker."
        found.append(("multiplier", text, multiplier))
    return tuple(Drawn(name, caption, *figures.save(figure)) for name, caption, figure in found)


def _draw_headline(study: Study, results: Answer) -> list[tuple[str, str, Figure]]:
    """Learning rates, curves of the target domain, dose-response and ranking; of one size there are no curves."""
    found: list[tuple[str, str, Figure]] = []
    if results.lr_check:
        text = f"Validation loss on {study.target} against learning rate; a ring marks the best of each line. "
        text += "Bars: 95 % intervals, where known."
        found.append(("learning-rates", text, data_figures.lr_figure(results.lr_check, study.target)))
    if not has_curves(study):
        assert results.ranking is not None
        text = f"Recipes by loss on {study.target}, {results.ranking.how}."
        found.append(("ranking", text, data_figures.ranking_figure(study, results.ranking)))
        if results.dose:
            found.append(("dose", _dose_caption(results.dose), data_figures.dose_figure(results.dose)))
        return found
    text = f"Validation loss on {study.target} against tokens trained on, by recipe."
    found.append(("headline", text, figures.headline_figure(study, results.fits, results.main)))
    if results.dose:
        found.append(("dose", _dose_caption(results.dose), data_figures.dose_figure(results.dose)))
    if (ranking := shown_ranking(study, results)) is not None:
        text = f"Recipes by loss on {study.target}, {ranking.how}."
        found.append(("ranking", text, data_figures.ranking_figure(study, ranking)))
    return found


def _dose_caption(dose: DoseResponse) -> str:
    return f"Dose-response on {dose.domain}: {dose.what}. Bars: 95 % intervals, where known; hollow: the reference."


def has_curves(study: Study) -> bool:
    """Whether there is a curve to draw: several sizes, or nothing else to show."""
    _, recipes = at_largest_size(study)
    return len({p.tokens for p in study.points if p.domain == study.target}) > 1 or len(recipes) < 2


def shown_ranking(study: Study, results: Answer) -> Ranking | None:
    """The ranking, where it says more than the contrast of two recipes or the dose-response does."""
    ranking = results.ranking
    if ranking is None or not has_curves(study):
        return ranking
    is_dose = results.dose is not None and len(results.dose.lines) == 1
    said = results.dose.recipes if is_dose and results.dose else frozenset()
    return ranking if len(ranking.rows) > 2 and not {row.recipe for row in ranking.rows} <= said else None


def _draw_domains(study: Study, results: Answer) -> list[tuple[str, str, Figure]]:
    found: list[tuple[str, str, Figure]] = []
    names = {"headline", "residuals", "multiplier", "dose", "ranking", "learning-rates"}
    for domain in study.domains if has_curves(study) else ():
        name = base = "curves-" + re.sub(r"[^A-Za-z0-9_-]+", "_", domain)
        while name in names:  # two hostile names may become one
            name = f"{base}-{len(names)}"
        names.add(name)
        found.append((name, f"Validation loss on {domain}.", figures.domain_figure(study, results.fits, domain)))
    return found


def _statuses(fits: Sequence[Fit]) -> list[tuple[str, str]]:
    return sorted({(fit.status.name.lower(), fit.status.value) for fit in fits})


def _noise_text(study: Study, results: Answer) -> str:
    fit = next((f for f in results.fits if f.domain == study.target), None)
    if fit is None or fit.noise.degrees < 1:
        return f"No recipe has two seeds, so how much the loss on {study.target} varies is not known."
    return (
        f"Between seeds, the loss on {study.target} varies by {fit.noise.sd:.2%} (standard "
        "deviation of one run, pooled "
        f"over recipes and sizes, {fit.noise.degrees} degrees of freedom)."
    )


def _render(template: str, context: dict[str, Any]) -> str:
    is_html = template.endswith(".html.j2")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=is_html,
        finalize=None if is_html else markdown_text,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(context)


def markdown_text(value: object) -> object:
    """Any value as plain Markdown text: what would be markup or HTML is escaped, line breaks are blanks."""
    if isinstance(value, Markup):
        return value
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|#!&~$])", r"\\\1", text)


def _write(path: Path, content: bytes) -> None:
    """Write beside, then rename: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(beside, 0o644)  # mkstemp makes it private; a report is to be shared
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
