"""How many labels pretraining replaces, how much of it buys back what compression loses: planted, with intervals."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from planted_tasks import SIZES, PlantedTask, Tuned, write_tasks

from analysis.downstream.cost_tables import bought_back_table
from analysis.downstream.downstream import Downstream, downstream
from analysis.downstream.headline import headline
from analysis.downstream.tables import transfer_table
from analysis.downstream.words import transfer_sentences

LABELS = (200, 800, 3200, 12800)
GAINS = tuple(PlantedTask(f"gain{i}", num_items=20_000, all_labels=LABELS[-1]) for i in range(4))
FLAT = PlantedTask("flat", worth=0.0, all_labels=LABELS[-1])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Downstream:
    """Labels x tokens of pretraining, of tasks that differ in their noise alone, and of one that gains nothing."""
    folder = tmp_path_factory.mktemp("transferred")
    write_tasks(folder, [*GAINS, FLAT], sizes=(SIZES[0], SIZES[2], SIZES[4]), labels=LABELS, has_baseline=False)
    return downstream([str(folder)])


def test_the_labels_that_each_size_replaces_come_back_with_an_interval(found: Downstream) -> None:
    own = [t for t in found.transferred if t.task != "flat"]
    assert len(own) == len(GAINS) * 3 * len(LABELS)
    held = [t.needed.lo <= GAINS[0].effective(t.labels, t.tokens) <= t.needed.hi for t in own]
    assert sum(held) / len(held) >= 0.9
    few = [t for t in own if t.labels == LABELS[0]]
    for t in few:
        truth = GAINS[0].effective(t.labels, t.tokens)
        assert t.times.value == pytest.approx(truth / t.labels, rel=0.5)
        assert 1 < t.times.lo < t.times.hi < 10 * t.times.value  # told, and worth telling
    assert f" times {LABELS[0]} labels, gain" in headline(found)


def test_pretraining_that_does_nothing_replaces_no_labels(found: Downstream) -> None:
    own = [t for t in found.transferred if t.task == "flat"]
    assert sum(t.times.lo <= 1 <= t.times.hi for t in own) >= len(own) - 1
    (said,) = [text for text in transfer_sentences(found) if text.startswith("flat")]
    assert "cannot tell whether" in said


def test_one_number_of_labels_from_scratch_makes_no_claim(tmp_path: Path) -> None:
    tuned = Tuned(tmp_path)
    for seed in range(3):
        tuned.run(GAINS[0], 0, seed, 800)
        for labels in LABELS:
            tuned.run(GAINS[0], SIZES[-1], seed, labels)
    found = downstream([str(tmp_path)])
    assert found.transferred == ()
    assert transfer_table(found).rows == ()
    assert "In labels" not in headline(found)


def test_where_the_curves_do_not_overlap_only_a_bound_is_told(tmp_path: Path) -> None:
    """From scratch with 200 and 400 labels: the pretrained model is above both by far."""
    tuned = Tuned(tmp_path)
    for seed in range(3):
        for labels in (200, 400):
            tuned.run(GAINS[0], 0, seed, labels)
            tuned.run(GAINS[0], SIZES[-1], seed, labels)
    found = downstream([str(tmp_path)])
    truth = GAINS[0].effective(200, SIZES[-1])
    first = next(t for t in found.transferred if t.labels == 200)
    assert truth > 400
    assert math.isinf(first.needed.value)
    assert first.needed.lo == 400  # two amounts are joined by a line, and nothing is said beyond them
    assert transfer_table(found).texts[0][-1] == "above 2.00"
    assert "takes more than 400 labels, above 2.00 times as many" in transfer_sentences(found)[0]


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Downstream:
    """Pruning costs 0.03 of the metric: five sizes of tasks that gain, and of one that does not."""
    folder = tmp_path_factory.mktemp("compressed")
    write_tasks(folder, [*GAINS, FLAT], labels=(800,), compress=("pruned",), has_baseline=False)
    return downstream([str(folder)])


def test_the_pretraining_that_buys_back_what_pruning_loses_comes_back(compressed: Downstream) -> None:
    own = [b for b in compressed.bought_back if b.task != "flat"]
    assert len(own) == len(GAINS)
    held = []
    for b in own:
        wanted = GAINS[0].score(800, b.tokens) + 0.03
        truth = next(tokens for tokens in range(10**6, 10**8, 10**5) if GAINS[0].score(800, tokens) >= wanted)
        held.append(b.needed.lo <= truth <= b.needed.hi)
        assert b.needed.lo > b.tokens  # more is needed, beyond the noise
        assert b.times.lo == pytest.approx(b.needed.lo / b.tokens)
    assert sum(held) >= len(own) - 1


def test_no_pretraining_buys_back_what_compression_loses_where_it_does_nothing(compressed: Downstream) -> None:
    flat = next(b for b in compressed.bought_back if b.task == "flat")
    assert not (math.isfinite(flat.needed.value) and flat.needed.has_limits)
    table = bought_back_table(compressed)
    row = next(dict(zip(table.columns, texts, strict=True)) for texts in table.texts if texts[0] == "flat")
    assert row["compressed needs D"].startswith(("cannot tell", "not by"))
    assert row["times the tokens"].startswith(("cannot tell", "above"))
