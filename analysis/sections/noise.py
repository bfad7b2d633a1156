"""The noise floor: how much a loss, and the metric of a task, vary between seeds."""

from __future__ import annotations

from analysis.downstream.tables import noise_table
from analysis.page.answer import Answer
from analysis.page.language import say
from analysis.page.table import Brief, Cell, Table
from analysis.runs.points import Study
from analysis.sections.section import Section


def section(study: Study, results: Answer) -> Section | None:
    """What is known of the noise on the target domain, and a row per domain and per task; None where nothing is asked.

    Beside tasks, a loss without repeated seeds is left to the caveats.
    """
    tables, texts = [], []
    of_tasks = None if results.downstream is None else noise_table(results.downstream)
    losses = _table(study, results)
    if losses.rows or (results.fits and of_tasks is None):
        texts.append(_sentence(study, results))
    if of_tasks is not None and of_tasks.rows:
        texts.append(
            say(
                "Of tasks, in hundredths of the metric: the standard deviation of one run between seeds, pooled over "
                "the settings with the most labels, and that which the test rows make. The last column is the gain "
                "from which on pretraining is told from its absence: half the widest interval of the two."
            )
        )
        tables.append(of_tasks)
    if losses.rows:
        tables.insert(0, losses)
    return Section("noise", say("Noise floor"), tuple(texts), tables=tuple(tables)) if texts else None


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
            rows.append((domain, Brief(100 * noise.sd), noise.degrees))
    columns = (say("domain"), say("standard deviation of a run [% of loss]"), say("degrees of freedom"))
    return Table("noise", columns, tuple(rows))
