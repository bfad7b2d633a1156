"""How far an estimate may be off, when rows of one run share noise.

The residuals about a law are e_i + b_run: what a row has of its own, and what all rows of a run (a trunk and its
branches) share. kappa is the ratio of the two variances. A table tells of kappa through its runs only, and there are
often two or three, or one, so no single value of it is taken: the interval averages over rho = kappa / (1 + kappa), the
share of the variance that a run's rows have in common, weighted by the residual likelihood (REML) that the table gives
it, from a prior over 0 to 1. For each rho the quantity has a t distribution, as it has for a Bayesian with the
reference prior for the scale.

The prior is even where a table says nothing of rho, as with one trunk: it alone speaks then, and the interval is wide.
It leans to 1 as (1 - rho)^(-F/4) where runs have F = 1 or 2 (or more) degrees of freedom of their own: an even prior
would act as two further runs. Measured on straight lines, 8 points a trunk, 300 tables each, nominal 95 %: level of one
trunk, rho .5 .8 .9: 99 96 82 %; of two trunks 99 95 92 %; of three 99 96 94 %; difference of 2 x 2 trunks 99 96 93 %,
of 2 x 3 95 94 90 %; all at least 99 % at rho 0. With the even prior 2 x 2 covered 97 89 88 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.laws.law import Array

NODES = 32
"""Of the average over rho, Gauss-Legendre."""
MIN_RUNS = 20
"""Below, leaving out runs tells too little of the variance to be listened to."""


@dataclass(frozen=True, eq=False)
class RunNoise:
    """The errors of estimates u (f,) from rows.

    residuals: (n,). jacobian: (n, f), of the predictions by u. weights: (n,), robust ones times precision; precision:
    (n,), 1 over the relative variance of a row. runs: (n,), the unit that each row belongs to.
    """

    residuals: Array
    jacobian: Array
    weights: Array
    precision: Array
    runs: NDArray[np.str_]

    @property
    def degrees(self) -> int:
        """Rows less parameters."""
        return max(1, len(self.residuals) - self.jacobian.shape[1])

    @cached_property
    def is_clustered(self) -> bool:
        """Whether some run has more than one row."""
        return len(np.unique(self.runs)) < len(self.runs)

    @cached_property
    def unit_covariance(self) -> Array:
        """Of u for residuals of unit variance that are independent, (f, f)."""
        return _inverse((self.jacobian * self.weights[:, None]).T @ self.jacobian)

    @cached_property
    def _correction(self) -> float:
        """What the variance of a Huber estimate is above that of weighted least squares (Huber 1981, section 7.6).

        Residuals that are weighted down are less than their errors, even where no run is an outlier.
        """
        robust = self.weights / self.precision
        inside = robust >= 1
        share = float(inside.mean())
        if share == 1:
            return 1.0
        size = len(robust)
        psi2 = float((robust**2 * self.precision * self.residuals**2).sum())
        weighted = float((self.weights * self.residuals**2).sum())
        small = 1 + self.jacobian.shape[1] / size * (1 - share) / max(share, 0.25)
        if weighted <= 0:
            return 1.0
        return max(1.0, small**2 * psi2 / weighted * float(robust.mean()) / max(share, 0.25) ** 2)

    @cached_property
    def _run_degrees(self) -> float:
        """How many of the runs' levels are left to tell of the noise, the law having taken its own."""
        root = np.sqrt(self.weights)
        place = np.unique(self.runs, return_inverse=True)[1]
        size = np.linalg.norm(self.jacobian, axis=0)
        basis = np.linalg.qr(self.jacobian[:, size > 0] / size[size > 0] * root[:, None])[0]
        taken = np.zeros((place.max() + 1, basis.shape[1]))
        np.add.at(taken, place, basis * root[:, None])
        return float((1 - (taken**2).sum(axis=1) / np.bincount(place, self.weights)).sum())

    @cached_property
    def components(self) -> tuple[Array, Array, Array, Array]:
        """Of each rho: its probability (k,), kappa (k,), variance of a row's own noise (k,), covariance (k, f, f)."""
        w, J, r = self.weights, self.jacobian, self.residuals
        if self.is_clustered:
            nodes, prior = np.polynomial.legendre.leggauss(NODES)
            rho = (nodes + 1) / 2
            prior = prior * (1 - rho) ** (-min(self._run_degrees, 2.0) / 4)
        else:
            rho, prior = np.zeros(1), np.ones(1)
        kappa = rho / (1 - rho)
        names, place = np.unique(self.runs, return_inverse=True)
        total, pull, sums = np.bincount(place, w), np.bincount(place, r * w), np.zeros((len(names), J.shape[1]))
        np.add.at(sums, place, J * w[:, None])
        bread = self.unit_covariance
        likelihood, own, covariance = [], [], []
        for k in kappa:
            shrink = k / (1 + k * total)
            normal = (J * w[:, None]).T @ J - (sums * shrink[:, None]).T @ sums
            score = (J * w[:, None]).T @ r - (sums * shrink[:, None]).T @ pull
            deviance = float((w * r * r).sum() - (shrink * pull**2).sum() - score @ _inverse(normal) @ score)
            deviance = max(deviance, 1e-12 * float((w * r * r).sum()), 1e-300)
            scale = _sizes(normal)
            determinant = np.linalg.slogdet(normal * np.outer(scale, scale) + 1e-12 * np.eye(len(scale)))[1]
            determinant -= 2 * np.log(scale).sum()
            likelihood.append(-0.5 * (np.log1p(k * total).sum() + determinant + self.degrees * np.log(deviance)))
            own.append(deviance / self.degrees * self._correction)
            covariance.append(own[-1] * (bread + k * bread @ sums.T @ sums @ bread))
        weight = prior * np.exp(np.array(likelihood) - max(likelihood))
        return weight / weight.sum(), kappa, np.array(own), np.array(covariance)

    @cached_property
    def row_sd(self) -> float:
        """Standard deviation of one row: what is its own and what its run shares."""
        share, kappa, own, _ = self.components
        return float(np.sqrt((share * own * (1 + kappa)).sum()))

    def unit_sd(self, gradient: Array) -> Array:
        """Standard error of quantities with derivatives by u (m, f), for independent residuals of unit variance."""
        return np.sqrt(np.maximum(np.einsum("mi,ij,mj->m", gradient, self.unit_covariance, gradient), 0.0))

    @cached_property
    def jackknife_covariance(self) -> Array | None:
        """Of u (f, f), from leaving out each run in turn, to first order; None where there are too few runs.

        It assumes nothing of how noise differs between rows and runs along them.
        """
        names, place = np.unique(self.runs, return_inverse=True)
        if not self.jacobian.shape[1] or len(names) < max(MIN_RUNS, 4 * self.jacobian.shape[1]):
            return None
        weighted = self.jacobian * self.weights[:, None]
        normal = weighted.T @ self.jacobian
        order = np.argsort(place, kind="stable")
        first = np.searchsorted(place[order], np.arange(len(names)))
        rows = np.einsum("ni,nj->nij", weighted, self.jacobian)[order]
        left = normal - np.add.reduceat(rows, first, axis=0)
        score = np.add.reduceat((weighted * self.residuals[:, None])[order], first, axis=0)
        scale = _sizes(normal)
        moved = np.linalg.pinv(left * np.outer(scale, scale), rcond=1e-12, hermitian=True) @ (score * scale)[..., None]
        moved = moved[..., 0] * scale
        share = float((self.weights >= self.precision).mean())
        steeper = float((self.weights / self.precision).mean()) / max(share, 0.25)  # rows beyond delta do not pull back
        return moved.T @ moved * (len(names) - 1) / len(names) * steeper**2

    def half_widths(self, gradient: Array, confidence: float, variance: Array | None = None) -> Array:
        """Half-widths (m,) of the intervals of quantities with derivatives by u (m, f).

        variance: (m,), for a quantity that has a new row's noise in it: of that row, relative to precision 1.
        """
        share, kappa, own, covariance = self.components
        square = np.einsum("mi,kij,mj->mk", gradient, covariance, gradient)
        if variance is not None:
            square = square + own * (variance[:, None] + kappa)
        half = _quantile(share, np.sqrt(np.maximum(square, 0.0)), self.degrees, confidence)
        if (jackknife := self.jackknife_covariance) is None:
            return half
        square = np.einsum("mi,ij,mj->m", gradient, jackknife, gradient)
        if variance is not None:
            square = square + self.row_sd**2 * variance
        degrees = len(np.unique(self.runs)) - self.jacobian.shape[1]
        return np.maximum(half, special.stdtrit(degrees, 0.5 + confidence / 2) * np.sqrt(np.maximum(square, 0.0)))


def _quantile(share: Array, sd: Array, degrees: float, confidence: float) -> Array:
    """The half-width h (m,) with probability `confidence` within +-h, of mixtures of t distributions, sd (m, k)."""
    low = np.zeros(len(sd))
    high = sd.max(axis=1) * float(special.stdtrit(degrees, 0.5 + confidence / 2))
    if len(share) == 1:
        return high
    for _ in range(50):
        middle = (low + high) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(sd > 0, middle[:, None] / sd, np.inf)
        outside = 2 * (share * special.stdtr(degrees, -ratio)).sum(axis=1)
        wide = outside <= 1 - confidence
        low, high = np.where(wide, low, middle), np.where(wide, middle, high)
    return high


def _sizes(matrix: Array) -> Array:
    """Of steps that cost as much along each coordinate; very long along one that the data say nothing of."""
    diagonal = np.diag(matrix)
    return 1 / np.sqrt(np.maximum(diagonal, max(1e-24 * diagonal.max(initial=0.0), 1e-200)))


def _inverse(matrix: Array) -> Array:
    """Of a normal matrix, with unit diagonal on the way, or it drowns in rounding; directions without data get none."""
    if not matrix.size:  # every parameter is fixed
        return matrix
    scale = _sizes(matrix)
    values, vectors = np.linalg.eigh(matrix * np.outer(scale, scale))
    values = np.maximum(values, 1e-13 * values.max())
    return (vectors / values) @ vectors.T * np.outer(scale, scale)
