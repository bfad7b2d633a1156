"""The law of fine-tuning data with what pretraining has already taught."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.laws.law import Array, Columns, Law, Param

if TYPE_CHECKING:
    from analysis.runs.run_table import RunTable


@dataclass(frozen=True)
class Rectified(Law):
    """L(D) = E + B / (D_l + D^beta)

    E [nats per token]: the loss that no amount of fine-tuning data undercuts. D: fine-tuning examples or tokens, 0
    included. D_l [D^beta]: the learned data, what pretraining is worth in units of fine-tuning data; below it the loss
    hardly falls (the pre-power phase), far above it the law is L(D).

    Source: Lin et al. 2024 (arXiv 2402.02314). Holds for one pretrained model on one task.
    """

    name: ClassVar[str] = "rectified"
    equation: ClassVar[str] = "L(D) = E + B / (D_l + D^beta)"
    columns: ClassVar[tuple[str, ...]] = ("D",)
    may_be_zero: ClassVar[tuple[str, ...]] = ("D",)

    @classmethod
    def of(cls, table: RunTable) -> Rectified:
        return cls()

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("E", "nats per token", 0.0, 1e3),
            Param("B", "nats per token x examples^beta", 1e-12, 1e30, is_log=True),
            Param("D_l", "examples^beta", 1e-9, 1e30, is_log=True),
            Param("beta", "", 1e-3, 5.0),
        )

    def loss(self, theta: Array, at: Columns) -> Array:
        E, B, D_l, beta = np.moveaxis(np.asarray(theta, float)[..., None], -2, 0)
        return E + B / (D_l + at["D"] ** beta)

    def gradient(self, theta: Array, at: Columns) -> Array:
        _, B, D_l, beta = np.moveaxis(np.asarray(theta, float)[..., None], -2, 0)
        D = at["D"]
        power = D**beta
        share = 1 / (D_l + power)
        log_D = np.log(np.where(D > 0, D, 1.0))  # D^beta log D tends to 0 with D
        return np.stack([np.ones_like(share), share, -B * share**2, -B * share**2 * power * log_D], axis=-1)

    def starts(self, at: Columns, y: Array) -> Array:
        """At exponents and learned data on a grid; E and B by least squares of relative residuals."""
        D = at["D"]
        sizes = np.unique(D[D > 0])
        found = []
        for beta in (0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.2, 1.6):
            for knee in np.geomspace(sizes[0] / 10, sizes[-1] * 3, 12):
                shape = 1 / (knee**beta + D**beta)
                design = np.stack([1 / y, shape / y], axis=1)
                (E, B), *_ = np.linalg.lstsq(design / design.max(axis=0), np.ones(len(y)), rcond=None)
                E, B = np.array([E, B]) / design.max(axis=0)
                if E < 0:
                    E, B = 0.0, float(design[:, 1].sum() / (design[:, 1] ** 2).sum())
                if B > 0:
                    cost = float(((E + B * shape) / y - 1) @ ((E + B * shape) / y - 1))
                    found.append((cost, E, B, knee**beta, beta))
        if not found:  # a loss that rises with the data: begin flat, at no fall at all
            found = [(0.0, float(y.min()), 1e-6, 1.0, 0.5)]
        return np.array(sorted(found))[:, 1:]
