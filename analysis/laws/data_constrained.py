"""The law of model size and data that repeat."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.laws import posynomial_starts
from analysis.laws.chinchilla import Chinchilla
from analysis.laws.law import Array, Columns, Law, Param

if TYPE_CHECKING:
    from analysis.runs.run_table import RunTable


@dataclass(frozen=True)
class DataConstrained(Law):
    """L(N, D, U) = E + A / N'^alpha + B / D'^beta

    D' = U + U R_D* (1 - exp(-R_D / R_D*)),  R_D = D/U - 1 repetitions
    N' = U_N + U_N R_N* (1 - exp(-R_N / R_N*)),  R_N = N/U_N - 1,  U_N = min(N, N_opt(U))

    U: unique tokens among the D trained on. A repeated token is worth less than a new one, and after R_D* repetitions
    of all the data hardly anything; parameters beyond those that U tokens want, N_opt(U) = G (U G)^(beta/alpha) with
    G = (alpha A / (beta B))^(1/(alpha + beta)), lose their worth alike. E, A, B, alpha, beta as in `chinchilla`.

    Source: Muennighoff et al. 2023 (arXiv 2305.16264), who froze the first five at a fit to runs without repetition.
    Holds up to some 40 epochs and 10^11 unique tokens. Its U_N makes a kink where N = N_opt(U).
    """

    name: ClassVar[str] = "data_constrained"
    equation: ClassVar[str] = (
        "L(N, D, U) = E + A / N'^alpha + B / D'^beta, D' = U + U R_D* (1 - exp(-(D/U - 1) / R_D*)), "
        "N' = U_N + U_N R_N* (1 - exp(-(N/U_N - 1) / R_N*)), U_N = min(N, G (U G)^(beta/alpha)), "
        "G = (alpha A / (beta B))^(1 / (alpha + beta))"
    )
    columns: ClassVar[tuple[str, ...]] = ("N", "D", "U")
    may_be_constant: ClassVar[tuple[str, ...]] = ("U",)

    @classmethod
    def of(cls, table: RunTable) -> DataConstrained:
        return cls()

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("E", "nats per token", 0.0, 1e3),
            Param("A", "nats per token x parameters^alpha", 1e-12, 1e30, is_log=True),
            Param("B", "nats per token x tokens^beta", 1e-12, 1e30, is_log=True),
            Param("alpha", "", 1e-3, 5.0),
            Param("beta", "", 1e-3, 5.0),
            Param("R_D*", "repetitions", 1e-3, 1e20, is_log=True),
            Param("R_N*", "repetitions", 1e-3, 1e20, is_log=True),
        )

    def loss(self, theta: Array, at: Columns) -> Array:
        E, A, B, alpha, beta, R_D, R_N = _parts(theta)
        U = np.minimum(at["U"], at["D"])
        useful_D = _worth(U, at["D"] / U - 1, R_D)
        U_N = np.minimum(at["N"], _wanted(A, B, alpha, beta, U))
        useful_N = _worth(U_N, at["N"] / U_N - 1, R_N)
        return E + A * useful_N**-alpha + B * useful_D**-beta

    def gradient(self, theta: Array, at: Columns) -> Array:
        _, A, B, alpha, beta, R_D, R_N = _parts(theta)
        U = np.minimum(at["U"], at["D"])
        repeats = at["D"] / U - 1
        useful_D = _worth(U, repeats, R_D)
        wanted = _wanted(A, B, alpha, beta, U)
        U_N = np.minimum(at["N"], wanted)
        excess = at["N"] / U_N - 1
        useful_N = _worth(U_N, excess, R_N)
        of_N, of_D = A * useful_N**-alpha, B * useful_D**-beta
        # dL / d log U_N, which is 0 where N binds; U_N then moves with A, B, alpha and beta through N_opt
        spent = np.exp(-excess / R_N)
        per_U_N = np.where(wanted < at["N"], 1 - R_N * np.expm1(-excess / R_N) - spent * at["N"] / U_N, 0.0)
        pull = -alpha * of_N / useful_N * per_U_N * U_N
        total = alpha + beta
        log_G = (np.log(alpha * A) - np.log(beta * B)) / total
        ratio = 1 + beta / alpha
        by_alpha = -beta / alpha**2 * (np.log(U) + log_G) + ratio * (1 / alpha - log_G) / total
        by_beta = (np.log(U) + log_G) / alpha - ratio * (1 / beta + log_G) / total
        return np.stack(
            [
                np.ones_like(of_N),
                (of_N + pull / alpha) / A,
                (of_D - pull / alpha) / B,
                -of_N * np.log(useful_N) + pull * by_alpha,
                -of_D * np.log(useful_D) + pull * by_beta,
                -beta * of_D / useful_D * U * _more(repeats, R_D),
                -alpha * of_N / useful_N * U_N * _more(excess, R_N),
            ],
            axis=-1,
        )

    def starts(self, at: Columns, y: Array) -> Array:
        """At R_D* and R_N* on a grid, the rest as `chinchilla` has it for N and D'; then once more for N' and D'."""
        U = np.minimum(at["U"], at["D"])
        base = Chinchilla()
        found = []
        for R_D, R_N in product((1.0, 5.0, 20.0, 150.0), (0.7, 4.0, 60.0)):
            useful = {"N": at["N"], "D": _worth(U, at["D"] / U - 1, np.array(R_D))}
            for _ in range(2):
                start = posynomial_starts.starts(base.params, base.terms(useful), y)[0]
                A, B, alpha, beta = (np.array([max(value, 1e-2)]) for value in start[1:5])
                U_N = np.minimum(at["N"], _wanted(A, B, alpha, beta, U))
                useful = useful | {"N": _worth(U_N, at["N"] / U_N - 1, np.array(R_N))}
            found.append([*start, R_D, R_N])
        return np.array(found)


def _parts(theta: Array) -> tuple[Array, ...]:
    return tuple(np.moveaxis(np.asarray(theta, float)[..., None], -2, 0))


def _worth(unique: Array, repeats: Array, limit: Array) -> Array:
    """U + U R* (1 - exp(-R / R*)), (..., n)."""
    return unique * (1 - limit * np.expm1(-repeats / limit))


def _more(repeats: Array, limit: Array) -> Array:
    """The derivative of R* (1 - exp(-R / R*)) with respect to R*."""
    x = repeats / limit
    return -np.expm1(-x) - x * np.exp(-x)


def _wanted(A: Array, B: Array, alpha: Array, beta: Array, U: Array) -> Array:
    """N_opt(U): the model for which U tokens are compute-optimal, (..., n)."""
    log_G = (np.log(alpha * A) - np.log(beta * B)) / (alpha + beta)
    return np.exp(np.clip(beta / alpha * (np.log(U) + log_G) + log_G, -300, 300))
