"""What a set of runs can see: the interval that the report would give of a question, its power, the smallest effect.

The intervals are those of the analysis (noise.py, fit.py): a t quantile, with the degrees of freedom that the repeated
seeds leave, times a standard error; widths are their expected values. For a quantity that answers to the mean log loss
at size j with weight w_j, where n_j runs measure it and m_jk trunks measure both j and k, one recipe adds

    sd^2 sum_jk w_j w_k [(1 - s) (j = k) / n_j + s m_jk / (n_j n_k)]

to the variance; sd and s are the noise floor and the share of its variance that a trunk has in common. The analysis
estimates that sum from the deviations of the trunks, pooled over recipes; where trunks lack sizes that others have, it
comes out larger, and at a size where no seed is repeated it takes the worst case; of a curve, the interval is never
narrower than for points that are independent. The largest of these is taken here.
The weights are those of a fit to all runs alike, linear about the curve that is assumed. Recipes are taken as
independent, which is careful where seeds move them alike.

A power is that of a two-sided t test, by the noncentral t; an effect is detectable if a study sees it in 80 % of cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from analysis.contrasts.fit import MIN_SIZES
from analysis.contrasts.noise import MIN_DEGREES, MIN_PAIRS
from analysis.laws.law import Array
from analysis.laws.power import Power
from analysis.page.labels import count_text
from analysis.page.language import say
from analysis.planning.noise_floor import NoiseFloor
from analysis.planning.planned_run import PlannedRun

POWER = 0.8
UNREPEATED = 0.5
"""Degrees of freedom that a size without repeats counts as: few enough that nothing may rest on it alone."""
LAW = Power()
Kind = Literal["gap", "multiplier", "loss"]


@dataclass(frozen=True)
class Question:
    """What is to be known. kind: the gap of two recipes, the token multiplier, or the loss of one recipe, at D tokens.

    recipe: a. reference: b; None for a loss. A gap at a measured size needs no law; all else is read off curves.
    """

    kind: Kind
    recipe: str
    reference: str | None
    num_tokens: int

    @property
    def recipes(self) -> tuple[str, ...]:
        return (self.recipe,) if self.reference is None else (self.recipe, self.reference)

    @property
    def text(self) -> str:
        """What it asks, for people."""
        at = count_text(self.num_tokens)
        if self.kind == "loss":
            return say("loss of {recipe} at {at} tokens", recipe=self.recipe, at=at)
        names = {"recipe": self.recipe, "reference": self.reference, "at": at}
        if self.kind == "gap":
            return say("loss gap between {recipe} and {reference} at {at} tokens", **names)
        return say("token multiplier of {recipe} over {reference} at {at} tokens", **names)


@dataclass(frozen=True, eq=False)
class AssumedCurve:
    """L(D) of a recipe before it is known. thetas: (s, 3), guesses of E, B, beta, the best first; plans answer for all.

    source: where they come from, in a sentence.
    """

    thetas: Array
    source: str

    def loss(self, num_tokens: float) -> float:
        """The loss at D by the best guess."""
        return float(LAW.loss(self.thetas[0], {"D": np.array([num_tokens])})[0])

    def slope(self, num_tokens: float) -> float:
        """- d log L / d log D by the best guess."""
        E, _, beta = self.thetas[0]
        return float(beta * (1 - E / self.loss(num_tokens)))

    def gradient(self, sizes: Array) -> Array:
        """d log L / d(E, B, beta) by each guess, (s, k, 3)."""
        at = {"D": np.asarray(sizes, float)}
        return np.stack([LAW.gradient(theta, at) / LAW.loss(theta, at)[:, None] for theta in self.thetas])


class Precision:
    """How a question is answered by runs at some sizes: a machine for trying many sets of runs.

    sizes: ascending D. A set of runs is, per recipe of the question, a boolean array (trunks, sizes).
    """

    def __init__(
        self, question: Question, curves: Mapping[str, AssumedCurve], floor: NoiseFloor, sizes: Sequence[int]
    ) -> None:
        self.question, self.floor, self.sizes = question, floor, tuple(sizes)
        self._is_measured = question.kind == "gap" and question.num_tokens in self.sizes
        self._known_weights: dict[tuple[int, bytes], Array | None] = {}
        self._at = self.sizes.index(question.num_tokens) if self._is_measured else -1
        self._gradients = [curves[recipe].gradient(np.array(sizes)) for recipe in question.recipes]
        self._targets = [curves[r].gradient(np.array([question.num_tokens]))[:, 0] for r in question.recipes]

    @property
    def places(self) -> list[int]:
        """The places of the sizes whose runs can narrow the interval."""
        return [self._at] if self._is_measured else list(range(len(self.sizes)))

    def half_width(self, runs: Sequence[NDArray[np.bool_]]) -> float:
        """Half-width of the 95 % interval, of log losses; inf where the analysis would give none. runs: per recipe."""
        half, _ = self.interval(runs)
        return half

    def interval(self, runs: Sequence[NDArray[np.bool_]]) -> tuple[float, float]:
        """The half-width, and the degrees of freedom behind it.

        The analysis counts one for each repeated seed, whatever its size. A plan must not buy them with small runs: the
        contributions of the sizes, each with the repeats that it has, are combined by Welch and Satterthwaite's rule,
        and the lesser number is taken. So there is no interval where much of the answer rests on sizes that are not
        repeated.
        """
        if not self._is_measured:  # contrasts leave out what only one recipe has
            shared = np.all([own.any(axis=0) for own in runs], axis=0)
            runs = [own & shared for own in runs]
        counts = [own.sum(axis=0) for own in runs]
        counted = self._counted_degrees(runs)
        if counted < MIN_DEGREES:
            return math.inf, counted
        free = np.sum([np.maximum(n - 1, 0) for n in counts], axis=0)
        together = [own.T.astype(float) @ own for own in runs]
        correlation = self._correlation(counts, together, free)
        found = [(self._weights(i, n), n, own) for i, (n, own) in enumerate(zip(counts, runs, strict=True))]
        weighed = [(weights, n, own) for weights, n, own in found if weights is not None]
        if len(weighed) < len(found):
            return math.inf, counted
        parts = np.sum([(weights**2).sum(axis=0) / np.maximum(n, 1) for weights, n, _ in weighed], axis=0)
        degrees = min(counted, float(parts.sum() ** 2 / (parts**2 / np.maximum(free, UNREPEATED)).sum()))
        if degrees < MIN_DEGREES:
            return math.inf, degrees
        square = 0.0
        for weights, n, own in weighed:
            of_trunks = _units(degrees) ** 2 * self._variance(weights, n, own, correlation, free)
            of_points = 0.0 if self._is_measured else _units(max(1, int(n.sum()) - 3)) ** 2
            square += float(np.maximum(of_trunks, of_points * (weights**2 / np.maximum(n, 1)).sum(axis=1)).mean())
        return self.floor.sd * math.sqrt(square), degrees

    def _counted_degrees(self, runs: Sequence[NDArray[np.bool_]]) -> int:
        """Degrees of freedom that the repeated seeds leave, as the analysis counts them."""
        most = [int(own.sum(axis=0).max(initial=0)) for own in runs]
        # By the seeds that the question rests on: a run elsewhere, of another seed, is no way to undo a pairing.
        rows = [np.flatnonzero(own[:, self._at] if self._is_measured else own.any(axis=1)) for own in runs]
        is_paired = len(runs) == 2 and np.array_equal(rows[0], rows[1])
        if is_paired and len(rows[0]) >= MIN_PAIRS:
            return max(0, most[0] - 1)
        return sum(max(0, count - 1) for count in most)

    def _weights(self, recipe: int, n: NDArray[np.int_]) -> Array | None:
        """How the quantity answers to the mean log loss at each size, by each guess, (s, k); None: it cannot be had."""
        key = recipe, n.tobytes()
        if key not in self._known_weights:
            self._known_weights[key] = self._new_weights(recipe, n)
        return self._known_weights[key]

    def _new_weights(self, recipe: int, n: NDArray[np.int_]) -> Array | None:
        weights = np.zeros((len(self._targets[recipe]), len(n)))
        if self._is_measured:
            weights[:, self._at] = 1.0
            return weights if n[self._at] else None
        seen = n > 0
        if seen.sum() < MIN_SIZES:
            return None
        root = np.sqrt(n[seen])
        for own, gradient, target in zip(weights, self._gradients[recipe], self._targets[recipe], strict=True):
            jacobian = gradient[seen] * root[:, None]
            scale = np.linalg.norm(jacobian, axis=0)
            Q, R = np.linalg.qr(jacobian / scale)
            own[seen] = root * (Q @ np.linalg.solve(R.T, target / scale))
        return weights

    def _variance(
        self, weights: Array, n: NDArray[np.int_], own: NDArray[np.bool_], correlation: Array, free: NDArray[np.int_]
    ) -> Array:
        """Of the quantity, for a floor of 1, by each guess (s,): the larger of the true and the pooled."""
        share = self.floor.trunk_share
        per_run = weights / np.maximum(n, 1)
        true = (1 - share) * (per_run**2 * n).sum(axis=1) + share * ((per_run @ own.T) ** 2).sum(axis=1)
        column = weights / np.sqrt(np.maximum(n, 1))
        known = free > 0
        pooled = ((column * known) @ correlation * (column * known)).sum(axis=1)
        pooled = (np.sqrt(np.maximum(pooled, 0.0)) + np.abs(column * ~known).sum(axis=1)) ** 2
        return np.asarray(np.maximum(true, pooled))

    def _correlation(self, counts: Sequence[Array], together: Sequence[Array], free: Array) -> Array:
        """Of the deviations that the analysis pools, expected between sizes, (k, k)."""
        cross = np.zeros((len(free), len(free)))
        for n, m in zip(counts, together, strict=True):
            inverse = np.where(n > 1, 1 / np.maximum(n, 1), 0.0)
            usable = np.outer(n > 1, n > 1)
            centred = 1 - inverse[:, None] - inverse[None, :] + m * np.outer(inverse, inverse)
            cross += np.where(usable, m * centred, 0.0)
        root = np.sqrt(np.maximum(free, 1))
        found = self.floor.trunk_share * cross / np.outer(root, root)
        np.fill_diagonal(found, 1.0)
        return found


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
    """What runs would say to a question once they are done."""
    sizes = sorted({run.num_tokens for run in runs if run.recipe in question.recipes})
    precision = Precision(question, curves, floor, sizes)
    shape = incidence(question, runs, sizes)
    half, degrees = precision.interval(shape)
    least = detectable(half, degrees)
    powers: dict[float, float] = {}
    if question.kind != "loss" and math.isfinite(half):
        effects = MULTIPLIERS if question.kind == "multiplier" else GAPS
        for effect in effects:
            in_logs = math.log(effect) * _slope(question, curves) if question.kind == "multiplier" else effect
            powers[effect] = power_of(in_logs, half, degrees)
    return Forecast(question, said(question, half, curves), said(question, least, curves), degrees, powers)


def incidence(question: Question, runs: Sequence[PlannedRun], sizes: Sequence[int]) -> list[NDArray[np.bool_]]:
    """Per recipe of the question, which trunk (rows: the seeds of all its recipes) measures which size (columns)."""
    seeds = sorted({run.seeds for run in runs if run.recipe in question.recipes})
    found = []
    for recipe in question.recipes:
        own = {(run.seeds, run.num_tokens) for run in runs if run.recipe == recipe}
        shape = [(seed, size) in own for seed in seeds for size in sizes]
        found.append(np.array(shape, bool).reshape(len(seeds), len(sizes)))
    return found


def said(question: Question, in_logs: float, curves: Mapping[str, AssumedCurve]) -> float:
    """A difference of log losses in the units of a question: nats per token, or a factor of tokens."""
    if not math.isfinite(in_logs):
        return in_logs
    if question.kind == "multiplier":
        return math.exp(min(in_logs / _slope(question, curves), 700.0))
    return curves[question.recipe].loss(question.num_tokens) * in_logs


def in_log_loss(question: Question, value: float, curves: Mapping[str, AssumedCurve]) -> float:
    """The inverse of `said`."""
    if question.kind == "multiplier":
        return math.log(value) * _slope(question, curves)
    return value / curves[question.recipe].loss(question.num_tokens)


def _slope(question: Question, curves: Mapping[str, AssumedCurve]) -> float:
    """By which a gap becomes a multiplier: of the flatter curve, whose tokens are the less well told."""
    return max(min(curves[recipe].slope(question.num_tokens) for recipe in question.recipes), 1e-6)


def power_of(effect: float, half_width: float, degrees: float) -> float:
    """The chance that a 95 % interval of half-width `half_width` (on average) excludes 0, if the truth is `effect`."""
    quantile = _quantile(degrees)
    away = effect / (half_width / _units(degrees))
    nodes, weights = _spread(degrees)  # SciPy's noncentral t is nan for large effects
    seen = special.ndtr(away - quantile * nodes) + special.ndtr(-away - quantile * nodes)
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


@cache
def _units(degrees: float) -> float:
    """The expected half-width of a 95 % interval, in true standard errors."""
    gammas = special.gammaln((degrees + 1) / 2) - special.gammaln(degrees / 2)
    return _quantile(degrees) * math.sqrt(2 / degrees) * math.exp(gammas)


@cache
def _quantile(degrees: float) -> float:
    return float(special.stdtrit(degrees, 0.975))
