"""Laws that are sums of exponentials of linear forms, which is what most scaling laws are."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from analysis.laws.law import Array, Columns, Law
from analysis.laws.posynomial_starts import starts


@dataclass(frozen=True, eq=False)  # told apart by identity: its array has no one truth value
class Term:
    """exp(sum_j design[:, j] phi[params[j]]), where phi is the logarithm of a parameter that is_log, or itself.

    params: positions in theta, q of them, each once. design: (n, q), one row per measurement.
    """

    params: tuple[int, ...]
    design: Array


class Posynomial(Law):
    """L = E + sum_k exp(X_k phi_k)

    E is the first parameter and linear; every other one enters through the terms, as its logarithm if it is_log
    (A / N^alpha = exp(log A - alpha log N)). A form says which parameters and which terms; loss, derivatives, starts
    and compiled estimation (analysis/fitting/kernel.py) follow.
    """

    @abstractmethod
    def terms(self, at: Columns) -> tuple[Term, ...]:
        """Its terms at rows `at`."""

    def coordinates(self, theta: Array) -> Array:
        """phi, (..., p): what the terms are linear in."""
        return np.where(self.is_log, np.log(np.where(self.is_log, theta, 1.0)), theta)

    def loss(self, theta: Array, at: Columns) -> Array:
        phi = self.coordinates(np.asarray(theta, float))
        return phi[..., :1] + sum(np.exp(phi[..., t.params] @ t.design.T) for t in self.terms(at))

    def gradient(self, theta: Array, at: Columns) -> Array:
        return self.loss_and_gradient(theta, at)[1]

    def loss_and_gradient(self, theta: Array, at: Columns) -> tuple[Array, Array]:
        theta = np.asarray(theta, float)
        phi = self.coordinates(theta)
        terms = self.terms(at)
        slopes = np.zeros((*theta.shape[:-1], len(terms[0].design), theta.shape[-1]))
        slopes[..., 0] = 1.0
        values = [np.exp(phi[..., term.params] @ term.design.T) for term in terms]
        for term, value in zip(terms, values, strict=True):
            slopes[..., term.params] += value[..., None] * term.design
        return phi[..., :1] + sum(values), slopes / np.where(self.is_log, theta, 1.0)[..., None, :]

    def starts(self, at: Columns, y: Array) -> Array:
        return starts(self.params, self.terms(at), y)
