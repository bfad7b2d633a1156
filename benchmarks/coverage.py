"""Do nominal 95 % intervals hold the truth in 95 % of studies? Studies of planted laws, fitted as a user would.

    python -m benchmarks.coverage [--replicates 300] [--laws power,chinchilla,joint,quality] [--sizes 5,8,12]
                                  [--seeds 1,2,3] [--shares 0.8] [--outliers 0.05]

A study trains sizes x seeds; sizes differ by a factor of 2 in D. The log loss of a run is the law's plus noise of
standard deviation 0.4 %, of which a share of the variance is common to a trunk (all D of one seed, N and recipe), and
5 % of runs are outliers, 8 standard deviations of their own noise too high. Asked are the loss at 4 and 8 times the
largest D and a token multiplier: of `quality` the parameter, of others that between two recipes fitted apart.

One JSON line per law, design and question: coverage with its standard error, the median half-width relative to the
truth (of a multiplier: of its logarithm), and how often the interval was open; then one line per question over all
designs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a file: else `import coverage`, which numba does, would find benchmarks/coverage.py
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from analysis.contrasts.table_contrast import compare_table
from analysis.fitting.law_fit import fit_law
from analysis.laws.law import Columns, Law, law_named
from analysis.runs.run_table import RunTable

SMALLEST = 62_500.0
NOISE_SD = 0.004
OUTLIER_SD = 8.0
WORTH = 1.4
"""The planted multiplier: a token of recipe a is worth so many of b's."""
FURTHER = (4.0, 8.0)


@dataclass(frozen=True)
class Truth:
    """A planted law: its parameters, and the model sizes N that it is trained at."""

    theta: tuple[float, ...]
    model_sizes: tuple[float, ...] = ()


TRUTHS: Mapping[str, Truth] = {
    "power": Truth((1.5, 60.0, 0.25)),
    "chinchilla": Truth((1.7, 120.0, 90.0, 0.34, 0.30), (1e5, 4e5, 1.6e6, 6.4e6)),
    "joint": Truth((0.8, 90.0, 0.08, 0.2), (1e5, 4e5, 1.6e6, 6.4e6)),
    "quality": Truth((1.5, 60.0, 0.25, 1 / WORTH)),
}


@dataclass(frozen=True)
class Design:
    """How many sizes and seeds, the share of the noise variance that a trunk has in common, the share of outliers."""

    num_sizes: int
    num_seeds: int
    share: float
    outliers: float


@dataclass(frozen=True)
class Answer:
    """One interval of one study, and what it should hold; a multiplier as its logarithm."""

    question: str
    truth: float
    lo: float
    hi: float


def study(law: Law, truth: Truth, design: Design, recipes: Sequence[str], rng: np.random.Generator) -> RunTable:
    """A table of runs; recipe b's tokens are worth 1 / WORTH of a's."""
    D = SMALLEST * 2.0 ** np.arange(design.num_sizes)
    N = truth.model_sizes or (0.0,)
    grid = [(recipe, n, seed, d) for recipe in recipes for n in N for seed in range(design.num_seeds) for d in D]
    recipe = np.array([row[0] for row in grid])
    trunk = np.array([f"{row[0]} {row[1]:g} {row[2]}" for row in grid])
    columns = {"D": np.array([row[3] for row in grid])}
    if truth.model_sizes:
        columns["N"] = np.array([row[1] for row in grid])
    if "recipe" in law.columns:
        columns["recipe"] = np.array([float(recipes.index(row[0])) for row in grid])
    worth = np.where(recipe == "b", 1 / WORTH, 1.0) if law.name != "quality" else 1.0
    clean = law.loss(np.array(truth.theta), {**columns, "D": columns["D"] * worth})
    own = rng.standard_normal(len(grid)) + OUTLIER_SD * (rng.random(len(grid)) < design.outliers)
    names, place = np.unique(trunk, return_inverse=True)
    shared = rng.standard_normal(len(names))[place]
    noise = NOISE_SD * (np.sqrt(1 - design.share) * own + np.sqrt(design.share) * shared)
    seed = np.array([str(row[2]) for row in grid])
    return RunTable(columns, clean * np.exp(noise), recipe, trunk, seed, np.arange(len(grid)) + 1)


def loss_answers(name: str, design: Design, rng: np.random.Generator) -> Iterator[Answer]:
    """The loss beyond the largest D, at the largest N."""
    truth = TRUTHS[name]
    recipes = ("a", "b") if name == "quality" else ("a",)
    law = _law(name, recipes)
    table = study(law, truth, design, recipes, rng)
    fit = fit_law(table, law)
    largest = {
        key: column[[int(np.argmax(table.columns["D"]))] * len(FURTHER)] for key, column in table.columns.items()
    }
    if truth.model_sizes:
        largest["N"] = np.full(len(FURTHER), max(truth.model_sizes))
    at: Columns = {**largest, "D": largest["D"] * np.array(FURTHER)}
    lo, hi = fit.interval(at)
    for factor, value, low, high in zip(FURTHER, law.loss(np.array(truth.theta), at), lo, hi, strict=True):
        yield Answer(f"loss at {factor:g}x", float(value), float(low), float(high))
    if name == "quality":
        found = fit.params[law.params[-1].name]
        yield _multiplier(1 / found.hi, 1 / found.lo)


def contrast_answers(name: str, design: Design, rng: np.random.Generator) -> Iterator[Answer]:
    """The multiplier between two recipes that are fitted apart, at the largest size."""
    recipes = ("a", "b")
    found = compare_table(study(_law(name, recipes), TRUTHS[name], design, recipes, rng), "a", "b").multiplier
    if found is not None:
        yield _multiplier(found.lo, found.hi)


def _multiplier(lo: float, hi: float) -> Answer:
    with np.errstate(divide="ignore"):
        return Answer("multiplier", float(np.log(WORTH)), float(np.log(lo)), float(np.log(hi)))


def _law(name: str, recipes: Sequence[str]) -> Law:
    """The form for a table of these recipes."""
    text = np.array(list(recipes))
    n = len(recipes)
    columns = {"D": np.ones(n), "recipe": np.arange(n, dtype=float)}
    rows = np.arange(n) + 1
    return law_named(name).of(RunTable(columns, np.ones(n), text, text, text, rows))


ASKED: Mapping[str, tuple[Callable[[str, Design, np.random.Generator], Iterator[Answer]], ...]] = {
    "power": (loss_answers, contrast_answers),
    "chinchilla": (loss_answers, contrast_answers),
    "joint": (loss_answers,),
    "quality": (loss_answers,),
}


def summary(answers: Sequence[Answer]) -> dict[str, float | int]:
    """Coverage of the intervals of one question, and their width."""
    lo, hi = (np.array([getattr(answer, end) for answer in answers]) for end in ("lo", "hi"))
    truth = np.array([answer.truth for answer in answers])
    covered = float(((lo <= truth) & (truth <= hi)).mean())
    size = 1.0 if answers[0].question == "multiplier" else truth[0]
    return {
        "coverage": round(covered, 4),
        "standard_error": round(float(np.sqrt(covered * (1 - covered) / len(answers))), 4),
        "half_width": round(float(np.median(hi - lo)) / 2 / size, 5),
        "open": int((~np.isfinite(hi - lo)).sum()),
        "studies": len(answers),
    }


def numbers(text: str, kind: type) -> list:
    return [kind(item) for item in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--laws", default=",".join(ASKED))
    parser.add_argument("--sizes", default="5,8,12")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--shares", default="0.8")
    parser.add_argument("--outliers", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    pooled: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for name in chosen.laws.split(","):
        for share in numbers(chosen.shares, float):
            for num_sizes in numbers(chosen.sizes, int):
                for num_seeds in numbers(chosen.seeds, int):
                    design = Design(num_sizes, num_seeds, share, chosen.outliers)
                    rng = np.random.default_rng([chosen.seed, num_sizes, num_seeds, round(100 * share), len(name)])
                    start, found = time.process_time(), defaultdict(list)
                    for _ in range(chosen.replicates):
                        for ask in ASKED[name]:
                            for answer in ask(name, design, rng):
                                found[answer.question].append(answer)
                    seconds = (time.process_time() - start) / chosen.replicates
                    for question, answers in found.items():
                        pooled[name, question] += answers
                        place = {"law": name, "sizes": num_sizes, "seeds": num_seeds, "trunk_share": share}
                        line = {"what": f"coverage, {question}", **place, **summary(answers), "nominal": 0.95}
                        print(json.dumps({**line, "cpu_seconds_per_study": round(seconds, 4)}), flush=True)
    for (name, question), answers in pooled.items():
        print(
            json.dumps({"what": f"coverage, {question}", "law": name, "designs": "all", **summary(answers)}), flush=True
        )


if __name__ == "__main__":
    main()
