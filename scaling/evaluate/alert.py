"""An alert: what it finds and what it misses, at a threshold that was chosen on other rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from scaling.evaluate.metrics import Measured, Numbers, share
from scaling.task import Alert


def with_alert(
    measured: Measured, alert: Alert, probabilities: Numbers, has_label: NDArray[np.bool_], chosen_on: Measured | None
) -> Measured:
    """`measured` with `alert_precision` and `alert_recall`, where there is a threshold, and the details of the alert.

    probabilities [rows]: of the label. The threshold is that of `chosen_on`, or, where that is None, chosen here.
    """
    threshold = least_threshold(probabilities, has_label, alert.min_precision) if chosen_on is None else _of(chosen_on)
    details: dict[str, object] = {
        **alert.model_dump(),
        "threshold": threshold,
        "num_rows_with_label": int(has_label.sum()),
    }
    if threshold is None:  # then no alert is ever raised
        return Measured(measured.stats, measured.metrics, measured.by_weight, {**measured.details, "alert": details})
    is_raised = probabilities >= threshold
    details |= {"num_alerts": int(is_raised.sum()), "num_right": int((is_raised & has_label).sum())}
    counts = np.stack([has_label, is_raised, is_raised & has_label], axis=1).astype(np.float64)
    return Measured(
        np.hstack([measured.stats, counts]),
        {
            **measured.metrics,
            "alert_precision": lambda sums: share(sums[..., -1], sums[..., -2]),
            "alert_recall": lambda sums: share(sums[..., -1], sums[..., -3]),
        },
        measured.by_weight,
        {**measured.details, "alert": details},
    )


def least_threshold(probabilities: Numbers, has_label: NDArray[np.bool_], min_precision: float) -> float | None:
    """The least probability at and above which the share of rows that have the label is `min_precision` or more.

    It finds as many of them as that precision allows. None where no threshold reaches it.
    """
    order = np.argsort(-probabilities, kind="stable")
    descending = probabilities[order]
    precision = has_label[order].cumsum() / np.arange(1, len(order) + 1)
    is_last_of_ties = np.append(descending[1:] < descending[:-1], True)
    reaching = np.flatnonzero((precision >= min_precision) & is_last_of_ties)
    return float(descending[reaching[-1]]) if len(reaching) else None


def _of(chosen_on: Measured) -> float | None:
    alert = chosen_on.details["alert"]
    assert isinstance(alert, Mapping), "the same task was measured"
    threshold = alert["threshold"]
    assert threshold is None or isinstance(threshold, float)
    return threshold
