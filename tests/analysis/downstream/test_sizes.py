"""Every size of pretraining against its absence, studies that ask for labels, and what the page says of few sizes."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from planted import RICH, spec, write_study
from planted_tasks import SIZES, PlantedTask, write_tasks
from test_metric_curve import cells

from analysis.downstream.cells import gap
from analysis.downstream.downstream import Downstream, downstream
from analysis.downstream.facts import facts
from analysis.downstream.headline import headline
from analysis.downstream.metric_curve import metric_curve
from analysis.downstream.verdicts import clear_from
from analysis.downstream.words import scratch_sentences
from analysis.fitting.result import Estimate
from analysis.page.labels import count_text
from analysis.page.table import Quantity, Table, csv_bytes, estimate_text
from analysis.report import report

LATE = PlantedTask("late", worth=1e-11, power=2.0, num_items=20_000)
"""Gains nothing that can be seen at the first sizes, and much at the last: D^2."""
EARLY = PlantedTask("early", worth=1.0, num_items=20_000)
FLAT = PlantedTask("flat", worth=0.0)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Downstream:
    folder = tmp_path_factory.mktemp("sizes")
    return downstream([str(write_tasks(folder, [LATE, EARLY, FLAT], labels=(800,)))])


def test_the_gain_at_each_size_is_that_of_its_runs_and_the_largest_is_the_verdict(found: Downstream) -> None:
    assert [v.cell.setting.tokens for v in found.sizes if v.task == "late"] == list(SIZES)
    for v in found.sizes:
        assert v.scratch is not None
        assert v.over_scratch == gap(v.cell, v.scratch)
        assert v.over_scratch.gap.value == pytest.approx(v.cell.mean - v.scratch.mean)
    last = [v for v in found.sizes if v.cell.setting.tokens == SIZES[-1]]
    assert [(v.cell, v.over_scratch) for v in last] == [(v.cell, v.over_scratch) for v in found.verdicts]
    assert len(facts(found)["sizes"]) == 3 * len(SIZES)


def test_the_size_from_which_a_gain_is_beyond_the_noise_is_told(found: Downstream) -> None:
    clear = {v.task: clear_from(found.sizes, v) for v in found.verdicts}
    late, early, flat = (clear[task] for task in ("late", "early", "flat"))
    assert late is not None
    assert late.tokens is not None
    gains = {size: LATE.score(800, size) - LATE.score(800, 0) for size in SIZES}
    assert gains[SIZES[0]] < 0.005 < gains[late.tokens]  # what was planted: nothing to be seen at first
    assert late.below is not None
    assert late.below == SIZES[SIZES.index(late.tokens) - 1]
    assert early is not None
    assert (early.tokens, early.below) == (SIZES[0], None)
    assert flat is not None
    assert flat.tokens is None
    said = headline(found)
    amounts = f"early {count_text(SIZES[0])} (the smallest), late {count_text(late.tokens)}."
    assert f"from which on that gain is beyond the noise: {amounts}" in said
    (sentence,) = [text for text in scratch_sentences(found) if text.startswith("late")]
    assert f"from {count_text(late.tokens)} tokens on, not at {count_text(late.below)}" in sentence


def test_one_size_of_pretraining_says_nothing_of_the_smallest(tmp_path: Path) -> None:
    write_tasks(tmp_path, [EARLY], sizes=SIZES[:1], labels=(800,))
    alone = downstream([str(tmp_path)])
    assert clear_from(alone.sizes, alone.verdicts[0]) is None
    assert "from which on" not in headline(alone)


def test_a_study_of_labels_answers_in_labels_first(tmp_path: Path) -> None:
    write_tasks(tmp_path, [EARLY, FLAT], sizes=SIZES[-2:], labels=(200, 800, 3200))
    written = report([str(tmp_path)], tmp_path / "out")
    assert written.headline.startswith("In labels, the largest pretraining is worth: early ")
    assert "Cannot tell whether pretraining replaces labels on flat." in written.headline
    assert written.page.lead.name == "task_labels"
    with (tmp_path / "out" / "tables" / "task_sizes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({(row["task"], row["labels"], row["D"]) for row in rows}) == 2 * 3 * 2
    for row in rows:
        gained = float(row["over scratch"])
        assert gained == pytest.approx(float(row["score"]) - float(row["from scratch"]))
        assert float(row["over scratch lo"]) < gained < float(row["over scratch hi"])


def test_as_many_sizes_as_labels_ask_for_tokens(tmp_path: Path) -> None:
    write_tasks(tmp_path, [EARLY], sizes=SIZES[-2:], labels=(200, 3200))
    assert not downstream([str(tmp_path)]).is_of_labels


# ---- curves --------------------------------------------------------------------------------------


def test_a_band_has_no_kink_between_measured_amounts() -> None:
    sizes = (4_000_000, 16_000_000, 64_000_000, 192_000_000)
    found = metric_curve(cells(lambda D: 0.9 - 0.1 * (D / 1e7) ** -0.5, sizes, sd=0.003), "tokens")
    assert found is not None
    assert found.law == "ceiling"
    for low, high in pairwise(sizes):
        x = np.geomspace(low, high, 1001)
        for half in found.half_widths(x):
            turns = np.abs(np.diff(half, 2))  # of a smooth line as the square of the step, at a kink as the step
            assert turns.max() < 5e-5 * np.ptp(half) + 1e-12


def test_a_law_that_has_all_its_rise_before_the_second_amount_is_not_taken() -> None:
    sizes = (1_000_000, 4_000_000, 12_000_000, 24_000_000)
    found = metric_curve(cells(lambda D: 0.797 if sizes[0] == D else 0.808, sizes, sd=0.001), "tokens")
    assert found is not None
    assert (found.law, found.reach) == ("measured", sizes[-1])


# ---- numbers -------------------------------------------------------------------------------------


def test_an_end_beside_0_is_neither_0_nor_below_0_by_nothing() -> None:
    assert estimate_text(Estimate(0.0214, -0.0004, 0.0433)) == "0.0214 (-0.0004 to 0.0433)"
    assert estimate_text(Estimate(0.2, -1e-7, 0.4)) == "0.2000 (0.0000 to 0.4000)"
    assert estimate_text(Estimate(0.019, 0.005, 0.033)) == "0.019 (0.005 to 0.033)"


def test_at_most_is_no_amount_of_0_for_programs() -> None:
    table = Table("t", ("needed",), ((Quantity(0.0, 0.0, 5e6),), (Quantity(2e6, 0.0, 9e6),), (Quantity(1, 1, 2),)))
    lines = csv_bytes(table).decode().splitlines()
    assert lines[1:] == [",,5000000.0", "2000000.0,,9000000.0", "1.0,1.0,2.0"]


def test_a_size_in_whole_batches_is_told_as_it_was_asked_for() -> None:
    assert [count_text(D) for D in (999_424, 3_999_744, 998_000, 1_023_000)] == ["1M", "4M", "998k", "1.02M"]


# ---- losses beside -------------------------------------------------------------------------------


def test_of_few_sizes_the_loss_is_told_between_measured_ones_and_lacks_one_caveat(tmp_path: Path) -> None:
    sizes = (1_000_000, 4_000_000, 16_000_000)
    falls = {1_000_000: 5.2, 4_000_000: 4.4, 16_000_000: 3.8}
    trees = [spec(D, 0, RICH) for D in sizes]
    write_study(tmp_path, trees, loss=lambda tree, _: falls[tree["budget"]["num_tokens"]], seed_sd=0.0, point_sd=0.0)
    write_tasks(tmp_path, [EARLY], sizes=sizes, labels=(800,))
    written = report([str(tmp_path)], tmp_path / "out")
    assert "From 4M to 16M tokens, both measured, the loss on docs falls by 0.600" in written.headline
    about = [caveat for caveat in written.results.caveats if caveat.startswith("Of the loss")]
    assert len(about) == 1
    assert "3 sizes without repeated seeds" in about[0]
    open_ = [point for point in written.study.points if point.is_held_out]
    captions = [figure.caption for figure in written.page.figures if figure.name.startswith("curves-")]
    assert captions
    assert all(("Open marks" in caption) == bool(open_) for caption in captions)
