"""The law of data: one curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from analysis.laws.law import Array, Columns, Param
from analysis.laws.posynomial import Posynomial, Term
from analysis.runs.run_table import RunTable


@dataclass(frozen=True)
class Power(Posynomial):
    """L(D) = E + B / D^beta

    E [nats per token]: the loss that no amount of this data undercuts. B [nats per token x tokens^beta] and
    beta: how fast the rest falls. D: tokens trained on, each seen for the first time.

    Source: Hestness et al. 2017 (arXiv 1712.00409, with E); Kaplan et al. 2020 (arXiv 2001.08361, E = 0);
    Hoffmann et al. 2022 (arXiv 2203.15556, the D term of L(N, D) at fixed N).
    Holds where the model is large enough for the data (N does not bind), after warmup, at the end of a decay,
    and up to about four epochs (Muennighoff et al. 2023, arXiv 2305.16264).
    """

    name: ClassVar[str] = "power"
    equation: ClassVar[str] = "L(D) = E + B / D^beta"
    columns: ClassVar[tuple[str, ...]] = ("D",)

    @classmethod
    def of(cls, table: RunTable) -> Power:
        return cls()

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("E", "nats per token", 0.0, 1e3),
            Param("B", "nats per token x tokens^beta", 1e-12, 1e30, is_log=True),
            Param("beta", "", 0.0, 5.0),
        )

    def terms(self, at: Columns) -> tuple[Term, ...]:
        return (Term((1, 2), np.stack([np.ones(len(at["D"])), -np.log(at["D"])], axis=1)),)


@dataclass(frozen=True)
class PowerLaw:
    """A `Power` law whose parameters are known: one curve, which can be inverted."""

    E: float
    B: float
    beta: float

    def loss(self, D: ArrayLike) -> Array:
        """L at D tokens; any shape."""
        return self.E + self.B * np.asarray(D, float) ** -self.beta

    def slope(self, D: ArrayLike) -> Array:
        """d log L / d log D, which is negative and tends to 0 as L comes near E."""
        return -self.beta * (1 - self.E / self.loss(D))

    def tokens(self, loss: float) -> float:
        """The D at which the law reaches a loss; inf where it never does (loss <= E)."""
        return float((self.B / (loss - self.E)) ** (1 / self.beta)) if loss > self.E else float("inf")
