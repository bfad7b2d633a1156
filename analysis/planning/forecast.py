"""What a set of runs can see: the interval of a question, its power, the smallest effect.

A power is that of a two-sided t test, by the noncentral t; an effect is detectable if a study sees it in 80 % of cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, special

from analysis.laws.law import Array
from analysis.planning.noise_floor import NoiseFloor
from analysis.planning.planned_run import PlannedRun
from analysis.planning.precision import Precision, incidence, pooled, quantile, units
from analysis.planning.question import AssumedCurve, Question, said, slope_of

POWER = 0.8


@dataclass(frozen=True)
class Forecast:
    """What a set of runs would say to a question.

    half_width: of the 95 % interval; detectable: the smallest true effect that is seen with 80 % power. Both in nats
    per token for a gap or a loss; for a multiplier they are factors: 1.1 is 10 % more or fewer tokens. inf: the
    analysis would give no interval. degrees: of freedom. powers: effect -> chance to see it.
    """

    question: Question
    half_width: float
    detectable: float
    degrees: float
    powers: Mapping[float, float]

    @property
    def is_known(self) -> bool:
        return math.isfinite(self.half_width)


GAPS = (0.0025, 0.005, 0.01, 0.02, 0.05)
"""True differences of log losses that a power is given for."""
MULTIPLIERS = (1.05, 1.1, 1.2, 1.5, 2.0)


def forecast(
    question: Question, runs: Sequence[PlannedRun], curves: Mapping[str, AssumedCurve], floor: NoiseFloor
) -> Forecast:
    """What runs would say to a question once they are done. runs: of all recipes that the noise is pooled over."""
    sizes = sorted({run.num_tokens for run in runs if run.recipe in question.recipes})
    seeds = sorted({run.seeds for run in runs})
    precision = Precision(question, curves, floor, sizes, pooled(question, runs, seeds, sizes))
    half, degrees = precision.reported([incidence(recipe, runs, seeds, sizes) for recipe in question.recipes])
    least = detectable(half, degrees)
    powers: dict[float, float] = {}
    if question.kind != "loss" and math.isfinite(half):
        effects = MULTIPLIERS if question.kind == "multiplier" else GAPS
        for effect in effects:
            in_logs = math.log(effect) * slope_of(question, curves) if question.kind == "multiplier" else effect
            powers[effect] = power_of(in_logs, half, degrees)
    return Forecast(question, said(question, half, curves), said(question, least, curves), degrees, powers)


def power_of(effect: float, half_width: float, degrees: float) -> float:
    """The chance that a 95 % interval, of half-width `half_width` in the median, excludes 0 where `effect` is true."""
    limit = quantile(degrees)
    away = effect / (half_width / units(degrees))
    nodes, weights = _spread(degrees)  # SciPy's noncentral t is nan for large effects
    seen = special.ndtr(away - limit * nodes) + special.ndtr(-away - limit * nodes)
    return float(weights @ seen)


def detectable(half_width: float, degrees: float, power: float = POWER) -> float:
    """The smallest true effect that is seen with a power; inf where there is no interval."""
    if not math.isfinite(half_width):
        return math.inf
    return half_width * _detectable_units(degrees, power)


@cache
def _detectable_units(degrees: float, power: float) -> float:
    """The detectable effect, in half-widths."""
    return float(optimize.brentq(lambda x: power_of(x, 1.0, degrees) - power, 0.05, 10.0))


@cache
def _spread(degrees: float) -> tuple[Array, Array]:
    """Estimated over true standard deviation: nodes and weights of its distribution, Gauss-Legendre in probability."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    return np.sqrt(2 * special.gammaincinv(degrees / 2, (nodes + 1) / 2) / degrees), weights / 2
