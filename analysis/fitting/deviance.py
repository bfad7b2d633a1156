"""The deviance of a law as a function of its free parameters: what the intervals of a fit are read off."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.fitting.objective import Scale
from analysis.laws.law import Array, Columns, Law

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Surface:
    """The deviance of a law at rows, as a function of its free parameters u (K, f).

    u: logarithms where the parameter is fitted as one, others over their `unit`. theta: (p,), the values of the
    parameters that are fixed.
    """

    law: Law
    at: Columns
    y: Array
    scale: Scale
    weights: Array
    theta: Array
    free: Mask

    @cached_property
    def is_log(self) -> Mask:
        """Of the free parameters, (f,)."""
        return self.law.is_log[self.free]

    @cached_property
    def unit(self) -> Array:
        """Of the free parameters, (f,): the largest measured value where they have its unit, else 1."""
        return np.where(self.law.has_unit & ~self.law.is_log, self.law.unit_of(self.y), 1.0)[self.free]

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """Of u, (f,) each."""
        low, high = self.law.bounds(self.y)
        return self.inside(low), self.inside(high)

    @cached_property
    def floor(self) -> int | None:
        """The place of E among the free parameters, where the law has an E that every loss lies above."""
        places = np.flatnonzero(self.free)
        found = [k for k, i in enumerate(places) if self.law.params[i].name == "E" and self.law.response == "loss"]
        return found[0] if found else None

    @cached_property
    def falls(self) -> Mask:
        """Of the free parameters, (f,): E and the factors, which have the unit of the loss or its logarithm."""
        return (self.law.has_unit | self.law.has_log_unit)[self.free]

    @cached_property
    def is_idle(self) -> Mask:
        """Of the free parameters, (f,): which have no upper end on the level line.

        All but E and factors of what is no power: 1 / D^beta may be as small as its factor is large.
        """
        is_power = np.array(["^" in param.unit for param in self.law.params])
        return ~self.falls | is_power[self.free]

    def flat(self, u: Array) -> Array | None:
        """The curve that does not fall, E alone, with the other parameters of u (f,); None where E is not free."""
        if self.floor is None:
            return None
        level = float(np.average(self.target, weights=self.weights))
        place = np.where(self.falls, self.bounds[0], u)
        place[self.floor] = (np.exp(level) if self.scale == "log" else level) / self.unit[self.floor]
        return place

    def deviance(self, u: Array) -> float:
        """At u (f,)."""
        return float((self.weights * self.residuals(u[None])[0][0] ** 2).sum())

    def inside(self, theta: Array) -> Array:
        """u of parameters (..., p)."""
        chosen = theta[..., self.free]
        return np.where(self.is_log, np.log(np.where(self.is_log, chosen, 1.0)), chosen / self.unit)

    @cached_property
    def target(self) -> Array:
        """What was measured, or its logarithm, (n,)."""
        return np.log(self.y) if self.scale == "log" else self.y

    def outside(self, u: Array) -> Array:
        """Parameters (K, p) of u (K, f)."""
        theta = np.broadcast_to(self.theta, (*u.shape[:-1], len(self.theta))).copy()
        power = np.exp(np.where(self.is_log, np.minimum(u, 700.0), 0.0))
        theta[..., self.free] = np.where(self.is_log, power, u * self.unit)
        return theta

    def response(self, u: Array, at: Columns) -> tuple[Array, Array]:
        """Response, or its logarithm, at n rows (K, n), and the derivatives by u (K, n, f)."""
        theta = self.outside(u)
        value, gradient = self.law.loss_and_gradient(theta, at)
        gradient = gradient[..., self.free] * np.where(self.is_log, theta[..., self.free], self.unit)[..., None, :]
        if self.scale == "raw":
            return value, gradient
        value = np.maximum(value, 1e-300)
        return np.log(value), gradient / value[..., None]

    def residuals(self, u: Array) -> tuple[Array, Array]:
        """Predicted less measured (K, n), and the derivatives by u (K, n, f)."""
        value, gradient = self.response(u, self.at)
        return value - self.target, gradient
