from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from seqeval import metrics as seqeval
from sklearn import metrics as sklearn

from scaling.evaluate.entities import NO_LABEL, measure_entities, measure_words, words_of
from scaling.evaluate.metrics import resamples, scores
from scaling.task import METRICS

BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-A-B", "I-A-B")
BIOES = (*BIO, "E-PER", "S-PER", "E-LOC", "S-LOC")


def drawn(labels: tuple[str, ...], seed: int, num_rows: int = 60) -> tuple[list[list[int]], list[list[int]]]:
    """Rows of 0 to 12 words with any label after any other, and answers that are right in most of them."""
    generator = np.random.default_rng(seed)
    right = [generator.integers(len(labels), size=generator.integers(13)).tolist() for _ in range(num_rows)]
    given = [
        [tag if generator.random() < 0.75 else int(generator.integers(len(labels))) for tag in row] for row in right
    ]
    return right, given


def names(labels: tuple[str, ...], rows: list[list[int]]) -> list[list[str]]:
    return [[labels[tag] for tag in row] for row in rows]


@pytest.mark.parametrize("labels", [BIO, BIOES])
@pytest.mark.parametrize("seed", range(6))
def test_entities_are_counted_as_seqeval_counts_them_on_the_rows_and_on_every_resample(
    labels: tuple[str, ...], seed: int
) -> None:
    right, given = drawn(labels, seed)
    measured = measure_entities(words_of(right, given), labels)
    weights = np.vstack([np.ones((1, 60)), next(resamples(60, 6, seed))])
    values = measured.values(weights)
    for i, weight in enumerate(weights.astype(int)):
        one, two = (
            [row for row, times in zip(names(labels, rows), weight, strict=True) for _ in range(times)]
            for rows in (right, given)
        )
        assert values["f1"][i] == pytest.approx(seqeval.f1_score(one, two))
        assert values["precision"][i] == pytest.approx(seqeval.precision_score(one, two))
        assert values["recall"][i] == pytest.approx(seqeval.recall_score(one, two))
        assert values["f1_macro"][i] == pytest.approx(seqeval.f1_score(one, two, average="macro"))
        assert values["accuracy"][i] == pytest.approx(seqeval.accuracy_score(one, two))


def test_the_report_by_type_is_that_of_seqeval() -> None:
    right, given = drawn(BIO, 11)
    details = measure_entities(words_of(right, given), BIO).details
    expected = seqeval.classification_report(names(BIO, right), names(BIO, given), output_dict=True)
    for name in ("PER", "LOC", "A-B"):
        assert details["report"][name] == pytest.approx(
            {
                "precision": expected[name]["precision"],
                "recall": expected[name]["recall"],
                "f1": expected[name]["f1-score"],
                "num": expected[name]["support"],
            }
        )
    json.dumps(dict(details), allow_nan=False)


def test_an_entity_does_not_go_on_in_the_next_row() -> None:
    measured = measure_entities(words_of([[1], [2]], [[1], [0]]), BIO)
    assert measured.details["report"]["PER"]["num"] == 2
    assert measured.values(np.ones(2))["recall"] == 0.5


def test_rows_without_any_entity_have_no_f1_and_are_words_all_the_same() -> None:
    found = scores(measure_entities(words_of([[0, 0], []], [[0, 0], []]), BIO), 100, 0)
    assert found["f1"].value == 0
    assert found["accuracy"].value == 1


def test_labels_that_stand_alone_have_macro_averages_and_a_word_without_an_answer_is_wrong() -> None:
    right, given = drawn(("x", "y", "z"), 3)
    given[0] = [NO_LABEL] * len(right[0])
    measured = measure_words(words_of(right, given), ("x", "y", "z"))
    values = measured.values(np.ones(60))
    assert set(values) == set(METRICS["tokens"])
    one, two = (np.array([tag for row in rows for tag in row]) for rows in (right, given))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision, recall, f1, _ = sklearn.precision_recall_fscore_support(one, two, labels=[0, 1, 2], average="macro")
    assert {name: float(value) for name, value in values.items()} == pytest.approx(
        {"f1": f1, "precision": precision, "recall": recall, "accuracy": (one == two).mean()}
    )
