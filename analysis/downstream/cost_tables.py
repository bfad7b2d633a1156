"""The tables of compression: quality against cost, and the pretraining that buys back what is lost."""

from __future__ import annotations

import math
from collections.abc import Mapping

from analysis.downstream.downstream import Downstream
from analysis.downstream.tables import known, quantity, times_of, without_empty
from analysis.downstream.task_study import start_text
from analysis.downstream.tradeoff import COSTS, Compressed
from analysis.page.language import say
from analysis.page.table import Cell, Rough, Table

MEGA = 2.0**20
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
            (*about, s.compress, known(c.cell.estimate), known(c.change.gap), _kept(c), *_costs(c.cost))
        )  # fmt: skip
    columns = (
        say("task"), say("recipe"), "D", say("labels"), say("compression"), say("score"), say("change"),
        say("share kept"), *cost_columns(),
    )  # fmt: skip
    return without_empty(Table("task_compression_costs", columns, tuple(rows)))


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
        rows.append(
            (b.task, b.line, b.compress, b.labels, b.tokens, known(b.original), quantity(b.needed),
             times_of(b.times, b.needed))
        )  # fmt: skip
    columns = (
        say("task"), say("recipe"), say("compression"), say("labels"), say("uncompressed at D"), say("its score"),
        say("compressed needs D"), say("times the tokens"),
    )  # fmt: skip
    return without_empty(Table("bought_back", columns, tuple(rows)))
