"""A table as tutorials have it: C, N, D, loss (kyo-takano/chinchilla)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.fit_table import fit_table
from analysis.runs.read_table import read_table

TABLE = Path(__file__).resolve().parents[4] / "shared" / "published" / "llm_tutorial_kyo" / "df.csv"
pytestmark = pytest.mark.skipif(not TABLE.exists(), reason="the published runs are not at hand")


def test_it_is_read_without_being_told_its_columns() -> None:
    table = read_table(TABLE, needs=("N", "D", "C"))
    assert len(table) == 234
    per_token = table.columns["C"] / (table.columns["N"] * table.columns["D"])
    assert np.median(per_token) == pytest.approx(6, rel=0.05)


def test_two_roads_to_the_frontier_agree_within_their_intervals() -> None:
    """L(N, D) and iso-FLOP parabolas are two laws of the same runs."""
    found = fit_table(TABLE, ["chinchilla", "isoflop"], hold_out=0, at=[{"C": 1e19}])
    sizes = [each.optima[0].num_params for each in found.fits]
    assert max(size.lo for size in sizes) < min(size.hi for size in sizes)
    assert all(size.lo < size.value < size.hi for size in sizes)
