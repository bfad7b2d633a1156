"""Which recipe is best: recipes in the order of their loss at one size, and which of them can be told from the best."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from scipy import special

from analysis.contrasts.contrast import loss_gap, mean_loss, noise_of_differences
from analysis.contrasts.fit import CONFIDENCE
from analysis.contrasts.matching import why_not_comparable, why_unmatched
from analysis.contrasts.noise import MIN_DEGREES, noise_of, pool_of
from analysis.contrasts.studentized_range import studentized_range
from analysis.fitting.result import Estimate
from analysis.page.labels import count_text
from analysis.page.language import say
from analysis.runs.points import Study
from analysis.runs.recipes import Recipe

MANY = 7
"""More recipes than this cannot be told apart by colour: figures then name the reference, the best and the worst."""


@dataclass(frozen=True)
class Rank:
    """One recipe. losses: by domain, mean over its seeds, nats per token; no limits where no interval is known.

    gap: its loss on the target domain less that of the recipe with the lowest, which has none itself. The intervals
    of all gaps of a ranking hold together.
    """

    recipe: str
    losses: Mapping[str, Estimate]
    gap: Estimate | None

    @property
    def is_told_from_best(self) -> bool:
        return self.gap is not None and self.gap.lo > 0


@dataclass(frozen=True)
class Ranking:
    """Recipes, the lowest loss on the target domain first, at the largest size that (nearly) all have.

    confidence: of the interval of one gap. lack: why seeds say too little to tell recipes apart, if they do.
    """

    target: str
    tokens: int
    rows: tuple[Rank, ...]
    confidence: float
    lack: str | None

    @property
    def leaders(self) -> tuple[Rank, ...]:
        """The recipe with the lowest loss, and all that cannot be told from it."""
        return tuple(row for row in self.rows if not row.is_told_from_best)

    @property
    def behind(self) -> tuple[Rank, ...]:
        """The recipes that are told from the best."""
        return tuple(row for row in self.rows if row.is_told_from_best)

    @property
    def how(self) -> str:
        """What the losses are."""
        if self.lack:
            return say("as measured; no interval is known")
        return say("mean over the seeds, with its 95 % interval")

    @property
    def sentence(self) -> str:
        """The best, and how many are as good for all that is known."""
        told = {"best": self.rows[0].recipe, "domain": self.target, "tokens": count_text(self.tokens)}
        others, alike = len(self.rows) - 1, len(self.leaders) - 1
        if self.lack:
            return say(
                "At {tokens} tokens {best} has the lowest loss on {domain}; {lack} whether that is chance cannot be "
                "told.",
                lack=unknown(self.lack), **told,
            )  # fmt: skip
        if not self.behind:
            return say(
                "At {tokens} tokens {best} has the lowest loss on {domain}, but {none} be told from it.",
                none=none_of(others), **told,
            )  # fmt: skip
        if not alike and others == 1:
            return say(
                "At {tokens} tokens {best} has the lowest loss on {domain}, and the other is told from it.", **told
            )
        if not alike:
            return say(
                "At {tokens} tokens {best} has the lowest loss on {domain}, and all {others} others are told from it.",
                others=others, **told,
            )  # fmt: skip
        return say(
            "At {tokens} tokens {best} has the lowest loss on {domain}; {alike} of the {others} others cannot be told "
            "from it.",
            alike=alike, others=others, **told,
        )  # fmt: skip


def unknown(lack: str) -> str:
    """What is lacking, as the start of a clause."""
    return say("without repeated seeds") if lack == "no_repeated_seeds" else say("with so few repeated seeds")


def none_of(others: int) -> str:
    """None of so many other recipes can."""
    if others == 1:
        return say("the other cannot")
    return say("neither of the 2 others can") if others == 2 else say("none of the {others} others can", others=others)


def rank(study: Study) -> Ranking | None:
    """The ranking of the recipes that are comparable and matched with the reference; None for fewer than two.

    The best is picked by its loss, so its gaps are given with the confidence at which all pairs hold together.
    """
    size, recipes = at_largest_size(study)
    first = study.points_of(recipes[0].label, study.target)
    recipes = tuple(r for r in recipes if why_unmatched(study.points_of(r.label, study.target), first, study) is None)
    if len(recipes) < 2:
        return None
    ordered = sorted(recipes, key=lambda recipe: (mean_loss(study, recipe, study.target, size), recipe.label))
    best, confidence = ordered[0], together(study, recipes)
    rows = []
    for recipe in ordered:
        losses = {domain: loss for domain in study.domains if (loss := loss_at(study, recipe, domain, size))}
        gap = loss_gap(study, recipe, best, study.target, size, confidence) if recipe is not best else None
        rows.append(Rank(recipe.label, losses, gap))
    return Ranking(study.target, size, tuple(rows), confidence, noise_of(study, best, study.target).lack)


def together(study: Study, recipes: Sequence[Recipe]) -> float:
    """The confidence of one gap on the target domain at which the gaps of all pairs hold together with 95 %.

    By the studentized range (Tukey): 95 % for two recipes, more for more. Of equal recipes, whichever comes out
    lowest, one is told from it in 5 % of studies.
    """
    degrees = noise_of_differences(study, pool_of(study, recipes[0], study.target), study.target).degrees
    if degrees < MIN_DEGREES:
        return CONFIDENCE
    return _together(len(recipes), degrees)


@lru_cache(maxsize=64)
def _together(num_recipes: int, degrees: int) -> float:
    widest = studentized_range(CONFIDENCE, num_recipes, degrees) / math.sqrt(2)
    return 2 * float(special.stdtr(degrees, widest)) - 1


@lru_cache(maxsize=8)
def at_largest_size(study: Study) -> tuple[int, tuple[Recipe, ...]]:
    """The largest of the sizes that most recipes have, and the recipes there that compare with the reference."""
    measured = [recipe for recipe in study.recipes if study.points_of(recipe.label, study.target)]
    like = [r for r in measured if why_not_comparable(r, measured[0], study.target) is None]
    sizes = {r.label: {p.tokens for p in study.points_of(r.label, study.target)} for r in like}
    counts = Counter(size for own in sizes.values() for size in own)
    size = max(counts, key=lambda size: (counts[size], size))
    return size, tuple(recipe for recipe in like if size in sizes[recipe.label])


def has_curves(study: Study) -> bool:
    """Whether there is a curve to draw: several sizes, or nothing else to show."""
    _, recipes = at_largest_size(study)
    return len({p.tokens for p in study.points if p.domain == study.target}) > 1 or len(recipes) < 2


def loss_at(study: Study, recipe: Recipe, domain: str, tokens: int) -> Estimate | None:
    """The loss of a recipe at a size: the mean over its seeds; no limits where noise is not known."""
    count = sum(p.tokens == tokens for p in study.points_of(recipe.label, domain))
    if not count:
        return None
    noise, mean = noise_of(study, recipe, domain), mean_loss(study, recipe, domain, tokens)
    if not noise.is_known:
        return Estimate(mean, -math.inf, math.inf)
    half = noise.half_width({tokens: 1.0}, {tokens: count}, CONFIDENCE)
    return Estimate(mean, mean * math.exp(-half), mean * math.exp(half))


@lru_cache(maxsize=8)
def highlighted(study: Study) -> tuple[str, ...]:
    """The recipes that figures draw in colour and name: all of a few; of many the reference, the best and the worst."""
    if len(study.recipes) <= MANY:
        return tuple(recipe.label for recipe in study.recipes)
    size, recipes = at_largest_size(study)
    ordered = sorted(recipes, key=lambda recipe: (mean_loss(study, recipe, study.target, size), recipe.label))
    return tuple(dict.fromkeys((recipes[0].label, ordered[0].label, ordered[-1].label)))
