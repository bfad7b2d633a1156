"""Curves over D cut from laws L(N, D) at one N, and the intervals of differences of two of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from analysis.contrasts.curves import GRID, Band, Curve
from analysis.contrasts.multiplier import MIN_SLOPE, multiplier
from analysis.fitting.law_fit import LawFit
from analysis.fitting.profile import Prediction
from analysis.fitting.result import Estimate
from analysis.laws.law import Array


@dataclass(frozen=True, eq=False)
class Slice:
    """The curve over D of a law at one N. span: the D within which it may be read."""

    fit: LawFit
    num_params: float | None
    span: tuple[float, float]

    @cached_property
    def theta(self) -> Array:
        """The parameters that the intervals are about: of the efficient estimate, see law_fit.py."""
        working = self.fit.working
        assert working is not None
        return working.surface.outside(working.u[None])[0]

    def columns(self, D: Array | float) -> dict[str, Array]:
        """Rows at this N."""
        tokens = np.atleast_1d(np.asarray(D, float))
        return {"D": tokens} | ({} if self.num_params is None else {"N": np.full_like(tokens, self.num_params)})

    def loss(self, D: Array | float) -> Array:
        """L at D tokens; any shape."""
        return self.fit.law.loss(self.theta, self.columns(np.ravel(D))).reshape(np.shape(D))

    def slope(self, D: float) -> float:
        """d log L / d log D."""
        low, high = (math.log(float(self.loss(D * step))) for step in (1 - 1e-5, 1 + 1e-5))
        return (high - low) / 2e-5

    def gradient(self, D: float) -> Array:
        """Of log L at D by what the fit estimates, (f,)."""
        assert self.fit.working is not None
        working = self.fit.working
        return Prediction(self.columns(D))(working.surface, working.u[None], np.zeros(1, int))[1][0]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two slices at one N, the correlation r of their residuals at the same cells, and degrees of freedom."""

    slices: tuple[Slice, Slice]
    r: float
    degrees: int

    @property
    def curves(self) -> tuple[Curve, Curve]:
        """For multiplier.py, which reads no more of a curve than its loss and its span."""
        return cast("tuple[Curve, Curve]", self.slices)

    def width(self, gradients: tuple[Array, Array]) -> float:
        """What the half-width of a difference is over that of independent recipes; gradients: (f,) of either side."""
        answers, scales = [], []
        for one, gradient in zip(self.slices, gradients, strict=True):
            assert one.fit.working is not None
            noise = one.fit.working.noise
            answers.append((noise.jacobian * noise.weights[:, None]) @ noise.unit_covariance @ gradient)
            scales.append(one.fit.residual_sd)
        if not self.r or len(answers[0]) != len(answers[1]):
            return 1.0
        alone = sum(float((s * h) @ (s * h)) for s, h in zip(scales, answers, strict=True))
        shared = 2 * self.r * scales[0] * scales[1] * float(answers[0] @ answers[1])
        return math.sqrt(max(alone - shared, 0.01 * alone) / alone) if alone > 0 else 1.0

    def half_width(self, gradients: tuple[Array, Array], confidence: float) -> float:
        """Of the interval of a quantity with these derivatives by what the two fits estimate."""
        sides = []
        for one, gradient in zip(self.slices, gradients, strict=True):
            assert one.fit.working is not None
            sides.append(float(one.fit.working.noise.half_widths(gradient[None], confidence)[0]))
        return math.hypot(*sides) * self.width(gradients)

    def bands(self, confidence: float) -> tuple[Band, Band]:
        """Both curves with the part of their intervals that is left in a difference at equal D."""
        grid = np.geomspace(*self.slices[0].span, GRID)
        width = np.array([self.width((self.slices[0].gradient(D), self.slices[1].gradient(D))) for D in grid])
        found = []
        for one, curve in zip(self.slices, self.curves, strict=True):
            lo, hi = one.fit.interval(one.columns(grid), confidence)
            loss = one.loss(grid)
            below = np.log(loss / np.maximum(lo, 1e-300)) * width
            above = np.log(np.minimum(hi, 1e300) / loss) * width
            found.append(Band(curve, grid, np.maximum(below, 0.0), np.maximum(above, 0.0)))
        return found[0], found[1]

    def growth(self, low: float, high: float, confidence: float) -> Estimate | None:
        """Multiplier at `high` over that at `low`, tokens of the weaker recipe; None where either is not known."""
        logs: list[float] = []
        gradients = [np.zeros(1), np.zeros(1)]
        for D, sign in ((high, 1.0), (low, -1.0)):
            weak = int(float(self.slices[1].loss(D)) > float(self.slices[0].loss(D)))
            m = multiplier(self.curves, D)
            if not (math.isfinite(m) and m > 0):
                return None
            at = (D / m, D) if weak == 1 else (D, D * m)
            slope = self.slices[1 - weak].slope(at[1 - weak])
            if not slope < -MIN_SLOPE:
                return None
            logs.append(math.log(m))
            for i, side in ((0, -1.0), (1, 1.0)):
                gradients[i] = gradients[i] + sign * side * self.slices[i].gradient(at[i]) / -slope
        half = self.half_width((gradients[0], gradients[1]), confidence)
        centre = logs[0] - logs[1]
        return Estimate(math.exp(centre), math.exp(centre - half), math.exp(min(centre + half, 700.0)))
