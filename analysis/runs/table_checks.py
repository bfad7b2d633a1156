"""What a table of runs must be before a law is fitted to it, and the row that is not."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.laws.law import Array, Law
from analysis.runs.logs import AnalysisError
from analysis.runs.run_table import RunTable

COUNTS = ("N", "D", "U", "C", "P")
MAX_STEP = 2e4
"""Studies double their sizes or take ten times as many; tiny proxies beside one target may lie 10,000 apart."""
MAX_LOSS_STEP = 20.0
MAX_FLOPS_OFF = 100.0
"""C over N D is about 6 however it is counted; a row that is off by this factor from the others has other units."""
RISE_ERRORS = 2.0
MANY_CHECKPOINTS = 5
"""So few D of one N and seed are also trained apart, in equal steps."""
RISING = re.compile(
    r"(?<![a-z])(acc|accuracy|f1|em|exact_?match|bleu|rouge\w*|mcc|auc|auroc|pass(@|_at_)\d+|precision|recall|scores?|"
    r"win_?rate|rewards?)(?![a-z])",
    re.IGNORECASE,
)
FALLING = re.compile("loss|nll|err|ppl|perplexity|bits|bpb|^1 ?-|minus", re.IGNORECASE)
"""In the name of a column: metrics that are better when higher, and what makes a loss of them."""
WEIGHTS_TOLERANCE = 0.02
"""Weights are published with few decimals: RegMix's sum to 1 within 0.005."""


def check_rows(
    table: RunTable,
    identity: NDArray[np.str_] | None,
    *,
    rest: Sequence[str] | None = None,
    is_loss: bool = True,
    may_be_zero: Sequence[str] = (),
) -> None:
    """Raises AnalysisError for the first row that cannot be what it says.

    identity: the run of each row, (n,), where the table names them; rest: what else it says of each, to tell runs
    without a name apart. is_loss: the response must be above 0.
    may_be_zero: columns of which 0 is an amount.
    """
    for name, column in table.columns.items():
        for values in column.T if name == "w" else (column,):
            _numbers(table, name, values, above=None if name in ("w", *may_be_zero) else 0.0)
            if name in ("w", *may_be_zero) and (values < 0).any():
                at = int(np.argmax(values < 0))
                raise AnalysisError(f"{_row(table, at)}: {name} must not be below 0, got {values[at]:g}")
    _numbers(table, table.response, table.y, above=0.0 if is_loss else None)
    if "w" in table.columns:
        _sums_to_one(table)
    _units(table, is_loss)
    _once_each(table, identity, rest)
    if len(table) < 2:
        raise AnalysisError(f"{table.source}: 1 point is left: no law can be fitted to it")
    if np.ptp(table.y) == 0:
        raise AnalysisError(
            f"{table.source}: all {len(table)} rows have {table.response} {table.y[0]:g}: there is nothing to fit"
        )


def check_for(table: RunTable, law: type[Law]) -> None:
    """Raises AnalysisError where a law cannot be one of these rows, or needs what the table does not vary."""
    for name in sorted(set(law.columns) - {"w", "recipe", *law.may_be_zero}):
        if name in table.columns and (table.columns[name] == 0).any():
            at = int(np.argmax(table.columns[name] == 0))
            raise AnalysisError(f"{_row(table, at)}: {law.name} needs {name} above 0, got 0{_without_zeros(name)}")
    if (table.y > law.most).any():
        at = int(np.argmax(table.y > law.most))
        raise AnalysisError(
            f"{_row(table, at)}: {table.response} is {table.y[at]:g}, and {law.name} is a law of shares up to "
            f"{law.most:g}: per cent? Divide by 100, or write {table.y[at]:g}%"
        )
    if lacks := not_varied(table, law):
        raise AnalysisError(f"{table.source}: {lacks}")


def not_varied(table: RunTable, law: type[Law]) -> str:
    """What a law needs several values of and all rows have one, in a sentence; empty where there is no such."""
    for name in law.columns:
        column = table.columns.get(name)
        if column is None or name == "w" or name in law.may_be_constant:
            continue
        if np.ptp(column) == 0:
            return f"all {len(table)} rows have {name} {column[0]:g}, and {law.name} ({law.equation}) needs several"
    if "w" in law.columns and not np.ptp(table.columns["w"], axis=0).any():
        return f"all {len(table)} rows have the same weights, and {law.name} needs several"
    return ""


def check_falls(table: RunTable) -> None:
    """Raises AnalysisError where the response is a metric that is better when it is higher."""
    if RISING.search(table.response) and not FALLING.search(table.response):
        raise AnalysisError(
            f"{table.source}: {table.response} is a metric that rises, and the lower value is taken for the better: "
            "name a loss with --loss-column, or a column of the error (1 - accuracy)"
        )


def doubts(table: RunTable, law: type[Law]) -> list[str]:
    """What is probably not meant of rows that a law is fitted to, a sentence each: units, recipes taken as one."""
    found = doubts_of_units(table, law)
    if why := why_checkpoints(table):
        found.append(
            f"each of the {len(table)} rows counts as a run of its own, though {why}: if they are, --cluster COLUMN "
            "says which rows share a run; without it intervals are too narrow"
        )
    for name in table.unread:
        found.append(f"one fit over several values of {name}: are they recipes? --group {name}, or --where {name}=...")
    return found


def doubts_of_units(table: RunTable, law: type[Law]) -> list[str]:
    """Which amounts or losses are probably not in the unit that they are taken for, a sentence each."""
    at, found = table.columns, []
    is_small_too = law.response == "metric" or "P" in law.columns or "D" in law.may_be_zero  # of examples
    for name, least, what in (("N", 1e3, "parameters"), ("D", 1e4, "tokens")):
        if name in law.columns and not is_small_too and at[name].max() < least:
            flops = f", and C = 6 N D takes {what}" if {"N", "D"} <= set(law.columns) else ""
            found.append(
                f"{name} is at most {at[name].max():g}: in millions or billions? The law fits in any unit, but what is "
                f"said of {what} is then in that unit, as is --at{flops}"
            )
    if law.response == "loss" and any(word in table.response.lower() for word in ("ppl", "perplexity")):
        found.append(f"{table.response} is exp(loss), and {law.name} is a law of the loss: fit its logarithm")
    return found


def why_checkpoints(table: RunTable) -> str:
    """What makes rows that each count as a run seem to be points of a few trainings; empty where nothing does.

    Runs trained apart have D on any grid, and seeds in common. Points of one training have a column that says which
    step they are, or D in equal steps; so it takes one of these, in all curves of equal recipe, N and seed.
    """
    if table.identity is not None or table.num_clusters < len(table) or "D" not in table.columns:
        return ""
    named = [table.recipe, table.seed, *(table.columns[name] for name in ("N", "w") if name in table.columns)]
    curves: dict[str, list[float]] = {}
    for key, tokens in zip(zip(*named, strict=True), table.columns["D"].tolist(), strict=True):
        curves.setdefault(str(key), []).append(tokens)
    if min(len(set(sizes)) for sizes in curves.values()) < MANY_CHECKPOINTS:
        return ""
    steps = [np.diff(np.unique(sizes)) for sizes in curves.values()]
    if table.step:
        return f"the column {table.step} looks like checkpoints of a few runs"
    is_even = all(np.ptp(step) <= 0.02 * step.mean() for step in steps)
    return "equal steps of D look like checkpoints of a few runs" if is_even else ""


def rises(table: RunTable) -> bool:
    """Whether the response rises with log D by more than two standard errors, at equal N."""
    used = table.columns["D"] > 0
    logs = [np.log(table.columns[name][used]) for name in ("D", "N") if name in table.columns]
    design = np.stack([np.ones(used.sum()), *(log - log.mean() for log in logs)], axis=1)
    if np.linalg.matrix_rank(design, tol=1e-6) < design.shape[1]:
        design = design[:, :2]
    y = table.y[used]
    if len(y) <= design.shape[1] or np.ptp(design[:, 1]) == 0:
        return False
    slopes = np.linalg.lstsq(design, y, rcond=None)[0]
    off = y - design @ slopes
    variance = off @ off / (len(y) - design.shape[1]) * np.linalg.inv(design.T @ design)[1, 1]
    return bool(slopes[1] > RISE_ERRORS * np.sqrt(variance))


def _numbers(table: RunTable, name: str, values: Array, above: float | None) -> None:
    bad = ~np.isfinite(values) if above is None else ~(np.isfinite(values) & (values > above))
    if not bad.any():
        return
    at = int(np.argmax(bad))
    if np.isnan(values[at]):
        raise AnalysisError(f"{_row(table, at)}: {name} is missing or NaN; leave such rows out with --where '{name}!='")
    wanted = "a finite number" if above is None else f"a finite number above {above:g}"
    remedy = _without_zeros(name) if name in table.columns and values[at] == 0 else ""
    raise AnalysisError(f"{_row(table, at)}: {name} must be {wanted}, got {values[at]:g}{remedy}")


def _without_zeros(name: str) -> str:
    return f"; leave such rows out with --where '{name}>0'"


def _sums_to_one(table: RunTable) -> None:
    sums = table.columns["w"].sum(axis=1)
    bad = np.abs(sums - 1) > WEIGHTS_TOLERANCE
    if bad.any():
        at = int(np.argmax(bad))
        hint = ": per cent?" if abs(sums[at] / 100 - 1) <= WEIGHTS_TOLERANCE else ""
        raise AnalysisError(f"{_row(table, at)}: the weights of the domains must sum to 1, got {sums[at]:g}{hint}")


def _units(table: RunTable, is_loss: bool) -> None:
    for name in (*(n for n in COUNTS if n in table.columns), *((table.response,) if is_loss else ())):
        values = table.columns.get(name, table.y) if name != table.response else table.y
        sizes = np.unique(values[values > 0])
        steps = sizes[1:] / sizes[:-1]
        if len(steps) and steps.max() > (MAX_LOSS_STEP if name == table.response else MAX_STEP):
            k = int(np.argmax(steps))
            few_are_small = (values <= sizes[k]).sum() <= (values > sizes[k]).sum()
            at = int(np.argmax(values <= sizes[k]) if few_are_small else np.argmax(values > sizes[k]))
            raise AnalysisError(
                f"{_row(table, at)}: {name} is {values[at]:g}; from {sizes[k]:g} to {sizes[k + 1]:g} there is "
                "nothing in between: mixed units?"
            )
    if all(name in table.columns for name in "NDC") and (table.columns["D"] > 0).all():
        per_token = table.columns["C"] / (table.columns["N"] * table.columns["D"])
        off = per_token / np.median(per_token)
        bad = np.maximum(off, 1 / off) > MAX_FLOPS_OFF
        if bad.any():
            at = int(np.argmax(bad))
            raise AnalysisError(
                f"{_row(table, at)}: C is {per_token[at]:.3g} N D, against {np.median(per_token):.3g} N D in the "
                "other rows: mixed units?"
            )


def _once_each(table: RunTable, identity: NDArray[np.str_] | None, rest: Sequence[str] | None) -> None:
    """A run measured twice at one size is one measurement. Without names of runs, rows equal in all that is said."""
    seen: dict[tuple[object, ...], int] = {}
    amounts = [np.asarray(column, float).reshape(len(table), -1) for column in table.columns.values()]
    for i in range(len(table)):
        at = tuple(float(value) for column in amounts for value in column[i])
        told = (table.seed[i], float(table.y[i]), rest[i] if rest is not None else "")
        who = (identity[i],) if identity is not None else told
        key = (str(table.recipe[i]), *who, *at)
        if key in seen:
            name = f"run {str(identity[i])!r}" if identity is not None else "the same run"
            is_told = identity is not None or table.seed[i]
            remedy = "" if is_told else "; if these are repetitions, a column named seed tells them apart"
            raise AnalysisError(
                f"{_row(table, i)}: {name} is there before, with the same amounts, in row {table.row[seen[key]]}: "
                f"a run counts once{remedy}"
            )
        seen[key] = i


def _row(table: RunTable, at: int) -> str:
    return f"{table.source}: row {table.row[at]}"
