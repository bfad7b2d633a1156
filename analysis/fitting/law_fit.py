"""Fit a law to a table of runs: the estimate, how sure it is, and a status that says how it went.

The estimate minimises the objective that was asked for. Intervals are profile intervals (profile.py): all values of a
quantity at which the deviance is less than a threshold above its minimum, where the threshold knows that rows of one
run share noise. They are those of a more efficient estimate, with room about the one that was asked for (working.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.fitting.minimise import Minimum, minimise, minimise_resamples
from analysis.fitting.objective import Huber, Objective
from analysis.fitting.profile import Derived, Parameter, Prediction
from analysis.fitting.result import Estimate, Status
from analysis.fitting.unequal_noise import log_scale_of
from analysis.fitting.working import Working, efficient, is_minimum
from analysis.laws.law import Array, Columns, Law
from analysis.page.language import say
from analysis.runs.run_table import RunTable

HUBER = Huber()
CONFIDENCE = 0.95
MAX_RATIO = 10.0
"""Of the ends of an interval of a positive parameter: not known within a factor of 10 is not known. A factor in front
of a power, which has the exponent in its unit, is exempt: it is as uncertain as the exponent times the distance of the
runs from 1 token, which says nothing. There the exponent is judged for both."""
MIN_RUNS = 8
"""Resampling fewer runs than these mostly draws the same few: `draws` then simulates new noise instead."""


@dataclass(frozen=True)
class HeldOut:
    """The rows that a fit did not see. error: the mean over them of |predicted - measured| / measured.

    covered: the share of them inside their prediction intervals. errors: of each, by its row in the source; unit: what
    was drawn at random, of each.
    """

    num_points: int
    error: float
    covered: float
    errors: Mapping[int, float]
    unit: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class LawFit:
    """A law as estimated from a table. theta: (p,), nan where the status says that there is none.

    table: the rows that were fitted. value: the objective at theta, over all rows. fixed: parameters that were given.
    unsettled: the parameters that the status is about. working: what intervals rest on; None without theta. lacks: what
    the table does not vary, in a sentence, where that is why there is no fit.
    """

    law: Law
    table: RunTable
    objective: Objective
    theta: Array
    value: float
    fixed: Mapping[str, float]
    status: Status
    unsettled: tuple[str, ...]
    params: Mapping[str, Estimate]
    held_out: HeldOut | None
    working: Working | None
    lacks: str = ""

    @property
    def why(self) -> str:
        """The status in a sentence, with what to do."""
        if self.lacks:
            return self.lacks
        if self.status is Status.NOT_IDENTIFIED:
            ranges = (f"{name} ({self.params[name].lo:.3g} to {self.params[name].hi:.3g})" for name in self.unsettled)
            return say(
                "The points do not settle {ranges}: all values in between fit as well. Predictions near the measured "
                "sizes can be used, these values cannot; runs where they matter more would settle them.",
                ranges=", ".join(ranges),
            )
        return say(self.status.value)

    @property
    def num_runs(self) -> int:
        """Runs that were fitted, each of which may have several rows."""
        return self.table.num_runs

    @property
    def num_clusters(self) -> int:
        """Units drawn at random: runs, or trunks of several."""
        return self.table.num_clusters

    @property
    def residuals(self) -> Array:
        """Measured less predicted, in logarithms where the objective has them, (n,)."""
        predicted = self.predict(self.table.columns)
        if self.objective.scale == "raw":
            return self.table.y - predicted
        return np.log(self.table.y) - np.log(predicted)

    @property
    def residual_sd(self) -> float:
        """Standard deviation of one row about the law, outliers weighted down; nan without a fit."""
        return self.working.noise.row_sd if self.working else float("nan")

    def predict(self, at: Columns) -> Array:
        """The response at rows `at`, (n,)."""
        with np.errstate(all="ignore"):  # nan without a fit, inf far outside
            return self.law.loss(self.theta, at)

    def interval(self, at: Columns, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
        """Profile interval of the mean response at each row of `at`: lower and upper, (n,) each."""
        return self._ends(at, confidence, is_new_run=False)

    def prediction_interval(self, at: Columns, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
        """Interval for the response of one new run at each row of `at`: lower and upper, (n,) each."""
        return self._ends(at, confidence, is_new_run=True)

    def _ends(self, at: Columns, confidence: float, is_new_run: bool) -> tuple[Array, Array]:
        count = _num_rows(at)
        if self.working is None:
            return np.full(count, np.nan), np.full(count, np.nan)
        own = self.working.unequal.variance(at) if is_new_run else None
        _, lo, hi = self.working.profile(Prediction(at), count, confidence, own)
        if self.objective.scale == "log":
            lo, hi = np.exp(lo), np.where(hi < 700, np.exp(np.minimum(hi, 700.0)), np.inf)
        predicted = self.predict(at)
        return np.minimum(lo, predicted), np.maximum(hi, predicted)

    def estimate(self, quantity: Callable[[Array], Array], confidence: float = CONFIDENCE) -> Estimate:
        """A quantity that a function computes from parameters (..., p), smooth in them, with its profile interval.

        A positive quantity that is unknown by orders of magnitude, such as a token multiplier or an optimal N, goes
        in as its logarithm. inf ends: the data set no limit.
        """
        if self.working is None:
            return Estimate(float("nan"), float("nan"), float("nan"))
        value = float(quantity(self.theta[None])[0])
        steps = 1e-4 * np.sqrt(np.diag(self.working.noise.unit_covariance)) * max(self.residual_sd, 1e-9)
        _, lo, hi = self.working.profile(Derived(quantity, steps), 1, confidence)
        return Estimate(value, min(float(lo[0]), value), max(float(hi[0]), value))

    def draws(self, count: int, seed: int = 0) -> Array:
        """Parameter vectors (count, p) as other runs of the same design would have given; the same for equal seeds.

        Runs are resampled, points of one trunk together; with fewer than 8 runs new noise is drawn about the fit
        instead. nan without a fit.
        """
        if self.working is None:
            return np.full((count, len(self.theta)), np.nan)
        rng = np.random.default_rng(seed)
        names, place = np.unique(self.table.run, return_inverse=True)
        if len(names) < MIN_RUNS:
            return self.simulated_draws(count, rng)
        chosen = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
        counts = chosen[:, place].astype(float)
        return minimise_resamples(
            self.law, self.table.columns, self.table.y, self.objective, counts, self.theta, fixed=self.fixed
        )[0]

    def bootstrap(self, count: int = 1000, seed: int = 0, confidence: float = CONFIDENCE) -> Mapping[str, Estimate]:
        """Percentile intervals of the parameters over `draws`, to stand beside the profile intervals.

        With few sizes they are too narrow (79 to 89 % at 5 to 8 sizes x 3 seeds): the profile intervals are the answer.
        """
        drawn = self.draws(count, seed)
        ends = np.quantile(drawn, [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
        names = (param.name for param in self.law.params)
        return {
            name: Estimate(float(value), float(lo), float(hi))
            for name, value, lo, hi in zip(names, self.theta, *ends, strict=True)
        }

    def simulated_draws(self, count: int, rng: np.random.Generator) -> Array:
        """The fit moved as new noise moves it, to first order in the parameters as fitted, within their bounds."""
        assert self.working is not None
        share, _, _, covariance = self.working.noise.components
        node = rng.choice(len(share), size=count, p=share)
        z = rng.standard_normal((count, covariance.shape[-1]))
        spread = np.sqrt(self.working.noise.degrees / rng.chisquare(self.working.noise.degrees, count))
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
        surface = self.working.surface
        low, high = surface.bounds
        moved = surface.inside(self.theta[None]) + np.einsum("kij,kj->ki", root[node], z) * spread[:, None]
        for j in range(moved.shape[1]):  # what a bound holds back moves the others too: only so they fit the rows
            back = np.clip(moved[:, j], low[j], high[j]) - moved[:, j]
            spread_j = covariance[node, :, j] / np.maximum(covariance[node, j, j], 1e-300)[:, None]
            moved = moved + np.where(back[:, None] != 0, back[:, None] * spread_j, 0.0)
        return surface.outside(np.clip(moved, low, high))


def fit_law(
    table: RunTable,
    law: Law,
    *,
    objective: Objective = HUBER,
    fixed: Mapping[str, float] | None = None,
    hold_out: int = 0,
) -> LawFit:
    """Fit a law to a table; hold_out: so many of the largest scales are predicted instead.

    Never raises for what the data are: the status says what went wrong.
    """
    fixed = dict(fixed or {})
    seen, unseen = held_apart(table, hold_out)
    free = np.array([param.name not in fixed for param in law.params])
    lost = no_fit(seen, law, objective, fixed)
    count, least = _num_settings(seen.columns, law), int(free.sum()) + 1
    if count < least:
        return replace(lost, lacks=_too_few(law, count, least))
    found = minimise(law, seen.columns, seen.y, objective, fixed=fixed)
    if not is_minimum(law, seen, objective, found, free):
        return replace(lost, status=Status.NOT_CONVERGED)
    working = efficient(seen, law, objective, found.theta, fixed)
    fit = replace(lost, status=Status.OK, theta=found.theta, value=found.value, working=working)
    params, left_open = _parameters(fit, free)
    status, unsettled = _status(left_open, found)
    fit = replace(fit, params=params, status=status, unsettled=unsettled)
    return replace(fit, held_out=_held_out(fit, unseen))


def _too_few(law: Law, count: int, least: int) -> str:
    """That there are so few different rows of what the law reads, in a sentence."""
    names = {"w": say("mixtures"), "L": say("losses")}
    few = dict.fromkeys(names.get(name, say("sizes")) for name in law.columns if name != "recipe")
    return say(
        "Too few different {what}: {count}, and a fit needs {least} or more, one more than it has free parameters. "
        "Add some, hold out fewer, or fix a parameter.",
        what=say(" and ").join(few), count=count, least=least,
    )  # fmt: skip


def no_fit(
    table: RunTable, law: Law, objective: Objective, fixed: Mapping[str, float] | None = None, lacks: str = ""
) -> LawFit:
    """What is said of a table with too few different rows; lacks: what it does not vary, in a sentence."""
    theta = np.full(len(law.params), np.nan)
    status = Status.TOO_FEW_POINTS
    return LawFit(law, table, objective, theta, np.nan, dict(fixed or {}), status, (), {}, None, None, lacks)


def held_apart(table: RunTable, hold_out: int) -> tuple[RunTable, RunTable]:
    """The rows that are fitted, and those at the `hold_out` largest scales.

    Scale is C FLOPs where the table has them, else 6 N D, D or N; 1 / L for metrics over L alone. With fewer scales
    than that nothing is held out.
    """
    scale = np.round(log_scale_of(table.columns), 9)
    order = np.unique(scale)
    if not 0 < hold_out < len(order):
        return table, table.where(np.zeros(len(table), bool))
    out = scale >= order[-hold_out]
    return table.where(~out), table.where(out)


def _parameters(fit: LawFit, free: NDArray[np.bool_]) -> tuple[dict[str, Estimate], tuple[str, ...]]:
    """Each parameter with its interval, and which of them the data leave open.

    An end that the data do not set is inf; below, 0 for a parameter that cannot be negative.
    """
    assert fit.working is not None
    _, lo, hi = fit.working.profile(Parameter(), int(free.sum()), CONFIDENCE)
    ends = iter(zip(lo, hi, fit.working.surface.unit, strict=True))
    found, left_open = {}, []
    for param, value, is_free in zip(fit.law.params, fit.theta, free, strict=True):
        low = high = float(value)
        if is_free:
            low, high, unit = (float(number) for number in next(ends))
            # E may be 0 for all that runs can tell: that is no lack, for its floor is 0
            if np.isinf(high) or (np.isinf(low) and param.name != "E"):
                left_open.append(param.name)
            if param.is_log:
                low, high = float(np.exp(low)), float(np.exp(high)) if high < 700 else np.inf
            low, high = low * unit, high * unit
            low = max(low, 0.0) if param.low >= 0 else low
            low, high = min(low, float(value)), max(high, float(value))
            is_positive = param.low >= 0 and param.name != "E" and "^" not in param.unit
            if is_positive and high > MAX_RATIO * low:
                left_open.append(param.name)
        found[param.name] = Estimate(float(value), low, high)
    return found, tuple(dict.fromkeys(left_open))


def _status(left_open: tuple[str, ...], found: Minimum) -> tuple[Status, tuple[str, ...]]:
    unsettled = tuple(dict.fromkeys([*left_open, *(name for name in found.at_bound if name != "E")]))
    if unsettled:
        return Status.NOT_IDENTIFIED, unsettled
    if "E" in found.at_bound:
        return Status.AT_BOUND, ("E",)
    return Status.OK, ()


def _held_out(fit: LawFit, table: RunTable) -> HeldOut | None:
    if not len(table):
        return None
    predicted = fit.predict(table.columns)
    lo, hi = fit.prediction_interval(table.columns)
    error = np.abs(predicted - table.y) / np.abs(table.y)
    rows = [int(row) for row in table.row]
    return HeldOut(
        len(table),
        float(error.mean()),
        float(((lo <= table.y) & (table.y <= hi)).mean()),
        errors=dict(zip(rows, error.tolist(), strict=True)),
        unit=dict(zip(rows, table.run.tolist(), strict=True)),
    )


def _num_settings(at: Columns, law: Law) -> int:
    """Different rows of what the law reads."""
    read = [name for name in (*law.columns, *law.optional) if name in at]
    columns = [np.asarray(at[name], float).reshape(_num_rows(at), -1) for name in read]
    return len(np.unique(np.concatenate(columns, axis=1), axis=0)) if columns else _num_rows(at)


def _num_rows(at: Columns) -> int:
    return len(next(iter(at.values())))
