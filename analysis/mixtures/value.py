"""What more tokens of a domain buy, and at which rate domains replace each other, read off the mixture surface."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.fitting.result import Estimate
from analysis.laws.law import Array
from analysis.mixtures.surface import REPETITION_WORTH, MixtureSurface, effective_tokens

MORE = 0.1
"""The next 10 %."""
MIN_WEIGHT = 0.005
"""A domain with less of the mixture has no marginal worth to speak of: it was hardly read."""


@dataclass(frozen=True)
class DomainValue:
    """One domain at the reference mixture and the largest D.

    own: nats per token that 10 % more of its own tokens take off the loss. budget: the same for 10 % of the whole
    budget more, all of it from this domain. epochs: how often its tokens are read at this mixture.
    """

    domain: str
    weight: float
    epochs: float
    own: Estimate | None
    budget: Estimate


@dataclass(frozen=True)
class Rate:
    """One more token of domain `a` buys as much as `rate` more tokens of domain `b`, at the reference mixture."""

    a: str
    b: str
    rate: Estimate


def domain_values(surface: MixtureSurface) -> tuple[DomainValue, ...]:
    """What the next tokens of each domain buy, most first; repeated ones where no new ones are left."""
    now = surface.weights * surface.tokens
    found = []
    for j, domain in enumerate(surface.domains):
        step = np.eye(len(now))[j]
        own = _bought(surface, now, MORE * now[j] * step) if surface.weights[j] >= MIN_WEIGHT else None
        budget = _bought(surface, now, MORE * surface.tokens * step)
        found.append(DomainValue(domain, float(surface.weights[j]), float(now[j] / surface.offered[j]), own, budget))
    return tuple(sorted(found, key=lambda value: (-value.budget.value, value.domain)))


def _bought(surface: MixtureSurface, now: Array, more: Array) -> Estimate:
    """Nats per token that `more` tokens on top of `now` take off the loss."""

    def log_ratio(theta: Array) -> Array:
        return np.log(surface.loss(theta, now) / surface.loss(theta, now + more))

    here = float(surface.loss(surface.fit.theta, now + more))
    found = surface.fit.estimate(log_ratio)
    return Estimate(*(here * float(np.expm1(end)) for end in (found.value, found.lo, found.hi)))


def exchange_rates(surface: MixtureSurface) -> tuple[Rate, ...]:
    """The rate of every ordered pair of domains that the reference mixture holds."""
    now = surface.weights * surface.tokens
    held = [j for j in range(len(now)) if surface.weights[j] >= MIN_WEIGHT]
    found = {}
    for place, i in enumerate(held):
        for j in held[place + 1 :]:
            rate = found[i, j] = _rate(surface, now, i, j)
            found[j, i] = Estimate(_over(rate.value), _over(rate.hi), _over(rate.lo))
    return tuple(Rate(surface.domains[i], surface.domains[j], rate) for (i, j), rate in sorted(found.items()))


def _over(end: float) -> float:
    return 1 / end if end > 0 else math.inf


def _rate(surface: MixtureSurface, now: Array, i: int, j: int) -> Estimate:
    effective = np.log(effective_tokens(now, surface.offered))
    fresh = -np.maximum(now / surface.offered - 1, 0.0) / REPETITION_WORTH  # log of d effective / d tokens

    def log_rate(theta: Array) -> Array:
        beta, gamma = theta[..., 1], theta[..., 2]
        worth = -gamma / beta * (np.log(theta[..., 3 + i]) - np.log(theta[..., 3 + j]))
        return worth + (gamma - 1) * (effective[i] - effective[j]) + fresh[i] - fresh[j]

    found = surface.fit.estimate(log_rate)
    return Estimate(*(float(np.exp(np.clip(end, -700.0, 700.0))) for end in (found.value, found.lo, found.hi)))
