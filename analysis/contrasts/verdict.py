"""What a comparison of two curves comes to: who is better, how sure that is, and where they cross.

The rule, stated once: A or B is called better where the 95 % interval of the gap between their losses excludes 0, and
nowhere else. It cannot tell where the interval holds 0, where nothing is known of the noise, where no law holds (and
one is needed), where rows seem to be checkpoints of runs that nothing names, and further than 8 times beyond the sizes
that both have. Each has a code and a sentence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy import special

from analysis.fitting.result import Estimate
from analysis.laws.law import Array
from analysis.page.language import say

REACH = 8.0
"""Further than this beyond the largest size that both have, nothing is decided."""


class Decision(Enum):
    """What a contrast decides, at its confidence: 95 % unless said."""

    A_BETTER = "A better"
    B_BETTER = "B better"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Forecast:
    """Two recipes at a budget that need not have been measured, by the laws of their curves.

    num_params, tokens: N (None where the study has one) and D. gap: L_a - L_b, nats per token. multiplier: D_b / D_a at
    the loss that the weaker recipe has there. probability: that A has the lower loss. reason: the code, where it cannot
    tell. beyond: D over the largest that both have.
    """

    num_params: float | None
    tokens: float
    gap: Estimate | None
    multiplier: Estimate | None
    probability: float | None
    decision: Decision
    reason: str | None
    beyond: float


@dataclass(frozen=True)
class Crossing:
    """Where two curves cross. tokens: D, and all D about it at which the gap may be 0.

    after: the recipe that is better beyond it, "a" or "b". is_settled: the gap is told from 0 on both sides.
    is_predicted: it lies beyond the sizes that both have.
    """

    tokens: Estimate
    after: str
    is_settled: bool
    is_predicted: bool


def decide(gap: Estimate) -> Decision:
    """The rule: the interval excludes 0."""
    return Decision.A_BETTER if gap.hi < 0 else Decision.B_BETTER if gap.lo > 0 else Decision.CANNOT_TELL


def of_one_sign(m: Estimate, decision: Decision) -> Estimate:
    """A multiplier's interval, ending at 1 where the gap at its size is told from 0 and the curves leave 1 open.

    Loss falls with D, so the multiplier is above 1 exactly where A has the lower loss at that D. The runs there tell
    the sign where curves through all sizes, which use the same runs and others, may not. It is wrong where either
    interval is, which at a true multiplier beside 1 is seldom: they err together. Where even the curves' best value is
    on the other side, they do not pass through the losses that decide, and nothing is changed.
    """
    if decision is Decision.A_BETTER and m.lo < 1 < m.value:
        return Estimate(m.value, 1.0, m.hi)
    if decision is Decision.B_BETTER and m.value < 1 < m.hi:
        return Estimate(m.value, m.lo, 1.0)
    return m


def why_signs_differ(by_curves: Estimate, decision: Decision, tokens: str) -> str | None:
    """Why the curves' multiplier and the gap at D do not say the same of who leads, or None where they do.

    In a sentence without its full stop. by_curves: before `of_one_sign`. tokens: D, for the reader.
    """
    side = {Decision.A_BETTER: 1, Decision.B_BETTER: -1}.get(decision, 0)
    told = 1 if by_curves.lo > 1 else -1 if by_curves.hi < 1 else 0
    if side == told:
        return None
    if not side:
        return say(
            "the curves through all sizes tell the multiplier from 1, the losses at {tokens} tokens alone do not tell "
            "the gap from 0, and the decision rests on those",
            tokens=tokens,
        )
    if side * (by_curves.value - 1) > 0:
        return say(
            "the curves alone give a multiplier of {lo} to {hi}; the gap at {tokens} tokens says on which side of 1 it "
            "lies, so its interval ends there",
            lo=f"{by_curves.lo:.2f}", hi=f"{by_curves.hi:.2f}", tokens=tokens,
        )  # fmt: skip
    return say(
        "the curves do not pass through the mean losses at {tokens} tokens, which decide, and put the other recipe "
        "ahead there",
        tokens=tokens,
    )


def reason_text(reason: str | None) -> str:
    """Why nothing was decided, in a sentence; empty where something was."""
    return {
        None: "",
        "within_noise": say("The interval of the gap holds 0: chance alone moves the losses as far."),
        "no_repeated_seeds": say("No seed is repeated, so how far chance moves a loss is not known."),
        "too_few_repeated_seeds": say("Too few seeds are repeated to know how far chance moves a loss."),
        "no_law": say("No law holds for both recipes, and beyond the measured sizes one is needed."),
        "checkpoints": say(
            "Rows that look like checkpoints of a few runs do not tell how far chance moves a loss: say with --cluster "
            "COLUMN which of them share a run."
        ),
        "beyond_reach": say(
            "The target is more than {reach:g} times the largest size that both have.", reach=REACH
        ),
    }[reason]  # fmt: skip


def probability_lower(gap: Estimate, degrees: float, confidence: float) -> float | None:
    """The probability that A has the lower loss, for a flat prior; None where the gap has no interval.

    It is the confidence at which a one-sided interval of the gap just excludes 0: Student's t, scaled so that it is
    (1 + confidence) / 2 where the given interval ends at 0.
    """
    half = gap.hi - gap.value if gap.value < 0 else gap.value - gap.lo
    if not math.isfinite(half) or degrees < 1:
        return None
    if half == 0:
        return 0.5 if gap.value == 0 else float(gap.value < 0)
    quantile = float(special.stdtrit(degrees, 0.5 + confidence / 2))
    return float(special.stdtr(degrees, -gap.value / half * quantile))


def chance(probability: float) -> str:
    """A probability to two places, and never 0 or 1: nothing measured is so sure."""
    return "< 0.01" if probability < 0.01 else "> 0.99" if probability > 0.99 else f"{probability:.2f}"


def find_crossing(tokens: Array, gap: Array, lo: Array, hi: Array, measured_to: float) -> Crossing | None:
    """The crossing of two curves whose gap and its interval are known at D = tokens, ascending, all (k,).

    Of several, the one that is settled, or the last within the measured sizes, or the first beyond.
    """
    signs = np.sign(gap)
    places = [int(i) for i in np.flatnonzero(signs[:-1] * signs[1:] < 0)]
    if not places:
        return None
    found = [_crossing_at(i, tokens, gap, lo, hi, measured_to) for i in places]
    return min(found, key=lambda c: (not c.is_settled, c.is_predicted, abs(math.log(c.tokens.value / measured_to))))


def _crossing_at(i: int, tokens: Array, gap: Array, lo: Array, hi: Array, measured_to: float) -> Crossing:
    """The crossing between tokens[i] and tokens[i + 1]; its ends are where the interval of the gap begins to hold 0."""
    x = np.log(tokens)
    decided = np.where(hi < 0, -1, np.where(lo > 0, 1, 0))
    before, after = np.sign(gap[i]), np.sign(gap[i + 1])
    left = next((k for k in range(i, -1, -1) if decided[k]), None)
    right = next((k for k in range(i + 1, len(x)) if decided[k]), None)
    low = high = None
    if left is not None and decided[left] == before:
        ends = hi if before < 0 else lo
        low = _zero(x, ends, left)
    if right is not None and decided[right] == after:
        ends = hi if after < 0 else lo
        high = _zero(x, ends, right - 1)
    value = math.exp(_zero(x, gap, i))
    estimate = Estimate(
        value, -math.inf if low is None else math.exp(low), math.inf if high is None else math.exp(high)
    )
    is_settled = low is not None and high is not None
    return Crossing(estimate, "a" if after < 0 else "b", is_settled, value > measured_to * (1 + 1e-9))


def _zero(x: Array, y: Array, i: int) -> float:
    """Where y is 0 between x[i] and x[i + 1], by a line."""
    if not np.isfinite(y[i : i + 2]).all():
        return float(x[i] if np.isfinite(y[i]) else x[i + 1])
    return float(x[i] + (x[i + 1] - x[i]) * y[i] / (y[i] - y[i + 1]))
