"""The way along a valley whose floor is flat to rounding in the equations that Newton's method solves.

Where two parameters nearly stand for one another (the learned data of a fine-tuning far above the data seen, say), the
Hessian has the square of the condition number of the slopes, and Newton's steps are lost. Steps by singular values of
the slopes themselves see twice as many digits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from analysis.fitting.newton import Surface, sharpen
from analysis.laws.law import Array

MAX_VALUES = 2000


def along_valley(surface: Surface, phi: Array, weights: Array, delta: float) -> tuple[Array, Array, NDArray[np.bool_]]:
    """From one place (1, p), weights (1, n), Huber's delta: where it leads, the value there, whether it converged."""
    root, low, high = np.sqrt(weights[0]), surface.low, surface.high
    edge = delta * root

    def huber(square: Array, /) -> Array:
        """Of squared residuals, as SciPy takes it: twice the loss, its first and second derivative, (3, n)."""
        size = np.maximum(np.sqrt(square), np.maximum(edge, 1e-150))
        is_inside, ratio = square <= edge**2, edge / size
        twice = np.where(is_inside, square, edge * (2 * size - edge))
        return np.stack([twice, np.where(is_inside, 1.0, ratio), np.where(is_inside, 0.0, -0.5 * ratio / size**2)])

    def residual(place: Array) -> Array:
        return root * surface.residual(surface.loss(place))

    def slope(place: Array) -> Array:
        loss, own = surface.loss_and_slope(place)
        return root[:, None] * (own if surface.is_raw else own / loss[:, None])

    found = optimize.least_squares(
        residual,
        phi[0],
        slope,
        bounds=(low, high),
        loss=huber,  # type: ignore[arg-type]  # the stubs want an argument that SciPy never gives
        x_scale="jac",
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-15,
        max_nfev=MAX_VALUES,
    )
    return sharpen(surface, np.clip(found.x, low, high)[None], weights, delta)
