"""The law of a task's metric: it rises with data towards a ceiling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.laws.law import Array, Columns, Law, Param

if TYPE_CHECKING:
    from analysis.runs.run_table import RunTable


@dataclass(frozen=True)
class Ceiling(Law):
    """y(D) = 1 - E - A / D^alpha

    y: a metric that is 1 at best (accuracy, F1, exact match). E, from 0 to 1: the error that no amount of data
    undercuts. A [D^alpha] and alpha: how fast the rest of the error falls. D: tokens of pretraining, or labelled
    examples. The error stays below 1 at the smallest D that is fitted; further down the law says nothing.

    Source: the power law of data for classification error, with its floor (Hestness et al. 2017, arXiv 1712.00409;
    Rosenfeld et al. 2020, arXiv 1909.12673). Holds where the error falls already: before that, and where it starts from
    chance, a metric is nearer to logistic in log D.
    """

    name: ClassVar[str] = "ceiling"
    equation: ClassVar[str] = "y(D) = 1 - E - A / D^alpha"
    columns: ClassVar[tuple[str, ...]] = ("D",)
    response: ClassVar[str] = "metric"
    response_unit: ClassVar[str | None] = None
    most: ClassVar[float] = 1.0

    @classmethod
    def of(cls, table: RunTable) -> Ceiling:
        return cls()

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("E", "", 0.0, 1.0),
            Param("A", "D^alpha", 1e-12, 1e30, is_log=True),
            Param("alpha", "", 0.0, 5.0),
        )

    def loss(self, theta: Array, at: Columns) -> Array:
        E, A, alpha = np.moveaxis(np.asarray(theta, float)[..., None], -2, 0)
        return 1 - E - A * at["D"] ** -alpha

    def gradient(self, theta: Array, at: Columns) -> Array:
        _, A, alpha = np.moveaxis(np.asarray(theta, float)[..., None], -2, 0)
        fall = at["D"] ** -alpha
        return np.stack([-np.ones_like(fall), -fall, A * fall * np.log(at["D"])], axis=-1)

    def starts(self, at: Columns, y: Array) -> Array:
        """At exponents on a grid; E and A by least squares, E within 0 and 1."""
        log_D = np.log(at["D"])
        found = []
        for alpha in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.75, 1.0, 1.4, 2.0, 3.0):
            shape = np.exp(-alpha * (log_D - log_D.min()))  # 1 at the smallest D: no overflow, whatever the unit
            for E in (None, 0.0):
                if E is None:
                    design = np.stack([np.ones_like(shape), shape], axis=1)
                    E, A = np.linalg.lstsq(design, 1 - y, rcond=None)[0]
                    E = float(np.clip(E, 0.0, 1.0))
                A = max(float(shape @ (1 - y - E) / (shape @ shape)), 1e-6)
                cost = float(((1 - y - E - A * shape) ** 2).sum())
                found.append((cost, E, A * float(np.exp(alpha * log_D.min())), alpha))
        return np.array(sorted(found))[:12, 1:]
