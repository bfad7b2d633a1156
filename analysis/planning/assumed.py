"""What the curves of a plan are taken to be, before they are known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.contrasts.fit import Fit, fit_power_law
from analysis.contrasts.noise import noise_of
from analysis.page.language import say
from analysis.planning.plan import Plan
from analysis.planning.question import AssumedCurve
from analysis.runs.points import Study

USUAL = (1.69, 410.7, 0.28)
"""E, B, beta of L(D) for a large model: Hoffmann et al. 2022 (arXiv 2203.15556), approach 3."""
SPREAD = (1.0, 0.75, 1.25)
"""Factors on beta: a plan on a curve that nobody has measured must also do if it falls slower or faster."""


def stated_curves(plan: Plan, theta: tuple[float, float, float] | None = None) -> dict[str, AssumedCurve]:
    """The same curve for all recipes: E, B, beta as stated, or as published; with others about it (SPREAD).

    They have the loss at the middle size, and E, in common.
    """
    E, B, beta = theta or USUAL
    middle = float(np.exp(np.mean(np.log([run.num_tokens for run in plan.runs]))))
    falling = B * middle**-beta
    thetas = np.array([[E, falling * middle ** (beta * factor), beta * factor] for factor in SPREAD])
    source = (
        say("the curve that was stated")
        if theta
        else say("a curve as published for large models (Hoffmann et al. 2022), which may be far off: no run tells")
    )
    return {recipe.label: AssumedCurve(thetas, source) for recipe in plan.recipes}


def fitted_curves(
    plan: Plan, study: Study, fits: Mapping[str, Fit] | None = None, theta: tuple[float, float, float] | None = None
) -> dict[str, AssumedCurve]:
    """The laws of the recipes as fitted to the runs of a study on its target; where one has none, that of another.

    fits: by recipe of the study, where they are there already. Without any law: `stated_curves`.
    """
    found: dict[str, AssumedCurve] = {}
    for label, theirs in plan.label_in.items():
        fit = (fits or {}).get(theirs) or _fit(study, theirs)
        if fit is not None and fit.law is not None:
            law = fit.law
            found[label] = AssumedCurve(np.array([[law.E, law.B, law.beta]]), say("the law fitted to the runs"))
    if not found:
        return stated_curves(plan, theta)
    first = next(recipe.label for recipe in plan.recipes if recipe.label in found)
    borrowed = AssumedCurve(found[first].thetas, say("the law of {recipe}, whose runs tell of one", recipe=first))
    return {recipe.label: found.get(recipe.label, borrowed) for recipe in plan.recipes}


def _fit(study: Study, label: str) -> Fit | None:
    points = study.points_of(label, study.target)
    recipe = next((recipe for recipe in study.recipes if recipe.label == label), None)
    return fit_power_law(points, noise_of(study, recipe, study.target)) if points and recipe else None
