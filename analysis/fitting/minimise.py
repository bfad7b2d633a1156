"""The global minimum of an objective over the parameters of a law."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.fitting.objective import Objective
from analysis.laws.law import Array, Columns, Law


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where it lies. theta: (p,). value: the objective there, summed over rows. at_bound: names of parameters."""

    theta: Array
    value: float
    converged: bool
    at_bound: tuple[str, ...]


def minimise(
    law: Law,
    at: Columns,
    y: Array,
    objective: Objective,
    *,
    weights: Array | None = None,
    fixed: Mapping[str, float] | None = None,
) -> Minimum:
    """The global minimum of sum_i weights_i objective(residual_i); fixed: parameters that stay at a value."""
    raise NotImplementedError


def minimise_resamples(
    law: Law,
    at: Columns,
    y: Array,
    objective: Objective,
    counts: NDArray[np.float64],
    start: Array,
    *,
    fixed: Mapping[str, float] | None = None,
) -> tuple[Array, Array]:
    """The minimum for each of b weightings of the rows, counts (b, n): thetas (b, p) and values (b,).

    start: (p,), the minimum for equal weights.
    """
    raise NotImplementedError
