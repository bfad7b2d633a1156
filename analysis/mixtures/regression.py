"""Which regression of a swarm of mixtures predicts a mixture that it has not seen: the laws, or boosted trees.

Whatever a regression chooses by looking at losses (how many trees) it chooses inside the rows that it was given.
The published early stop looks at the test mixtures, a leak; on the 512 proxy runs of RegMix the inner choice ranks the
test mixtures as well (tests/analysis/published/test_regmix.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from analysis.fitting.minimise import minimise
from analysis.laws.exchange import Exchange
from analysis.laws.law import Array, Columns
from analysis.laws.mixture import Mixture
from analysis.mixtures.surface import OBJECTIVE, fixed_for
from analysis.runs.run_table import RunTable

Prediction = Callable[[Columns], Array]
FOLDS = 10
MIN_FOR_TREES = 48
"""Mixtures below which boosted trees have nothing to split (in the notes of this project: .76 against .86 at 16)."""
TREE = {"objective": "regression", "learning_rate": 0.01, "seed": 42, "num_threads": 1, "deterministic": True}
MAX_TREES, PATIENCE, INNER_FOLDS = 3000, 50, 5


@dataclass(frozen=True)
class Skill:
    """How well a regression predicts the mixtures of folds that it did not see.

    error: mean |predicted - measured| / measured, over rows.
    """

    name: str
    error: float


def regression_names(num_mixtures: int) -> tuple[str, ...]:
    """Those that can be tried on so many mixtures; trees where the extra `swarm` (LightGBM) is installed."""
    trees = ("trees",) if num_mixtures >= MIN_FOR_TREES and find_spec("lightgbm") else ()
    return ("linear", "log_linear", "exchange", *trees)


def regress(name: str, table: RunTable) -> Prediction:
    """Fit one of `regression_names` to a table with w, and D where it varies; predicts losses (n,) from columns."""
    return {"linear": _linear, "log_linear": _log_linear, "exchange": _exchange, "trees": _trees}[name](table)


def skills(table: RunTable, names: Sequence[str] | None = None) -> tuple[Skill, ...]:
    """Cross-validated over mixtures: all rows of a recipe are in one fold. The least error first."""
    recipes = np.unique(table.recipe)
    names = regression_names(len(recipes)) if names is None else names
    folds = np.random.default_rng(0).permutation(len(recipes)) % min(FOLDS, len(recipes))
    place = np.searchsorted(recipes, table.recipe)
    found = []
    for name in names:
        predicted = np.empty(len(table))
        for fold in range(folds.max() + 1):
            out = folds[place] == fold
            predicted[out] = regress(name, table.where(~out))(table.where(out).columns)
        predicted = np.maximum(predicted, 1e-6)
        error = float(np.mean(np.abs(predicted - table.y) / table.y))
        found.append(Skill(name, error))
    return tuple(sorted(found, key=lambda skill: (skill.error, skill.name)))


def _features(at: Columns) -> Array:
    return np.column_stack([at["w"], np.log(at["D"])]) if "D" in at else at["w"]


def _linear(table: RunTable) -> Prediction:
    """Least squares of the loss on weights and log D: the baseline of the source."""
    design = np.column_stack([np.ones(len(table)), _features(table.columns)])
    coefficients = np.linalg.lstsq(design, table.y, rcond=None)[0]
    return lambda at: coefficients[0] + _features(at) @ coefficients[1:]


def _log_linear(table: RunTable) -> Prediction:
    law = Mixture.of(table)
    theta = minimise(law, table.columns, table.y, OBJECTIVE).theta
    return lambda at: law.loss(theta, at)


def _exchange(table: RunTable) -> Prediction:
    """Without the last polish where all is free: Gauss-Newton's minimum ranks the same in a tenth of the time."""
    law, fixed = Exchange.of(table), fixed_for(table)
    at, y = table.columns, table.y
    unit = law.unit_of(y)
    theta = minimise(law, at, y / unit, OBJECTIVE, fixed=fixed).theta if fixed else law.starts(at, y / unit)[0]
    return lambda at: unit * law.loss(theta, at)


def _trees(table: RunTable) -> Prediction:
    """Gradient boosting of the log loss; the number of trees by cross-validation over the mixtures of the table."""
    import lightgbm

    features, goal = _features(table.columns), np.log(table.y)
    recipes, place = np.unique(table.recipe, return_inverse=True)
    fold = (np.random.default_rng(0).permutation(len(recipes)) % INNER_FOLDS)[place]
    inner = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(INNER_FOLDS)]
    options = {**TREE, "verbose": -1}
    told = lightgbm.cv(
        options,
        lightgbm.Dataset(features, goal, free_raw_data=False),
        num_boost_round=MAX_TREES,
        folds=inner,
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    rounds = len(next(iter(told.values())))
    model = lightgbm.train(options, lightgbm.Dataset(features, goal), rounds)
    return lambda at: np.exp(model.predict(_features(at)))
