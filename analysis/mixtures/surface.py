"""The mixtures of a study as one surface: the loss on the target domain over the tokens of every domain.

All recipes that differ in nothing but their mixture and its repetition are fitted together by the exchange law
(analysis/laws/exchange.py); what a token of a domain counts, and which mixture is best, is read off it. Tokens that
repeat enter as their effective number, by the data-constrained law.

Measured, 120 simulated swarms of 12 mixtures of 3 domains x 5 sizes, one seed, noise of a trunk 0.3 to 0.4 %, nominal
95 %: marginal values cover in 93 to 94 %, exchange rates in 92 to 94 %, best weights in 93 to 97 %, the gain of the
best mixture in 93 to 95 %. With 8 mixtures and gamma at its bound 1 (80 swarms): 92, 91, 100 and 95 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.fitting.law_fit import LawFit, fit_law
from analysis.fitting.objective import Huber
from analysis.laws.exchange import Exchange
from analysis.laws.law import Array, Columns
from analysis.page.labels import canonical
from analysis.runs.points import Study
from analysis.runs.recipes import Recipe
from analysis.runs.run_table import RunTable

REPETITION_WORTH = 15.39
"""R_D*: repetitions after which a token has lost 63 % of its worth (Muennighoff et al. 2023, arXiv 2305.16264).

Not estimated: few studies repeat often enough to identify it, and neither does the table that it was published with."""
OBJECTIVE = Huber(1e-2)
"""Wider than the default: mixtures come one run each, and every one of them must count."""
SAME_BUT_FOR_MIXTURE = ("recipe.mixture", "budget.unique_tokens", "budget.repetition")


def effective_tokens(tokens: Array, offered: Array) -> Array:
    """How many new tokens the `tokens` read of a domain are worth, of which `offered` are different; any shape.

    U + U R* (1 - exp(-R / R*)) with R = tokens / U - 1 repetitions: the data-constrained law (Muennighoff et al. 2023).
    """
    unique = np.minimum(tokens, offered)
    with np.errstate(invalid="ignore", divide="ignore"):
        repetitions = np.where(unique > 0, tokens / np.where(unique > 0, unique, 1.0) - 1, 0.0)
    return unique * (1 + REPETITION_WORTH * -np.expm1(-repetitions / REPETITION_WORTH))


def columns_of(tokens: Array, offered: Array) -> Columns:
    """What the law reads, for tokens (n, m) read of m domains and the different ones offered, (m,) or (n, m)."""
    effective = effective_tokens(np.atleast_2d(tokens), offered)
    total = effective.sum(axis=1)
    return {"D": total, "w": effective / total[:, None]}


@dataclass(frozen=True, eq=False)
class MixtureSurface:
    """The fitted surface of one target domain, and where the study stands on it.

    offered: (m,) different tokens that each domain has, inf where no run tells. weights: (m,) of `reference`, the
    study's first recipe with these domains. tokens: the largest D. tried: (m, 2) least and largest weight among the
    recipes. num_mixtures: different ones.
    """

    fit: LawFit
    target: str
    reference: str
    domains: tuple[str, ...]
    offered: Array
    weights: Array
    tokens: float
    tried: Array
    num_mixtures: int

    @property
    def law(self) -> Exchange:
        assert isinstance(self.fit.law, Exchange)
        return self.fit.law

    def loss(self, theta: Array, tokens: Array) -> Array:
        """The loss at parameters (..., p) of reading tokens (m,) of the domains; (...)."""
        return self.law.loss(theta, columns_of(tokens, self.offered))[..., 0]

    @property
    def settles_returns(self) -> bool:
        """Whether gamma was estimated; with few mixtures it is 1, constant exchange rates."""
        return "gamma" not in self.fit.fixed


def mixture_recipes(study: Study) -> tuple[Recipe, ...]:
    """The recipes with known weights that differ from the first in nothing but the mixture and its repetition."""
    known = [r for r in study.recipes if r.weights and study.points_of(r.label, study.target)]

    def rest(recipe: Recipe) -> str:
        below = tuple(f"{root}." for root in SAME_BUT_FOR_MIXTURE)
        kept = {p: v for p, v in recipe.leaves.items() if p not in SAME_BUT_FOR_MIXTURE and not p.startswith(below)}
        return canonical({path: value for path, value in kept.items() if value is not None})

    return tuple(recipe for recipe in known if rest(recipe) == rest(known[0]))


def mixture_table(study: Study) -> tuple[RunTable, Array] | None:
    """The rows of those recipes on the target domain, in effective tokens, and the tokens offered (m,).

    None unless there are as many different mixtures as domains in them: fewer do not tell the domains apart.
    """
    recipes = {recipe.label: recipe for recipe in mixture_recipes(study)}
    domains = tuple(sorted({d for r in recipes.values() for d, weight in (r.weights or {}).items() if weight > 0}))
    points = [p for p in study.points if p.domain == study.target and p.recipe in recipes]
    ledgers = {run.name: run.ledger for run in study.runs if run.ledger}
    if len(domains) < 2 or num_mixtures(np.array([_weights(r, domains) for r in recipes.values()])) < len(domains):
        return None
    tokens, own = np.zeros((len(points), len(domains))), np.zeros((len(points), len(domains)))
    for i, point in enumerate(points):
        for j, domain in enumerate(domains):
            if (seen := ledgers[point.run].domains.get(domain)) and seen.tokens and seen.epochs:
                tokens[i, j], own[i, j] = seen.tokens, seen.tokens / seen.epochs
    table = RunTable(
        columns=columns_of(tokens, own),
        y=np.array([p.loss for p in points]),
        recipe=np.array([p.recipe for p in points]),
        run=np.array([f"{p.recipe} {p.seeds}" for p in points]),
        seed=np.array([str(p.seeds) for p in points]),
        row=np.arange(1, len(points) + 1),
        domains=domains,
        source=study.name,
    )
    return table, own.max(axis=0)


def num_mixtures(weights: Array) -> int:
    """Different rows of weights (n, m), to a thousandth."""
    return len(np.unique(np.round(weights, 3), axis=0))


def _weights(recipe: Recipe, domains: tuple[str, ...]) -> list[float]:
    return [(recipe.weights or {}).get(domain, 0.0) for domain in domains]


def fit_mixture(study: Study) -> MixtureSurface | None:
    """Fit the surface of the target domain; None where the study has too few mixtures, or no fit."""
    found = mixture_table(study)
    if found is None:
        return None
    table, offered = found
    recipes = mixture_recipes(study)
    weights = np.array([_weights(recipe, table.domains) for recipe in recipes])
    tokens = max(p.tokens for p in study.points if p.recipe in {r.label for r in recipes})
    return mixture_surface(table, weights, offered, float(tokens), study.target, recipes[0].label)


def mixture_surface(
    table: RunTable, weights: Array, offered: Array, tokens: float, target: str, reference: str
) -> MixtureSurface | None:
    """The surface of a table in effective tokens; None where there is no fit.

    weights: (r, m) of its mixtures, that of `reference` first. offered: (m,), 0 where no run tells. tokens: the budget.
    """
    weights = weights / weights.sum(axis=1, keepdims=True)
    count = num_mixtures(weights)
    fit = fit_law(table, Exchange.of(table), objective=OBJECTIVE, fixed=fixed_for(table))
    if not np.isfinite(fit.theta).all():
        return None
    return MixtureSurface(
        fit,
        target,
        reference,
        table.domains,
        np.where(offered > 0, offered, np.inf),
        weights[0],
        tokens,
        np.stack([weights.min(axis=0), weights.max(axis=0)], axis=1),
        count,
    )


def fixed_for(table: RunTable) -> Mapping[str, float]:
    """What a table cannot tell of the exchange law: gamma needs two more mixtures than there are domains.

    It then is 1, constant rates.
    """
    _, first = np.unique(table.recipe, return_index=True)
    count = num_mixtures(table.columns["w"][first])
    return {} if count >= len(table.domains) + 2 else {"gamma": 1.0}
