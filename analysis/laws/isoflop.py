"""Iso-FLOP parabolas: how much compute wants how large a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.laws.law import Array, Columns, Law, Param

if TYPE_CHECKING:
    from analysis.runs.run_table import RunTable


@dataclass(frozen=True)
class IsoFlop(Law):
    """L(N, C) = E + (C/C_0)^-gamma (K + k log(N / N_opt)^2),  N_opt = N_0 (C/C_0)^a

    At every budget C a parabola in log N, its lowest point at N_opt. The budgets share one law: the loss at the
    optimum, E + K (C/C_0)^-gamma, and the curvature fall by the same power, as they do for L(N, D) = E + A / N^alpha +
    B / D^beta at 6 N D = C, of which this is the expansion about its frontier (gamma = alpha beta / (alpha + beta),
    a = beta / (alpha + beta)). C_0 (`budget`): the geometric mean of C in the table. With one budget, only
    L = K + k log(N / N_0)^2 is left.

    Source: Hoffmann et al. 2022 (arXiv 2203.15556, approach 2). The parabola is symmetric and the surface is not:
    sizes far from the optimum on one side move it (arXiv 2603.22339). Keep N within a factor of 4 of it, on both
    sides, or fit `chinchilla`.
    """

    budget: float
    is_single: bool

    name: ClassVar[str] = "isoflop"
    equation: ClassVar[str] = "L(N, C) = E + (C/C_0)^-gamma (K + k log(N / (N_0 (C/C_0)^a))^2)"
    columns: ClassVar[tuple[str, ...]] = ("N", "C")
    may_be_constant: ClassVar[tuple[str, ...]] = ("C",)

    @classmethod
    def of(cls, table: RunTable) -> IsoFlop:
        log_C = np.log(table.columns["C"])
        return cls(float(np.exp(log_C.mean())), bool(np.ptp(log_C) < 0.05))  # budgets are met to a few percent

    @property
    def params(self) -> tuple[Param, ...]:
        one = (
            Param("K", "nats per token", 1e-9, 1e3, is_log=True),
            Param("k", "nats per token", 1e-9, 1e3, is_log=True),
            Param("N_0", "parameters", 1e-6, 1e20, is_log=True),
        )
        if self.is_single:
            return one
        return (Param("E", "nats per token", 0.0, 1e3), *one, Param("gamma", "", 0.0, 2.0), Param("a", "", -1.0, 2.0))

    @property
    def form(self) -> str:
        return "L(N) = K + k log(N / N_0)^2" if self.is_single else self.equation

    @property
    def constants(self) -> Mapping[str, float]:
        return {} if self.is_single else {"C_0": self.budget}

    def loss(self, theta: Array, at: Columns) -> Array:
        E, K, k, N_0, gamma, a = self._parts(theta)
        log_c = np.log(at["C"] / self.budget)
        off = np.log(at["N"]) - np.log(N_0) - a * log_c
        return E + np.exp(-gamma * log_c) * (K + k * off**2)

    def gradient(self, theta: Array, at: Columns) -> Array:
        _, K, k, N_0, gamma, a = self._parts(theta)
        log_c = np.log(at["C"] / self.budget)
        off = np.log(at["N"]) - np.log(N_0) - a * log_c
        falling = np.exp(-gamma * log_c)
        moved = -2 * falling * k * off
        one = (falling, falling * off**2, moved / N_0)
        if self.is_single:
            return np.stack(one, axis=-1)
        above = falling * (K + k * off**2)
        return np.stack([np.ones_like(above), *one, -log_c * above, moved * log_c], axis=-1)

    def starts(self, at: Columns, y: Array) -> Array:
        """At exponents on a grid; given those, the law is linear in E, K + k g^2, k g and k, with g = log N_0."""
        log_c, log_N = np.log(at["C"] / self.budget), np.log(at["N"])
        middle = float(log_N.mean())
        found = []
        for gamma in (0.0,) if self.is_single else (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5):
            for a in (0.0,) if self.is_single else np.linspace(0.2, 0.8, 13):
                falling = np.exp(-gamma * log_c)
                off = log_N - a * log_c - middle
                design = np.stack([falling, falling * off, falling * off**2], axis=1) / y[:, None]
                for with_floor in (False,) if self.is_single else (True, False):
                    full = np.column_stack([design, 1 / y]) if with_floor else design
                    solved = np.linalg.lstsq(full, np.ones(len(y)), rcond=1e-12)[0]
                    cost = float(((full @ solved - 1) ** 2).sum())
                    found.append(self._start(cost, solved, middle, gamma, float(a)))
        best = np.array(sorted(start for start in found if start[1] >= 0))[:16, 1:]
        return best[:, 1:4] if self.is_single else best

    def _start(self, cost: float, solved: NDArray[np.floating], middle: float, gamma: float, a: float) -> list[float]:
        """The cost and the parameters of c0 + c1 x + c2 x^2 (+ E); a curve that opens downwards is made flat."""
        c0, c1, c2 = solved[:3]
        k = max(float(c2), 1e-4 * abs(float(c0)))
        g = float(np.clip(-c1 / (2 * k), -20, 20))
        K = max(float(c0) - k * g * g, 1e-3 * abs(float(c0)))
        E = float(solved[3]) if len(solved) > 3 else 0.0
        return [cost, E, K, k, float(np.exp(middle + g)), gamma, a]

    def _parts(self, theta: Array) -> tuple[Array, ...]:
        theta = np.asarray(theta, float)
        parts = tuple(np.moveaxis(theta[..., None], -2, 0))
        nothing = np.zeros_like(parts[0])
        return (nothing, *parts, nothing, nothing) if self.is_single else parts
