"""Correlations of scores: Pearson's is a function of sums; Spearman's ranks the rows of every resample anew."""

from __future__ import annotations

import numpy as np

from scaling.evaluate.metrics import Measured, Numbers


def measure_correlation(right: Numbers, given: Numbers) -> Measured:
    """Scores given [rows] against the right ones. Where either are all the same, nothing is ordered: 0."""
    x, y = _standard(right), _standard(given)

    def spearman(weights: Numbers) -> Numbers:
        a, b = ranks(x, weights), ranks(y, weights)
        middle = (weights.sum(-1, keepdims=True) + 1) / 2  # the mean of ranks, ties or not
        a, b = a - middle, b - middle
        return _ratio((weights * a * b).sum(-1), (weights * a * a).sum(-1), (weights * b * b).sum(-1))

    return Measured(
        np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1), {"pearson": pearson}, {"spearman": spearman}
    )


def pearson(sums: Numbers) -> Numbers:
    """Of the sums of 1, x, y, x^2, y^2 and x y [..., 6]."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    return _ratio(n * xy - x * y, n * xx - x * x, n * yy - y * y)


def ranks(values: Numbers, weights: Numbers) -> Numbers:
    """The rank of each row [..., rows] where rows count as often as `weights` [..., rows] says; ties share the middle
    one."""
    order = np.argsort(values, kind="stable")
    first = np.append(True, np.diff(values[order]) > 0)  # of a run of ties
    run = np.cumsum(first) - 1
    of_run = np.add.reduceat(weights[..., order], np.flatnonzero(first), axis=-1)
    middles = np.cumsum(of_run, axis=-1) - (of_run - 1) / 2
    found = np.empty_like(weights)
    found[..., order] = middles[..., run]
    return found


def _standard(values: Numbers) -> Numbers:
    """With mean 0 and deviation 1, unless all are the same, so that sums of squares lose no digits."""
    centred = values - values.mean()
    spread = centred.std()
    return centred / spread if spread > 1e-12 * np.abs(values).max() else np.zeros_like(values)


def _ratio(covariance: Numbers, of_x: Numbers, of_y: Numbers) -> Numbers:
    spread = np.sqrt(np.maximum(of_x, 0) * np.maximum(of_y, 0))
    # Below this, what is left of the sums is rounding: a resample of rows that are all the same.
    is_spread = spread > 1e-9
    return np.clip(np.divide(covariance, spread, out=np.zeros_like(covariance), where=is_spread), -1, 1)
