"""Rows that a law does not fit at all: slips of the pen, other units, runs that broke. They pull, so they are named."""

from __future__ import annotations

import numpy as np

from analysis.fitting.law_fit import LawFit

FACTOR = 1.3
"""Measured over predicted, or the other way round, from which on a row may be a slip."""
NUM_SDS = 10.0
"""How far off it lies besides, in robust standard deviations of the others."""
MOST_TOLD = 3


def slips(fit: LawFit) -> list[str]:
    """A sentence for each row far off the law that was fitted to all, the farthest first; of many, for some."""
    if not np.isfinite(fit.theta).all():
        return []
    measured, predicted = fit.table.y, fit.predict(fit.table.columns)
    off = np.abs(np.log(measured / predicted)) if (measured > 0).all() else np.abs(measured - predicted)
    sd = 1.4826 * float(np.median(off))
    factor = np.maximum(measured / predicted, predicted / measured)
    far = np.flatnonzero((factor > FACTOR) & (off > NUM_SDS * sd))
    far = far[np.argsort(-off[far], kind="stable")]
    told = [
        f"row {fit.table.row[k]}: {fit.table.response} is {measured[k]:.4g}, and the law that fits the others has "
        f"{predicted[k]:.4g} there: is it meant? It widens intervals"
        for k in far[:MOST_TOLD]
    ]
    return told + ([f"{len(far) - MOST_TOLD} more rows lie as far off"] if len(far) > MOST_TOLD else [])
