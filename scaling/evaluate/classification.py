"""Metrics of labels: each a function of how many words or texts have, were given, and were rightly given each label.

They are those of scikit-learn (`accuracy_score`, `precision_recall_fscore_support`, `matthews_corrcoef`), which the
tests compare them with, written over counts, so that a bootstrap is one matrix product.

Macro averages go over the labels that what is measured has: without a row, recall is not defined. What is wrongly
given such a label still costs the right label its recall.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from scaling.evaluate.metrics import Measured, Numbers, share

Indices = NDArray[np.int64]
OfCounts = Callable[[Numbers, Numbers, Numbers], Numbers]
"""From counts by label [..., L], of those that have it, were given it, and were rightly given it."""


def precision(having: Numbers, given: Numbers, right: Numbers) -> Numbers:
    """Of what was given a label, the share that has it [..., L]; 0 where it was never given."""
    return share(right, given)


def recall(having: Numbers, given: Numbers, right: Numbers) -> Numbers:
    """Of what has a label, the share that was given it [..., L]; 0 where nothing has it."""
    return share(right, having)


def f1(having: Numbers, given: Numbers, right: Numbers) -> Numbers:
    """The harmonic mean of precision and recall [..., L]."""
    return share(2 * right, having + given)


def accuracy(having: Numbers, given: Numbers, right: Numbers) -> Numbers:
    """The share of right labels [...]."""
    return share(right.sum(-1), having.sum(-1))


def f1_micro(having: Numbers, given: Numbers, right: Numbers) -> Numbers:
    """F1 of all labels together [...]: with one label each it is the accuracy."""
    return share(2 * right.sum(-1), having.sum(-1) + given.sum(-1))


def f1_weighted(having: Numbers, given: Numbers, right: Numbers) -> Numbers:
    """The mean F1, a label weighing as much as there is of it [...]."""
    return share((f1(having, given, right) * having).sum(-1), having.sum(-1))


def mcc(having: Numbers, given: Numbers, right: Numbers) -> Numbers:
    """Matthews' correlation [...], for several labels (Gorodkin 2004); 0 where one label is all that there is or was
    given."""
    total = having.sum(-1)
    covariance = right.sum(-1) * total - (having * given).sum(-1)
    spreads = (total**2 - (having**2).sum(-1)) * (total**2 - (given**2).sum(-1))
    return share(covariance, np.sqrt(spreads))


def macro(by_label: OfCounts, having: Numbers, given: Numbers, right: Numbers) -> Numbers:
    """The mean over the labels that there are [...]."""
    is_there = having > 0
    return share((by_label(having, given, right) * is_there).sum(-1), is_there.sum(-1))


METRICS: dict[str, OfCounts] = {
    "accuracy": accuracy,
    "f1_macro": partial(macro, f1),
    "f1_micro": f1_micro,
    "f1_weighted": f1_weighted,
    "precision_macro": partial(macro, precision),
    "recall_macro": partial(macro, recall),
    "mcc": mcc,
}


def measure_labels(having: Indices, given: Indices, labels: Sequence[str]) -> Measured:
    """Texts that have one label each [n], and the labels they were given [n], as indices."""
    rows = np.arange(len(having))
    stats = count_labels(rows, len(rows), having, given, len(labels))
    return Measured(
        stats.reshape(len(rows), -1),
        {name: of_sums(metric, len(labels)) for name, metric in METRICS.items()},
        details=label_details(having, given, labels),
    )


def count_labels(row_of: Indices, num_rows: int, having: Indices, given: Indices, num_labels: int) -> Numbers:
    """What each row adds to three counts by label [rows, 3, L]: having, given, right. row_of [n]: the row of each.

    What was given no label has a negative one.
    """
    is_given, is_right = given >= 0, having == given
    columns = [
        count(row_of, having, num_rows, num_labels),
        count(row_of[is_given], given[is_given], num_rows, num_labels),
        count(row_of[is_right], having[is_right], num_rows, num_labels),
    ]
    return np.stack(columns, axis=1)


def count(row_of: Indices, what: Indices, num_rows: int, num_kinds: int) -> Numbers:
    """How often each row has each kind of thing [rows, kinds], of things [n] in rows `row_of` [n]."""
    cells = np.bincount(row_of * num_kinds + what, minlength=num_rows * num_kinds)
    return cells.reshape(num_rows, num_kinds).astype(np.float64)


def of_sums(metric: OfCounts, num_labels: int, start: int = 0) -> Callable[[Numbers], Numbers]:
    """The metric as a function of sums [..., k], in which its counts [3, L] begin at `start`."""

    def measure(sums: Numbers) -> Numbers:
        counts = sums[..., start : start + 3 * num_labels].reshape(*sums.shape[:-1], 3, num_labels)
        return metric(counts[..., 0, :], counts[..., 1, :], counts[..., 2, :])

    return measure


def label_details(having: Indices, given: Indices, labels: Sequence[str]) -> dict[str, object]:
    """Per label precision, recall, F1 and number; how often label i (line) was given as j; labels that nothing has."""
    num_labels = len(labels)
    cells = (having * num_labels + given)[given >= 0]
    table = np.bincount(cells, minlength=num_labels**2).reshape(num_labels, num_labels)
    num_having = np.bincount(having, minlength=num_labels)
    return {
        "labels": list(labels),
        "report": report(num_having, table.sum(0), table.diagonal(), labels),
        "confusion": table.tolist(),
        "labels_without_rows": [label for label, count in zip(labels, num_having, strict=True) if not count],
    }


def report(
    having: Indices | Numbers, given: Indices | Numbers, right: Indices | Numbers, labels: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Precision, recall, F1 and number by label; None where it is not defined."""
    return {
        label: {
            "precision": float(hit / said) if said else None,
            "recall": float(hit / number) if number else None,
            "f1": float(2 * hit / (number + said)) if number + said else None,
            "num": int(number),
        }
        for label, number, said, hit in zip(labels, having, given, right, strict=True)
    }
