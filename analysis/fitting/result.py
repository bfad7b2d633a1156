"""What every fit says of itself: how it went, and values with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """How a fit went, in a sentence."""

    OK = "The fit converged."
    AT_BOUND = (
        "E is at its bound 0: within these sizes no floor of the loss shows, the curve is a pure power law. "
        "That is fine within and near the measured sizes; far beyond them it is too optimistic."
    )
    NOT_IDENTIFIED = (
        "The points do not settle the parameters: many sets of them fit as well. The curve within the measured sizes "
        "can be used, its parameters cannot; larger sizes would settle them."
    )
    REPEATS = (
        "Tokens repeat more than 4 times: the law counts every token as new and does not hold. Read the measured "
        "losses, not this curve."
    )
    NOT_CONVERGED = (
        "The optimiser did not converge, or ended where the law says nothing; do not use this fit. Look at the points "
        "for an outlier, and whether the loss falls at all."
    )
    TOO_FEW_POINTS = (
        "Too few different sizes: a fit needs at least one more than the law has parameters. Add sizes, hold out "
        "fewer, or fix a parameter."
    )


@dataclass(frozen=True)
class Estimate:
    """A value with its interval (95 % unless said). inf or nan ends: the data set no limit."""

    value: float
    lo: float
    hi: float

    @property
    def plain(self) -> dict[str, float | None]:
        """For JSON: null where there is no number."""
        ends = {"value": self.value, "lo": self.lo, "hi": self.hi}
        return {name: float(end) if math.isfinite(end) else None for name, end in ends.items()}
