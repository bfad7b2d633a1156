"""Scores have a range, and so have their intervals."""

from __future__ import annotations

import math

from scipy.special import expit, logit

from analysis.fitting.result import Estimate

Range = tuple[float, float]
"""The least and the most that a metric can be."""
SHARE: Range = (0.0, 1.0)
SIGNED = ("pearson", "spearman", "mcc")
"""Metrics from -1 to 1; all others are shares, from 0 to 1."""


def range_of(metric: str) -> Range:
    """That of a metric, by its name."""
    return (-1.0, 1.0) if metric in SIGNED else SHARE


def score_interval(value: float, half: float, bounds: Range = SHARE) -> Estimate:
    """value +- half, within the range of its metric; no ends where half is inf.

    Within the range it is that. Where an end would pass it, the interval is made on the scale of the log odds
    ln((x - lo) / (hi - x)), which has no ends, with the half width that this is there (delta method; of a correlation
    that is Fisher's z): near its bound a score is skewed, and that has more room on the other side. At the bound itself
    there is no such scale: there the ends are cut.
    """
    least, most = bounds
    if not math.isfinite(half) or (value - half >= least and value + half <= most):
        return Estimate(value, value - half, value + half)
    if not least < value < most:
        return Estimate(value, max(least, value - half), min(most, value + half))
    share = (value - least) / (most - least)
    width = half / (most - least) / (share * (1 - share))
    lo, hi = (least + (most - least) * float(expit(logit(share) + side * width)) for side in (-1, 1))
    return Estimate(value, lo, hi)
