"""From loss to the metric of a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.special import expit

from analysis.laws.law import Array, Columns, Law, Param

if TYPE_CHECKING:
    from analysis.runs.run_table import RunTable


@dataclass(frozen=True)
class Logistic(Law):
    """y(L) = floor + (ceiling - floor) / (1 + exp(k (L - L_0)))

    y: accuracy or error of a task, in its own unit. L [nats per token]: loss on a validation set. ceiling: y at a
    small loss; floor: y at a large one, which for an accuracy is chance (for an error, ceiling lies below floor).
    L_0: the loss halfway; k [per nat]: how sudden the change is.

    Source: Grattafiori et al. 2024 (arXiv 2407.21783, section 3.2.1); Bhagia et al. 2024 (arXiv 2412.04403). Holds for
    models of one family and data alike, scored with the same prompt; ceiling and floor are known only if runs reach
    them, so fix them where the task gives them (chance; 1).
    """

    name: ClassVar[str] = "logistic"
    equation: ClassVar[str] = "y(L) = floor + (ceiling - floor) / (1 + exp(k (L - L_0)))"
    columns: ClassVar[tuple[str, ...]] = ("L",)
    response: ClassVar[str] = "metric"
    response_unit: ClassVar[str | None] = "unit of the metric"

    @classmethod
    def of(cls, table: RunTable) -> Logistic:
        return cls()

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("floor", "unit of the metric", -1e4, 1e4),
            Param("ceiling", "unit of the metric", -1e4, 1e4),
            Param("k", "per nat", 1e-3, 1e4, is_log=True),
            Param("L_0", "nats per token", 0.0, 1e2),
        )

    def loss(self, theta: Array, at: Columns) -> Array:
        floor, ceiling, k, L_0 = np.moveaxis(np.asarray(theta, float)[..., None], -2, 0)
        return floor + (ceiling - floor) * expit(k * (L_0 - at["L"]))

    def gradient(self, theta: Array, at: Columns) -> Array:
        floor, ceiling, k, L_0 = np.moveaxis(np.asarray(theta, float)[..., None], -2, 0)
        reached = expit(k * (L_0 - at["L"]))
        slope = (ceiling - floor) * reached * (1 - reached)
        return np.stack([1 - reached, reached, slope * (L_0 - at["L"]), slope * k], axis=-1)

    def starts(self, at: Columns, y: Array) -> Array:
        """At midpoints and slopes on a grid; floor and ceiling by least squares."""
        L = at["L"]
        spread = float(np.ptp(L))
        found = []
        for L_0 in np.linspace(L.min() - spread / 2, L.max() + spread / 2, 17):
            for k in np.geomspace(0.5, 60, 12) / max(spread, 1e-9):
                reached = expit(k * (L_0 - L))
                design = np.stack([1 - reached, reached], axis=1)
                ends = np.linalg.lstsq(design, y, rcond=1e-3)[0]  # rcond: no ends far outside the data
                found.append((float(((design @ ends - y) ** 2).sum()), *ends, k, max(L_0, 0.0)))
        return np.array(sorted(found))[:16, 1:]
