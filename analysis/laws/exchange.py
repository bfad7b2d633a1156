"""L(D_1, ..., D_m): the tokens of every domain count, at exchange rates that shift as a domain fills up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.laws.law import Array, Columns, Law, Param

if TYPE_CHECKING:
    from analysis.runs.run_table import RunTable


@dataclass(frozen=True)
class Exchange(Law):
    """L = E + Q^-beta,  Q^gamma = sum_j (a_j^(-1 / beta) w_j D / D0)^gamma

    a_j [nats per token]: the loss above E of a model trained on D0 tokens of domain j alone; a token of domain i counts
    as (a_j / a_i)^(1 / beta) tokens of domain j. gamma: 1 where domains replace each other at these constant rates;
    below 1 each has diminishing returns, and the best mixture holds several. E, beta as in L(D). D0 (`unit_tokens`):
    the geometric mean of D in the table, so that a_j and beta are estimated nearly apart.

    Holds at one N, up to about four epochs of each domain; where tokens repeat, w_j D are their effective numbers
    (analysis/mixtures/surface.py). With a single D, beta rests on the form alone: more of all domains acts as more of
    each.

    Source: Q is the production function with constant elasticity of substitution, 1 / (1 - gamma) (Arrow, Chenery,
    Minhas and Solow 1961, Review of Economics and Statistics 43); gamma = 1 is the effective data of Hernandez et al.
    2021 (arXiv 2102.01293) with several sources. On the 512 proxy runs of RegMix (Liu et al. 2024, arXiv 2407.01492)
    it ranks unseen mixtures better than boosted trees do, at all three sizes (tests/analysis/published).
    """

    domains: tuple[str, ...]
    unit_tokens: float

    name: ClassVar[str] = "exchange"
    equation: ClassVar[str] = "L = E + (sum_j (a_j^(-1 / beta) w_j D / D0)^gamma)^(-beta / gamma)"
    columns: ClassVar[tuple[str, ...]] = ("D", "w")
    pools_recipes: ClassVar[bool] = True

    @classmethod
    def of(cls, table: RunTable) -> Exchange:
        return cls(table.domains, float(np.exp(np.mean(np.log(table.columns["D"])))))

    @property
    def params(self) -> tuple[Param, ...]:
        alone = (Param(f"a:{domain}", "nats per token", 1e-6, 1e6, is_log=True) for domain in self.domains)
        return (
            Param("E", "nats per token", 0.0, 1e3),
            Param("beta", "", 1e-3, 3.0, is_log=True),
            Param("gamma", "", 0.05, 1.0, is_log=True),
            *alone,
        )

    @property
    def constants(self) -> Mapping[str, float]:
        return {"D0": self.unit_tokens}

    def loss(self, theta: Array, at: Columns) -> Array:
        theta = np.asarray(theta, float)
        log_q, _ = self._log_q(theta, at)
        return theta[..., :1] + np.exp(-theta[..., 1:2] * log_q)

    def gradient(self, theta: Array, at: Columns) -> Array:
        return self.loss_and_gradient(theta, at)[1]

    def loss_and_gradient(self, theta: Array, at: Columns) -> tuple[Array, Array]:
        theta = np.asarray(theta, float)
        log_q, shares = self._log_q(theta, at)
        beta, gamma, alone = theta[..., 1:2], theta[..., 2:3], theta[..., 3:]
        rest = np.exp(-beta * log_q)
        log_alone = (shares @ np.log(alone)[..., None])[..., 0] / beta
        entropy = -gamma * ((shares * _log_tokens(at, self.unit_tokens)).sum(axis=-1) - log_alone - log_q)
        slopes = np.empty((*rest.shape, theta.shape[-1]))
        slopes[..., 0] = 1.0
        slopes[..., 1] = -rest * (log_q + log_alone)
        slopes[..., 2] = beta * rest * entropy / gamma**2
        slopes[..., 3:] = rest[..., None] * shares / alone[..., None, :]
        return theta[..., :1] + rest, slopes

    def starts(self, at: Columns, y: Array) -> Array:
        """Soft-L1 minima (Gauss-Newton) from two floors of the loss, every domain counting the same at first."""
        from scipy import optimize

        width, goal = at["w"].shape[1], np.log(y)
        low = np.array([0.0, *np.log([param.low for param in self.params[1:]])])
        high = np.array([float(y.min()), *np.log([param.high for param in self.params[1:]])])

        def theta(phi: Array) -> Array:
            return np.array([phi[0], *np.exp(phi[1:])])

        def slope(phi: Array) -> Array:
            at_phi = theta(phi)
            loss, gradient = self.loss_and_gradient(at_phi, at)
            return gradient * np.array([1.0, *at_phi[1:]]) / loss[:, None]

        def off(phi: Array) -> Array:
            return np.log(self.loss(theta(phi), at)) - goal

        found = []
        for below, beta in ((0.3, 0.1), (0.8, 0.3)):
            above = float(np.mean(np.log(y - below * y.min())))
            begin = np.clip(
                [below * float(y.min()), np.log(beta), np.log(0.7), *[above] * width], low, high * (1 - 1e-9)
            )
            found.append(optimize.least_squares(
                off, begin, slope, bounds=(low, high), loss="soft_l1", f_scale=0.01, x_scale="jac", max_nfev=200
            ))  # fmt: skip
        best = min(found, key=lambda result: result.cost)
        apart = [r for r in found if r is best or r.cost > best.cost * (1 + 1e-6)]
        starts = np.array([theta(result.x) for result in apart])
        starts[:, 0] = np.where(starts[:, 0] < 1e-6 * y.min(), 0.0, starts[:, 0])  # Gauss-Newton stays inside bounds
        return starts

    def _log_q(self, theta: Array, at: Columns) -> tuple[Array, Array]:
        """log Q (..., n), and the share of each domain in Q^gamma (..., n, m)."""
        beta, gamma = theta[..., None, 1:2], theta[..., None, 2:3]
        parts = gamma * (_log_tokens(at, self.unit_tokens) - np.log(theta[..., None, 3:]) / beta)
        top = parts.max(axis=-1, keepdims=True)
        powers = np.exp(parts - top)
        total = powers.sum(axis=-1, keepdims=True)
        return ((np.log(total) + top) / gamma)[..., 0], powers / total


def _log_tokens(at: Columns, unit: float) -> Array:
    """log(w_j D / D0), (n, m); for a domain that is not read, so low that it counts nothing."""
    weights = at["w"]
    return np.where(weights > 0, np.log(np.where(weights > 0, weights, 1.0)) + np.log(at["D"] / unit)[:, None], -1e6)
