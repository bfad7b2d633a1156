"""A study as a table, a table as a study, and the way from runs over `points` to a fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planted import demo_trees, write_study

from analysis.fit_table import fit_table
from analysis.runs.logs import AnalysisError
from analysis.runs.point_table import write_points
from analysis.runs.points import Study, build_study
from analysis.runs.read_table import read_table
from analysis.runs.records import read_runs
from analysis.runs.study_table import seed_text, seeds_of, study_of, table_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_study(folder, demo_trees())
    return folder


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return build_study(read_runs([str(folder)]))


def test_a_study_becomes_a_table_with_its_ledgers_and_trunks(study: Study) -> None:
    table = table_of(study, "docs")
    assert len(table) == len([p for p in study.points if p.domain == "docs"])
    assert set(table.columns) == {"N", "D", "U", "C", "w"}
    np.testing.assert_allclose(table.columns["w"].sum(axis=1), 1.0)
    rich = table.recipe == study.recipes[[r.label for r in study.recipes].index(str(table.recipe[0]))].label
    assert len(np.unique(table.run[rich])) == 3  # seeds: sizes of one trunk are drawn together
    with pytest.raises(AnalysisError, match="no run has a final loss on 'poems'; there are"):
        table_of(study, "poems")


def test_runs_written_as_points_and_read_back_give_the_same_fit(folder: Path, study: Study, tmp_path: Path) -> None:
    """No column has to be named; the trunks stay the units."""
    write_points([str(folder)], tmp_path / "points.parquet")
    read = fit_table(tmp_path / "points.parquet", ["power"], where=["domain=docs"], hold_out=1)
    own = fit_table(str(folder), ["power"], hold_out=1)
    direct = fit_table(table_of(study, "docs"), ["power"], hold_out=1)
    for a, b, c in zip(read.fits, own.fits, direct.fits, strict=True):
        assert a.group == b.group == c.group
        for other in (b, c):  # rows in another order: sums round otherwise, and the minimum is flat
            np.testing.assert_allclose(a.fit.theta, other.fit.theta, rtol=1e-7)
            assert a.fit.value == pytest.approx(other.fit.value, rel=1e-12)
        assert a.fit.num_clusters == b.fit.num_clusters == 3
        assert a.fit.num_runs == b.fit.num_runs == len(a.fit.table)  # a run of its own for every size of a trunk


def test_runs_hold_out_what_their_study_says(folder: Path) -> None:
    fits = fit_table(str(folder), ["power"]).fits
    assert all(each.fit.held_out is not None and each.fit.held_out.num_points == 3 for each in fits)


def test_points_in_the_middle_of_a_schedule_enter_no_fit(folder: Path, tmp_path: Path) -> None:
    written = write_points([str(folder)], tmp_path / "every.csv", every=True)
    few = write_points([str(folder)], tmp_path / "few.csv")
    table = read_table(tmp_path / "every.csv", where=["domain=docs"])
    assert written.num_points >= few.num_points
    assert len(table) == len(read_table(tmp_path / "few.csv", where=["domain=docs"]))


def test_a_table_becomes_a_study_that_compares_recipes(study: Study) -> None:
    table = table_of(study, "docs")
    back = study_of(table, hold_out=1)
    assert {p.recipe for p in back.points} == {p.recipe for p in study.points}
    mine = sorted((p.recipe, p.tokens, p.seeds, p.loss, p.is_held_out) for p in back.points)
    theirs = sorted((p.recipe, p.tokens, p.seeds, p.loss, p.is_held_out) for p in study.points if p.domain == "docs")
    assert mine == theirs


def test_a_table_without_sizes_is_no_study(study: Study) -> None:
    from dataclasses import replace

    table = table_of(study, "docs")
    columns = {name: column for name, column in table.columns.items() if name != "D"}
    with pytest.raises(AnalysisError, match="there is no D"):
        study_of(replace(table, columns=columns))


@pytest.mark.parametrize("seeds", [(("init", 0), ("order", 3), ("subset", 0)), (("seed", 7),)])
def test_seeds_come_back_from_a_cell(seeds: tuple[tuple[str, int], ...]) -> None:
    assert seeds_of(seed_text(seeds)) == seeds
    assert seeds_of("7") == (("seed", 7),)
    assert seeds_of("trunk A") == (("trunk A", 0),)
