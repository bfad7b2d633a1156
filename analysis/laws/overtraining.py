"""The law of model size and data with one exponent for both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.laws.law import Columns, Param
from analysis.laws.posynomial import Posynomial, Term

if TYPE_CHECKING:
    from analysis.runs.run_table import RunTable


@dataclass(frozen=True)
class Overtraining(Posynomial):
    """L(N, D) = E + A / N^eta + B / D^eta

    `chinchilla` with alpha = beta = eta: the form in which, at any fixed number of tokens per parameter M = D/N, the
    loss falls as a power law of compute with the same exponent, L = E + (a M^(eta/2) + b M^(-eta/2)) C^(-eta/2). Four
    parameters: five runs will do where they differ in N and in M.

    Source: Gadre et al. 2024 (arXiv 2403.08540), who predicted runs of 300 times the compute with it.
    """

    name: ClassVar[str] = "overtraining"
    equation: ClassVar[str] = "L(N, D) = E + A / N^eta + B / D^eta"
    columns: ClassVar[tuple[str, ...]] = ("N", "D")

    @classmethod
    def of(cls, table: RunTable) -> Overtraining:
        return cls()

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("E", "nats per token", 0.0, 1e3),
            Param("A", "nats per token x parameters^eta", 1e-12, 1e30, is_log=True),
            Param("B", "nats per token x tokens^eta", 1e-12, 1e30, is_log=True),
            Param("eta", "", 0.0, 5.0),
        )

    def terms(self, at: Columns) -> tuple[Term, ...]:
        ones = np.ones(len(at["N"]))
        return (
            Term((1, 3), np.stack([ones, -np.log(at["N"])], axis=1)),
            Term((2, 3), np.stack([ones, -np.log(at["D"])], axis=1)),
        )
