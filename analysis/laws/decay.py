"""From loss to the error on tasks, as an exponential decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.laws.law import Array, Columns, Law, Param

if TYPE_CHECKING:
    from analysis.runs.run_table import RunTable


@dataclass(frozen=True)
class Decay(Law):
    """y(L) = epsilon - k exp(-gamma L)

    y: error, averaged over tasks. L [nats per token]: loss on a validation set. epsilon: the error at a large loss,
    chance; gamma [per nat]: how fast it falls as the loss does. It is the upper end of `logistic`, for errors that no
    run has brought near their floor; with three parameters it needs fewer runs.

    Source: Gadre et al. 2024 (arXiv 2403.08540, section 3.4). Holds for averages over tasks that these models begin to
    solve, not for single tasks at chance, nor near an error of 0, which it crosses.
    """

    name: ClassVar[str] = "decay"
    equation: ClassVar[str] = "y(L) = epsilon - k exp(-gamma L)"
    columns: ClassVar[tuple[str, ...]] = ("L",)
    response: ClassVar[str] = "metric"
    response_unit: ClassVar[str | None] = "unit of the metric"

    @classmethod
    def of(cls, table: RunTable) -> Decay:
        return cls()

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("epsilon", "unit of the metric", -1e4, 1e4),
            Param("k", "unit of the metric", 1e-9, 1e12, is_log=True),
            Param("gamma", "per nat", 1e-3, 1e2, is_log=True),
        )

    def loss(self, theta: Array, at: Columns) -> Array:
        epsilon, k, gamma = np.moveaxis(np.asarray(theta, float)[..., None], -2, 0)
        return epsilon - k * np.exp(-gamma * at["L"])

    def gradient(self, theta: Array, at: Columns) -> Array:
        _, k, gamma = np.moveaxis(np.asarray(theta, float)[..., None], -2, 0)
        reached = np.exp(-gamma * at["L"])
        return np.stack([np.ones_like(reached), -reached, k * reached * at["L"]], axis=-1)

    def starts(self, at: Columns, y: Array) -> Array:
        """At decays on a grid; epsilon and k by least squares."""
        L = at["L"]
        found = []
        for gamma in np.geomspace(0.1, 20, 32) / max(float(np.ptp(L)), 1e-9):
            reached = np.exp(-gamma * (L - L.min()))
            (epsilon, drop), *_ = np.linalg.lstsq(np.stack([np.ones_like(L), -reached], axis=1), y, rcond=1e-12)
            miss = epsilon - drop * reached - y
            k = max(float(drop), 1e-3 * float(np.ptp(y))) * np.exp(min(gamma * float(L.min()), 60.0))
            found.append((float(miss @ miss), epsilon, k, gamma))
        return np.array(sorted(found))[:, 1:]
