"""A power law with a bend: what a curve that bends does better under."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.special import expit

from analysis.laws.law import Array, Columns, Law, Param

if TYPE_CHECKING:
    from analysis.runs.run_table import RunTable


@dataclass(frozen=True)
class Broken(Law):
    """L(D) = E + B / D^beta (1 + (D / D_1)^(1/f))^(-c f)

    The power law of `power` up to D_1, from there on with exponent beta + c; f: how many nats of D the bend takes on
    either side (1: about a factor of ten in all). E, B, beta as there; c above 0 bends down, below 0 up.

    Source: Caballero et al. 2023 (arXiv 2210.14891), with one break. It is the check for bends: where it predicts the
    held-out sizes better than `power`, the curve is not one power law. It needs 8 sizes or more, on both sides of D_1.
    """

    name: ClassVar[str] = "broken"
    equation: ClassVar[str] = "L(D) = E + B / D^beta (1 + (D / D_1)^(1/f))^(-c f)"
    columns: ClassVar[tuple[str, ...]] = ("D",)

    @classmethod
    def of(cls, table: RunTable) -> Broken:
        return cls()

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("E", "nats per token", 0.0, 1e3),
            Param("B", "nats per token x tokens^beta", 1e-12, 1e30, is_log=True),
            Param("beta", "", 0.0, 5.0),
            Param("c", "", -5.0, 5.0),
            Param("D_1", "tokens", 1e-6, 1e20, is_log=True),
            Param("f", "", 0.05, 5.0, is_log=True),
        )

    def loss(self, theta: Array, at: Columns) -> Array:
        E, B, beta, c, D_1, f = np.moveaxis(np.asarray(theta, float)[..., None], -2, 0)
        return E + _falling(B, beta, c, D_1, f, np.log(at["D"]))

    def gradient(self, theta: Array, at: Columns) -> Array:
        _, B, beta, c, D_1, f = np.moveaxis(np.asarray(theta, float)[..., None], -2, 0)
        log_D = np.log(at["D"])
        falling = _falling(B, beta, c, D_1, f, log_D)
        past = (log_D - np.log(D_1)) / f
        bend, beyond = np.logaddexp(0.0, past), expit(past)
        return np.stack(
            [
                np.ones_like(falling),
                falling / B,
                -falling * log_D,
                -falling * f * bend,
                falling * c * beyond / D_1,
                -falling * c * (bend - beyond * past),
            ],
            axis=-1,
        )

    def starts(self, at: Columns, y: Array) -> Array:
        """At floors, breaks and widths on a grid; log B, beta and c are then linear in log(L - E)."""
        log_D = np.log(at["D"])
        found = []
        for share in (0.0, 0.3, 0.5, 0.65, 0.75, 0.85, 0.92, 0.97):
            E = share * float(y.min())
            above = (y - E) / y
            for log_D_1 in np.linspace(log_D.min(), log_D.max(), 9)[1:-1]:
                for f in (0.1, 0.4, 1.2):
                    bend = f * np.logaddexp(0.0, (log_D - log_D_1) / f)
                    design = np.stack([np.ones_like(log_D), -log_D, -bend], axis=1) * above[:, None]
                    (log_B, beta, c), *_ = np.linalg.lstsq(design, np.log(y - E) * above, rcond=1e-12)
                    miss = design @ np.array([log_B, beta, c]) - np.log(y - E) * above
                    B = float(np.exp(np.clip(log_B, -27, 69)))
                    found.append((float(miss @ miss), E, B, max(float(beta), 0.0), float(c), np.exp(log_D_1), f))
        return np.array(sorted(found))[:, 1:]


def _falling(B: Array, beta: Array, c: Array, D_1: Array, f: Array, log_D: Array) -> Array:
    """L - E, (..., n)."""
    return np.exp(np.log(B) - beta * log_D - c * f * np.logaddexp(0.0, (log_D - np.log(D_1)) / f))
