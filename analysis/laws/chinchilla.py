"""The law of model size and data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.laws.law import Columns, Param
from analysis.laws.posynomial import Posynomial, Term
from analysis.runs.run_table import RunTable


@dataclass(frozen=True)
class Chinchilla(Posynomial):
    """L(N, D) = E + A / N^alpha + B / D^beta

    E [nats per token]: the loss that no model and no amount of this data undercuts. A, alpha: what a finite model
    costs; B, beta: what finite data cost. N: parameters, D: tokens trained on, each seen for the first time.

    Source: Hoffmann et al. 2022 (arXiv 2203.15556, approach 3); Besiroglu et al. 2024 (arXiv 2404.10102) for its
    estimation. Holds at the end of a decay, below one epoch, with N and D both varied over at least a factor of ten;
    at one N the term of N cannot be told from E (use `power`).
    """

    name: ClassVar[str] = "chinchilla"
    equation: ClassVar[str] = "L(N, D) = E + A / N^alpha + B / D^beta"
    columns: ClassVar[tuple[str, ...]] = ("N", "D")

    @classmethod
    def of(cls, table: RunTable) -> Chinchilla:
        return cls()

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("E", "nats per token", 0.0, 1e3),
            Param("A", "nats per token x parameters^alpha", 1e-12, 1e30, is_log=True),
            Param("B", "nats per token x tokens^beta", 1e-12, 1e30, is_log=True),
            Param("alpha", "", 0.0, 5.0),
            Param("beta", "", 0.0, 5.0),
        )

    def terms(self, at: Columns) -> tuple[Term, ...]:
        ones = np.ones(len(at["N"]))
        return (
            Term((1, 3), np.stack([ones, -np.log(at["N"])], axis=1)),
            Term((2, 4), np.stack([ones, -np.log(at["D"])], axis=1)),
        )
