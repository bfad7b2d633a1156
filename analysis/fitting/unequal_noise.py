"""Noise that differs by recipe and scale, from runs that repeat one setting with other seeds.

The variance of a row about its setting's mean is modelled as exp(a + gamma log scale + b_recipe): small models scatter
more between seeds than large ones, and a recipe may be noisier than another. Two or three seeds say little of that, so
gamma and b are drawn towards 0, equal noise, and taken as 0 unless the likelihood speaks up. Without repeats all rows
count the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.laws.law import Array, Columns
from analysis.runs.run_table import RunTable

MIN_DEGREES = 6
"""Degrees of freedom of the repeats, below which rows are taken as equally noisy."""
PRIOR_SD = 0.5
"""Of gamma, and of log variance between recipes. Noise that scales as 1 / sqrt(tokens) has gamma = -1."""
MIN_GAIN = 4.0
"""Twice the log likelihood that unequal noise must gain per parameter. Weights that follow chance cost coverage: 2 % of
it at 5 sizes x 3 seeds. At gamma = -1 the mean estimate is -.6 with 8 sizes x 3 seeds, -.7 with 12."""
CLIP = 4.0
"""Deviations beyond so many robust standard deviations count as these: one outlier does not make a scale noisy."""


@dataclass(frozen=True)
class UnequalNoise:
    """log variance relative to the average: gamma (log scale - centre) within the repeated scales, + a recipe's."""

    gamma: float
    centre: float
    low: float
    high: float
    recipes: dict[str, float]

    def variance(self, at: Columns) -> Array:
        """Of rows `at` (n,), relative to the average row of the average recipe."""
        log_scale = np.clip(log_scale_of(at), self.low, self.high)
        return np.exp(self.gamma * (log_scale - self.centre))

    def precision(self, table: RunTable) -> Array:
        """1 over the relative variance of each row, (n,)."""
        own = np.array([self.recipes.get(str(recipe), 0.0) for recipe in table.recipe])
        return 1 / (self.variance(table.columns) * np.exp(own))


EQUAL = UnequalNoise(0.0, 0.0, 0.0, 0.0, {})


def log_scale_of(at: Columns) -> Array:
    """How large a run is, (n,): C FLOPs where they are known, else 6 N D, D or N, as a logarithm; -inf for nothing.

    Where only the loss L is known that a metric follows, the lower, the larger; 0 where nothing is.
    """
    with np.errstate(divide="ignore"):  # D may be 0: no fine-tuning data
        logs = {name: np.log(np.asarray(at[name], float)) for name in ("C", "N", "D", "L") if name in at}
    if "C" in logs:
        return logs["C"]
    if "N" in logs and "D" in logs:
        return np.log(6.0) + logs["N"] + logs["D"]
    if "N" in logs or "D" in logs:
        return logs["D"] if "D" in logs else logs["N"]
    return -logs["L"] if "L" in logs else np.zeros(len(next(iter(at.values()))))


def unequal_noise(table: RunTable, response: Array) -> UnequalNoise:
    """The noise of a table; response: (n,), what residuals are taken of: losses or their logarithms."""
    settings = _settings(table)
    means = np.bincount(settings, response) / np.bincount(settings)
    counts = np.bincount(settings)
    repeated = counts[settings] > 1
    degrees = int((counts - 1).sum())
    scale = log_scale_of(table.columns)
    if degrees < MIN_DEGREES or not np.isfinite(scale).all():
        return EQUAL
    off = (response - means[settings])[repeated]
    off = off * np.sqrt(counts / np.maximum(counts - 1, 1))[settings][repeated]  # each has the variance of a row
    middle = 1.4826 * float(np.median(np.abs(off)))
    if not middle > 0:
        return EQUAL
    square = np.clip(np.abs(off) / middle, 0.0, CLIP) ** 2
    dof = ((counts - 1) / counts)[settings][repeated]
    x, names = scale[repeated], np.unique(table.recipe[repeated])
    centre = float(np.average(x, weights=dof))
    member = (table.recipe[repeated][:, None] == names) * (len(names) > 1)
    design = np.concatenate([np.ones((len(x), 1)), (x - centre)[:, None], member], axis=1)
    penalty = np.full(design.shape[1], 1 / PRIOR_SD**2)
    penalty[0] = 0.0
    theta = np.zeros(design.shape[1])
    theta[0] = np.log(np.average(square, weights=dof))
    for _ in range(50):  # Newton with the expected information
        ratio = square * np.exp(-(design @ theta))
        slope = 0.5 * design.T @ (dof * (ratio - 1)) - penalty * theta
        step = np.linalg.solve(0.5 * (design * dof[:, None]).T @ design + np.diag(penalty + 1e-9), slope)
        theta = theta + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-9:
            break

    def twice_likelihood(log_variance: Array) -> float:
        return -float((dof * (log_variance + square * np.exp(-log_variance))).sum())

    num_more = len(theta) - 1 - (len(names) > 1)
    gain = twice_likelihood(design @ theta) - twice_likelihood(np.full(len(x), np.log(np.average(square, weights=dof))))
    if gain < MIN_GAIN * num_more:
        return EQUAL
    recipes = dict(zip((str(name) for name in names), theta[2:].tolist(), strict=True)) if len(names) > 1 else {}
    return UnequalNoise(float(theta[1]), centre, float(x.min()), float(x.max()), recipes)


def _settings(table: RunTable) -> np.ndarray:
    """Rows with the same recipe and the same columns have the same number, (n,)."""
    names = np.unique(table.recipe, return_inverse=True)[1].astype(float)
    columns = [np.asarray(column, float).reshape(len(table), -1) for column in table.columns.values()]
    return np.unique(np.concatenate([names[:, None], *columns], axis=1), axis=0, return_inverse=True)[1].ravel()
