from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as sklearn

from scaling.evaluate.alert import least_threshold, with_alert
from scaling.evaluate.classification import measure_labels
from scaling.evaluate.metrics import Measured, resamples, scores
from scaling.task import METRICS, Alert

LABELS = ("a", "b", "c", "d")


def drawn(seed: int, num_rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Labels had and given: imbalanced, right more often than not."""
    generator = np.random.default_rng(seed)
    having = generator.choice(4, size=num_rows, p=[0.6, 0.25, 0.12, 0.03])
    return having, np.where(generator.random(num_rows) < 0.6, having, generator.integers(4, size=num_rows))


def by_sklearn(having: np.ndarray, given: np.ndarray) -> dict[str, float]:
    there = np.unique(having)
    found = {"accuracy": sklearn.accuracy_score(having, given), "mcc": sklearn.matthews_corrcoef(having, given)}
    for average in ("macro", "weighted"):
        precision, recall, f1, _ = sklearn.precision_recall_fscore_support(
            having, given, labels=there, average=average, zero_division=0
        )
        found |= {f"f1_{average}": f1}
        if average == "macro":
            found |= {"precision_macro": precision, "recall_macro": recall}
    return found | {"f1_micro": sklearn.f1_score(having, given, average="micro")}


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_scikit_learn_on_the_rows_and_on_every_resample(seed: int) -> None:
    having, given = drawn(seed)
    measured = measure_labels(having, given, LABELS)
    weights = np.vstack([np.ones((1, 300)), next(resamples(300, 20, seed))])
    values = measured.values(weights)
    assert set(values) == set(METRICS["classification"])
    for i, weight in enumerate(weights.astype(int)):
        expected = by_sklearn(np.repeat(having, weight), np.repeat(given, weight))
        assert {name: of_all[i] for name, of_all in values.items()} == pytest.approx(expected, abs=1e-12)


def test_the_report_and_the_confusion_are_those_of_scikit_learn() -> None:
    having, given = drawn(7)
    details = measure_labels(having, given, LABELS).details
    expected = sklearn.classification_report(having, given, target_names=LABELS, output_dict=True)
    for label in LABELS:
        of_label = details["report"][label]
        assert of_label == pytest.approx(
            {
                "precision": expected[label]["precision"],
                "recall": expected[label]["recall"],
                "f1": expected[label]["f1-score"],
                "num": expected[label]["support"],
            }
        )
    assert details["confusion"] == sklearn.confusion_matrix(having, given).tolist()
    json.dumps(dict(details), allow_nan=False)


def test_a_label_without_rows_is_named_and_left_out_of_macro_averages_but_what_is_given_it_is_wrong() -> None:
    having, given = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    measured = measure_labels(having, given, LABELS)
    assert measured.details["labels_without_rows"] == ["c", "d"]
    assert measured.details["report"]["c"] == {"precision": 0.0, "recall": None, "f1": 0.0, "num": 0}
    assert measured.details["report"]["d"] == {"precision": None, "recall": None, "f1": None, "num": 0}
    found = scores(measured, 100, 0)
    assert found["recall_macro"].value == pytest.approx((0.5 + 1) / 2)
    assert found["f1_macro"].value == pytest.approx((2 / 3 + 1) / 2)
    assert found["accuracy"].value == 0.75


def test_a_model_that_gives_one_label_has_metrics_and_no_correlation() -> None:
    found = scores(measure_labels(np.array([0, 0, 0, 1]), np.zeros(4, dtype=int), ("a", "b")), 200, 0)
    assert found["mcc"].value == found["mcc"].lo == found["mcc"].hi == 0
    assert found["f1_macro"].value == pytest.approx(6 / 7 / 2)
    assert all(np.isfinite([score.value, score.lo, score.hi]).all() for score in found.values())


def test_the_interval_of_accuracy_is_as_wide_as_the_binomial_says_and_has_its_coverage() -> None:
    having = np.zeros(400, dtype=int)
    hits = 0
    for seed in range(200):
        is_right = np.random.default_rng(seed).random(400) < 0.8
        score = scores(measure_labels(having, np.where(is_right, 0, 1), ("a", "b")), 400, seed)["accuracy"]
        assert score.hi - score.lo == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 400), rel=0.25)
        hits += score.lo <= 0.8 <= score.hi
    assert 180 <= hits <= 199  # 95 % of 200, four standard errors


def test_the_same_seed_draws_the_same_rows_whatever_is_measured_on_them() -> None:
    having, given = drawn(1)
    measured = measure_labels(having, given, LABELS)
    assert scores(measured, 500, 3) == scores(measured, 500, 3)
    assert scores(measured, 500, 3) != scores(measured, 500, 4)
    other = measure_labels(having, having, LABELS)
    pairs = zip(resamples(300, 50, 9), resamples(len(other.stats), 50, 9), strict=True)
    assert all((one == two).all() for one, two in pairs)


def test_resamples_are_the_same_in_chunks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.vstack(list(resamples(30, 10, 0)))
    monkeypatch.setattr("scaling.evaluate.metrics.CHUNK_NUMBERS", 90)
    chunks = list(resamples(30, 10, 0))
    assert len(chunks) == 4
    assert (np.vstack(chunks) == whole).all()
    assert (whole.sum(1) == 30).all()


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        scores(Measured(np.zeros((0, 3)), {}), 100, 0)


def test_the_threshold_is_the_least_that_reaches_the_precision_and_ties_go_together() -> None:
    probabilities = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.4])
    has_label = np.array([True, True, False, True, True, False, False])
    # precision at 0.9, 0.8, 0.7, 0.6, 0.5, 0.4: 1, 1, 2/3, 3/4, 4/6, 4/7
    assert least_threshold(probabilities, has_label, 1.0) == 0.8
    assert least_threshold(probabilities, has_label, 0.75) == 0.6
    assert least_threshold(probabilities, has_label, 0.7) == 0.6  # 0.5 after the first of the tied would be 4/5
    assert least_threshold(probabilities, has_label, 0.5) == 0.4
    assert least_threshold(probabilities, ~has_label, 0.9) is None


def test_an_alert_keeps_the_threshold_of_validation_and_is_measured_on_test() -> None:
    alert = Alert(label="b", min_precision=0.9)
    generator = np.random.default_rng(0)

    def rows(num: int) -> tuple[Measured, np.ndarray, np.ndarray]:
        has_label = generator.random(num) < 0.3
        probabilities = 1 / (1 + np.exp(-(2 * has_label - 1 + generator.normal(size=num))))
        given = (probabilities > 0.5).astype(int)
        return measure_labels(has_label.astype(int), given, ("a", "b")), probabilities, has_label

    validation = with_alert(*rows_with(alert, rows(500)), None)
    measured, probabilities, has_label = rows(800)
    test = with_alert(measured, alert, probabilities, has_label, validation)
    threshold = test.details["alert"]["threshold"]
    assert threshold == validation.details["alert"]["threshold"]
    found = scores(test, 300, 0)
    is_raised = probabilities >= threshold
    assert found["alert_precision"].value == pytest.approx(sklearn.precision_score(has_label, is_raised))
    assert found["alert_recall"].value == pytest.approx(sklearn.recall_score(has_label, is_raised))
    assert found["accuracy"] == scores(measured, 300, 0)["accuracy"]
    assert scores(validation, 100, 0)["alert_precision"].value >= 0.9
    assert found["alert_recall"].lo < found["alert_recall"].value < found["alert_recall"].hi
    json.dumps(dict(test.details), allow_nan=False)


def rows_with(alert: Alert, rows: tuple[Measured, np.ndarray, np.ndarray]) -> tuple:
    measured, probabilities, has_label = rows
    return measured, alert, probabilities, has_label


def test_an_alert_that_validation_gives_no_threshold_is_never_raised_and_has_no_precision() -> None:
    alert = Alert(label="b", min_precision=0.9)
    having = np.array([0, 1])
    measured = measure_labels(having, having, ("a", "b"))
    validation = with_alert(measured, alert, np.array([0.9, 0.1]), having == 1, None)
    assert validation.details["alert"]["threshold"] is None
    test = with_alert(measured, alert, np.array([0.1, 0.9]), having == 1, validation)
    assert test.details["alert"]["threshold"] is None
    assert "alert_precision" not in scores(test, 100, 0)
