"""The tables of compression: quality against cost, and the pretraining that buys back what is lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import groupby

from analysis.downstream.downstream import Downstream
from analysis.downstream.tables import known, quantity, times_of, without_empty
from analysis.downstream.task_study import start_text
from analysis.downstream.tradeoff import COSTS, Compressed, medians
from analysis.page.language import say
from analysis.page.table import Cell, Rough, Share, Table

MEGA = 2.0**20
HIDDEN_COSTS = ("rows_per_second_batch1", "latency_ms_batch32", "peak_memory_bytes", "num_params", "nonzero_params")


def cost_table(found: Downstream) -> Table:
    """Quality against cost, as it is shown: what says the same in other words is in the file."""
    whole = full_cost_table(found)
    names = cost_columns()
    hidden = {say("share kept"), say("of the bytes"), *(names[COSTS.index(name)] for name in HIDDEN_COSTS)}
    kept = [i for i, column in enumerate(whole.columns) if column not in hidden]
    return Table("task_compression", tuple(whole.columns[i] for i in kept),
                 tuple(tuple(row[i] for i in kept) for row in whole.rows))  # fmt: skip


def full_cost_table(found: Downstream) -> Table:
    """Quality against cost: a row per task, setting and compression, each after the model before it."""
    rows: list[tuple[Cell, ...]] = []
    for (task, line, tokens, labels, _), own in groupby(sorted(found.compressions, key=_before), key=_before):
        each = list(own)
        about = (task, start_text(line), tokens or None, labels)
        before = medians([c.original_cost for c in each])
        rows.append((*about, say("uncompressed"), Share(each[0].original), None, None, *_costs(before), None, None))
        rows += [
            (*about, c.cell.setting.compress, known(c.cell.estimate), known(c.change.gap), _kept(c), *_costs(c.cost),
             _share(c, "bytes"), _share(c, "latency_ms_batch1"))
            for c in each
        ]  # fmt: skip
    columns = (
        say("task"), say("recipe"), "D", say("labels"), say("compression"), say("score"), say("change"),
        say("share kept"), *cost_columns(), say("of the bytes"), say("of the time at batch 1"),
    )  # fmt: skip
    return without_empty(Table("task_compression_costs", columns, tuple(rows)))


def _before(c: Compressed) -> tuple[str, str, int, int, str]:
    """The setting of the models that were compressed."""
    s = c.cell.setting
    return s.task, s.line, s.tokens, s.labels, s.method


def _share(c: Compressed, cost: str) -> Cell:
    share = c.ratio(cost)
    return None if share is None else Rough(share)


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
