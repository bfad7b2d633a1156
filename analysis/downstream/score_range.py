"""Scores have a range, and so have their intervals."""

from __future__ import annotations

import math

import numpy as np

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
    """value +- half, cut at the range of its metric: no truth lies beyond. No ends where half is inf."""
    if not math.isfinite(half):
        return Estimate(value, value - half, value + half)
    lo, hi = np.clip([value - half, value + half], *bounds).tolist()
    return Estimate(value, lo, hi)
