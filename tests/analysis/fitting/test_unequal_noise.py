"""Noise that differs by scale and recipe is found from repeats, and not where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.fitting.unequal_noise import EQUAL, unequal_noise
from analysis.runs.run_table import RunTable


def repeats(gamma: float, loud: float, num_seeds: int, rng: np.random.Generator) -> RunTable:
    """12 sizes of two recipes; sd of log loss 0.4 % at the smallest, times `loud` in recipe b."""
    D = np.tile(np.repeat(1e5 * 2.0 ** np.arange(12), num_seeds), 2)
    recipe = np.repeat(["a", "b"], 12 * num_seeds)
    sd = 0.004 * (D / D[0]) ** (gamma / 2) * np.where(recipe == "b", loud, 1.0)
    names = np.array([str(i) for i in range(len(D))])
    return RunTable({"D": D}, 3 * np.exp(sd * rng.standard_normal(len(D))), recipe, names, names, np.arange(len(D)) + 1)


def test_noise_that_falls_with_scale_is_found() -> None:
    rng = np.random.default_rng(0)
    found = [unequal_noise(table, np.log(table.y)).gamma for table in (repeats(-1, 1, 3, rng) for _ in range(20))]
    assert -1.2 < np.mean(found) < -0.6  # drawn towards 0 by the prior


def test_a_noisy_recipe_counts_less() -> None:
    table = repeats(0, 4, 3, np.random.default_rng(1))
    precision = unequal_noise(table, np.log(table.y)).precision(table)
    ratio = precision[table.recipe == "a"].mean() / precision[table.recipe == "b"].mean()
    assert 4 < ratio < 20  # 16, drawn towards 1


@pytest.mark.parametrize("num_seeds", [1, 2, 3])
def test_equal_noise_stays_equal(num_seeds: int) -> None:
    rng = np.random.default_rng(2)
    tables = [repeats(0, 1, num_seeds, rng) for _ in range(40)]
    equal = [unequal_noise(table, np.log(table.y)) == EQUAL for table in tables]
    assert np.mean(equal) > 0.85  # two parameters that must gain 4 each: chance 1 to 8 %
