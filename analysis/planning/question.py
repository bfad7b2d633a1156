"""What is asked of a plan, and the curves that it is weighed on before any run is done."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.laws.law import Array
from analysis.laws.power import Power, PowerLaw
from analysis.page.labels import count_text
from analysis.page.language import say

MOST_MOVED = 100.0
"""No multiplier is read further off."""
LAW = Power()
Kind = Literal["gap", "multiplier", "loss"]


@dataclass(frozen=True)
class Question:
    """What is to be known. kind: the gap of two recipes, the token multiplier, or the loss of one recipe, at D tokens.

    recipe: a. reference: b; None for a loss. A gap at a measured size needs no law; all else is read off curves.
    """

    kind: Kind
    recipe: str
    reference: str | None
    num_tokens: int

    @property
    def recipes(self) -> tuple[str, ...]:
        return (self.recipe,) if self.reference is None else (self.recipe, self.reference)

    @property
    def text(self) -> str:
        """What it asks, for people."""
        at = count_text(self.num_tokens)
        if self.kind == "loss":
            return say("loss of {recipe} at {at} tokens", recipe=self.recipe, at=at)
        names = {"recipe": self.recipe, "reference": self.reference, "at": at}
        if self.kind == "gap":
            return say("loss gap between {recipe} and {reference} at {at} tokens", **names)
        return say("token multiplier of {recipe} over {reference} at {at} tokens", **names)


@dataclass(frozen=True, eq=False)
class AssumedCurve:
    """L(D) of a recipe before it is known. thetas: (s, 3), guesses of E, B, beta, the best first; plans answer for all.

    source: where they come from, in a sentence.
    """

    thetas: Array
    source: str

    def loss(self, num_tokens: float) -> float:
        """The loss at D by the best guess."""
        return float(LAW.loss(self.thetas[0], {"D": np.array([num_tokens])})[0])

    def slope(self, num_tokens: float) -> float:
        """- d log L / d log D by the best guess."""
        E, _, beta = self.thetas[0]
        return float(beta * (1 - E / self.loss(num_tokens)))

    def gradient(self, sizes: Array) -> Array:
        """d log L / d(E, B, beta) by each guess, (s, k, 3)."""
        at = {"D": np.asarray(sizes, float)}
        return np.stack([LAW.gradient(theta, at) / LAW.loss(theta, at)[:, None] for theta in self.thetas])


def stronger(question: Question, curves: Mapping[str, AssumedCurve]) -> int:
    """The place of the recipe with the lower loss at D."""
    losses = [curves[recipe].loss(question.num_tokens) for recipe in question.recipes]
    return int(np.argmin(losses))


def read_at(question: Question, curves: Mapping[str, AssumedCurve]) -> list[float]:
    """Where the curve of each recipe is read: at D; for a multiplier the stronger's where it has the weaker's loss."""
    found = [float(question.num_tokens) for _ in question.recipes]
    if question.kind == "multiplier":
        moved = stronger(question, curves)
        E, B, beta = (float(x) for x in curves[question.recipes[moved]].thetas[0])
        tokens = PowerLaw(E, B, beta).tokens(curves[question.recipes[1 - moved]].loss(question.num_tokens))
        found[moved] = min(max(tokens, found[moved] / MOST_MOVED), found[moved])
    return found


def said(question: Question, in_logs: float, curves: Mapping[str, AssumedCurve]) -> float:
    """A difference of log losses in the units of a question: nats per token, or a factor of tokens."""
    if not math.isfinite(in_logs):
        return in_logs
    if question.kind == "multiplier":
        return math.exp(min(in_logs / slope_of(question, curves), 700.0))
    return curves[question.recipe].loss(question.num_tokens) * in_logs


def in_log_loss(question: Question, value: float, curves: Mapping[str, AssumedCurve]) -> float:
    """The inverse of `said`."""
    if question.kind == "multiplier":
        return math.log(value) * slope_of(question, curves)
    return value / curves[question.recipe].loss(question.num_tokens)


def slope_of(question: Question, curves: Mapping[str, AssumedCurve]) -> float:
    """By which a gap becomes a multiplier: that of the curve which it is read off, where it is read."""
    moved = stronger(question, curves)
    return max(curves[question.recipes[moved]].slope(read_at(question, curves)[moved]), 1e-6)
