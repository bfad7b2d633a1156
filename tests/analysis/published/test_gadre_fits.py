"""Small runs predict large ones: Gadre et al. 2024 (arXiv 2403.08540), 104 models on three corpora."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.fit_table import fit_table
from analysis.fitting.objective import LeastSquares
from analysis.fitting.result import Status
from analysis.runs.read_table import read_table

TABLE = Path(__file__).resolve().parents[4] / "shared" / "published" / "gadre_overtraining" / "models_104.csv"
pytestmark = pytest.mark.skipif(not TABLE.exists(), reason="the published runs are not at hand")


def test_five_small_runs_predict_the_loss_and_the_error_of_the_large_ones() -> None:
    """As published: 4 sizes at 20 tokens per parameter and the smallest at 320; for the error also 1.4B at 20."""
    losses = read_table(TABLE, needs=("N", "D"), response_column="loss_c4_val", where=["dataset_name=rpj"])
    N, D = losses.columns["N"], losses.columns["D"]
    per_param = np.round(D / N)
    five = ((per_param == 20) & (N < 1e9)) | ((per_param == 320) & (N < 2e7))
    assert five.sum() == 5
    large = [((per_param == 640) & (N > 1e9)), (N > 5e9)]
    at = [{"N": float(N[one][0]), "D": float(D[one][0])} for one in large]
    law = fit_table(losses.where(five), ["overtraining"], objective=LeastSquares("raw"), at=at).fits[0]
    predicted = [each.value.value for each in law.predictions]
    measured = [float(losses.y[one][0]) for one in large]
    off = [100 * abs(p - m) / m for p, m in zip(predicted, measured, strict=True)]
    assert off == pytest.approx([0.7103, 0.7320], abs=5e-5)

    errors = read_table(
        TABLE,
        needs=("L",),
        columns={"L": "loss_c4_val"},
        response="metric",
        response_column="err_avg_subset",
        where=["dataset_name=rpj"],
    )
    six = five | ((per_param == 20) & (N > 1e9) & (N < 5e9))
    found = fit_table(errors.where(six), ["decay"], objective=LeastSquares("raw"), at=[{"L": p} for p in predicted])
    of_tasks = [each.value.value for each in found.fits[0].predictions]
    measured = [float(errors.y[one][0]) for one in large]
    off = [100 * abs(p - m) / m for p, m in zip(of_tasks, measured, strict=True)]
    assert off == pytest.approx([3.6365, 0.0464], abs=5e-5)


def test_free_fits_of_all_runs_come_out_as_published() -> None:
    found = fit_table(TABLE, ["chinchilla"], response_column="loss_c4_val", group="dataset_name", cluster="name")
    fits = {each.group: each.fit for each in found.fits}
    wanted = {"rpj": (1.720, 0.243, 0.273), "c4_original": (1.620, 0.253, 0.262), "rw_original": (1.701, 0.223, 0.290)}
    for group, values in wanted.items():
        assert fits[group].status is Status.OK
        told = [fits[group].params[name].value for name in ("E", "alpha", "beta")]
        assert told == pytest.approx(values, abs=6e-4), group


def test_an_error_at_chance_leaves_its_exponent_open_and_its_floor_ends_where_the_profile_does() -> None:
    """By brute force over beta and B the profile of E passes its threshold at 0.7603, 0.003 above the estimate."""
    found = fit_table(TABLE, ["power"], response_column="err_mmlu", where=["dataset_name=rpj"]).fits[0].fit
    assert found.status is Status.NOT_IDENTIFIED
    assert "beta" in found.unsettled
    assert found.params["E"].lo == 0
    assert found.params["E"].hi == pytest.approx(0.7603, abs=1e-4)


def test_laws_are_compared_by_their_error_at_the_largest_scale() -> None:
    laws = ["chinchilla", "overtraining", "joint"]
    found = fit_table(TABLE, laws, response_column="loss_c4_val", group="dataset_name", hold_out=2)
    assert {each.law for each in found.comparison} == set(laws)
    assert [each.error for each in found.comparison] == sorted(each.error for each in found.comparison)
    assert all(each.num_points == 6 for each in found.comparison)  # 2 scales of 3 corpora
    assert found.answer is not None
    assert found.answer.startswith(found.comparison[0].law)
