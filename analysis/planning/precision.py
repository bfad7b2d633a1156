"""The interval that the report would give of a question, once some runs are done.

The intervals are those of the analysis (noise.py, fit.py): a t quantile, with the degrees of freedom that the repeated
seeds leave, times a standard error; widths are what the analysis reports in the median. A forecast of what is read off
a curve is rehearsed (rehearsal.py); sets of runs are tried by a formula. For a quantity that answers to the mean log
loss at size j with weight w_j, where n_j runs measure it and m_jk trunks measure both j and k, one recipe adds

    sd^2 sum_jk w_j w_k [(1 - s) (j = k) / n_j + s m_jk / (n_j n_k)]

to the variance; sd and s are the noise floor and the share of its variance that a trunk has in common. The analysis
estimates that sum from the deviations of the trunks, pooled over recipes; where trunks lack sizes that others have, it
comes out larger, and at a size where no seed is repeated it takes the worst case; of a curve, the interval is never
narrower than for points that are independent. The largest of these is taken here. Noise is pooled with that of the
other recipes of the plan that the analysis would pool it with.
The weights are those of a fit to all runs alike, linear about the curve that is assumed. Recipes are taken as
independent, which is careful where seeds move them alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.contrasts.fit import MIN_SIZES
from analysis.contrasts.noise import MIN_DEGREES
from analysis.laws.law import Array
from analysis.planning.noise_floor import NoiseFloor, median_spread
from analysis.planning.planned_run import PlannedRun, Seeds
from analysis.planning.question import LAW, AssumedCurve, Question, read_at, stronger
from analysis.planning.rehearsal import OFFSETS, Rehearsal, paired_degrees, rehearse

UNREPEATED = 0.5
"""Degrees of freedom that a size without repeats counts as: few enough that nothing may rest on it alone."""
FURTHEST = 20.0
"""Of a log multiplier, half-widths beyond are none."""
MAX_OTHERS = 15
"""Further recipes whose noise is pooled: more of them leave t where it is."""


class Precision:
    """How a question is answered by runs at some sizes: a machine for trying many sets of runs.

    sizes: ascending D. A set of runs is, per recipe of the question, a boolean array (trunks, sizes). others: those of
    further recipes that the noise is pooled with. half_width: of log losses, about what a multiplier will have: the
    ends of its interval lie so far from D, where the band of the curve that is read off is another.
    """

    def __init__(
        self,
        question: Question,
        curves: Mapping[str, AssumedCurve],
        floor: NoiseFloor,
        sizes: Sequence[int],
        others: Sequence[NDArray[np.bool_]] = (),
        half_width: float = 0.0,
    ) -> None:
        self.question, self.floor, self.sizes, self.others = question, floor, tuple(sizes), tuple(others)
        self._all_curves = curves
        self._curves = [curves[recipe] for recipe in question.recipes]
        self._read_at = read_at(question, curves)
        self.is_measured = question.kind == "gap" and question.num_tokens in self.sizes
        self._known_widths: dict[bytes, float] = {}  # a search asks for the same sets again and again
        self._known_weights: dict[tuple[int, bytes], Array | None] = {}
        self._at = self.sizes.index(question.num_tokens) if self.is_measured else -1
        self._gradients = [curve.gradient(np.array(sizes)) for curve in self._curves]
        self._targets = [c.gradient(np.array([at]))[:, 0] for c, at in zip(self._curves, self._read_at, strict=True)]
        if half_width and question.kind == "multiplier":
            moved, at = self._moved, self._read_at[self._moved]
            ends = at * np.exp(np.array([-1.0, 1.0]) * min(half_width / self._curves[moved].slope(at), FURTHEST))
            self._gradients = [np.repeat(gradient, 2, axis=0) for gradient in self._gradients]
            self._targets = [np.repeat(target, 2, axis=0) for target in self._targets]
            self._targets[moved] = self._curves[moved].gradient(ends).reshape(-1, 3)

    def opened(self, half_width: float) -> Precision:
        """The same, with the formula for multipliers whose half-width is about this, of log losses."""
        return Precision(self.question, self._all_curves, self.floor, self.sizes, self.others, half_width)

    @property
    def places(self) -> list[int]:
        """The places of the sizes whose runs can narrow the interval."""
        return [self._at] if self.is_measured else list(range(len(self.sizes)))

    def half_width(self, runs: Sequence[NDArray[np.bool_]]) -> float:
        """Half-width of the 95 % interval, of log losses; inf where the analysis would give none. runs: per recipe."""
        key = b"".join(own.tobytes() for own in runs)
        if key not in self._known_widths:
            self._known_widths[key] = self.interval(runs)[0]
        return self._known_widths[key]

    def interval(self, runs: Sequence[NDArray[np.bool_]]) -> tuple[float, float]:
        """The half-width, and the degrees of freedom behind it.

        The analysis counts one for each repeated seed, whatever its size. A plan must not buy them with small runs: the
        contributions of the sizes, each with the repeats that it has, are combined by Welch and Satterthwaite's rule,
        and the lesser number is taken. So there is no interval where much of the answer rests on sizes that are not
        repeated.
        """
        runs = self._shared(runs)
        counts = [own.sum(axis=0) for own in runs]
        counted = self._counted_degrees(runs)
        if counted < MIN_DEGREES:
            return math.inf, counted
        pool = [*runs, *self.others]
        numbers = [own.sum(axis=0) for own in pool]
        free = np.sum([np.maximum(n - 1, 0) for n in numbers], axis=0)
        together = [own.T.astype(float) @ own for own in pool]
        correlation = self._correlation(numbers, together, free)
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
            of_trunks = units(degrees) ** 2 * self._variance(weights, n, own, correlation, free)
            of_points = 0.0 if self.is_measured else units(max(1, int(n.sum()) - 3)) ** 2
            square += float(np.maximum(of_trunks, of_points * (weights**2 / np.maximum(n, 1)).sum(axis=1)).mean())
        return self.floor.typical_sd * math.sqrt(square), degrees

    def reported(self, runs: Sequence[NDArray[np.bool_]]) -> tuple[float, float]:
        """The half-width that the analysis reports in the median, and the degrees of freedom that it counts.

        inf where `interval` finds that too much would rest on sizes without repeats.
        """
        half, degrees = self.interval(runs)
        if not math.isfinite(half):
            return half, degrees
        counted = float(self._counted_degrees(self._shared(runs)))
        if self.is_measured:
            return half * quantile(counted) / quantile(degrees), counted
        return self._rehearsed(runs, half, counted), counted

    def careful(self, runs: Sequence[NDArray[np.bool_]]) -> float:
        """The half-width with no more degrees of freedom than `interval` finds, rehearsed where it rests on curves."""
        half, degrees = self.interval(runs)
        is_formula = self.is_measured or not math.isfinite(half)
        return half if is_formula else self._rehearsed(runs, half, degrees)

    def _rehearsed(self, runs: Sequence[NDArray[np.bool_]], half: float, degrees: float) -> float:
        """The median over drawn studies. half: about what will come out. degrees: to claim at most."""
        runs = self._shared(runs)
        drawn = rehearse(runs, self.others, self.floor.trunk_share, len(runs) > 1)
        read = self._multiplier if self.question.kind == "multiplier" else self._level
        each = [read(drawn, guess, half, degrees) for guess in range(len(self._targets[0]))]
        return math.sqrt(float(np.mean(np.square(each))))

    def _level(self, drawn: Rehearsal, guess: int, half: float, degrees: float) -> float:
        """The median half-width of the log losses at D together."""
        widths = [self._widths(drawn, i, guess, np.array([at]), degrees) for i, at in enumerate(self._read_at)]
        return float(np.median(np.hypot(widths[0], widths[-1] if len(widths) > 1 else 0.0)))

    def _multiplier(self, drawn: Rehearsal, guess: int, half: float, degrees: float) -> float:
        """The median half-width of the log multiplier, times the slope: where the gap leaves its own band."""
        moved = self._moved
        at, slope = self._read_at[moved], self._curves[moved].slope(self._read_at[moved])
        steps = np.concatenate([-OFFSETS[:0:-1], OFFSETS]) * min(half / slope, FURTHEST)
        tokens = at * np.exp(steps)
        middle = len(OFFSETS) - 1
        fixed = self._widths(drawn, 1 - moved, guess, np.array([self._read_at[1 - moved]]), degrees)
        band = np.hypot(self._widths(drawn, moved, guess, tokens, degrees), fixed)
        log_loss = np.log(LAW.loss(self._curves[moved].thetas[guess], {"D": tokens}))
        outside = np.abs(log_loss - log_loss[middle]) - band
        ends = [_first_zero(np.abs(steps[side]), outside[:, side]) for side in (np.s_[middle::-1], np.s_[middle:])]
        return float(np.median(ends[0] + ends[1])) / 2 * slope

    def _widths(self, drawn: Rehearsal, recipe: int, guess: int, tokens: Array, degrees: float) -> Array:
        """Half-widths of log losses of a recipe at D = tokens (m,), (draws, m)."""
        n = drawn.runs[recipe].sum(axis=0)
        gradient = self._gradients[recipe][guess]
        target = self._curves[recipe].gradient(tokens)[guess]
        weights = np.stack([_responses(gradient, n, one) for one in target], axis=1)
        return self.floor.typical_sd * drawn.half_widths(recipe, weights, gradient, degrees)

    @property
    def _moved(self) -> int:
        """The recipe with the lower loss, whose curve a multiplier is read off."""
        return stronger(self.question, self._all_curves)

    def _shared(self, runs: Sequence[NDArray[np.bool_]]) -> Sequence[NDArray[np.bool_]]:
        """Runs at sizes that all recipes have: contrasts of curves leave out the others."""
        if self.is_measured:
            return runs
        shared = np.all([own.any(axis=0) for own in runs], axis=0)
        return [own & shared for own in runs]

    def _counted_degrees(self, runs: Sequence[NDArray[np.bool_]]) -> int:
        """Degrees of freedom that the repeated seeds leave, as the analysis counts them."""
        most = [max(0, int(own.sum(axis=0).max(initial=0)) - 1) for own in (*runs, *self.others)]
        if len(runs) < 2:
            return sum(most)
        # By the seeds that the question rests on: a run elsewhere, of another seed, is no way to undo a pairing.
        rows = [own[:, self._at] if self.is_measured else own.any(axis=1) for own in runs]
        rows += [own.any(axis=1) for own, count in zip(self.others, most[len(runs) :], strict=True) if count]
        return paired_degrees([tuple(np.flatnonzero(row).tolist()) for row in rows]) or sum(most)

    def _weights(self, recipe: int, n: NDArray[np.int_]) -> Array | None:
        """How the quantity answers to the mean log loss at each size, by each guess, (s, k); None: it cannot be had."""
        key = recipe, n.tobytes()
        if key not in self._known_weights:
            self._known_weights[key] = self._new_weights(recipe, n)
        return self._known_weights[key]

    def _new_weights(self, recipe: int, n: NDArray[np.int_]) -> Array | None:
        weights = np.zeros((len(self._targets[recipe]), len(n)))
        if self.is_measured:
            weights[:, self._at] = 1.0
            return weights if n[self._at] else None
        seen = n > 0
        if seen.sum() < MIN_SIZES:
            return None
        each = zip(self._gradients[recipe], self._targets[recipe], strict=True)
        return np.stack([_responses(gradient, n, target) for gradient, target in each])

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


def _responses(gradient: Array, n: NDArray[np.int_], target: Array) -> Array:
    """How a quantity with derivatives target (3,) answers to the mean log loss at each size, n runs at each, (k,)."""
    seen = n > 0
    root = np.sqrt(n[seen])
    jacobian = gradient[seen] * root[:, None]
    scale = np.linalg.norm(jacobian, axis=0)
    Q, R = np.linalg.qr(jacobian / scale)
    found = np.zeros(len(n))
    found[seen] = root * (Q @ np.linalg.solve(R.T, target / scale))
    return found


def _first_zero(x: Array, values: Array) -> Array:
    """Where values (draws, m), negative at first, pass 0 along x (m,); inf where they never do."""
    passed = values >= 0
    right = np.argmax(passed, axis=1)
    left, draws = np.maximum(right - 1, 0), np.arange(len(values))
    low, high = values[draws, left], values[draws, right]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(right > left, -low / (high - low), 0.0)
    return np.where(passed.any(axis=1), x[left] + share * (x[right] - x[left]), math.inf)


def incidence(
    recipe: str, runs: Sequence[PlannedRun], seeds: Sequence[Seeds], sizes: Sequence[int]
) -> NDArray[np.bool_]:
    """Which trunk of a recipe (rows: seeds) measures which size (columns)."""
    own = {(run.seeds, run.num_tokens) for run in runs if run.recipe == recipe}
    return np.array([(seed, size) in own for seed in seeds for size in sizes], bool).reshape(len(seeds), len(sizes))


def pooled(
    question: Question, runs: Sequence[PlannedRun], seeds: Sequence[Seeds], sizes: Sequence[int]
) -> list[NDArray[np.bool_]]:
    """The runs of the recipes that a question is not about, but whose noise tells of its own; of the first few."""
    names = dict.fromkeys(run.recipe for run in runs if run.recipe not in question.recipes)
    return [incidence(name, runs, seeds, sizes) for name in list(names)[:MAX_OTHERS]]


@cache
def units(degrees: float) -> float:
    """The median half-width of a 95 % interval, in true standard errors."""
    return quantile(degrees) * median_spread(degrees)


@cache
def quantile(degrees: float) -> float:
    return float(special.stdtrit(degrees, 0.975))
