"""Mixtures: how much of the training each domain gives, written down or computed, the same throughout or in stages."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from scaling.part import Name, Part, Share

Weight = Annotated[float, Field(ge=0)]
"""At most 1, since weights sum to 1: that is said once of all, and not of each."""


def check_weights(weights: dict[str, float]) -> None:
    """ValueError unless weights sum to 1."""
    if abs((total := sum(weights.values())) - 1) > 1e-6:
        raise ValueError(f"weights must sum to 1, got {total:.6g}: {weights}")


def check_bounds(domains: Sequence[str], lower: Sequence[float], upper: Sequence[float], rule: str = "") -> None:
    """ValueError, with the bounds and the rule that they come from, if no weights meet them."""
    bounds = ", ".join(f"{n} {a:g} to {b:g}" for n, a, b in zip(domains, lower, upper, strict=True)) + rule
    if any(low > high for low, high in zip(lower, upper, strict=True)):
        raise ValueError(f"mixture: a weight's lower bound is above its upper one ({bounds})")
    if sum(lower) > 1 + 1e-9 or sum(upper) < 1 - 1e-9:
        raise ValueError(
            f"mixture: no weights meet the bounds, whose sums are {sum(lower):g} and {sum(upper):g}: wanted at most "
            f"1 and at least 1 ({bounds})"
        )


class Weights(Part):
    """The share of training sequences that each domain gives; a domain of weight 0 is only evaluated."""

    kind: Literal["weights"] = "weights"
    weights: dict[Name, Weight]

    @model_validator(mode="after")
    def _sums_to_one(self) -> Weights:
        check_weights(self.weights)
        return self


Domains = Annotated[tuple[Name, ...], AfterValidator(lambda names: tuple(sorted(set(names))))]
"""Names of domains, in alphabetical order, each once."""


class Temperature(Part):
    """Weight proportional to size ** exponent: 1 is in proportion, 0 is even (Devlin 2018, multilingual BERT: 0.7).

    size: tokens of the domain before its documents are selected, so that no filter shifts the mixture
    (corpus), or after (kept).
    """

    kind: Literal["temperature"] = "temperature"
    domains: Domains = Field(min_length=1)
    exponent: float = Field(default=1.0, ge=0, le=10)
    size: Literal["corpus", "kept"] = "corpus"


class Bounded(Part):
    """A mixture whose weights keep within bounds by domain."""

    domains: Domains = Field(min_length=2)
    lower: dict[Name, Share] = Field(default={})
    upper: dict[Name, Share] = Field(default={})

    @model_validator(mode="after")
    def _bounds_its_own_domains(self) -> Self:
        for field, bounds in (("lower", self.lower), ("upper", self.upper)):
            if unknown := sorted(set(bounds) - set(self.domains)):
                raise ValueError(f"mixture.{field} names {unknown}, but mixture.domains has {list(self.domains)}")
        return self

    @property
    def bounds(self) -> tuple[list[float], list[float]]:
        """The smallest and the largest weight of each domain [num_domains]."""
        lower = [self.lower.get(name, 0.0) for name in self.domains]
        return lower, [self.upper.get(name, 1.0) for name in self.domains]


class Swarm(Bounded):
    """Point `index` of a sample of the simplex: a Dirichlet swarm around proportions of size (Liu et al. 2024, RegMix).

    concentration: of the Dirichlet; large values stay near the sizes. lower, upper: bounds per domain.
    max_epochs: no weight may repeat its domain more often within `repetition_tokens` trained tokens, by the tokens
    that it holds before documents are selected, so that no filter shifts the mixture.
    """

    kind: Literal["swarm"] = "swarm"
    index: int = Field(ge=0)
    seed: int = Field(default=0, ge=0)
    concentration: float = Field(default=1.0, gt=0)
    max_epochs: float | None = Field(default=None, gt=0)
    repetition_tokens: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _has_points(self) -> Swarm:
        if (self.max_epochs is None) != (self.repetition_tokens is None):
            raise ValueError(
                "mixture.max_epochs and mixture.repetition_tokens belong together, "
                f"got {self.max_epochs} and {self.repetition_tokens}"
            )
        check_bounds(self.domains, *self.bounds)
        return self


class Grid(Bounded):
    """Point `index` of the grid over the simplex whose weights are multiples of 1 / steps, within bounds."""

    kind: Literal["grid"] = "grid"
    index: int = Field(ge=0)
    steps: int = Field(ge=1, le=100)

    @model_validator(mode="after")
    def _has_the_point(self) -> Grid:
        lower, upper = self.bounds_in_steps
        check_bounds(
            self.domains,
            [least / self.steps for least in lower],
            [most / self.steps for most in upper],
            f"; in steps of 1/{self.steps}",
        )
        if self.index >= (num := self.num_points):
            raise ValueError(
                f"mixture.index must be below {num}, the points of this grid over {len(lower)} domains "
                f"in {self.steps} steps, got {self.index}"
            )
        return self

    @property
    def bounds_in_steps(self) -> tuple[list[int], list[int]]:
        """The smallest and the largest weight of each domain in steps [num_domains]."""
        lower, upper = self.bounds
        # 1e-9: 0.3 x 10 must be a whole number although 0.3 is no binary fraction
        return [ceil(low * self.steps - 1e-9) for low in lower], [floor(high * self.steps + 1e-9) for high in upper]

    @property
    def ways(self) -> list[list[int]]:
        """ways[i][s]: in how many ways domains i, i + 1, ... share s steps within their bounds."""
        lower, upper = self.bounds_in_steps
        ways = [[0] * (self.steps + 1) for _ in lower] + [[1] + [0] * self.steps]
        for i in reversed(range(len(lower))):
            for s in range(self.steps + 1):
                ways[i][s] = sum(ways[i + 1][s - part] for part in range(lower[i], min(upper[i], s) + 1))
        return ways

    @property
    def num_points(self) -> int:
        """How many points the grid has; the index of the last is one less."""
        return self.ways[0][self.steps]


class Stage(Part):
    """A mixture until `until_tokens` of the budget (None: to its end)."""

    weights: dict[Name, Weight]
    until_tokens: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _sums_to_one(self) -> Stage:
        check_weights(self.weights)
        return self


class Stages(Part):
    """Mixtures one after another: a curriculum, an annealing phase. Their ends are in tokens, so that a smaller
    budget is a prefix of a larger one."""

    kind: Literal["stages"] = "stages"
    stages: tuple[Stage, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _follow_each_other(self) -> Stages:
        ends = [stage.until_tokens for stage in self.stages]
        known = [end for end in ends[:-1] if end is not None]
        if ends[-1] is not None or len(known) < len(ends) - 1 or known != sorted(set(known)):
            raise ValueError(
                f"mixture.stages must have increasing until_tokens, and none on the last stage, got {ends}"
            )
        return self


def _mixture_kind(value: Any) -> str | None:
    return value.get("kind", "weights") if isinstance(value, dict) else getattr(value, "kind", None)


Mixture = Annotated[
    Annotated[Weights, Tag("weights")]
    | Annotated[Temperature, Tag("temperature")]
    | Annotated[Swarm, Tag("swarm")]
    | Annotated[Grid, Tag("grid")]
    | Annotated[Stages, Tag("stages")],
    Discriminator(_mixture_kind),
]


def mixed_domains(mixture: Mixture) -> frozenset[str]:
    """The domains that a mixture names."""
    if isinstance(mixture, Weights):
        return frozenset(mixture.weights)
    if isinstance(mixture, Stages):
        return frozenset(name for stage in mixture.stages for name in stage.weights)
    return frozenset(mixture.domains)
