"""Fine-tuning losses of 30 models at 15 sizes on two tasks: Lin et al. 2024 (arXiv 2402.02314)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.fitting.minimise import minimise
from analysis.fitting.objective import LeastSquares
from analysis.laws.law import Law
from analysis.laws.power import Power
from analysis.laws.rectified import Rectified
from analysis.runs.read_table import read_raw

TABLES = Path(__file__).resolve().parents[4] / "shared" / "published" / "finetune_rectified"
pytestmark = pytest.mark.skipif(not TABLES.exists(), reason="the published runs are not at hand")


def off(law: Law, D: np.ndarray, losses: np.ndarray) -> float:
    """Root of the mean square of log predicted - log measured."""
    found = minimise(law, {"D": D}, losses, LeastSquares())
    assert found.converged
    return float(np.sqrt(np.mean((np.log(law.loss(found.theta, {"D": D})) - np.log(losses)) ** 2)))


def test_learned_data_bring_the_misfit_of_the_power_law_down_to_a_quarter() -> None:
    """Mean over 60 curves of the sizes above 0: without fine-tuning, a model does not yet know the task's format."""
    misfits: dict[str, list[float]] = {"rectified": [], "power": []}
    for task in ("wmt19", "gigaword"):
        raw = read_raw(TABLES / f"{task}.csv")
        sizes = [name for name in raw.columns if name.isdigit() and name != "0"]
        D = np.array([float(name) for name in sizes])
        losses = np.stack([raw.numbers(name, "loss") for name in sizes], axis=1)
        for curve in losses:
            misfits["rectified"].append(off(Rectified(), D, curve))
            misfits["power"].append(off(Power(), D, curve))
    assert len(misfits["power"]) == 60
    assert np.mean(misfits["rectified"]) == pytest.approx(0.008, abs=5e-4)
    assert np.mean(misfits["power"]) == pytest.approx(0.035, abs=1e-3)
