"""The law of fine-tuning in model size and data: the two multiply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.laws.law import Columns, Param
from analysis.laws.posynomial import Posynomial, Term

if TYPE_CHECKING:
    from analysis.runs.run_table import RunTable


@dataclass(frozen=True)
class Joint(Posynomial):
    """L(N, D) = E + A / (N^alpha D^beta)

    E [nats per token]: the loss that no model and no amount of fine-tuning data undercuts. N: parameters of the model
    that is fine-tuned; D: fine-tuning tokens (or examples: the unit is the table's). A larger model makes every token
    count for more, so the gap to E shrinks by a factor in each, not by a sum as in L(N, D) of pretraining.

    Source: Zhang et al. 2024 (arXiv 2402.17193), who found it to predict held-out sizes better than the sum, for full
    fine-tuning, prompt tuning and LoRA. Holds from some thousand examples on, where fine-tuning has left the pretrained
    loss (below that see `rectified`), for one task and one family of models.
    """

    name: ClassVar[str] = "joint"
    equation: ClassVar[str] = "L(N, D) = E + A / (N^alpha D^beta)"
    columns: ClassVar[tuple[str, ...]] = ("N", "D")

    @classmethod
    def of(cls, table: RunTable) -> Joint:
        return cls()

    @property
    def params(self) -> tuple[Param, ...]:
        return (
            Param("E", "nats per token", 0.0, 1e3),
            Param("A", "nats per token x parameters^alpha x tokens^beta", 1e-12, 1e40, is_log=True),
            Param("alpha", "", 0.0, 5.0),
            Param("beta", "", 0.0, 5.0),
        )

    def terms(self, at: Columns) -> tuple[Term, ...]:
        return (Term((1, 2, 3), np.stack([np.ones(len(at["D"])), -np.log(at["N"]), -np.log(at["D"])], axis=1)),)
