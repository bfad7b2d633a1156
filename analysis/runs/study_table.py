"""Between a study, as its logs tell it, and a table of runs, as others publish it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis.page.labels import count_text
from analysis.runs.logs import AnalysisError
from analysis.runs.points import Point, Study
from analysis.runs.recipes import Recipe
from analysis.runs.run_table import RunTable


def table_of(study: Study, domain: str, *, with_held_out: bool = True) -> RunTable:
    """The final points of a study on one validation domain: N, D, U, C and, by the ledgers, the weights w.

    The unit that is drawn at random is the trunk: runs of a recipe with equal seeds.
    """
    points = [p for p in study.points if p.domain == domain and (with_held_out or not p.is_held_out)]
    if not points:
        raise AnalysisError(f"no run has a final loss on {domain!r}; there are {', '.join(study.domains)}")
    ledgers = {run.name: run.ledger.domains for run in study.runs if run.ledger}
    domains = tuple(sorted({name for p in points for name in ledgers.get(p.run, {})}))
    columns = {
        "N": np.array([p.num_params for p in points], float),
        "D": np.array([p.tokens for p in points], float),
        "U": np.array([p.unique_tokens for p in points], float),
        "C": np.array([p.flops for p in points], float),
    }
    if domains and all(p.run in ledgers for p in points):
        seen = [[ledgers[p.run][d].realised_weight if d in ledgers[p.run] else 0.0 for d in domains] for p in points]
        columns["w"] = np.array(seen, float)
    seeds = [seed_text(p.seeds) for p in points]
    return RunTable(
        columns=columns,
        y=np.array([p.loss for p in points]),
        recipe=np.array([p.recipe for p in points], dtype=np.str_),
        run=np.array([f"{p.recipe} / {seed}" for p, seed in zip(points, seeds, strict=True)], dtype=np.str_),
        seed=np.array(seeds, dtype=np.str_),
        row=np.arange(1, len(points) + 1),
        domains=domains if "w" in columns else (),
        source=f"{study.name}, {domain}",
        identity=np.array([p.run for p in points], dtype=np.str_),
    )


def study_of(table: RunTable, *, match: str = "tokens", hold_out: int = 0) -> Study:
    """A table of runs as a study, for what compares recipes over D: it needs N and D.

    The response is the loss on one domain, named as its column. A recipe is what the table says, and no more is known
    of it: nothing of what the runs held fixed can be audited. Missing U counts as D (every token new), missing C as
    6 N D.
    """
    for letter in ("N", "D"):
        if letter not in table.columns:
            raise AnalysisError(f"{table.source}: recipes are compared over N and D; there is no {letter}")
    columns = table.columns
    D = columns["D"]
    U = np.minimum(columns.get("U", D), D)
    C = columns.get("C", 6 * columns["N"] * D)
    sizes = np.unique(D)
    first_held_out = sizes[-hold_out] if 0 < hold_out < len(sizes) else np.inf
    names = list(dict.fromkeys(str(name) for name in table.recipe))
    points = tuple(
        Point(
            recipe=str(table.recipe[i]),
            domain=table.response,
            run=str(table.run[i]) if table.run[i] else f"row {table.row[i]}",
            seeds=seeds_of(str(table.seed[i]) or str(table.run[i])),
            num_params=round(columns["N"][i]),
            tokens=round(D[i]),
            unique_tokens=round(U[i]),
            epochs=float(D[i] / U[i]),
            flops=float(C[i]),
            loss=float(table.y[i]),
            bpb=None,
            num_eval_tokens=0,
            is_held_out=bool(D[i] >= first_held_out),
        )
        for i in range(len(table))
    )
    order = {name: i for i, name in enumerate(names)}
    return Study(
        name=Path(table.source).stem,
        question="",
        target=table.response,
        match=match,
        hold_out=hold_out,
        recipes=tuple(_recipe(table, name) for name in names),
        domains=(table.response,),
        runs=(),
        recipe_of={},
        points=tuple(sorted(points, key=lambda p: (order[p.recipe], p.tokens, p.seeds, p.run))),
        warnings=(),
    )


def seed_text(seeds: tuple[tuple[str, int], ...]) -> str:
    """Seeds in a cell of a table: init 0, order 0, subset 0."""
    return ", ".join(f"{name} {value}" for name, value in seeds)


def seeds_of(text: str) -> tuple[tuple[str, int], ...]:
    """Seeds from a cell: `seed_text` back, a bare number, or any other text as a seed of its own."""
    pairs = [part.strip().partition(" ") for part in text.split(",")]
    if pairs and all(sign and value.lstrip("-").isdigit() for _, sign, value in pairs):
        return tuple((name, int(value)) for name, _, value in pairs)
    return (("seed", int(text)),) if text.lstrip("-").isdigit() else ((text, 0),)


def _recipe(table: RunTable, name: str) -> Recipe:
    own = table.where(table.recipe == name)
    largest = int(np.argmax(own.columns["D"]))
    weights = dict(zip(own.domains, own.columns["w"][largest], strict=True)) if own.domains else {}
    numbers = sorted({round(n) for n in own.columns["N"]})
    size = ", ".join(count_text(n) for n in numbers)
    tree = {
        "recipe": {"degraders": [], "filters": [], "mixture": {"kind": "weights", "weights": weights}},
        "budget": {},
        "model": {"num_params": size},
    }
    leaves = {"recipe.mixture.weights": weights, "model.num_params": size, "label": name}
    return Recipe(name or "all", tree, leaves, numbers[-1], weights or None)
