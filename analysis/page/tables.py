"""The tables of the report, from results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from analysis.contrasts.contrast import Contrast
from analysis.contrasts.dose import DoseResponse
from analysis.contrasts.fit import Fit
from analysis.contrasts.ranking import Ranking
from analysis.fitting.result import Estimate
from analysis.page.labels import count_text, flops_text, percent_text
from analysis.page.language import say
from analysis.page.table import Brief, Cell, Multiplier, Probability, Table
from analysis.runs.points import Study
from analysis.runs.run import Run


def fit_table(fits: Sequence[Fit], full_fits: Sequence[Fit] = ()) -> Table:
    """One row per recipe and domain: parameters with intervals.

    full_fits: those to all points that contrasts rest on, in rows of their own, in the order of `fits`.
    """
    order = {(fit.recipe, fit.domain): i for i, fit in enumerate(fits)}
    full = sorted(full_fits, key=lambda fit: order.get((fit.recipe, fit.domain), len(order)))
    rows: list[tuple[Cell, ...]] = [
        (
            fit.recipe,
            fit.domain,
            *(fit.params.get(name) for name in ("E", "B", "beta")),
            fitted_to,
            fit.status.name.lower(),
            fit.num_points,
            fit.num_trunks,
        )
        for fit, fitted_to in (*((fit, _fitted_to(fit)) for fit in fits), *((fit, say("all sizes")) for fit in full))
    ]
    named = (say("fitted to"), say("status"), say("points"), say("trunks"))
    return Table("fits", (say("recipe"), say("domain"), "E", "B", "beta", *named), tuple(rows))


def _fitted_to(fit: Fit) -> str:
    if len(fit.held_out) > 1:
        return say("all but the {count} held-out sizes", count=len(fit.held_out))
    return say("all but the held-out size") if fit.held_out else say("all sizes")


def held_out_table(fits: Sequence[Fit]) -> Table:
    """One row per recipe and domain: the test on the largest held-out size."""
    rows: list[tuple[Cell, ...]] = []
    for fit in fits:
        if fit.held_out:
            test = fit.held_out[-1]
            rows.append((fit.recipe, fit.domain, test.tokens, test.loss, test.predicted, Brief(100 * test.error)))
    columns = (
        say("recipe"),
        say("domain"),
        say("held-out D"),
        say("measured"),
        say("predicted"),
        say("error [%]"),
    )
    return Table("held_out", columns, tuple(rows))


def contrast_table(contrasts: Sequence[Contrast]) -> Table:
    """One row per pair of recipes and domain: what was decided, and the numbers behind it."""
    rows: list[tuple[Cell, ...]] = [
        (
            c.a,
            c.b,
            c.domain,
            say("refused") if c.refused else say(c.decision.value),
            c.gap,
            _multiplier(c.multiplier),
            None if c.probability is None else Probability(round(c.probability, 3)),
            c.tokens,
        )
        for c in contrasts
    ]
    columns = (
        "A",
        "B",
        say("domain"),
        say("decision"),
        say("gap A - B [nats per token]"),
        say("multiplier"),
        say("P(A better)"),
        "D",
    )
    return Table("contrasts", columns, tuple(rows))


def growth_table(contrasts: Sequence[Contrast]) -> Table:
    """How the multiplier changes with size, and what it is without a law; for the pairs that have a curve."""
    rows: list[tuple[Cell, ...]] = [
        (
            c.a,
            c.b,
            c.domain,
            _multiplier(c.at_smallest),
            None if c.at_smallest_tokens is None else round(c.at_smallest_tokens),
            c.growth,
            c.trend,
            c.check,
        )
        for c in contrasts
        if c.multiplier is not None
    ]
    columns = (
        "A",
        "B",
        say("domain"),
        say("multiplier at the start"),
        say("start D"),
        say("growth"),
        say("trend"),
        say("multiplier without a law"),
    )
    return Table("growth", columns, tuple(rows))


def _multiplier(m: Estimate | None) -> Multiplier | None:
    return Multiplier(m.value, m.lo, m.hi) if m else None


def run_table(study: Study) -> Table:
    """Every run, failed ones too."""
    rows: list[tuple[Cell, ...]] = []
    order = {recipe.label: i for i, recipe in enumerate(study.recipes)}
    runs = sorted(
        study.runs,
        key=lambda r: (
            order[study.recipe_of[r.fingerprint]],
            r.spec["budget"]["num_tokens"],
            r.seeds,
            r.name,
        ),
    )
    for run in runs:
        ledger = run.ledger
        last = run.points[-1].domains.get(study.target) if run.points else None
        asked = run.spec["budget"]["num_tokens"]
        rows.append(
            (
                run.name,
                run.fingerprint[:8],
                study.recipe_of[run.fingerprint],
                say(run.state),
                run.num_params,
                ledger.tokens if ledger else None,
                asked,
                ledger.unique_tokens if ledger else None,
                round(ledger.mean_epochs, 4) if ledger else None,
                ", ".join(f"{name} {seed}" for name, seed in run.seeds),
                last.loss if last else None,
                run.flops,
                run.trunk_tokens if ledger else None,
                round(run.seconds, 2) if run.seconds is not None else None,
                run.error,
            )
        )
    for lost in study.lost:
        blanks: tuple[Cell, ...] = (None,) * 10
        why = say("killed before it logged what it is")
        rows.append((lost.name, lost.run_id, None, say("interrupted"), *blanks, why))
    columns = (
        say("run"),
        say("fingerprint"),
        say("recipe"),
        say("state"),
        "N",
        "D",
        say("D asked for"),
        "U",
        say("epochs"),
        say("seeds"),
        say("loss on {domain}", domain=study.target),
        say("C [FLOPs]"),
        say("tokens from trunk"),
        say("seconds"),
        say("error"),
    )
    return Table("runs", columns, tuple(rows))


def ranking_table(study: Study, ranking: Ranking) -> Table:
    """Recipes by domains: losses at the largest common size, the best on the target domain first."""
    shown = [domain for domain in study.domains if all(domain in row.losses for row in ranking.rows)]
    rows: list[tuple[Cell, ...]] = []
    for place, row in enumerate(ranking.rows, start=1):
        losses = [_known(row.losses[domain]) for domain in shown]
        told = None if row.gap is None or ranking.lack else row.is_told_from_best
        rows.append((place, row.recipe, losses[0], _known(row.gap, Brief) if row.gap else None, told, *losses[1:]))
    columns = (
        say("place"),
        say("recipe"),
        say("loss on {domain}", domain=study.target),
        say("gap to the best"),
        say("told from the best"),
        *(say("loss on {domain}", domain=domain) for domain in shown[1:]),
    )
    return Table("ranking", columns, tuple(rows))


def _known(estimate: Estimate, bare: type[float] = float) -> Cell:
    """The value alone, as a `bare`, where the interval has no ends."""
    return estimate if math.isfinite(estimate.lo) or math.isfinite(estimate.hi) else bare(estimate.value)


def dose_table(dose: DoseResponse) -> Table:
    """A row per line and dose: loss, what the dose does against the reference, and against the dose below."""
    rows: list[tuple[Cell, ...]] = []
    for line in dose.lines:
        for at in line.doses:
            gap = at.effect.gap if at.effect else None
            step = at.step.gap if at.step else None
            rows.append(
                (
                    *((line.name,) if len(dose.lines) > 1 else ()),
                    at.text,
                    at.recipe,
                    _known(at.loss) if at.loss else None,
                    _known(gap, Brief) if gap else None,
                    _known(m) if at.effect and (m := _multiplier(at.effect.multiplier)) else None,
                    _known(step, Brief) if step else None,
                    step.lo > 0 or step.hi < 0 if step and math.isfinite(step.lo) else None,
                )
            )
    columns = (
        *((say("line"),) if len(dose.lines) > 1 else ()),
        say("dose"),
        say("recipe"),
        say("loss on {domain}", domain=dose.domain),
        say("gap to the reference"),
        say("multiplier"),
        say("step from the dose below"),
        say("clear of zero"),
    )
    return Table("doses", columns, tuple(rows))


def tokens_trained(study: Study) -> tuple[int, int]:
    """Tokens that the complete runs trained on, trunks once, and what runs that share nothing would have."""
    independent = sum(run.ledger.tokens for run in study.runs if run.ledger)
    return independent - sum(run.trunk_tokens for run in study.runs if run.ledger), independent


def trunk_text(study: Study) -> str:
    """What shared trunks saved, in a sentence."""
    trained, independent = tokens_trained(study)
    if trained == independent:
        return say("No trunk was shared: every run trained all of its tokens.")
    return say(
        "{trained} tokens were trained where independent runs would have needed {independent}: shared trunks saved "
        "{share}.",
        trained=count_text(trained), independent=count_text(independent), share=percent_text(1 - trained / independent),
    )  # fmt: skip


def cost_table(study: Study) -> Table:
    """What the complete runs cost, and what shared trunks saved."""
    rows: list[tuple[Cell, ...]] = []
    for recipe in (*[recipe.label for recipe in study.recipes], None):
        runs = [r for r in study.runs if r.ledger and recipe in (None, study.recipe_of[r.fingerprint])]
        tokens = sum(r.ledger.tokens for r in runs if r.ledger)
        saved = sum(r.trunk_tokens for r in runs)
        spent = sum((r.flops or 0.0) - r.trunk_tokens * r.flops_per_token for r in runs)
        paces, mfus = ([v for r in runs if (v := getattr(r, key)) is not None] for key in ("tokens_per_second", "mfu"))
        rows.append(
            (recipe or say("all"), len(runs), count_text(tokens), count_text(tokens - saved), count_text(saved),
             flops_text(spent), f"{sum(r.seconds or 0.0 for r in runs) / 60:.3g}",
             f"{sum(map(_device_seconds, runs)) / 3600:.3g}", round(median(paces)) if paces else None,
             round(100 * median(mfus), 2) if mfus else None)
        )  # fmt: skip
    on_gpu = {_is_gpu(run) for run in study.runs if run.ledger}
    columns = (
        say("recipe"),
        say("complete runs"),
        say("tokens D, summed"),
        say("tokens trained"),
        say("saved by trunks"),
        say("FLOPs spent"),
        say("minutes"),
        say("device hours") if len(on_gpu) > 1 else say("GPU hours") if on_gpu == {True} else say("CPU core hours"),
        say("tokens/s"),
        say("MFU [%]"),
    )
    kept = [i for i in range(len(columns)) if any(row[i] is not None for row in rows)]
    return Table("cost", tuple(columns[i] for i in kept), tuple(tuple(row[i] for i in kept) for row in rows))


def _is_gpu(run: Run) -> bool:
    return run.environment.get("device", "cpu") != "cpu"


def _device_seconds(run: Run) -> float:
    """Seconds of GPUs, shared by the runs that were side by side on one; or of CPU cores, by threads."""
    placement = run.spec.get("placement") or {}
    ranks = int(placement.get("ranks") or 1)
    if _is_gpu(run):
        return (run.seconds or 0.0) * ranks / int(placement.get("runs_per_device") or 1)
    return (run.seconds or 0.0) * ranks * int(run.environment.get("threads", "1"))


def provenance_table(study: Study) -> Table:
    """Versions and hardware of the runs: one row per fact, several values where runs differ."""
    facts: dict[str, set[str]] = {}
    for run in study.runs:
        for key, value in run.environment.items():
            facts.setdefault(key, set()).add(value)
    rows = tuple((key, "; ".join(sorted(values))) for key, values in sorted(facts.items()))
    return Table("provenance", (say("fact"), say("value")), rows)
