"""The noise floor that a plan is judged by: from repeated seeds, or stated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special

from analysis.contrasts.noise import SeedNoise, noise_of
from analysis.page.labels import count_text, percent_text
from analysis.page.language import say
from analysis.runs.points import Study

USUAL_SHARE = 0.8
"""Of the variance between seeds, the part that all runs of a trunk have in common: measured between the two mixtures of
the demo, seven sizes and three seeds each. Used where nobody says and too few trunks tell."""


@dataclass(frozen=True)
class NoiseFloor:
    """How log losses vary between seeds. sd: of one run. trunk_share: the part of its square that a trunk shares.

    degrees: of freedom that sd was estimated with; None: it was stated.
    """

    sd: float
    trunk_share: float
    degrees: int | None

    @property
    def typical_sd(self) -> float:
        """What the true value is as likely above as below: an sd of few degrees of freedom is more often too small."""
        return self.sd if self.degrees is None else self.sd / median_spread(self.degrees)

    @property
    def sentence(self) -> str:
        if self.degrees is None:
            return say(
                "Stated: the loss of one run varies by {sd} between seeds, {share} of the variance shared by its "
                "trunk.",
                sd=percent_text(self.sd, 2),
                share=percent_text(self.trunk_share),
            )
        return say(
            "Measured: the loss of one run varies by {sd} between seeds ({degrees} degrees of freedom), {share} of the "
            "variance shared by its trunk.",
            sd=percent_text(self.sd, 2),
            share=percent_text(self.trunk_share),
            degrees=count_text(self.degrees),
        )


@cache
def median_spread(degrees: float) -> float:
    """The median of an estimated standard deviation over the true one."""
    return math.sqrt(2 * float(special.gammaincinv(degrees / 2, 0.5)) / degrees)


def floor_of(noise: SeedNoise) -> NoiseFloor | None:
    """The floor that repeated seeds tell of; None where there are none.

    The trunk's share follows from the variance of a trunk's mean over k sizes: sd^2 (share + (1 - share) / k).
    """
    if noise.degrees < 1 or not noise.sd > 0:
        return None
    known = noise.deviations[:, ~np.isnan(noise.deviations).any(axis=0)]
    sizes = known.shape[1]
    share = USUAL_SHARE
    if sizes > 1 and noise.is_known:
        of_means = float((known.mean(axis=1) ** 2).sum()) / noise.degrees / noise.sd**2
        share = float(np.clip((sizes * of_means - 1) / (sizes - 1), 0.0, 1.0))
    return NoiseFloor(noise.sd, share, noise.degrees)


def study_floor(study: Study) -> NoiseFloor | None:
    """The floor of a study on its target: of the pool of comparable recipes with the most repeated seeds."""
    noises = [noise_of(study, recipe, study.target) for recipe in study.recipes]
    floors = [(noise.degrees, floor) for noise in noises if (floor := floor_of(noise)) is not None]
    return max(floors, key=lambda item: item[0])[1] if floors else None
