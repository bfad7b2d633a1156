"""Fit scaling laws to a table of runs: `python -m analysis fit`, and the same as a function."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from analysis.fitting.frontier import Optimum, has_frontier, optimum
from analysis.fitting.law_fit import HUBER, LawFit, fit_law, held_apart, no_fit
from analysis.fitting.objective import Huber, Objective
from analysis.fitting.predicted import Amounts, Predicted, predict_at
from analysis.fitting.result import Estimate
from analysis.fitting.slips import slips
from analysis.laws.law import Law, law_named
from analysis.runs.logs import AnalysisError
from analysis.runs.read_table import read_table
from analysis.runs.run_table import RunTable
from analysis.runs.study_table import table_of
from analysis.runs.table_checks import check_for, doubts, not_varied, rises

MIN_PAIRED = 3
"""Fewer held-out runs do not tell two laws apart."""
CHANCE = 0.05


@dataclass(frozen=True, eq=False)
class GroupFit:
    """A law fitted to the runs of one recipe, or to all (group None).

    bootstrap: percentile intervals over resampled runs, to stand beside the profile; empty where none was asked for.
    """

    group: str | None
    fit: LawFit
    predictions: tuple[Predicted, ...] = ()
    optima: tuple[Optimum, ...] = ()
    bootstrap: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class LawError:
    """What a law misses the held-out rows by: the mean of |predicted - measured| / measured; nan without a fit.

    num_units: what was drawn at random among the points, such as runs. may_be_best: whether it misses them by least, or
    by no more than chance above that.
    """

    law: str
    error: float
    covered: float
    num_points: int
    num_units: int
    may_be_best: bool


@dataclass(frozen=True, eq=False)
class TableFits:
    """Every fit, and the laws by their error at the largest scales, best first (empty where nothing was held out).

    notes: what is probably not meant, a sentence each.
    """

    source: str
    fits: tuple[GroupFit, ...]
    comparison: tuple[LawError, ...]
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> str | None:
        """The law that predicts best; None where less than two were compared, or they cannot be told apart."""
        able = [each.law for each in self.comparison if each.may_be_best]
        return able[0] if len(self.comparison) > 1 and len(able) == 1 else None

    @property
    def answer(self) -> str | None:
        """Which law predicts best, or that they cannot be told apart; None where less than two were compared."""
        told = [law for law in self.comparison if math.isfinite(law.error)]
        if len(self.comparison) < 2 or not told:
            return None
        best, *others = told
        rest = ", ".join(f"{law.law} {100 * law.error:.2g} %" for law in others) or "no other law has a fit"
        points = f"{best.num_points} {'point' if best.num_points == 1 else 'points'}"
        if self.best:
            return (
                f"{best.law} predicts what was held out best: it misses {points} by {100 * best.error:.2g} % on "
                f"average ({rest})."
            )
        missed = f"{best.law} misses the {points} held out by {100 * best.error:.2g} % on average ({rest})"
        if best.num_units < MIN_PAIRED:
            more = f"use --hold-out largest:{MIN_PAIRED}" if best.num_points < MIN_PAIRED else "more are needed"
            return (
                f"Cannot tell which law predicts best: {missed}, but fewer than {MIN_PAIRED} runs held out cannot "
                f"decide; {more}."
            )
        ties = ", ".join(law.law for law in others if law.may_be_best)
        return (
            f"{missed}, but cannot be told apart from {ties}: they differ by no more than chance may, over the runs "
            "held out. --hold-out with a larger K may tell."
        )


def fit_table(
    source: str | Path | RunTable,
    laws: Sequence[str],
    *,
    columns: Mapping[str, str] | None = None,
    response_column: str | None = None,
    group: str | None = None,
    cluster: str | None = None,
    where: Sequence[str] = (),
    hold_out: int | None = None,
    objective: Objective | None = None,
    fixed: Mapping[str, float] | None = None,
    at: Sequence[Amounts] = (),
    bootstrap: int = 0,
) -> TableFits:
    """Fit one or more laws to a table: CSV or parquet, RUNS (their final points on one domain), or a RunTable.

    columns, response_column, group, cluster, where: as `read_table` has them; for RUNS, `domain=NAME` alone. One fit a
    recipe, but for laws that take all together. hold_out: so many of the largest scales are predicted and not fitted;
    by default what the table or the study says, 1 to compare several laws, else 0. objective: by default Huber's with
    delta 1e-3 of the logarithm (of the value, for a metric). fixed: parameters that are known. at: where to predict.
    bootstrap: how many resamples of the runs to fit besides.

    Raises AnalysisError for a table, law or option that cannot be; what a fit came to is in its status.
    """
    kinds = [_law(name) for name in laws]
    if not kinds:
        raise AnalysisError("name at least one law")
    if len({kind.response for kind in kinds}) > 1:
        raise AnalysisError("laws of a loss and laws of a metric cannot be compared: fit one kind at a time")
    tables, told = _tables(source, kinds, columns, response_column, group, cluster, where)
    if hold_out and not len(held_apart(tables[0], hold_out)[1]):
        raise AnalysisError(f"{tables[0].source}: has no {hold_out + 1} scales (C, or N D) to hold out {hold_out} of")
    if hold_out is None:
        hold_out = told if told is not None else int(len(kinds) > 1)
    if objective is None:
        objective = HUBER if kinds[0].response == "loss" else Huber(scale="raw")
    fits: list[GroupFit] = []
    notes: list[str] = []
    unsaid: list[AnalysisError] = []
    for kind, table in zip(kinds, tables, strict=True):
        check_for(table, kind)
        notes += doubts(table, kind)
        parts: Mapping[str | None, RunTable] = {None: table}
        if not (kind.pools_recipes and (group is None or "recipe" in kind.columns)):
            parts = {name or None: part for name, part in table.by_recipe().items()}
        own = _known(kind, next(iter(parts.values())), fixed or {}, laws=kinds)
        for name, part in parts.items():
            seen, law = held_apart(part, hold_out)[0], kind.of(part)
            if lacks := not_varied(seen, kind):
                fit = no_fit(seen, law, objective, own, f"{lacks[0].upper()}{lacks[1:]}.")
            else:
                fit = fit_law(part, law, objective=objective, fixed=own, hold_out=hold_out)
            fits.append(_with_predictions(name, fit, at, bootstrap, unsaid))
            notes += slips(fit)
            if "D" in kind.columns and kind.response == "loss" and rises(part):
                notes.append(f"{f'{name}: ' if name else ''}{part.response} rises with D, and the law can only fall")
    if unsaid and not any(each.predictions or each.optima for each in fits):
        raise unsaid[0]
    notes += [f"no prediction: {error}" for error in unsaid]
    compared = _compared(fits, [kind.name for kind in kinds], hold_out)
    return TableFits(tables[0].source, tuple(fits), compared, tuple(dict.fromkeys(notes)))


def _law(name: str) -> type[Law]:
    try:
        return law_named(name)
    except ValueError as error:
        raise AnalysisError(str(error)) from error


def _tables(
    source: str | Path | RunTable,
    kinds: Sequence[type[Law]],
    columns: Mapping[str, str] | None,
    response_column: str | None,
    group: str | None,
    cluster: str | None,
    where: Sequence[str],
) -> tuple[list[RunTable], int | None]:
    """The table as each law reads it, and how many of the largest scales the source holds out."""
    told: int | None = None
    if isinstance(source, RunTable):
        tables = [source for _ in kinds]
    elif str(source).startswith("wandb:") or Path(source).is_dir():
        if columns or response_column or group or cluster:
            raise AnalysisError("--columns, --loss-column, --group, --cluster: runs say themselves what they are")
        if kinds[0].response != "loss":
            raise AnalysisError(
                f"{kinds[0].name} is a law of a task's metric, and of runs the losses are fitted: write their metrics "
                "with `points --out points.csv`, and fit that"
            )
        table, told = _of_runs(str(source), where)
        tables = [table for _ in kinds]
    else:
        zero = {letter for kind in kinds for letter in kind.may_be_zero}
        tables = [
            read_table(
                source,
                needs=[name for name in kind.columns if name != "recipe"],
                may_be_zero=sorted(zero),  # of one law at least: what another makes of a 0 is said with its name
                columns=columns,
                response=kind.response,
                response_column=response_column,
                group=group,
                cluster=cluster,
                where=where,
            )
            for kind in kinds
        ]
    for i, kind in enumerate(kinds):
        if missing := [name for name in kind.columns if name != "recipe" and name not in tables[i].columns]:
            raise AnalysisError(f"{tables[i].source}: {kind.name} needs {', '.join(missing)}, which is not there")
        if "recipe" in kind.columns:
            if len(np.unique(tables[i].recipe)) < 2:
                raise AnalysisError(f"{tables[i].source}: {kind.name} compares recipes; name their column with --group")
            tables[i] = tables[i].with_recipe_numbers()
    return tables, told


def _of_runs(place: str, where: Sequence[str]) -> tuple[RunTable, int]:
    from analysis.runs.points import build_study
    from analysis.runs.records import read_runs

    study = build_study(read_runs([place]))
    domain = study.target
    for condition in where:
        name, _, domain = condition.partition("=")
        if name != "domain":
            raise AnalysisError(f"for runs, --where can only choose a domain (domain=NAME), got {condition!r}")
    return table_of(study, domain), study.hold_out


def _known(kind: type[Law], table: RunTable, fixed: Mapping[str, float], laws: Sequence[type[Law]]) -> dict[str, float]:
    """The given values that are parameters of this law; each must be one of some law."""
    own = kind.of(table)
    params = {param.name: ends for param, *ends in zip(own.params, *own.bounds(table.y), strict=True)}
    for name in fixed:
        others = [param.name for law in laws if law is not kind for param in law.of(table).params]
        if name not in params and name not in others:
            raise AnalysisError(f"--fix: {kind.name} has no parameter {name!r}; it has {', '.join(params)}")
    for name, value in fixed.items():
        if name in params and not params[name][0] <= value <= params[name][1]:
            least, most = params[name]
            raise AnalysisError(f"--fix: {name} must be within {least:g} and {most:g}, got {value:g}")
    return {name: value for name, value in fixed.items() if name in params}


def _compared(fits: Sequence[GroupFit], names: Sequence[str], hold_out: int) -> tuple[LawError, ...]:
    """The laws by their error over the held-out rows of all groups."""
    if not hold_out:
        return ()
    found, errors = [], {}
    unit = {row: (each.group, name) for each in fits if (h := each.fit.held_out) for row, name in h.unit.items()}
    for name in names:
        seen = [each.fit.held_out for each in fits if each.fit.law.name == name]
        told = [held for held in seen if held is not None]
        count = sum(held.num_points for held in told)
        has_all = count > 0 and len(told) == len(seen)
        error = sum(held.error * held.num_points for held in told) / count if has_all else math.nan
        covered = sum(held.covered * held.num_points for held in told) / count if has_all else math.nan
        num_units = len({unit[row] for held in told for row in held.errors})
        found.append(LawError(name, error, covered, count, num_units, may_be_best=False))
        errors[name] = {row: error for held in told for row, error in held.errors.items()}
    found.sort(key=lambda each: (math.isnan(each.error), each.error, each.law))
    best = errors[found[0].law]
    return tuple(
        replace(each, may_be_best=math.isfinite(each.error) and not _is_worse(errors[each.law], best, unit))
        for each in found
    )


def _is_worse(errors: Mapping[int, float], best: Mapping[int, float], unit: Mapping[int, object]) -> bool:
    """Whether the errors at held-out rows exceed others by more than chance: a paired t test over what is drawn."""
    apart: dict[object, list[float]] = {}
    for row in sorted(set(errors) & set(best)):
        apart.setdefault(unit[row], []).append(errors[row] - best[row])
    means = np.array([np.mean(values) for values in apart.values()])
    if len(means) < MIN_PAIRED:
        return False
    error = float(means.std(ddof=1)) / math.sqrt(len(means))
    return bool(means.mean() > stdtrit(len(means) - 1, 1 - CHANCE / 2) * error)


def _with_predictions(
    group: str | None, fit: LawFit, at: Sequence[Amounts], bootstrap: int, unsaid: list[AnalysisError]
) -> GroupFit:
    """The fit with what it predicts; places that say C alone ask for the best N and D, where the law has them.

    unsaid: takes why the law says nothing of a place, for other laws may.
    """
    if not np.isfinite(fit.theta).all():
        return GroupFit(group, fit)
    budgets = [place["C"] for place in at if set(place) == {"C"} and has_frontier(fit)]
    places = [place for place in at if not (set(place) == {"C"} and has_frontier(fit))]
    predictions: list[Predicted] = []
    for place in places:
        try:
            predictions += predict_at(fit, place)
        except AnalysisError as error:
            unsaid.append(error)
    return GroupFit(
        group,
        fit,
        tuple(predictions),
        tuple(optimum(fit, flops) for flops in budgets),
        fit.bootstrap(bootstrap) if bootstrap else {},
    )
