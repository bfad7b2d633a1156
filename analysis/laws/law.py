"""What a scaling law is: a form whose parameters a fit estimates."""

from __future__ import annotations

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from analysis.runs.run_table import RunTable

Array = NDArray[np.float64]
Columns = Mapping[str, Array]
"""What a law reads, by its letter in the papers: N parameters, D tokens trained on, U unique ones among them, C FLOPs,
shape (n,); w the weights of the domains, shape (n, m); others as the law says."""


@dataclass(frozen=True)
class Param:
    """A parameter: its name in the paper, its unit, and the bounds that it is sought within.

    A unit that begins with that of the response, or with `log(` and that, changes with it: the bounds of such a
    parameter are those for measurements of which the largest is 1 (`Law.bounds`).
    is_log: positive, and unknown by orders of magnitude: it is fitted and profiled as its logarithm.
    """

    name: str
    unit: str
    low: float
    high: float
    is_log: bool = False


class Law(ABC):
    """A form. Its instance knows what a table is made of (its domains, its recipes); its parameters are a vector.

    theta: (..., p), in the units and the order of `params`; at: the columns of n rows. Leading axes of theta
    broadcast: many parameter vectors are evaluated at once.
    """

    name: ClassVar[str]
    equation: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    """What it reads of a table."""
    optional: ClassVar[tuple[str, ...]] = ()
    """What it reads too, where the table has it."""
    may_be_zero: ClassVar[tuple[str, ...]] = ()
    """Columns of which 0 is an amount; all others must be above 0."""
    may_be_constant: ClassVar[tuple[str, ...]] = ()
    """Columns of which one value is enough."""
    pools_recipes: ClassVar[bool] = False
    """Whether one fit takes the rows of all recipes together."""
    response: ClassVar[str] = "loss"
    """What it predicts."""
    response_unit: ClassVar[str | None] = "nats per token"
    """Its unit, as `params` have it; in another (bits, nats per sequence) fits are the same. None: it has none."""
    most: ClassVar[float] = math.inf
    """No response above it is one of the law's."""

    @classmethod
    @abstractmethod
    def of(cls, table: RunTable) -> Law:
        """The form for a table."""

    @property
    @abstractmethod
    def params(self) -> tuple[Param, ...]:
        """The parameters, in the order of theta."""

    @cached_property  # asked for at every step of a descent
    def is_log(self) -> NDArray[np.bool_]:
        """Of the parameters, (p,)."""
        return np.array([param.is_log for param in self.params])

    def unit_of(self, y: Array) -> float:
        """The largest of measurements y (n,): what bounds are relative to; 1 where the response has no unit."""
        largest = float(np.abs(y).max(initial=0.0))
        return largest if self.response_unit is not None and largest > 0 else 1.0

    @cached_property
    def has_unit(self) -> NDArray[np.bool_]:
        """Of the parameters, (p,): which are multiplied where the measurements are."""
        unit = self.response_unit
        return np.array([unit is not None and param.unit.startswith(unit) for param in self.params])

    @cached_property
    def has_log_unit(self) -> NDArray[np.bool_]:
        """Of the parameters, (p,): which are logarithms of what is multiplied where the measurements are."""
        return np.array([param.unit.startswith(f"log({self.response_unit}") for param in self.params])

    def rescaled(self, theta: Array, factor: float) -> Array:
        """Parameters (..., p) of measurements that are multiplied by a factor."""
        return np.where(self.has_unit, theta * factor, np.where(self.has_log_unit, theta + np.log(factor), theta))

    def bounds(self, y: Array) -> tuple[Array, Array]:
        """What the parameters are sought within, beside measurements y: lower and upper, (p,) each."""
        low, high = (np.array([getattr(param, side) for param in self.params], float) for side in ("low", "high"))
        unit = self.unit_of(y)
        return self.rescaled(low, unit), self.rescaled(high, unit)

    @property
    def form(self) -> str:
        """The equation as it stands for the table: without the terms that the table cannot tell."""
        return self.equation

    @property
    def constants(self) -> Mapping[str, float]:
        """What the equation has besides columns and parameters, by name: set by the table, not estimated."""
        return {}

    @abstractmethod
    def loss(self, theta: Array, at: Columns) -> Array:
        """What the law predicts, (..., n)."""

    @abstractmethod
    def gradient(self, theta: Array, at: Columns) -> Array:
        """Its exact derivatives with respect to theta, (..., n, p)."""

    def loss_and_gradient(self, theta: Array, at: Columns) -> tuple[Array, Array]:
        """Both: a law may say how, where they have much in common."""
        return self.loss(theta, at), self.gradient(theta, at)

    @abstractmethod
    def starts(self, at: Columns, y: Array) -> Array:
        """Parameter vectors (s, p), one of which lies in the basin of the global minimum for measurements y (n,)."""


def law_names() -> tuple[str, ...]:
    """The names of all laws, sorted."""
    return tuple(sorted(_laws()))


def law_named(name: str) -> type[Law]:
    """The law of a name. Raises ValueError that lists the names."""
    if name not in _laws():
        raise ValueError(f"law must be one of {', '.join(law_names())}, got {name!r}")
    return _laws()[name]


def _laws() -> dict[str, type[Law]]:
    """Every final subclass of Law in this package."""
    package = importlib.import_module("analysis.laws")
    found: dict[str, type[Law]] = {}
    for module in pkgutil.iter_modules(package.__path__):
        for value in vars(importlib.import_module(f"analysis.laws.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Law) and "name" in vars(value):
                found[value.name] = value
    return found
