"""Recipe against recipe: loss gap, token multiplier, how it changes with scale, decision.

A contrast is computed from the law fitted to all points (the largest size has done its work as a test by
then). Where tokens repeat, L(D) does not hold, and the mean losses at the measured sizes are interpolated
instead; the same interpolation stands beside every contrast from fits as a check that needs no law.

The decision is that of the gap between the mean losses at the largest common D: it needs no law, and all contrasts at
one size agree on the order of recipes. The multiplier (multiplier.py) says what the gap is worth; where the gap is told
from 0, its interval holds nothing on the other side of 1. Where the noise between seeds is not known, nothing is
decided and no interval is given: points of one trunk rise and fall together, so however well they fit a curve, they do
not tell how far another trunk would lie from it. verdict.py states the rule.

Where recipes have the same seeds, what a seed does to all of them cancels in a difference: they are paired
(`SeedNoise.of_differences`), from three recipes on, and two from 5 seeds on. Two recipes with 3 seeds are not: pairing
leaves 2 degrees of freedom of 4, and would be narrower only if seeds moved both recipes alike (correlation > .58).

Measured with 9 equal recipes x 5 sizes x 2 seeds, noise of a trunk 0.4 %, 1500 studies: 5.2 % of contrasts decide, and
in 4.9 % of studies the ranking tells any recipe from the best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from analysis.contrasts.curves import Band, Curve, band, measured_curve
from analysis.contrasts.fit import CONFIDENCE, EPOCHS_TOLERANCE, MAX_EPOCHS, Fit, fit_power_law
from analysis.contrasts.matching import why_not_comparable, why_unmatched
from analysis.contrasts.multiplier import Trace, growth, multiplier, multiplier_at, smallest_shared, trace_multiplier
from analysis.contrasts.noise import SeedNoise, pool_of, pooled_noise
from analysis.contrasts.verdict import (
    REACH,
    Crossing,
    Decision,
    Forecast,
    decide,
    find_crossing,
    of_one_sign,
    probability_lower,
    reason_text,
    why_signs_differ,
)
from analysis.fitting.result import Estimate, Status
from analysis.laws.law import Array
from analysis.page.labels import count_text
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.runs.recipes import Recipe


@dataclass(frozen=True)
class Contrast:
    """Recipe a against recipe b (the reference) on one domain.

    refused: why the two may not be compared; then every number is None.
    reason: the code of why it cannot tell (verdict.py), None if it can. num_pairs: seeds by which the two are paired, 0
    if they are not. tokens: the largest common D. gap: L_a - L_b of the mean losses there, nats per token. probability:
    that A has the lower loss there. multiplier: D_b / D_a at `loss`. num_params: N, where recipes have several.
    at_smallest: the multiplier at the highest loss that both reach, at_smallest_tokens of the weaker recipe.
    growth: multiplier / at_smallest. check: the multiplier by interpolation between measured sizes, without
    a law. fits: the laws fitted to all points of a and b, where they were tried. With one size in common there is
    a gap and nothing else. forecasts: at the budgets that were asked for. unit: of the losses, where a table has
    another than nats per token.
    """

    a: str
    b: str
    domain: str
    match: str
    refused: str | None
    method: str = ""
    decision: Decision = Decision.CANNOT_TELL
    reason: str | None = None
    tokens: int | None = None
    loss: float | None = None
    num_params: float | None = None
    gap: Estimate | None = None
    probability: float | None = None
    num_pairs: int = 0
    multiplier: Estimate | None = None
    at_smallest: Estimate | None = None
    at_smallest_tokens: float | None = None
    growth: Estimate | None = None
    check: float | None = None
    is_extrapolated: bool = False
    trace: Trace | None = None
    crossing: Crossing | None = None
    forecasts: tuple[Forecast, ...] = ()
    notes: tuple[str, ...] = ()
    fits: tuple[Fit, ...] = ()
    unit: str = ""

    @property
    def unit_text(self) -> str:
        """The unit of losses and of the gap, in words."""
        return self.unit or say("nats per token")

    @property
    def is_bound(self) -> bool:
        """Whether the measured sizes say no more of the multiplier than that it is above or below a number."""
        return self.multiplier is not None and self.multiplier.value in (0.0, math.inf)

    @property
    def trend(self) -> str:
        """How the multiplier changes with scale, in words."""
        if self.growth is None:
            return say("not known")
        if self.growth.lo > 1:
            return say("multiplier grows with corpus size")
        if self.growth.hi < 1:
            return say("multiplier shrinks with corpus size")
        return say("not distinguishable from constant")

    @property
    def why(self) -> str:
        """Why nothing was decided, in a sentence; empty where something was."""
        return reason_text(self.reason)


def contrasts(study: Study, domain: str) -> tuple[Contrast, ...]:
    """Every recipe against the reference of its block, on one domain.

    Recipes of one block share model, objective, tokenizer and validation text; across blocks nothing is
    compared. If no block holds two recipes, the contrasts with the study's first recipe are returned,
    refused with the reason.
    """
    blocks: list[list[Recipe]] = []
    for recipe in study.recipes:
        if not study.points_of(recipe.label, domain):
            continue
        home = next((block for block in blocks if why_not_comparable(recipe, block[0], domain) is None), None)
        if home is None:
            blocks.append([recipe])
        else:
            home.append(recipe)
    found = [compare(study, recipe, block[0], domain) for block in blocks for recipe in block[1:]]
    if not found:
        found = [compare(study, block[0], blocks[0][0], domain) for block in blocks[1:]]
    return tuple(found)


def compare(
    study: Study, a: Recipe, b: Recipe, domain: str, confidence: float = CONFIDENCE, at: Sequence[float] = ()
) -> Contrast:
    """Contrast recipe a with recipe b, or refuse with the numbers that forbid it. at: further D to say something of."""
    points_a, points_b = study.points_of(a.label, domain), study.points_of(b.label, domain)
    why = why_not_comparable(a, b, domain) or why_unmatched(points_a, points_b, study)
    if why:
        return Contrast(a.label, b.label, domain, study.match, refused=why)
    pool = _pool(study, a.label, domain)
    noise = noise_of_differences(study, pool, domain)
    common = sorted({p.tokens for p in points_a} & {p.tokens for p in points_b})
    notes = []
    left_out = sorted({p.tokens for p in (*points_a, *points_b)} - set(common))
    if left_out:
        sizes = ", ".join(map(count_text, left_out))
        notes.append(say("sizes that only one recipe has are left out: {sizes} tokens", sizes=sizes))
    points_a = tuple(p for p in points_a if p.tokens in common)
    points_b = tuple(p for p in points_b if p.tokens in common)
    gap = loss_gap(study, a, b, domain, common[-1], confidence)
    decision = decide(gap)
    found = Contrast(
        a.label, b.label, domain, study.match, refused=None, decision=decision, tokens=common[-1], gap=gap,
        reason=noise.lack or "within_noise" if decision is Decision.CANNOT_TELL else None,
        probability=probability_lower(gap, noise.degrees, confidence) if noise.is_known else None,
        num_pairs=num_pairs(study, (a, b), pool, domain),
    )  # fmt: skip
    if len(common) == 1:
        return replace(found, method=say("mean losses at the one size in common"), notes=tuple(notes))
    repeats = max(p.epochs for p in (*points_a, *points_b))
    differs_in_U = a.subtree("budget.unique_tokens") != b.subtree("budget.unique_tokens")
    measured = measured_curve(points_a, noise), measured_curve(points_b, noise)
    curves: tuple[Curve, Curve] = measured
    method = say("interpolation between measured sizes")
    fits: tuple[Fit, ...] = ()
    vague: list[str] = []
    if not differs_in_U and repeats <= MAX_EPOCHS + EPOCHS_TOLERANCE:
        full_a, full_b = (full_fit(study, r.label, domain, tuple(common), pool) for r in (a, b))
        fits = full_a, full_b
        vague = [fit.recipe for fit in fits if fit.status is Status.NOT_IDENTIFIED]
        if not vague and full_a.law is not None and full_b.law is not None:
            curves, method = (full_a, full_b), say("power law fitted to all points")
    found = replace(found, method=method, fits=fits)
    span = float(common[0]), float(common[-1])
    found = _add_multiplier(found, curves, measured, span, confidence)
    if found.multiplier is not None and noise.is_known:
        if why := why_signs_differ(found.multiplier, decision, count_text(common[-1])):
            notes.append(why)
        found = replace(found, multiplier=of_one_sign(found.multiplier, decision))
    bands = band(curves[0], confidence), band(curves[1], confidence)
    sizes_read = np.geomspace(span[0], span[1] * (1 if curves is measured else REACH), 128)
    found = replace(
        found,
        crossing=find_crossing(sizes_read, *gap_between(bands, sizes_read), span[1]),
        forecasts=tuple(forecast(bands, D, span, noise, confidence) for D in at),
    )
    if vague and not found.is_bound:
        notes.append(
            say(
                "the points of {recipes} do not settle a power law, so the multiplier is read off the measured sizes",
                recipes=say(" and of ").join(vague),
            )
        )
    return replace(found, notes=tuple(notes))


@lru_cache(maxsize=512)  # asked for with every gap; to find it, all recipes are looked through
def _pool(study: Study, label: str, domain: str) -> tuple[str, ...]:
    return pool_of(study, next(recipe for recipe in study.recipes if recipe.label == label), domain)


@lru_cache(maxsize=64)
def noise_of_differences(study: Study, pool: tuple[str, ...], domain: str) -> SeedNoise:
    """The noise of the recipes of a pool, as it enters a difference of two."""
    return pooled_noise(study, pool, domain).of_differences()


def num_pairs(study: Study, pair: tuple[Recipe, Recipe], pool: tuple[str, ...], domain: str) -> int:
    """The seeds by which two recipes are paired, 0 where the noise of a difference is not that of pairs."""
    single, differences = pooled_noise(study, pool, domain), noise_of_differences(study, pool, domain)
    if differences.degrees == single.degrees:
        return 0
    return len({p.seeds for p in study.points_of(pair[0].label, domain)})


@lru_cache(maxsize=512)  # one recipe of many is contrasted with the reference, with the best, with its neighbours
def full_fit(study: Study, label: str, domain: str, sizes: tuple[int, ...], pool: tuple[str, ...]) -> Fit:
    """The fit to all points of a recipe at the given sizes, the held-out ones too."""
    points = [replace(p, is_held_out=False) for p in study.points_of(label, domain) if p.tokens in sizes]
    return fit_power_law(points, noise_of_differences(study, pool, domain))


# ---- the numbers ---------------------------------------------------------------------------------


def loss_gap(study: Study, a: Recipe, b: Recipe, domain: str, size: int, confidence: float = CONFIDENCE) -> Estimate:
    """Mean loss of a less that of b at a size that both have, nats per token; no limits where noise is not known."""
    noise = noise_of_differences(study, _pool(study, a.label, domain), domain)
    la, lb = (mean_loss(study, recipe, domain, size) for recipe in (a, b))
    if not noise.is_known:
        return Estimate(la - lb, -math.inf, math.inf)
    counts = [sum(p.tokens == size for p in study.points_of(recipe.label, domain)) for recipe in (a, b)]
    ha, hb = (noise.half_width({size: 1.0}, {size: count}, confidence) for count in counts)
    below = math.hypot(la * (1 - math.exp(-ha)), lb * (math.exp(min(hb, 700.0)) - 1))
    above = math.hypot(la * (math.exp(min(ha, 700.0)) - 1), lb * (1 - math.exp(-hb)))
    return Estimate(la - lb, la - lb - below, la - lb + above)


def mean_loss(study: Study, recipe: Recipe, domain: str, size: int) -> float:
    """Mean over the seeds, of log losses."""
    logs = [math.log(p.loss) for p in study.points_of(recipe.label, domain) if p.tokens == size]
    return math.exp(float(np.mean(logs)))


def gap_between(bands: tuple[Band, Band], D: Array) -> tuple[Array, Array, Array]:
    """L_a - L_b at each D (k,), with its interval: value, lower and upper, (k,) each.

    The intervals of the curves are combined by the method of variance estimates recovery, see multiplier.py.
    """
    (a, a_lo, a_hi), (b, b_lo, b_hi) = bands[0].at(D), bands[1].at(D)
    return a - b, a - b - np.hypot(a - a_lo, b_hi - b), a - b + np.hypot(a_hi - a, b - b_lo)


def forecast(
    bands: tuple[Band, Band], D: float, span: tuple[float, float], noise: SeedNoise, confidence: float
) -> Forecast:
    """The gap, the multiplier and the decision at D tokens, which need not have been measured.

    span: the smallest and the largest D that both recipes have. Within it any curve is read; above it only laws, up to
    REACH times.
    """
    beyond, lack = D / span[1], noise.lack
    is_law = all(isinstance(each.curve, Fit) for each in bands)
    if not (span[0] * (1 - 1e-9) <= D <= span[1] * (1 + 1e-9)) and not is_law:
        return Forecast(None, D, None, None, None, Decision.CANNOT_TELL, "no_law", beyond)
    value, lo, hi = (float(end[0]) for end in gap_between(bands, np.array([D])))
    if lack or beyond > REACH * (1 + 1e-9):
        bare = Estimate(value, -math.inf, math.inf)
        top = _bare(Estimate(multiplier((bands[0].curve, bands[1].curve), D), -math.inf, math.inf))
        return Forecast(None, D, bare, top, None, Decision.CANNOT_TELL, lack or "beyond_reach", beyond)
    gap, decision = Estimate(value, lo, hi), decide(Estimate(value, lo, hi))
    probability = probability_lower(gap, noise.degrees, confidence)
    reason = "within_noise" if decision is Decision.CANNOT_TELL else None
    return Forecast(None, D, gap, multiplier_at(bands, D), probability, decision, reason, beyond)


def _add_multiplier(
    found: Contrast,
    curves: tuple[Curve, Curve],
    measured: tuple[Curve, Curve],
    span: tuple[float, float],
    confidence: float,
) -> Contrast:
    high = span[1]
    bands = band(curves[0], confidence), band(curves[1], confidence)
    start = smallest_shared(curves, span)
    trace = trace_multiplier(bands, start, high) if start is not None and start < high else None
    top: Estimate | None = multiplier_at(bands, high)
    bottom = multiplier_at(bands, start) if trace is not None and start is not None else None
    change = growth(curves, start, high, confidence) if bottom and start else None
    if not all(curve.noise.is_known for curve in curves):
        top, bottom, change = _bare(top), _bare(bottom), None
    check = multiplier(measured, high)
    return replace(
        found,
        loss=max(float(curve.loss(high)) for curve in curves),
        multiplier=top,
        at_smallest=bottom,
        at_smallest_tokens=start if bottom else None,
        growth=change,
        check=check if math.isfinite(check) and check > 0 else None,
        is_extrapolated=trace is None and curves is not measured,
        trace=trace,
    )


def _bare(m: Estimate | None) -> Estimate | None:
    """A multiplier without its interval; None where the measured sizes set only a limit to it."""
    return Estimate(m.value, -math.inf, math.inf) if m and math.isfinite(m.value) and m.value > 0 else None
