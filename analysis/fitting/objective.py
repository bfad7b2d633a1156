"""What a fit minimises: a sum over rows of a loss of the residual, log predicted - log measured unless said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from analysis.laws.law import Array

Scale = Literal["log", "raw"]
"""Whether residuals are differences of logarithms or of the values themselves."""


@dataclass(frozen=True)
class Huber:
    """sum of r^2/2 where |r| <= delta, delta (|r| - delta/2) beyond: as scipy.special.huber, and as published fits."""

    delta: float = 1e-3
    scale: Scale = "log"

    def value(self, r: Array) -> Array:
        """The loss of each residual; any shape."""
        size = np.abs(r)
        return np.where(size <= self.delta, 0.5 * r * r, self.delta * (size - 0.5 * self.delta))


@dataclass(frozen=True)
class AbsoluteDeviation:
    """sum of |r|: least absolute deviations."""

    scale: Scale = "log"

    def value(self, r: Array) -> Array:
        """The loss of each residual; any shape."""
        return np.abs(r)


@dataclass(frozen=True)
class LeastSquares:
    """sum of r^2/2."""

    scale: Scale = "log"

    def value(self, r: Array) -> Array:
        """The loss of each residual; any shape."""
        return 0.5 * r * r


Objective = Huber | AbsoluteDeviation | LeastSquares


def in_unit(objective: Objective, unit: float) -> tuple[Objective, float]:
    """The objective of values that are divided by a unit, and by how much it is then less."""
    if objective.scale == "log":
        return objective, 1.0
    if isinstance(objective, AbsoluteDeviation):
        return objective, unit
    return replace(objective, delta=objective.delta / unit) if isinstance(objective, Huber) else objective, unit**2
