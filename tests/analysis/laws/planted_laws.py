"""A design and a truth for every law, of the size and shape that studies have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from analysis.laws.law import Array, Law, law_named
from analysis.runs.run_table import RunTable

SIZES = np.geomspace(5e7, 5e9, 6)
TOKENS = np.geomspace(1e9, 1e11, 8)


@dataclass(frozen=True, eq=False)
class Planted:
    """A law with the parameters that it is planted with, and a table without noise."""

    law: Law
    theta: Array
    table: RunTable

    def with_noise(self, sd: float, seed: int) -> RunTable:
        """Multiplies every row by exp(sd z)."""
        z = np.random.default_rng(seed).standard_normal(len(self.table))
        return replace(self.table, y=self.table.y * np.exp(sd * z))


def run_table(
    columns: Mapping[str, Array], y: Array, recipe: Sequence[str] = (), domains: tuple[str, ...] = ()
) -> RunTable:
    n = len(y)
    rows = np.arange(1, n + 1)
    return RunTable(
        columns=dict(columns),
        y=np.asarray(y, float),
        recipe=np.array(list(recipe) or [""] * n, dtype=np.str_),
        run=np.array([f"run {i}" for i in rows], dtype=np.str_),
        seed=np.full(n, "", dtype=np.str_),
        row=rows,
        domains=domains,
        source="planted",
    )


def grid(**axes: Sequence[float] | Array) -> dict[str, Array]:
    """Every combination, a row each."""
    mesh = np.meshgrid(*axes.values(), indexing="ij")
    return {name: values.ravel().astype(float) for name, values in zip(axes, mesh, strict=True)}


def _planted(
    name: str,
    columns: Mapping[str, Array],
    theta: Sequence[float],
    recipe: Sequence[str] = (),
    domains: tuple[str, ...] = (),
) -> Planted:
    rows = len(next(iter(columns.values())))
    table = run_table(columns, np.ones(rows), recipe, domains)
    if recipe:
        table = table.with_recipe_numbers()
    law = law_named(name).of(table)
    truth = np.array(theta, float)
    assert len(truth) == len(law.params), [param.name for param in law.params]
    return Planted(law, truth, replace(table, y=law.loss(truth, table.columns)))


def _budgets() -> dict[str, Array]:
    at = grid(C=np.geomspace(1e18, 1e21, 4), size=np.geomspace(0.25, 4, 7))
    return {"C": at["C"], "N": 3e8 * at["size"] * (at["C"] / 3.16e19) ** 0.48}


def _repeated() -> dict[str, Array]:
    at = grid(N=SIZES[::2], U=np.geomspace(1e8, 1e10, 3), epochs=[0.5, 1, 2, 4, 12, 40])
    return {"N": at["N"], "U": at["U"], "D": at["U"] * at["epochs"]}


def planted() -> dict[str, Planted]:
    """By a name; every law at least once."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(3), 40)
    mixed = {"w": weights, "D": rng.choice(TOKENS, 40)}
    buckets = grid(D=TOKENS, recipe=[0, 1, 2])
    repeats = grid(epochs=[0.3, 1, 2, 4, 8, 16], U=[1e9, 8e9, 5e10], recipe=[0, 1, 2])
    names = ("best", "fair", "poor")
    scratch = grid(D=np.geomspace(1e5, 1e9, 9), P=[0, 1])
    pretrained = grid(D=np.geomspace(1e5, 1e9, 7), P=[0, 1e9, 1e10], N=SIZES[::2])
    return {
        "power": _planted("power", {"D": TOKENS}, [1.7, 400, 0.3]),
        "chinchilla": _planted("chinchilla", grid(N=SIZES, D=TOKENS), [1.8, 480, 2100, 0.35, 0.37]),
        "overtraining": _planted("overtraining", grid(N=SIZES[:3], D=TOKENS[:4]), [1.8, 170, 290, 0.27]),
        "isoflop": _planted("isoflop", _budgets(), [1.7, 0.8, 0.05, 3e8, 0.15, 0.48]),
        "one budget": _planted("isoflop", {k: v[:7] for k, v in _budgets().items()}, [2.5, 0.05, 6e7]),
        "data_constrained": _planted("data_constrained", _repeated(), [1.87, 520, 1487, 0.35, 0.36, 15.4, 5.3]),
        "mixture": _planted("mixture", mixed, [1.6, 0.3, 6.0, 7.0, 6.5], domains=("code", "docs", "web")),
        "mixture at one D": _planted("mixture", {"w": weights}, [1.6, 1.0, 0.5, 0.1], domains=("code", "docs", "web")),
        "quality": _planted(
            "quality", {"D": buckets["D"]}, [1.7, 2000, 0.33, 0.7, 0.3], [names[int(r)] for r in buckets["recipe"]]
        ),
        "quality with repeats": _planted(
            "quality",
            {"D": repeats["U"] * repeats["epochs"], "U": repeats["U"]},
            [1.7, 2000, 0.33, 0.7, 0.3, 4, 8, 1.5],
            [names[int(r)] for r in repeats["recipe"]],
        ),
        "transfer": _planted("transfer", scratch, [1.2, 100, 0.3, 3000, 0.4]),
        "transfer by size": _planted("transfer", pretrained, [1.2, 100, 0.3, 300, 0.34, 0.01, 0.2, 0.3, 0.35]),
        "rectified": _planted("rectified", {"D": np.r_[0, 200 * 2.0 ** np.arange(14)]}, [0.6, 200, 80, 0.45]),
        "joint": _planted("joint", grid(N=SIZES, D=np.geomspace(1e4, 1e7, 7)), [0.8, 50, 0.1, 0.12]),
        "logistic": _planted("logistic", {"L": np.linspace(2, 4, 25)}, [0.25, 0.8, 4, 2.9]),
        "decay": _planted("decay", {"L": np.linspace(2, 4, 12)}, [0.86, 2.2, 0.71]),
        "broken": _planted("broken", {"D": np.geomspace(1e7, 1e12, 30)}, [1.5, 60, 0.15, 0.15, 3e9, 0.4]),
        "ceiling": _planted("ceiling", {"D": np.geomspace(1e6, 1e9, 9)}, [0.08, 30, 0.3]),
        "exchange": _planted("exchange", mixed, [1.6, 0.25, 0.8, 0.9, 1.1, 1.5], domains=("code", "docs", "web")),
    }


def write_csv(path: Path, columns: Mapping[str, Sequence[object] | Array]) -> Path:
    rows = [",".join(columns), *(",".join(str(cell) for cell in row) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(rows) + "\n")
    return path


class PlantedTables:
    """Tables on disk; 0.3 % of noise, the same in whichever order tests ask for them."""

    @property
    def noise(self) -> np.random.Generator:
        return np.random.default_rng(5)

    def _noisy(self, loss: Array) -> Array:
        return loss * np.exp(0.003 * self.noise.standard_normal(len(loss)))

    def sizes(self, path: Path) -> Path:
        at = grid(N=SIZES, D=np.geomspace(1e9, 1e11, 7), thin=[0, 1])
        worth = np.where(at["thin"] == 1, 0.5, 1.0)
        loss = 1.8 + 480 / at["N"] ** 0.35 + 2100 / (worth * at["D"]) ** 0.37
        recipe = np.where(at["thin"] == 1, "thin", "plain")
        return write_csv(path, {"recipe": recipe, "N": at["N"], "D": at["D"], "loss": self._noisy(loss)})

    def two_qualities(self, path: Path) -> Path:
        at = grid(D=np.geomspace(1e9, 1e11, 8), thin=[0, 1])
        loss = 1.8 + 2100 / (np.where(at["thin"] == 1, 0.5, 1.0) * at["D"]) ** 0.37
        recipe = np.where(at["thin"] == 1, "thin", "plain")
        return write_csv(path, {"recipe": recipe, "D": at["D"], "loss": self._noisy(loss)})

    def bent(self, path: Path) -> Path:
        D = np.geomspace(1e7, 1e12, 24)
        loss = 1.2 + 60 * D**-0.15 * (1 + (D / 1e9) ** 2) ** (-0.2 * 0.5)
        return write_csv(path, {"D": D, "loss": self._noisy(loss)})

    def straight(self, path: Path) -> Path:
        D = np.geomspace(1e7, 1e11, 14)
        return write_csv(path, {"D": D, "loss": self._noisy(1.5 + 60 * D**-0.2)})

    def accuracy(self, path: Path) -> Path:
        L = np.linspace(2, 4, 25)
        reached = 0.25 + 0.55 / (1 + np.exp(4 * (L - 2.9)))
        return write_csv(path, {"val_loss": L, "accuracy": reached + 0.003 * self.noise.standard_normal(len(L))})
