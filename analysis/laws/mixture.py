"""The law of a mixture of domains: exponential in the weights, a power law in the tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.laws.law import Columns, Param
from analysis.laws.posynomial import Posynomial, Term

if TYPE_CHECKING:
    from analysis.runs.run_table import RunTable


@dataclass(frozen=True)
class Mixture(Posynomial):
    """L(w, D) = E + exp(sum_j b_j w_j) / D^beta, without the D where the table has one D or none

    w_j: the share of domain j of the tokens that were read, summing to 1. b_j: the logarithm of the reducible loss, in
    nats per token (x tokens^beta), of a model trained on domain j alone; the lower, the more a token of it buys. The
    k exp(sum_j t_j w_j) of the source has one parameter too many: since the weights sum to 1, only b_j = log k + t_j
    can be known.

    Source: Ye et al. 2024 (arXiv 2403.16952), data mixing laws, one per validation domain. Holds at one N, and within
    the weights that were tried: log-linear in w, its optimum tends to the edge of them.
    """

    domains: tuple[str, ...]
    has_tokens: bool

    name: ClassVar[str] = "mixture"
    equation: ClassVar[str] = "L(w, D) = E + exp(sum_j b_j w_j) / D^beta"
    columns: ClassVar[tuple[str, ...]] = ("w",)
    optional: ClassVar[tuple[str, ...]] = ("D",)
    pools_recipes: ClassVar[bool] = True

    @classmethod
    def of(cls, table: RunTable) -> Mixture:
        return cls(table.domains, "D" in table.columns and bool(np.ptp(table.columns["D"])))

    @property
    def params(self) -> tuple[Param, ...]:
        beta = (Param("beta", "", 0.0, 5.0),) if self.has_tokens else ()
        unit = "log(nats per token x tokens^beta)" if self.has_tokens else "log(nats per token)"
        logs = (Param(f"b:{domain}", unit, -80.0, 80.0) for domain in self.domains)
        return (Param("E", "nats per token", 0.0, 1e3), *beta, *logs)

    @property
    def form(self) -> str:
        return self.equation if self.has_tokens else "L(w) = E + exp(sum_j b_j w_j)"

    def terms(self, at: Columns) -> tuple[Term, ...]:
        width = at["w"].shape[1]
        if not self.has_tokens:
            return (Term(tuple(range(1, 1 + width)), at["w"]),)
        return (Term(tuple(range(1, 2 + width)), np.column_stack([-np.log(at["D"]), at["w"]])),)
