"""What pretraining is worth in fine-tuning data: effective data transferred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.laws import posynomial_starts
from analysis.laws.chinchilla import Chinchilla
from analysis.laws.law import Array, Columns, Law, Param
from analysis.laws.power import Power

if TYPE_CHECKING:
    from analysis.runs.run_table import RunTable


@dataclass(frozen=True)
class Transfer(Law):
    """L = E + B / (D + D_T)^beta,  D_T = k D^a P^c N^b where the model was pretrained, 0 where it was not

    D: tokens of the target domain. P: pretraining tokens of another domain, 0 from scratch (1 where only yes or no is
    known). D_T: the tokens of the target domain that pretraining stands for. a: how close the domains are not (0: what
    is transferred does not depend on D; 1: a constant factor). With several N a term A / N^alpha joins, and N^b; P^c
    only with several P above 0.

    Source: Hernandez et al. 2021 (arXiv 2102.01293), D_T = k D_F^alpha N^beta. Runs from scratch tell E, B and beta;
    without them D_T is known through the bend of the curve alone. Holds where the target data are few.
    """

    has_sizes: bool
    has_amounts: bool

    name: ClassVar[str] = "transfer"
    equation: ClassVar[str] = "L = E + A / N^alpha + B / (D + D_T)^beta, D_T = k D^a P^c N^b"
    columns: ClassVar[tuple[str, ...]] = ("D", "P")
    optional: ClassVar[tuple[str, ...]] = ("N",)
    may_be_zero: ClassVar[tuple[str, ...]] = ("P",)

    @classmethod
    def of(cls, table: RunTable) -> Transfer:
        P = table.columns["P"]
        has_sizes = "N" in table.columns and len(np.unique(table.columns["N"])) > 2
        return cls(has_sizes, len(np.unique(P[P > 0])) > 1)

    @property
    def params(self) -> tuple[Param, ...]:
        E, A, B, alpha, _ = Chinchilla().params
        return (
            E,
            B,
            Param("beta", "", 1e-3, 5.0),
            *((A, alpha) if self.has_sizes else ()),
            Param("k", "tokens^(1 - a - c) x parameters^-b", 1e-40, 1e40, is_log=True),
            Param("a", "", -2.0, 2.0),
            *((Param("c", "", -5.0, 5.0),) if self.has_amounts else ()),
            *((Param("b", "", -5.0, 5.0),) if self.has_sizes else ()),
        )

    @property
    def form(self) -> str:
        of_size, more = (" + A / N^alpha", " N^b") if self.has_sizes else ("", "")
        amount = " P^c" if self.has_amounts else ""
        return f"L = E{of_size} + B / (D + D_T)^beta, D_T = k D^a{amount}{more}, 0 where P = 0"

    def loss(self, theta: Array, at: Columns) -> Array:
        part = self._named(theta)
        effective = at["D"] + self._transferred(part, at)
        above = part["A"] * at["N"] ** -part["alpha"] if self.has_sizes else 0.0
        return part["E"] + above + part["B"] * effective ** -part["beta"]

    def gradient(self, theta: Array, at: Columns) -> Array:
        part = self._named(theta)
        transferred = self._transferred(part, at)
        effective = at["D"] + transferred
        falling = part["B"] * effective ** -part["beta"]
        pull = -part["beta"] * falling / effective * transferred  # dL / d log D_T
        slopes = {
            "E": np.ones_like(falling),
            "B": falling / part["B"],
            "beta": -falling * np.log(effective),
            "k": pull / part["k"],
            "a": pull * np.log(at["D"]),
        }
        if self.has_amounts:
            slopes["c"] = pull * np.log(np.where(at["P"] > 0, at["P"], 1.0))
        if self.has_sizes:
            log_N = np.log(at["N"])
            of_N = at["N"] ** -part["alpha"]
            slopes |= {"b": pull * log_N, "A": of_N + 0 * falling, "alpha": -part["A"] * of_N * log_N + 0 * falling}
        return np.stack([slopes[param.name] for param in self.params], axis=-1)

    def starts(self, at: Columns, y: Array) -> Array:
        """The base from runs from scratch (or all); the tokens it lacks in the others give D_T, by regression."""
        scratch = at["P"] == 0
        if len(np.unique(at["D"][scratch])) < 3:
            scratch = np.ones(len(y), bool)
        base = Chinchilla() if self.has_sizes else Power()
        seen = {name: at[name][scratch] for name in ("D", *(("N",) if self.has_sizes else ()))}
        names = [param.name for param in base.params]
        found = []
        for values in posynomial_starts.starts(base.params, base.terms(seen), y[scratch]):
            part = dict(zip(names, values, strict=True)) | {"k": 1.0, "a": 0.0, "c": 0.0, "b": 0.0}
            part["beta"] = max(part["beta"], 1e-3)
            logs = self._log_worth(part, at, y)
            found += [[(part | logs | {"a": a})[p.name] for p in self.params] for a in (logs["a"], 0.2)]
            found.append([(part | {"k": float(np.median(at["D"])), "a": 0.0})[p.name] for p in self.params])
        return np.array(found)

    def _log_worth(self, part: dict[str, float], at: Columns, y: Array) -> dict[str, float]:
        """log k, a, c and b by regression of the tokens that the base law lacks, over the pretrained rows."""
        above = y - part["E"] - (part["A"] * at["N"] ** -part["alpha"] if self.has_sizes else 0.0)
        lacking = np.exp(np.minimum(np.log(part["B"] / np.maximum(above, 1e-3 * y)) / part["beta"], 60.0)) - at["D"]
        used = (at["P"] > 0) & (lacking > 0.01 * at["D"])
        if used.sum() < 4:
            return {"k": float(0.5 * np.median(at["D"])), "a": 0.0}
        columns = {"k": np.ones(used.sum()), "a": np.log(at["D"][used])}
        if self.has_amounts:
            columns["c"] = np.log(at["P"][used])
        if self.has_sizes:
            columns["b"] = np.log(at["N"][used])
        design = np.stack(list(columns.values()), axis=1)
        solved = np.linalg.lstsq(design, np.log(lacking[used]), rcond=1e-10)[0]
        found = dict(zip(columns, (float(value) for value in solved), strict=True))
        return found | {"k": float(np.exp(np.clip(found["k"], -90, 90)))}

    def _named(self, theta: Array) -> dict[str, Array]:
        values = np.moveaxis(np.asarray(theta, float)[..., None], -2, 0)
        return dict(zip((param.name for param in self.params), values, strict=True))

    def _transferred(self, part: dict[str, Array], at: Columns) -> Array:
        log_worth = np.log(part["k"]) + part["a"] * np.log(at["D"])
        if self.has_amounts:
            log_worth = log_worth + part["c"] * np.log(np.where(at["P"] > 0, at["P"], 1.0))
        if self.has_sizes:
            log_worth = log_worth + part["b"] * np.log(at["N"])
        return np.where(at["P"] > 0, np.exp(np.clip(log_worth, -200, 200)), 0.0)
