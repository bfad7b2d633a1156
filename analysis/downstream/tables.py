"""The tables of tasks."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

from analysis.downstream.cells import Gap
from analysis.downstream.demand import BASELINE, FROM_SCRATCH, MOST_GAIN, NEAR_BEST, Demand
from analysis.downstream.downstream import Downstream
from analysis.downstream.metric_curve import Amount
from analysis.downstream.task_study import start_text
from analysis.downstream.verdicts import TaskVerdict, not_shown
from analysis.fitting.result import Estimate
from analysis.page.language import say
from analysis.page.table import Cell, Multiplier, Probability, Quantity, Rough, Share, Table

CANNOT_TELL = Quantity(math.nan, math.nan, math.nan)
EQUAL_SHARES = 0.01
"""Shares of domains that differ by less are equal: those that a recipe read are counted in whole sequences."""


def level_text(level: str) -> str:
    """A level in words."""
    return {
        FROM_SCRATCH: say("from scratch"),
        BASELINE: say("baseline"),
        MOST_GAIN: say("90 % of the gain"),
        NEAR_BEST: say("95 % of the best"),
    }[level]


def _gap(gap: Gap | None) -> Cell:
    return None if gap is None else known(gap.gap)


def known(estimate: Estimate) -> Cell:
    """The value alone where the interval has no ends."""
    return estimate if math.isfinite(estimate.lo) or math.isfinite(estimate.hi) else Share(estimate.value)


def quantity(amount: Amount | None) -> Quantity | None:
    """An amount as it is shown, in words where the data set it no limit; None where it was not asked for."""
    if amount is None:
        return None
    if not amount.has_limits:
        return CANNOT_TELL
    return Quantity(amount.value, amount.lo, amount.hi, amount.up_to)


def times_of(times: Estimate, needed: Amount) -> Cell:
    """How many times an amount is needed; in words where the data set it no limit."""
    if not needed.has_limits:
        return CANNOT_TELL
    return Multiplier(times.value, times.lo, times.hi)


def _tokens_needed(demand: Demand, doubted: Container[tuple[str, str]]) -> Quantity | None:
    """None where it was not asked; nan where pretraining is not shown to do anything, so none is known."""
    amount = demand.tokens
    if amount is not None and (demand.task, demand.line) in doubted and 0 < amount.value < math.inf:
        return CANNOT_TELL
    return quantity(amount)


def verdict_table(name: str, every: Sequence[TaskVerdict]) -> Table:
    """A row per verdict: scores, and the paired differences over scratch and over the baseline."""
    rows: list[tuple[Cell, ...]] = []
    for v in every:
        s = v.cell.setting
        rows.append(
            (
                v.task, v.metric, start_text(s.line), s.labels, s.tokens or None, known(v.cell.estimate),
                known(v.scratch.estimate) if v.scratch else None, _gap(v.over_scratch),
                Share(v.baseline.level.value) if v.baseline else None, _gap(v.over_baseline), len(v.cell.runs),
            )
        )  # fmt: skip
    columns = (
        say("task"), say("metric"), say("recipe"), say("labels"), "D", say("score"), say("from scratch"),
        say("over scratch"), say("baseline"), say("over the baseline"), say("runs"),
    )  # fmt: skip
    return without_empty(Table(name, columns, tuple(rows)))


def noise_table(found: Downstream) -> Table:
    """Per task, what seeds and test rows do to the metric with the most labels; only where seeds are repeated."""
    rows: list[tuple[Cell, ...]] = []
    for task in found.study.tasks:
        labels = found.cells.most_labels(task)
        own = found.cells.of(task, labels=labels)
        if not own or not own[0].noise.is_known:
            continue
        gaps = [v.over_scratch.gap for v in found.verdicts if v.task == task and v.over_scratch]
        widest = max((gap.hi - gap.value for gap in gaps), default=math.nan)
        sds = (own[0].noise.sd, max(cell.test_sd for cell in own), widest)
        seeds, test, least = (Rough(100 * sd) if 0 < sd < math.inf else None for sd in sds)
        rows.append((task, found.study.metric(task), labels, seeds, own[0].noise.degrees, test, least))
    columns = (
        say("task"), say("metric"), say("labels"), say("between seeds [0.01]"), say("degrees of freedom"),
        say("test rows [0.01]"), say("gain told from chance [0.01]"),
    )  # fmt: skip
    return without_empty(Table("task_noise", columns, tuple(rows)))


def demand_table(found: Downstream) -> Table:
    """Which task needs how much data of which domain."""
    rows: list[tuple[Cell, ...]] = []
    doubted = not_shown(found.verdicts)
    for d in found.demands:
        rows.append(
            (
                d.task, _level(d), d.line, _tokens_needed(d, doubted), d.labels_at if d.tokens else None,
                quantity(d.labels), d.tokens_at if d.labels else None, quantity(d.labels_from_scratch),
            )
        )  # fmt: skip
    columns = (
        say("task"), say("level"), say("recipe"), say("tokens needed"), say("with labels"), say("labels needed"),
        say("with tokens"), say("labels needed from scratch"),
    )  # fmt: skip
    return without_empty(Table("task_demand", columns, tuple(rows)))


def _level(demand: Demand) -> str:
    level = level_text(demand.level)
    if math.isnan(demand.value):
        return level
    return say("{metric} {value} ({level})", metric=demand.metric, value=f"{demand.value:.3f}", level=level)


def domain_table(found: Downstream) -> Table:
    """The tokens of each domain among those that the demand table tells; empty where all recipes mix them equally."""
    rows: list[tuple[Cell, ...]] = []
    domains = sorted({domain for d in found.demands for domain, share in d.by_domain.items() if share > 0})
    doubted, unequal = not_shown(found.verdicts), False
    for d in found.demands:
        needed = _tokens_needed(d, doubted)
        if needed is None or not needed.is_told or not 0 < needed.value < math.inf:
            continue
        shares = [d.by_domain.get(name, 0.0) / needed.value for name in domains]
        read = [share for share in shares if share > 0]
        unequal = unequal or (len(read) > 0 and max(read) - min(read) > EQUAL_SHARES)
        rows.append((d.task, level_text(d.level), d.line, *(_part_of(needed, share) for share in shares)))
    rows = rows if unequal else []
    columns = (say("task"), say("level"), say("recipe"), *(say("tokens of {domain}", domain=d) for d in domains))
    return Table("task_demand_domains", columns, tuple(rows))


def _part_of(amount: Quantity, share: float) -> Cell:
    return Quantity(amount.value * share, amount.lo * share, amount.hi * share) if share else 0


def curve_table(found: Downstream) -> Table:
    """Every fitted curve: its law, what it tends to, and how far off the held-out largest amount was."""
    rows: list[tuple[Cell, ...]] = []
    for c in (*found.over_tokens, *found.over_labels):
        own = c.curve
        is_tokens = own.axis == "tokens"
        names = {"E": None, "A": None, "alpha": None, **(own.fit.params if own.fit else {})}
        rows.append(
            (
                c.task, start_text(c.line), c.method, say("tokens") if is_tokens else say("labels"),
                None if is_tokens else c.at or None, c.at if is_tokens else None, own.law, own.ceiling,
                names["alpha"] or names.get("k"), own.errors.get(own.law),
            )
        )  # fmt: skip
    columns = (
        say("task"), say("recipe"), say("method"), say("over"), "D", say("labels"), say("law"), say("ceiling"),
        say("exponent"), say("held-out error"),
    )  # fmt: skip
    return without_empty(Table("task_curves", columns, tuple(rows)))


def transfer_table(found: Downstream) -> Table:
    """Effective data transferred."""
    rows: list[tuple[Cell, ...]] = []
    for t in found.transferred:
        rows.append(
            (t.task, t.line, t.tokens, t.labels, known(t.score), quantity(t.needed), times_of(t.times, t.needed))
        )
    columns = (
        say("task"), say("recipe"), "D", say("labels"), say("score"), say("labels from scratch for the same"),
        say("times the labels"),
    )  # fmt: skip
    return without_empty(Table("transferred", columns, tuple(rows)))


def upstream_table(found: Downstream) -> Table:
    """How well each domain's loss tells each task's metric."""
    rows = tuple(
        (u.task, u.cells[0].setting.labels, u.domain, _places(u.error), _places(u.flat_error), _places(u.noise),
         Rough(u.correlation) if math.isfinite(u.correlation) else None, len(u.means))
        for u in found.upstream
    )  # fmt: skip
    columns = (
        say("task"), say("labels"), say("validation loss on"), say("error at the largest, held out"),
        say("error of the mean of the others"), say("what seeds explain"), say("rank correlation"), say("settings"),
    )  # fmt: skip
    return Table("upstream", columns, rows)


def _places(error: float) -> Cell:
    """A difference of metrics, to three places as the metrics themselves."""
    return Share(error) if math.isfinite(error) else None


def best_table(found: Downstream) -> Table:
    """Recipes per task, with the probability of each to be the best."""
    rows: list[tuple[Cell, ...]] = []
    for b in found.best:
        for c in b.candidates:
            chance = None if math.isnan(c.probability) else Probability(c.probability)
            rows.append((b.task, b.tokens, b.labels, c.line, known(c.score), chance))
    columns = (say("task"), "D", say("labels"), say("recipe"), say("score"), say("probability to be the best"))
    return Table("task_best", columns, tuple(rows))


def method_table(found: Downstream) -> Table:
    """Methods per task."""
    rows: list[tuple[Cell, ...]] = []
    for g in found.methods:
        for r in g.rows:
            rows.append(
                (
                    g.task, start_text(g.line), g.tokens or None, g.labels, r.method, known(r.cell.estimate),
                    known(r.against.gap) if r.against else None, r.num_trainable,
                    None if r.seconds is None else float(f"{r.seconds:.3g}"),
                )
            )  # fmt: skip
    columns = (
        say("task"), say("recipe"), "D", say("labels"), say("method"), say("score"), say("against the first"),
        say("trained weights"), say("seconds"),
    )  # fmt: skip
    return without_empty(Table("task_methods", columns, tuple(rows)))


def run_table(found: Downstream) -> Table:
    """Every fine-tuning and compression, failed ones too."""
    study = found.study
    rows: list[tuple[Cell, ...]] = []
    for run in (*study.runs, *study.compressions, *study.failed):
        is_complete = run.state == "complete"
        rows.append(
            (
                run.name, run.fingerprint[:8], run.task, start_text(study.line(run)), say(run.state),
                run.tokens or None, run.labels, study.method_of[run.fingerprint],
                study.compress_of.get(run.fingerprint), run.seed, run.score if is_complete else None,
                None if run.seconds is None else round(run.seconds, 2), run.error,
            )
        )  # fmt: skip
    columns = (
        say("run"), say("fingerprint"), say("task"), say("recipe"), say("state"), "D", say("labels"), say("method"),
        say("compression"), say("seed"), say("score"), say("seconds"), say("error"),
    )  # fmt: skip
    return without_empty(Table("task_runs", columns, tuple(rows)))


def provenance_table(found: Downstream) -> Table:
    """Versions and hardware of the fine-tunings: a row per fact, several values where runs differ."""
    facts: dict[str, set[str]] = {}
    for run in (*found.study.runs, *found.study.compressions):
        for key, value in run.environment.items():
            facts.setdefault(key, set()).add(value)
    rows = tuple((key, "; ".join(sorted(values))) for key, values in sorted(facts.items()))
    return Table("task_provenance", (say("fact"), say("value")), rows)


def without_empty(table: Table) -> Table:
    """Without columns in which nothing is known, and without a recipe that is that of all rows."""
    every = [{row[i] for row in table.rows} for i in range(len(table.columns))]
    kept = [
        i for i, values in enumerate(every)
        if values != {None} and not (table.columns[i] == say("recipe") and len(values) == 1)
    ]  # fmt: skip
    return Table(
        table.name, tuple(table.columns[i] for i in kept), tuple(tuple(r[i] for i in kept) for r in table.rows)
    )
