"""The tables of a learning-rate check."""

from __future__ import annotations

import math

from analysis.contrasts.lr_check import LrCheck, listed, rate_text
from analysis.page.language import say
from analysis.page.table import Table


def best_table(check: LrCheck) -> Table:
    """A row per recipe of data and size: its best learning rate, and which others may be as good."""
    rows = []
    for line in check.lines:
        alike = [trial.rate for trial in line.trials if trial is not line.best and not trial.is_told_from_best]
        best, is_known = line.best, math.isfinite(line.best.loss.lo)
        loss, others = (best.loss, listed(alike) or say("none")) if is_known else (best.loss.value, None)
        rows.append((line.name, line.tokens, rate_text(best.rate), loss, others, line.is_at_edge))
    columns = (
        say("recipe"),
        "D",
        say("best learning rate"),
        say("loss there"),
        say("not told from it"),
        say("at the edge"),
    )
    return Table("best_learning_rates", columns, tuple(rows))


def gap_table(check: LrCheck) -> Table:
    """A row per pair, size and learning rate, and one where each has its own best."""
    rows = []
    for pair in check.pairs:
        own = say("own best ({a}, {b})", a=rate_text(pair.a.best.rate), b=rate_text(pair.b.best.rate))
        for at in (*pair.at, pair.own):
            gap = at.gap.value if pair.lack else at.gap
            decision = None if pair.lack else say(at.decision.value)
            rows.append(
                (pair.a.name, pair.b.name, pair.a.tokens, own if at.rate is None else rate_text(at.rate), gap, decision)
            )
    columns = ("A", "B", "D", say("learning rate"), say("gap A - B [nats per token]"), say("decision"))
    return Table("learning_rate_gaps", columns, tuple(rows))
