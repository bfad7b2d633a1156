"""Runs with repeated data of Muennighoff et al. 2023 (arXiv 2305.16264): a global minimum, and what it does not say."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from analysis.fit_table import fit_table
from analysis.fitting.law_fit import LawFit
from analysis.fitting.objective import Huber
from analysis.fitting.result import Status
from analysis.runs.read_table import read_table

TABLES = Path(__file__).resolve().parents[4] / "shared" / "published" / "datablations"
pytestmark = pytest.mark.skipif(not TABLES.exists(), reason="the published runs are not at hand")
BASE = {
    "E": math.exp(0.6254804),
    "A": math.exp(6.255414),
    "B": math.exp(7.3049974),
    "alpha": 0.3526596,
    "beta": 0.3526596,
}
PUBLISHED = (15.3878, 5.3097)


@cache
def fit() -> LawFit:
    found = fit_table(TABLES / "runs_182_outliers_removed.csv", ["data_constrained"], fixed=BASE)
    return found.fits[0].fit


def test_the_published_parameters_have_the_published_objective() -> None:
    law, table = fit().law, fit().table
    theta = np.array([*(BASE[name] for name in ("E", "A", "B", "alpha", "beta")), *PUBLISHED])
    off = np.log(law.loss(theta, table.columns)) - np.log(table.y)
    assert Huber().value(off).sum() == pytest.approx(0.01582594, abs=5e-9)
    missed = law.loss(theta, table.columns) - table.y
    assert 1 - (missed**2).sum() / ((table.y - table.y.mean()) ** 2).sum() == pytest.approx(0.7722, abs=5e-5)


def test_the_global_minimum_is_found_beyond_the_published_one() -> None:
    assert fit().value == pytest.approx(0.01580466, abs=5e-9)
    assert fit().params["R_D*"].value == pytest.approx(95.4, abs=0.05)
    assert fit().params["R_N*"].value == pytest.approx(1.71, abs=0.005)
    assert len(fit().table) == 182


def test_r_d_is_said_not_to_be_identified() -> None:
    assert fit().status is Status.NOT_IDENTIFIED
    assert "R_D*" in fit().unsettled
    assert "R_D*" in fit().why
    assert fit().params["R_D*"].hi > 200


def test_a_search_by_hand_finds_nothing_lower() -> None:
    """All pairs on a fine grid: none is below what the fit reports."""
    law, table = fit().law, fit().table
    pairs = np.stack(np.meshgrid(np.geomspace(2, 2000, 120), np.geomspace(0.3, 60, 120)), axis=-1).reshape(-1, 2)
    base = np.tile([BASE[name] for name in ("E", "A", "B", "alpha", "beta")], (len(pairs), 1))
    theta = np.concatenate([base, pairs], axis=1)
    values = [
        Huber().value(np.log(law.loss(part, table.columns)) - np.log(table.y)).sum(axis=-1)
        for part in np.array_split(theta, 40)
    ]
    assert np.concatenate(values).min() >= fit().value


def test_repeated_seeds_are_read_as_runs_of_their_own() -> None:
    table = read_table(TABLES / "runs_all_incl_seeds.csv", needs=("N", "D", "U"), cluster="name")
    assert len(table) == 296
    assert 1 < len(np.unique(table.run)) < 296
