"""What a token of one recipe is worth in tokens of another, and how fast that wears off when it repeats."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.laws import posynomial_starts
from analysis.laws.chinchilla import Chinchilla
from analysis.laws.law import Array, Columns, Law, Param
from analysis.laws.posynomial import Term

if TYPE_CHECKING:
    from analysis.runs.run_table import RunTable

HALF_LIVES = (0.5, 2.0, 8.0, 60.0)


@dataclass(frozen=True)
class Quality(Law):
    """L_r(D) = E + B / (m_r D~)^beta,  D~ = U prod_(j = 1 .. epochs - 1) ((j + 1) / j)^(2^(-j / tau_r))

    r: the recipe, or bucket of quality, of a run. m_r: its token multiplier: one of its tokens does as much as m_r of
    the first recipe (by name; its m is 1). D~: D while no token repeats (D <= U). In epoch j + 1 the growth of log D
    counts 2^(-j / tau_r): tau_r, in epochs, is the half-life of what a further epoch teaches; it is estimated for
    recipes with repeats in the table, where that has U. With several N a term A / N^alpha joins. Recipes share E, so
    they differ by a factor on D at every loss; where they do not (multipliers that grow with scale, other floors), fit
    each alone and contrast them.

    Source: the multiplier of effective data of Hernandez et al. 2021 (arXiv 2102.01293); half-life per bucket of Goyal
    et al. 2024 (arXiv 2404.07177), whose utility b_r is beta here, the same for all, with m_r for the difference.
    """

    recipes: tuple[str, ...]
    has_sizes: bool
    repeated: tuple[int, ...]

    name: ClassVar[str] = "quality"
    equation: ClassVar[str] = "L_r(D) = E + B / (m_r D~)^beta, D~ = U prod_j ((j + 1) / j)^(2^(-j / tau_r))"
    columns: ClassVar[tuple[str, ...]] = ("D", "recipe")
    optional: ClassVar[tuple[str, ...]] = ("U", "N")
    pools_recipes: ClassVar[bool] = True

    @classmethod
    def of(cls, table: RunTable) -> Quality:
        at = table.columns
        repeats = _epochs(at) > 1.01
        where = tuple(int(r) for r in np.unique(at["recipe"][repeats]))
        has_sizes = "N" in at and len(np.unique(at["N"])) > 2
        return cls(tuple(str(name) for name in np.unique(table.recipe)), has_sizes, where)

    @property
    def params(self) -> tuple[Param, ...]:
        E, A, B, alpha, _ = Chinchilla().params
        unit = f"tokens of {self.recipes[0]} per token"
        return (
            E,
            B,
            Param("beta", "", 1e-3, 5.0),
            *((A, alpha) if self.has_sizes else ()),
            *(Param(f"m:{recipe}", unit, 1e-6, 1e6, is_log=True) for recipe in self.recipes[1:]),
            *(Param(f"tau:{self.recipes[r]}", "epochs", 1e-2, 1e4, is_log=True) for r in self.repeated),
        )

    @property
    def form(self) -> str:
        law = "L_r(N, D) = E + A / N^alpha + B" if self.has_sizes else "L_r(D) = E + B"
        of_first = f"m of {self.recipes[0]} = 1"
        if not self.repeated:
            return f"{law} / (m_r D)^beta, {of_first}"
        return f"{law} / (m_r D~)^beta, {self.equation.partition(', ')[2]}, {of_first}"

    def loss(self, theta: Array, at: Columns) -> Array:
        theta = np.asarray(theta, float)
        E, B, beta = (theta[..., i, None] for i in range(3))
        log_worth, _ = self._log_worth(theta, at)
        above = theta[..., 3, None] * at["N"] ** -theta[..., 4, None] if self.has_sizes else 0.0
        return E + above + B * np.exp(-beta * log_worth)

    def gradient(self, theta: Array, at: Columns) -> Array:
        theta = np.asarray(theta, float)
        B, beta = theta[..., 1, None], theta[..., 2, None]
        log_worth, by_tau = self._log_worth(theta, at)
        falling = B * np.exp(-beta * log_worth)
        slopes = np.zeros((*falling.shape, theta.shape[-1]))
        slopes[..., 0] = 1.0
        slopes[..., 1] = falling / B
        slopes[..., 2] = -falling * log_worth
        if self.has_sizes:
            slopes[..., 3] = at["N"] ** -theta[..., 4, None]
            slopes[..., 4] = -theta[..., 3, None] * slopes[..., 3] * np.log(at["N"])
        number = at["recipe"].astype(int)
        for r in range(1, len(self.recipes)):
            place = self._first + r - 1
            slopes[..., place] = np.where(number == r, -beta * falling / theta[..., place, None], 0.0)
        for i, r in enumerate(self.repeated):
            slopes[..., self._first_tau + i] = np.where(number == r, -beta * falling * by_tau, 0.0)
        return slopes

    def starts(self, at: Columns, y: Array) -> Array:
        """At half-lives on a grid: a power law whose factor is the recipe's, by floors and least squares."""
        number = at["recipe"].astype(int)
        marks = (number[:, None] == np.arange(1, len(self.recipes))).astype(float)
        free = (Param(f"d{r}", "", -80.0, 80.0) for r in range(1, len(self.recipes)))
        params = (*self.params[: self._first], *free)
        growth = _growth(at)
        found = []
        for half_life in HALF_LIVES if self.repeated else (1.0,):
            log_D = _log_first(at) + growth @ _kept(growth, np.array(half_life))
            own = (1, 2, *range(self._first, len(params)))
            terms = [Term(own, np.column_stack([np.ones(len(y)), -log_D, marks]))]
            if self.has_sizes:
                terms.append(Term((3, 4), np.stack([np.ones(len(y)), -np.log(at["N"])], axis=1)))
            for start in posynomial_starts.starts(params, terms, y)[:6]:
                start[2] = max(start[2], 1e-2)
                offsets = self._offsets(start, at, y, log_D) if self.has_sizes else start[self._first :]
                m = np.exp(np.clip(-offsets / start[2], -12, 12))
                found.append([*start[: self._first], *m, *([half_life] * len(self.repeated))])
        if len(self.repeated) > 1:  # half-lives may differ: the first start with every pair of short and long
            first = np.array(found[0])
            for pattern in list(product((0.5, 8.0), repeat=min(len(self.repeated), 4)))[1:-1]:
                first[self._first_tau : self._first_tau + len(pattern)] = pattern
                found.append([*first])
        return np.array(found)

    def _offsets(self, start: Array, at: Columns, y: Array, log_D: Array) -> Array:
        """Of log(L - E - A / N^alpha) from the power law of the first recipe, the median of each other one."""
        above = y - start[0] - start[3] * at["N"] ** -start[4]
        off = np.log(np.maximum(above, 1e-3 * y)) + start[2] * log_D
        number = at["recipe"].astype(int)
        medians = [float(np.median(off[number == r])) for r in range(len(self.recipes))]
        start[1] = float(np.exp(np.clip(medians[0], -27, 69)))
        return np.array(medians[1:]) - medians[0]

    @property
    def _first(self) -> int:
        """Where the multipliers begin in theta."""
        return 5 if self.has_sizes else 3

    @property
    def _first_tau(self) -> int:
        return self._first + len(self.recipes) - 1

    def _log_worth(self, theta: Array, at: Columns) -> tuple[Array, Array]:
        """log m_r D~ (..., n), and its derivative with respect to the half-life of the row's recipe, (..., n)."""
        number = at["recipe"].astype(int)
        ones = np.ones((*theta.shape[:-1], 1))
        m = np.concatenate([ones, theta[..., self._first : self._first_tau]], axis=-1)
        log_worth = _log_first(at) + np.log(m)[..., number]
        by_tau = np.zeros_like(log_worth)
        growth = _growth(at)
        if not growth.shape[1]:
            return log_worth, by_tau
        for i, r in enumerate(self.repeated):
            tau = theta[..., self._first_tau + i, None]
            kept = _kept(growth, tau)
            rows = number == r
            log_worth[..., rows] += kept @ growth[rows].T
            order = np.arange(1, growth.shape[1] + 1)
            by_tau[..., rows] = (kept * order * np.log(2) / tau**2) @ growth[rows].T
        return log_worth, by_tau


def _epochs(at: Columns) -> Array:
    """D / U, 1 without repetition, (n,)."""
    return np.maximum(at["D"] / at["U"], 1.0) if "U" in at else np.ones_like(at["D"])


def _log_first(at: Columns) -> Array:
    """log of the tokens of the first epoch, (n,)."""
    return np.log(np.minimum(at["D"], at["U"]) if "U" in at else at["D"])


def _growth(at: Columns) -> Array:
    """By how much log D grows in the second, third, ... epoch, (n, J); the last may be part of one."""
    epochs = _epochs(at)[:, None]
    order = np.arange(1, int(np.ceil(epochs.max() - 1e-9)))[None, :]
    return np.log(np.clip(epochs, order, order + 1)) - np.log(order)


def _kept(growth: Array, tau: Array) -> Array:
    """2^(-j / tau) for j = 1 .. J, (..., J)."""
    return np.exp2(-np.arange(1, growth.shape[1] + 1) / tau)
