"""What a fitted law says of a place that was asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.fitting.law_fit import LawFit
from analysis.fitting.result import Estimate
from analysis.laws.law import Array
from analysis.laws.quality import Quality
from analysis.runs.logs import AnalysisError

Amounts = Mapping[str, float]
"""A place to predict at: D=2e10, N=1e9, w:code=0.3; C alone asks for the best N and D."""


@dataclass(frozen=True)
class Predicted:
    """The response at a place, with the interval of its mean and that of one new run.

    recipe: where the law has several.
    beyond: the place's scale over the largest that was fitted; above about 8, no interval covers what may happen.
    """

    at: Amounts
    recipe: str | None
    value: Estimate
    new_run: Estimate
    beyond: float


def predict_at(fit: LawFit, place: Amounts) -> tuple[Predicted, ...]:
    """The response at a place, for every recipe where the law has several.

    U counts as D where it is not said, and an amount that the table does not vary as it is there. Raises AnalysisError
    where the place lacks what the law reads.
    """
    if isinstance(fit.law, Quality):
        names = fit.law.recipes
        return tuple(_predict(fit, {**place, "recipe": float(i)}, names[i]) for i in range(len(names)))
    return (_predict(fit, place, None),)


def _predict(fit: LawFit, place: Amounts, recipe: str | None) -> Predicted:
    law = fit.law
    rows: dict[str, Array] = {}
    read = [*law.columns, *(name for name in law.optional if name in fit.table.columns)]
    for name in read:
        if name == "w":
            rows["w"] = _weights_at(fit.table.domains, place)
        elif name in place:
            rows[name] = np.array([float(place[name])])
        elif name == "U" and "D" in place:
            rows["U"] = np.array([float(place["D"])])
        elif np.ptp(fit.table.columns[name]) == 0:
            rows[name] = fit.table.columns[name][:1]
        else:
            raise AnalysisError(f"--at must give {name} for {law.name}, got {', '.join(place)}")
        if name != "w" and not (rows[name] > 0 or ((name in law.may_be_zero or name == "recipe") and rows[name] == 0)):
            raise AnalysisError(f"--at: {name} must be above 0, got {rows[name][0]:g}")
    value = float(fit.predict(rows)[0])
    ends = [float(end[0]) for end in (*fit.interval(rows), *fit.prediction_interval(rows))]
    scale = [name for name in ("N", "D") if name in rows]
    largest = np.prod([fit.table.columns[name] for name in scale], axis=0).max() if scale else math.nan
    beyond = float(np.prod([rows[name][0] for name in scale]) / largest) if scale else math.nan
    said = {name: amount for name, amount in place.items() if name != "recipe"}
    return Predicted(said, recipe, Estimate(value, *ends[:2]), Estimate(value, *ends[2:]), beyond)


def _weights_at(domains: Sequence[str], place: Amounts) -> Array:
    given = {name.removeprefix("w:"): value for name, value in place.items() if name.startswith("w:")}
    for name in given:
        if name not in domains:
            raise AnalysisError(f"--at: there is no domain {name!r}; there are {', '.join(domains)}")
    weights = np.array([[given.get(domain, 0.0) for domain in domains]])
    if abs(weights.sum() - 1) > 1e-6:
        raise AnalysisError(f"--at: the weights w:DOMAIN must sum to 1, got {weights.sum():g}")
    return weights
