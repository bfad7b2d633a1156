"""The tables of tasks."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping

from analysis.downstream.cells import Gap
from analysis.downstream.demand import BASELINE, FROM_SCRATCH, NEAR_BEST, Demand
from analysis.downstream.downstream import Downstream
from analysis.downstream.metric_curve import Amount
from analysis.downstream.task_study import start_text
from analysis.downstream.tradeoff import COSTS, Compressed
from analysis.downstream.verdicts import leading, not_shown
from analysis.fitting.result import Estimate
from analysis.page.language import say
from analysis.page.table import Cell, Multiplier, Probability, Quantity, Rough, Share, Table

MEGA = 2.0**20
EQUAL_SHARES = 0.01
"""Shares of domains that differ by less are equal: those that a recipe read are counted in whole sequences."""


def level_text(level: str) -> str:
    """A level in words."""
    return {
        FROM_SCRATCH: say("from scratch"),
        BASELINE: say("baseline"),
        NEAR_BEST: say("95 % of the best"),
    }[level]


def _verdict(gap: Gap | None) -> Cell:
    if gap is None:
        return None
    return {"better": say("yes"), "worse": say("no, behind"), "cannot tell": say("cannot tell")}[gap.verdict]


def _known(estimate: Estimate) -> Cell:
    """The value alone where the interval has no ends."""
    return estimate if math.isfinite(estimate.lo) or math.isfinite(estimate.hi) else estimate.value


def _quantity(amount: Amount | None) -> Cell:
    return None if amount is None else Quantity(amount.value, amount.lo, amount.hi, amount.up_to)


def _tokens_needed(demand: Demand, doubted: Container[tuple[str, str]]) -> Quantity | None:
    """None where it was not asked; nan where pretraining is not shown to do anything, so none is known."""
    amount = demand.tokens
    if amount is None:
        return None
    if (demand.task, demand.line) in doubted and 0 < amount.value < math.inf:
        return Quantity(math.nan, math.nan, math.nan)
    return Quantity(amount.value, amount.lo, amount.hi, amount.up_to)


def verdict_table(found: Downstream) -> Table:
    """A row per task and recipe, at the largest D and the most labels."""
    rows: list[tuple[Cell, ...]] = []
    for v in found.verdicts:
        s = v.cell.setting
        rows.append(
            (
                v.task, v.metric, start_text(s.line), s.tokens or None, s.labels, len(v.cell.runs),
                _known(v.cell.estimate),
                _known(v.scratch.estimate) if v.scratch else None, _verdict(v.over_scratch),
                _known(v.baseline.estimate) if v.baseline else None, _verdict(v.over_baseline),
            )
        )  # fmt: skip
    columns = (
        say("task"), say("metric"), say("recipe"), "D", say("labels"), say("runs"), say("score"),
        say("from scratch"), say("beats it"), say("baseline"), say("beats the baseline"),
    )  # fmt: skip
    return _without_empty(Table("tasks", columns, tuple(rows)))


def demand_table(found: Downstream) -> Table:
    """Which task needs how much data of which domain."""
    rows: list[tuple[Cell, ...]] = []
    doubted = not_shown(found.verdicts)
    for d in found.demands:
        rows.append(
            (
                d.task, say("{metric} {value} ({level})", metric=d.metric, value=f"{d.value:.3f}",
                            level=level_text(d.level)),
                d.line, _tokens_needed(d, doubted), d.labels_at if d.tokens else None, _quantity(d.labels),
                d.tokens_at if d.labels else None,
                _quantity(d.labels_from_scratch),
            )
        )  # fmt: skip
    columns = (
        say("task"), say("level"), say("recipe"), say("tokens needed"), say("with labels"), say("labels needed"),
        say("with tokens"), say("labels needed from scratch"),
    )  # fmt: skip
    return _without_empty(Table("task_demand", columns, tuple(rows)))


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
    return _without_empty(Table("task_curves", columns, tuple(rows)))


def transfer_table(found: Downstream) -> Table:
    """Effective data transferred."""
    rows: list[tuple[Cell, ...]] = []
    for t in found.transferred:
        times = t.times
        rows.append(
            (
                t.task, t.line, t.tokens, t.labels, _known(t.score), _quantity(t.needed),
                Multiplier(times.value, times.lo, times.hi),
            )
        )  # fmt: skip
    columns = (
        say("task"), say("recipe"), "D", say("labels"), say("score"), say("labels from scratch for the same"),
        say("times the labels"),
    )  # fmt: skip
    return Table("transferred", columns, tuple(rows))


def upstream_table(found: Downstream) -> Table:
    """How well each domain's loss tells each task's metric."""
    rows = tuple(
        (u.task, u.domain, u.error, u.flat_error, u.correlation, len(u.means)) for u in found.upstream
    )  # fmt: skip
    columns = (
        say("task"), say("validation loss on"), say("error at the largest, held out"),
        say("error of the mean of the others"), say("rank correlation"), say("settings"),
    )  # fmt: skip
    return Table("upstream", columns, rows)


def best_table(found: Downstream) -> Table:
    """Recipes per task, with the probability of each to be the best."""
    rows: list[tuple[Cell, ...]] = []
    for b in found.best:
        for c in b.candidates:
            chance = None if math.isnan(c.probability) else Probability(c.probability)
            rows.append((b.task, b.tokens, b.labels, c.line, _known(c.score), chance))
    columns = (say("task"), "D", say("labels"), say("recipe"), say("score"), say("probability to be the best"))
    return Table("task_best", columns, tuple(rows))


def method_table(found: Downstream) -> Table:
    """Methods per task."""
    rows: list[tuple[Cell, ...]] = []
    for g in found.methods:
        for r in g.rows:
            rows.append(
                (
                    g.task, start_text(g.line), g.tokens or None, g.labels, r.method, _known(r.cell.estimate),
                    _known(r.against.gap) if r.against else None, r.num_trainable,
                    None if r.seconds is None else float(f"{r.seconds:.3g}"),
                )
            )  # fmt: skip
    columns = (
        say("task"), say("recipe"), "D", say("labels"), say("method"), say("score"), say("against the first"),
        say("trained weights"), say("seconds"),
    )  # fmt: skip
    return _without_empty(Table("task_methods", columns, tuple(rows)))


HIDDEN_COSTS = ("rows_per_second_batch1", "latency_ms_batch32", "peak_memory_bytes", "num_params", "nonzero_params")


def cost_table(found: Downstream) -> Table:
    """Quality against cost, as it is shown: what says the same in other words is in the file."""
    whole = full_cost_table(found)
    names = cost_columns()
    hidden = {names[COSTS.index(name)] for name in HIDDEN_COSTS}
    kept = [i for i, column in enumerate(whole.columns) if column not in hidden]
    return Table("task_compression", tuple(whole.columns[i] for i in kept),
                 tuple(tuple(row[i] for i in kept) for row in whole.rows))  # fmt: skip


def full_cost_table(found: Downstream) -> Table:
    """Quality against cost: a row per task, setting and compression, each after the model before it."""
    rows: list[tuple[Cell, ...]] = []
    seen: set[object] = set()
    for c in found.compressions:
        s = c.cell.setting
        before = (s.task, s.line, s.tokens, s.labels, s.method)
        about = (s.task, start_text(s.line), s.tokens or None, s.labels)
        if before not in seen:
            seen.add(before)
            rows.append((*about, say("uncompressed"), c.original, None, None, *_costs(c.original_cost)))
        rows.append(
            (*about, s.compress, _known(c.cell.estimate), _known(c.change.gap), _kept(c), *_costs(c.cost))
        )  # fmt: skip
    columns = (
        say("task"), say("recipe"), "D", say("labels"), say("compression"), say("score"), say("change"),
        say("share kept"), *cost_columns(),
    )  # fmt: skip
    return _without_empty(Table("task_compression_costs", columns, tuple(rows)))


def _kept(c: Compressed) -> Cell:
    share = c.share_kept
    return share if math.isfinite(share.lo) and math.isfinite(share.hi) else Rough(share.value)


def cost_columns() -> tuple[str, ...]:
    """The names of COSTS."""
    return (
        say("size [MiB]"), say("ms at batch 1"), say("ms at batch 32"), say("rows/s at batch 1"),
        say("rows/s at batch 32"), say("memory [MiB]"), "N", say("N, not zero"),
    )  # fmt: skip


def _costs(cost: Mapping[str, float]) -> tuple[Cell, ...]:
    found: list[Cell] = []
    for name in COSTS:
        value = cost.get(name)
        if value is None:
            found.append(None)
        elif name.endswith("bytes"):
            found.append(float(f"{value / MEGA:.4g}"))
        else:
            found.append(round(value) if name.endswith("params") else float(f"{value:.4g}"))
    return tuple(found)


def bought_back_table(found: Downstream) -> Table:
    """How much data buys back what compression loses."""
    rows: list[tuple[Cell, ...]] = []
    for b in found.bought_back:
        times = b.times
        rows.append(
            (b.task, b.line, b.compress, b.labels, b.tokens, b.original, _quantity(b.needed),
             Multiplier(times.value, times.lo, times.hi))
        )  # fmt: skip
    columns = (
        say("task"), say("recipe"), say("compression"), say("labels"), say("uncompressed at D"), say("its score"),
        say("compressed needs D"), say("times the tokens"),
    )  # fmt: skip
    return Table("bought_back", columns, tuple(rows))


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
    return _without_empty(Table("task_runs", columns, tuple(rows)))


MOST_CLASSES = 20


def class_table(found: Downstream, most: int | None = None) -> Table:
    """Per task a row per class, of its best setting: means over runs, in the order of the labels.

    most: so many classes of a task at most, those with the lowest F1; None: all.
    """
    rows: list[tuple[Cell, ...]] = []
    for verdict in leading(found.verdicts):
        runs = [run for run in verdict.cell.runs if run.classes]
        names = list(dict.fromkeys(name for run in runs for name in run.classes))
        of_task: list[tuple[Cell, ...]] = []
        worst: dict[str, float] = {}
        for name in names:
            told = [run.classes[name] for run in runs if name in run.classes]
            f1 = _mean(one.f1 for one in told)
            worst[name] = math.inf if f1 is None else f1
            of_task.append(
                (verdict.task, name, _mean(one.precision for one in told), _mean(one.recall for one in told), f1,
                 max(one.num for one in told))
            )  # fmt: skip
        shown = set(sorted(names, key=lambda name: worst[name])[:most])
        rows += [row for row in of_task if row[1] in shown]
    columns = (say("task"), say("class"), say("precision"), say("recall"), "F1", say("number in test"))
    return Table("task_classes" if most else "task_all_classes", columns, tuple(rows))


def _mean(values: Iterable[float | None]) -> Share | None:
    """Of those that are defined."""
    known = [value for value in values if value is not None]
    return Share(round(sum(known) / len(known), 6)) if known else None


def provenance_table(found: Downstream) -> Table:
    """Versions and hardware of the fine-tunings: a row per fact, several values where runs differ."""
    facts: dict[str, set[str]] = {}
    for run in (*found.study.runs, *found.study.compressions):
        for key, value in run.environment.items():
            facts.setdefault(key, set()).add(value)
    rows = tuple((key, "; ".join(sorted(values))) for key, values in sorted(facts.items()))
    return Table("task_provenance", (say("fact"), say("value")), rows)


def _without_empty(table: Table) -> Table:
    """Without columns in which nothing is known."""
    kept = [i for i in range(len(table.columns)) if any(row[i] is not None for row in table.rows)]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    return Table(table.name, tuple(table.columns[i] for i in kept), rows)
