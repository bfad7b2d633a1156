"""The compute-optimal frontier: how large a model and how many tokens a budget wants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.fitting.law_fit import LawFit
from analysis.fitting.result import Estimate
from analysis.laws.isoflop import IsoFlop
from analysis.laws.law import Array
from analysis.runs.logs import AnalysisError
from analysis.runs.run_table import RunTable

FLOPS_PER_PARAM_AND_TOKEN = 6.0
"""C = 6 N D (Kaplan et al. 2020, arXiv 2001.08361), where the table does not say what its runs took."""


@dataclass(frozen=True)
class Optimum:
    """What C FLOPs buy best. exponent: a in N_opt ~ C^a. loss: at N_opt and D_opt.

    beyond: C over the most that was fitted; above about 8, no interval covers what may happen.
    """

    flops: float
    num_params: Estimate
    tokens: Estimate
    loss: Estimate
    exponent: Estimate
    flops_per_param_and_token: float
    beyond: float


def has_frontier(fit: LawFit) -> bool:
    """Whether the law of a fit trades N against D, so that a budget has a best split."""
    names = {param.name for param in fit.law.params}
    if isinstance(fit.law, IsoFlop):
        return not fit.law.is_single
    return fit.law.name in ("chinchilla", "data_constrained") and {"A", "B", "alpha", "beta"} <= names


def optimum(fit: LawFit, flops: float, confidence: float = 0.95) -> Optimum:
    """The compute-optimal N and D for a budget of C FLOPs, by a fit of `chinchilla` (new tokens) or `isoflop`.

    N_opt = G (C/k)^(beta/(alpha + beta)), D_opt = (C/k)^(alpha/(alpha + beta)) / G, G = (alpha A/(beta B))^(1/(alpha +
    beta)) (Hoffmann et al. 2022, equation 4), k = C / (N D) in the table, 6 without C. Raises AnalysisError for other
    laws and for flops that are not above 0.
    """
    if not has_frontier(fit):
        raise AnalysisError(
            f"{fit.law.name} has no compute-optimal frontier; chinchilla, isoflop and others over N have"
        )
    if not 0 < flops < np.inf:
        raise AnalysisError(f"C must be above 0, got {flops:g}")
    per = _flops_per_param_and_token(fit.table)
    place = {param.name: i for i, param in enumerate(fit.law.params)}

    def exponent(theta: Array) -> Array:
        if isinstance(fit.law, IsoFlop):
            return theta[..., place["a"]]
        alpha, beta = theta[..., place["alpha"]], theta[..., place["beta"]]
        return beta / (alpha + beta)

    def log_size(theta: Array) -> Array:
        if isinstance(fit.law, IsoFlop):
            return np.log(theta[..., place["N_0"]]) + theta[..., place["a"]] * np.log(flops / fit.law.budget)
        A, B, alpha, beta = (theta[..., place[name]] for name in ("A", "B", "alpha", "beta"))
        log_G = (np.log(alpha * A) - np.log(beta * B)) / (alpha + beta)
        return log_G + beta / (alpha + beta) * np.log(flops / per)

    def loss(theta: Array) -> Array:
        log_N = log_size(theta)
        if isinstance(fit.law, IsoFlop):
            falling = (flops / fit.law.budget) ** -theta[..., place["gamma"]]
            return theta[..., place["E"]] + falling * theta[..., place["K"]]
        A, B, alpha, beta = (theta[..., place[name]] for name in ("A", "B", "alpha", "beta"))
        log_D = np.log(flops / per) - log_N
        return theta[..., place["E"]] + A * np.exp(-alpha * log_N) + B * np.exp(-beta * log_D)

    size = fit.estimate(log_size, confidence)
    log_ND = float(np.log(flops / per))
    return Optimum(
        flops=flops,
        num_params=_exp(size.value, size.lo, size.hi),
        tokens=_exp(log_ND - size.value, log_ND - size.hi, log_ND - size.lo),
        loss=fit.estimate(loss, confidence),
        exponent=fit.estimate(exponent, confidence),
        flops_per_param_and_token=per,
        beyond=flops / float(np.max(_flops(fit.table, per))),
    )


def _exp(value: float, lo: float, hi: float) -> Estimate:
    with np.errstate(over="ignore"):
        return Estimate(*(float(np.exp(end)) for end in (value, lo, hi)))


def _flops_per_param_and_token(table: RunTable) -> float:
    at = table.columns
    if all(name in at for name in "CND"):
        return float(np.median(at["C"] / (at["N"] * at["D"])))
    return FLOPS_PER_PARAM_AND_TOKEN


def _flops(table: RunTable, per: float) -> Array:
    at = table.columns
    return at["C"] if "C" in at else per * at["N"] * at["D"]
