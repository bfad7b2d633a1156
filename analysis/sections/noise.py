"""The noise floor: how much the loss varies between seeds."""

from __future__ import annotations

from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.page.table import Cell, Table
from analysis.runs.points import Study
from analysis.sections.section import Section


def section(study: Study, results: Answer) -> Section | None:
    """What is known of the noise on the target domain, and a row per domain; None where no loss is compared."""
    if not results.fits:
        return None
    table = _table(study, results)
    return Section("noise", say("Noise floor"), (_sentence(study, results),), tables=(table,) if table.rows else ())


def _sentence(study: Study, results: Answer) -> str:
    fit = next((f for f in results.fits if f.domain == study.target), None)
    if fit is None or fit.noise.degrees < 1:
        return say(
            "No recipe has two seeds, so how much the loss on {domain} varies is not known.", domain=study.target
        )
    return say(
        "Between seeds, the loss on {domain} varies by {sd} (standard deviation of one run, pooled over recipes and "
        "sizes, {degrees} degrees of freedom).",
        domain=study.target,
        sd=f"{100 * fit.noise.sd:.2f} %",
        degrees=fit.noise.degrees,
    )


def _table(study: Study, results: Answer) -> Table:
    """How much one run varies on each domain, in per cent of the loss, where seeds are repeated."""
    rows: list[tuple[Cell, ...]] = []
    for domain in study.domains:
        noise = next((fit.noise for fit in results.fits if fit.domain == domain), None)
        if noise is not None and noise.degrees >= 1:
            rows.append((domain, 100 * noise.sd, noise.degrees))
    columns = (say("domain"), say("standard deviation of a run [% of loss]"), say("degrees of freedom"))
    return Table("noise", columns, tuple(rows))
