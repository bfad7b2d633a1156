"""The best mixture under a budget, with repetition priced in, and how much it matters.

At the optimum the next token of every domain that is neither at its least nor at its largest weight buys the same
(Q is concave in the tokens read, for gamma <= 1 and effective tokens that saturate), so the mixture is found by
bisection on that common price: exact, and many parameter vectors at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.fitting.result import Estimate
from analysis.laws.law import Array
from analysis.mixtures.surface import REPETITION_WORTH, MixtureSurface, columns_of, effective_tokens

FLAT_SPAN = 0.25
"""The optimum is called flat where a weight may move over so much of the mixture at the cost of one run's noise."""
STEPS = 40
"""Halvings of a bisection: to a part in 10^12."""
DRAWS = 200
NEAR = 2.0
"""A draw whose predictions move so many times as far as to first order is left out."""
SCAN = 41


@dataclass(frozen=True)
class Optimum:
    """The mixture with the lowest predicted loss on the target at `tokens`, by domain.

    weights: with 95 % intervals over draws of the parameters. reference: the weights of the reference mixture. alike:
    least and largest weight of a domain, the others chosen as well as can be, at which the predicted loss is within one
    run's noise (`noise`, nats per token) of the best. gain: nats per token that the best mixture is below the
    reference. epochs: how often the best mixture reads each domain. at_edge: domains whose weight is at the edge of
    what the study tried, beyond which nothing is known.
    """

    tokens: float
    weights: dict[str, Estimate]
    reference: dict[str, float]
    alike: dict[str, tuple[float, float]]
    epochs: dict[str, float]
    noise: float
    loss: float
    gain: Estimate
    at_edge: tuple[str, ...]

    @property
    def is_flat(self) -> bool:
        return max(high - low for low, high in self.alike.values()) >= FLAT_SPAN

    @property
    def decides(self) -> bool:
        """Whether the best mixture is told from the reference."""
        return self.gain.lo > 0

    @property
    def is_reference(self) -> bool:
        """Whether the best mixture is the reference itself, to a thousandth of the mixture."""
        return all(abs(estimate.value - self.reference[d]) < 1e-3 for d, estimate in self.weights.items())


def best_weights(theta: Array, tokens: float, offered: Array, bounds: Array) -> Array:
    """The best mixtures (k, m) for parameters (k, 3 + m) of the exchange law.

    offered: (m,) different tokens per domain. bounds: (m, 2) or (k, m, 2), least and largest weight, whose sums lie
    about 1.
    """
    theta = np.atleast_2d(theta)
    beta, gamma = theta[:, 1:2], theta[:, 2:3]
    log_worth = -gamma / beta * np.log(theta[:, 3:])
    log_worth, low, high = np.broadcast_arrays(log_worth, bounds[..., 0], bounds[..., 1])

    def log_price(weights: Array) -> Array:
        """Log of what the next token of each domain adds to Q^gamma, up to a constant."""
        read = np.maximum(weights * tokens, 1e-12 * tokens)
        fresh = -np.maximum(read / offered - 1, 0.0) / REPETITION_WORTH
        return log_worth + (gamma - 1) * np.log(effective_tokens(read, offered) / tokens) + fresh

    def bought(price: Array) -> Array:
        """The weights at which the next tokens cost `price` (k, 1), within the bounds."""
        left, right = low.copy(), high.copy()
        for _ in range(STEPS):
            middle = (left + right) / 2
            cheap = log_price(middle) > price
            left, right = np.where(cheap, middle, left), np.where(cheap, right, middle)
        return np.where(log_price(high) >= price, high, np.where(log_price(low) <= price, low, (left + right) / 2))

    cheapest = np.minimum(log_price(high), log_price(low)).min(axis=1, keepdims=True) - 1
    dearest = np.maximum(log_price(high), log_price(low)).max(axis=1, keepdims=True) + 1
    for _ in range(STEPS):
        middle = (cheapest + dearest) / 2
        is_over = bought(middle).sum(axis=1, keepdims=True) > 1
        cheapest, dearest = np.where(is_over, middle, cheapest), np.where(is_over, dearest, middle)
    # with constant rates a domain goes from nothing to all at one price: what is left over is shared at that price
    more, less = bought(cheapest), bought(dearest)
    over, under = more.sum(axis=1, keepdims=True), less.sum(axis=1, keepdims=True)
    part = np.where(over > under, (1 - under) / np.where(over > under, over - under, 1.0), 0.0)
    return less + np.clip(part, 0.0, 1.0) * (more - less)


def optimum(surface: MixtureSurface, tokens: float | None = None, offered: Array | None = None) -> Optimum:
    """The best mixture within the weights that the study tried.

    tokens: the budget; the study's largest D unless given. offered: (m,) different tokens available per domain; those
    that the ledger tells unless given.
    """
    tokens = surface.tokens if tokens is None else tokens
    offered = surface.offered if offered is None else np.asarray(offered, float)
    bounds, theta = surface.tried, surface.fit.theta
    best = best_weights(theta, tokens, offered, bounds)[0]

    def loss(theta: Array, weights: Array) -> Array:
        return surface.law.loss(theta, columns_of(weights * tokens, offered))

    def log_gain(theta: Array) -> Array:
        return np.log(loss(theta, surface.weights)[..., 0] / loss(theta, best)[..., 0])

    lowest = float(loss(theta, best)[0])
    noise = surface.fit.residual_sd * lowest
    found = surface.fit.estimate(log_gain)
    gain = Estimate(*(lowest * float(np.expm1(end)) for end in (found.value, found.lo, found.hi)))
    drawn = best_weights(_draws(surface), tokens, offered, bounds)
    ends = np.quantile(drawn, [0.025, 0.975], axis=0)
    edge = [
        d
        for j, d in enumerate(surface.domains)
        if np.isclose(best[j], bounds[j], atol=1e-6).any() and 1e-6 < best[j] < 1 - 1e-6
    ]
    return Optimum(
        tokens,
        {
            d: Estimate(float(w), min(float(lo), float(w)), max(float(hi), float(w)))
            for d, w, lo, hi in zip(surface.domains, best, *ends, strict=True)
        },
        dict(zip(surface.domains, surface.weights.tolist(), strict=True)),
        _alike(surface, tokens, offered, best, lowest + noise),
        dict(zip(surface.domains, (best * tokens / offered).tolist(), strict=True)),
        noise,
        lowest,
        gain,
        tuple(edge),
    )


def _draws(surface: MixtureSurface) -> Array:
    """Parameters (k, p) as other runs would have given them, without those that the runs at hand speak against.

    Draws follow the law to first order. A domain that is worth nothing, a_j anywhere above some value, gets draws that
    make it worth much: there the predictions move far more than to first order.
    """
    fit, at = surface.fit, surface.fit.table.columns
    drawn = fit.simulated_draws(DRAWS, np.random.default_rng(0))
    is_log = surface.law.is_log

    def coordinates(theta: Array) -> Array:
        return np.where(is_log, np.log(np.where(is_log, theta, 1.0)), theta)

    slope = surface.law.gradient(fit.theta, at) * np.where(is_log, fit.theta, 1.0)
    here = surface.law.loss(fit.theta, at)
    expected = (coordinates(drawn) - coordinates(fit.theta)) @ (slope / here[:, None]).T
    moved = np.log(surface.law.loss(drawn, at) / here)
    size, linear = (np.sqrt((change**2).mean(axis=1)) for change in (moved, expected))
    return np.concatenate([fit.theta[None], drawn[size <= NEAR * linear]])


def _alike(
    surface: MixtureSurface, tokens: float, offered: Array, best: Array, most: float
) -> dict[str, tuple[float, float]]:
    """Least and largest weight of each domain at which the loss can be at most `most`."""
    tried, theta, scanned = surface.tried, surface.fit.theta, []
    for j in range(len(best)):
        others = np.delete(tried, j, axis=0).sum(axis=0)
        low, high = max(tried[j, 0], 1 - others[1]), min(tried[j, 1], 1 - others[0])
        for weight in np.linspace(low, high, SCAN):
            bounds = tried.copy()
            bounds[j] = weight
            scanned.append(bounds)
    weights = best_weights(theta, tokens, offered, np.array(scanned))
    losses = surface.law.loss(theta, columns_of(weights * tokens, offered)).reshape(len(best), SCAN)
    weights = weights.reshape(len(best), SCAN, -1)
    found = {}
    for j, domain in enumerate(surface.domains):
        kept = [float(best[j]), *weights[j, losses[j] <= most, j].tolist()]
        found[domain] = (min(kept), max(kept))
    return found
