"""Profile deviances of the power law: how much worse must the fit get for a quantity to take another value?

The deviance is the weighted sum of squares of log residuals, sum_i w_i (log f(D_i) - y_i)^2, with the weights
that the robust fit ended with. One quantity (E, B, beta, or L at some D) is fixed at many values at once and
the other two parameters are fitted by a damped Gauss-Newton iteration with exact derivatives, batched over
the values (2 x 2 systems in closed form). Bounds E >= 0 and 0 < beta <= 6 are kept by holding a parameter
that wants to leave; so intervals near a bound are one-sided where they ought to be.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from analysis.laws.law import Array
from analysis.laws.power import PowerLaw

BETA_BOUNDS = (0.005, 6.0)
Quantity = Literal["E", "B", "beta", "loss"]


def profile_deviance(
    quantity: Quantity, at: Array, values: Array, law: PowerLaw, D: Array, y: Array, weights: Array
) -> Array:
    """The least deviance with `quantity` fixed at each of `values`; shape (k,).

    at: (k,) the D of "loss", ignored otherwise. D, y, weights: (n,) tokens, log losses, weights.
    """
    centre = np.exp(np.mean(np.log(D)))
    scale = {"loss": at, "B": np.ones_like(values)}.get(quantity, np.full_like(values, centre))
    log_x = np.log(D) - np.log(scale)[:, None]
    free = _start(quantity, values, law, scale, centre)
    low, high = _bounds(quantity, values, float(np.exp(y).min()))
    free = np.clip(free, low, high)
    found = np.full(len(values), np.inf)
    active = np.arange(len(values))
    state = _evaluate(quantity, values, free, log_x, y, weights)
    damping = np.full(len(values), 1e-3)
    for _ in range(80):
        deviance, gradient, hessian = state
        step = _step(gradient, hessian, damping, free, low, high)
        trial = np.clip(free + step, low, high)
        tried = _evaluate(quantity, values, trial, log_x, y, weights)
        better = tried[0] <= deviance
        promised = np.abs((gradient * (trial - free)).sum(axis=1))
        done = (promised <= 1e-7 * deviance) | (damping >= 1e9)
        free = np.where(better[:, None], trial, free)
        state = (
            np.where(better, tried[0], deviance),
            np.where(better[:, None], tried[1], gradient),
            np.where(better[:, None, None], tried[2], hessian),
        )
        damping = np.where(better, np.maximum(damping / 5, 1e-12), damping * 4)
        found[active] = state[0]
        if done.all():
            break
        more = ~done  # what has converged costs no further work
        active, values, free, log_x, damping = (x[more] for x in (active, values, free, log_x, damping))
        low, high, state = low[more], high[more], (state[0][more], state[1][more], state[2][more])
    return found


def _start(quantity: Quantity, values: Array, law: PowerLaw, scale: Array, centre: float) -> Array:
    """The two free parameters at the fit: (E, beta), (log S, beta) or (E, log S), S = B x scale^-beta."""
    k = len(values)
    log_s = np.log(law.B) - law.beta * np.log(scale)
    if quantity == "E":
        return np.stack([log_s, np.full(k, law.beta)], axis=1)
    if quantity == "beta":
        return np.stack([np.full(k, law.E), log_s], axis=1)
    if quantity == "B":  # turn the curve about its centre, so that the start stays near the points
        beta = law.beta + (np.log(values) - np.log(law.B)) / np.log(centre)
        return np.stack([np.full(k, law.E), beta], axis=1)
    return np.stack([np.full(k, law.E), np.full(k, law.beta)], axis=1)


def _bounds(quantity: Quantity, values: Array, least_loss: float) -> tuple[Array, Array]:
    k = len(values)
    most_E = np.minimum(0.999 * values, 0.999 * least_loss) if quantity == "loss" else np.full(k, 0.999 * least_loss)
    E = np.zeros(k), most_E
    beta = np.full(k, BETA_BOUNDS[0]), np.full(k, BETA_BOUNDS[1])
    log_s = np.full(k, -30.0), np.full(k, 60.0)
    first, second = {"E": (log_s, beta), "beta": (E, log_s)}.get(quantity, (E, beta))
    return np.stack([first[0], second[0]], axis=1), np.stack([first[1], second[1]], axis=1)


def _evaluate(
    quantity: Quantity, values: Array, free: Array, log_x: Array, y: Array, weights: Array
) -> tuple[Array, Array, Array]:
    """Deviance (k,), half its gradient (k, 2) and Gauss-Newton matrix (k, 2, 2)."""
    v, a, b = values[:, None], free[:, :1], free[:, 1:]
    if quantity == "E":
        E, beta, s = v, b, np.exp(a)
    elif quantity == "beta":
        E, beta, s = a, v, np.exp(b)
    else:
        E, beta, s = a, b, (v - a if quantity == "loss" else v)
    falling = np.exp(-beta * log_x)
    loss = E + s * falling
    by_beta = -s * falling * log_x
    columns = {
        "E": (s * falling, by_beta),
        "beta": (np.ones_like(loss), s * falling),
        "loss": (1 - falling, by_beta),
        "B": (np.ones_like(loss), by_beta),
    }[quantity]
    residual = np.log(loss) - y
    J = np.stack([column / loss for column in columns], axis=1)
    weighted = J * weights
    return (
        (weights * residual**2).sum(-1),
        (weighted * residual[:, None]).sum(-1),
        weighted @ J.swapaxes(1, 2),
    )


def _step(gradient: Array, hessian: Array, damping: Array, free: Array, low: Array, high: Array) -> Array:
    """Damped Newton step; a parameter at a bound that wants to leave is held, the other moves alone."""
    held = ((free <= low) & (gradient > 0)) | ((free >= high) & (gradient < 0))
    g = np.where(held, 0.0, gradient)
    p = hessian[:, 0, 0] * (1 + damping) + 1e-300
    q = hessian[:, 1, 1] * (1 + damping) + 1e-300
    r = np.where(held.any(axis=1), 0.0, hessian[:, 0, 1])
    determinant = np.maximum(p * q - r * r, 1e-300)
    return np.stack([-(q * g[:, 0] - r * g[:, 1]), -(p * g[:, 1] - r * g[:, 0])], axis=1) / determinant[:, None]
