"""Axes that can be read."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.page.axes import token_axis


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (np.geomspace(1_500_120, 1_999_872, 25), [1_500_120, 1_999_872]),  # no round number but beside the ends
        (np.geomspace(1e6, 1e9, 25), [1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9]),
        ([1e6, 2e6, 4e6], [1e6, 2e6, 4e6]),
    ],
)
def test_an_axis_of_tokens_has_ticks_whatever_its_range(sizes: np.ndarray, expected: list[float]) -> None:
    axes = Figure().add_subplot()
    token_axis(axes, sizes)
    np.testing.assert_allclose(axes.get_xticks(), expected)
