"""Could a data effect be a learning-rate effect: recipes that were each trained at several learning rates.

Two recipes at one learning rate differ by what their data does and by how far that rate is from the best of each. The
gap where each has its own best is free of the second, as far as the grid shows the best. All intervals at one size
hold together (Tukey, as in a ranking), so they allow for the best having been picked by its loss, and for every
learning rate having been looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.contrasts.contrast import Decision, loss_gap
from analysis.contrasts.noise import noise_of
from analysis.contrasts.ranking import at_largest_size, loss_at, together, unknown
from analysis.fitting.result import Estimate
from analysis.page.labels import count_text
from analysis.page.language import say
from analysis.page.table import estimate_text, number_text
from analysis.runs.points import Study
from analysis.runs.recipes import Recipe, labels_without

RATES = ("hyperparameters.learning_rate.reference", "optimizer.learning_rate")
"""Where a spec says what was swept: under rules that scale it, at their reference point."""


@dataclass(frozen=True)
class Trial:
    """One recipe of data at one learning rate: its label in the study, its loss over the seeds, nats per token.

    gap: of its loss to that of the best rate of its line; None for the best itself.
    """

    rate: float
    recipe: str
    loss: Estimate
    gap: Estimate | None

    @property
    def is_told_from_best(self) -> bool:
        return self.gap is not None and self.gap.lo > 0


@dataclass(frozen=True)
class Line:
    """One recipe of data at one size, over its learning rates, the lowest first."""

    name: str
    tokens: int
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        return min(self.trials, key=lambda trial: trial.loss.value)

    @property
    def is_at_edge(self) -> bool:
        """Whether the best may lie beyond the learning rates tried."""
        return self.best in (self.trials[0], self.trials[-1])


@dataclass(frozen=True)
class Gap:
    """Loss of a less that of b, nats per token. rate: that of both; None: each at its own best."""

    rate: float | None
    gap: Estimate

    @property
    def decision(self) -> Decision:
        if self.gap.hi < 0:
            return Decision.A_BETTER
        return Decision.B_BETTER if self.gap.lo > 0 else Decision.CANNOT_TELL


@dataclass(frozen=True)
class Pair:
    """Two recipes of data at one size, b the reference: the gap at each learning rate, and each at its own best.

    lack: why seeds say too little to decide, if they do.
    """

    a: Line
    b: Line
    at: tuple[Gap, ...]
    own: Gap
    target: str
    lack: str | None

    @property
    def matched(self) -> tuple[tuple[str, str], ...]:
        """The labels of the two at each learning rate that both have."""
        theirs = {trial.rate: trial.recipe for trial in self.b.trials}
        return tuple((trial.recipe, theirs[trial.rate]) for trial in self.a.trials if trial.rate in theirs)

    @property
    def is_data(self) -> bool:
        """Whether the data makes a difference that no choice among these learning rates explains."""
        return self.own.decision is not Decision.CANNOT_TELL

    @property
    def sentence(self) -> str:
        """What the learning rate has to do with it."""
        edges = [line for line in (self.a, self.b) if line.is_at_edge]
        text = self._verdict()
        if edges:
            names = say(" and ").join(f"{line.name} ({rate_text(line.best.rate)})" for line in edges)
            return say(
                "{sentence} The best learning rate of {names} is at the edge of those tried: widen them.",
                sentence=text, names=names,
            )  # fmt: skip
        return text

    def _verdict(self) -> str:
        a, b, gaps = self.a.name, self.b.name, sorted(at.gap.value for at in self.at)
        told = {
            "a": a,
            "b": b,
            "domain": self.target,
            "tokens": count_text(self.a.tokens),
            "least": number_text(gaps[0], 2),
            "most": number_text(gaps[-1], 2),
        }
        if self.lack:
            return say(
                "Cannot tell {lack}: on {domain} at {tokens} tokens the gap of {a} to {b} is {least} to {most} nats "
                "per token at equal learning rates and {own} where each has its best.",
                lack=unknown(self.lack), own=number_text(self.own.gap.value, 2), **told,
            )  # fmt: skip
        for_a, for_b = (self._rates(decision) for decision in (Decision.A_BETTER, Decision.B_BETTER))
        if not self.is_data:
            text = say(
                "Cannot tell {a} from {b} on {domain} at {tokens} tokens, each with the learning rate that is best for "
                "it: the gap is {gap} nats per token.",
                gap=estimate_text(self.own.gap), **told,
            )  # fmt: skip
            if for_a or for_b:
                return say(
                    "{sentence} At equal learning rates it is {least} to {most}: that effect could be one of the "
                    "learning rate.",
                    sentence=text, **told,
                )  # fmt: skip
            return say(
                "{sentence} Nor at any equal learning rate: there is no effect to explain.", sentence=text
            )  # fmt: skip
        better, worse = (a, b) if self.own.decision is Decision.A_BETTER else (b, a)
        told |= {"better": better, "worse": worse}
        by = estimate_text(Estimate(abs(self.own.gap.value), *sorted(map(abs, (self.own.gap.lo, self.own.gap.hi)))))
        if for_a and for_b:
            return say(
                "Which of {a} and {b} is better on {domain} at {tokens} tokens depends on the learning rate: the first "
                "at {for_a}, the second at {for_b}. Each with the one that is best for it, {better} is better by {by} "
                "nats per token.",
                for_a=listed(for_a), for_b=listed(for_b), by=by, **told,
            )  # fmt: skip
        ahead = [gap if better == b else -gap for gap in gaps]
        told |= {"least": number_text(min(ahead), 2), "most": number_text(max(ahead), 2)}
        count = len(for_a or for_b)
        rates = (
            say("each of the {count}", count=count)
            if count == len(gaps)
            else say("{count} of the {all}", count=count, all=len(gaps))
        )
        return say(
            "{better} is better than {worse} on {domain} at {tokens} tokens with each at its own best learning rate, "
            "by {by} nats per token, and at {rates} learning rates tried for both, by {least} to {most}: the effect of "
            "the data is not one of the learning rate.",
            by=by, rates=rates, **told,
        )  # fmt: skip

    def _rates(self, decision: Decision) -> list[float]:
        return [at.rate for at in self.at if at.rate is not None and at.decision is decision]


@dataclass(frozen=True)
class LrCheck:
    """Lines and pairs, by size, the largest last."""

    lines: tuple[Line, ...]
    pairs: tuple[Pair, ...]

    @property
    def largest(self) -> tuple[Pair, ...]:
        """The pairs at the largest size."""
        return tuple(pair for pair in self.pairs if pair.a.tokens == self.pairs[-1].a.tokens)

    @property
    def matched(self) -> tuple[tuple[str, str], ...]:
        """The labels of recipes that may be contrasted: of two lines at one learning rate."""
        return tuple(dict.fromkeys(pair for of in self.pairs for pair in of.matched))

    @property
    def headline(self) -> str:
        """The verdict at the largest size; of several pairs, how many hold and which do not."""
        pairs = self.largest
        if len(pairs) == 1:
            return pairs[0].sentence
        rest = [pair.a.name for pair in pairs if not pair.is_data]
        told = {
            "count": len(pairs) - len(rest),
            "all": len(pairs),
            "reference": pairs[0].b.name,
            "domain": pairs[0].target,
        }
        if rest:
            return say(
                "{count} of {all} recipes differ from {reference} on {domain} where each has the learning rate that is "
                "best for it; of {rest} it cannot be told.",
                rest=", ".join(rest), **told,
            )  # fmt: skip
        return say(
            "{count} of {all} recipes differ from {reference} on {domain} where each has the learning rate that is "
            "best for it.",
            **told,
        )


def lr_check(study: Study) -> LrCheck | None:
    """What a study says that tried two or more recipes of data at two or more learning rates; None for any other."""
    _, recipes = at_largest_size(study)
    rates = {recipe.label: rate for recipe in recipes if (rate := _rate(recipe)) is not None}
    recipes = tuple(recipe for recipe in recipes if recipe.label in rates)
    if len(set(rates.values())) < 2:
        return None
    names = labels_without(recipes, RATES, study.target)
    lines, pairs = [], []
    for size in sorted({p.tokens for r in recipes for p in study.points_of(r.label, study.target)}):
        there = [r for r in recipes if any(p.tokens == size for p in study.points_of(r.label, study.target))]
        arms: dict[str, list[Recipe]] = {}
        for recipe in sorted(there, key=lambda recipe: rates[recipe.label]):
            arms.setdefault(names[recipe.label], []).append(recipe)
        order = [name for name in dict.fromkeys(names[r.label] for r in recipes) if len(arms.get(name, ())) > 1]
        confidence = together(study, there)
        found = {name: _line(study, name, size, arms[name], rates, confidence) for name in order}
        known = [_pair(study, found[name], found[order[0]], confidence) for name in order[1:]]
        lines += [found[name] for name in order]
        pairs += [pair for pair in known if pair is not None]
    return LrCheck(tuple(lines), tuple(pairs)) if pairs else None


def _rate(recipe: Recipe) -> float | None:
    found = next((recipe.leaves[path] for path in RATES if recipe.leaves.get(path) is not None), None)
    return None if found is None else float(found)


def _line(
    study: Study, name: str, size: int, arm: Sequence[Recipe], rates: dict[str, float], confidence: float
) -> Line:
    losses = {recipe.label: loss for recipe in arm if (loss := loss_at(study, recipe, study.target, size))}
    best = min(arm, key=lambda recipe: losses[recipe.label].value)
    trials = []
    for recipe in arm:
        gap = None if recipe is best else loss_gap(study, recipe, best, study.target, size, confidence)
        trials.append(Trial(rates[recipe.label], recipe.label, losses[recipe.label], gap))
    return Line(name, size, tuple(trials))


def _pair(study: Study, a: Line, b: Line, confidence: float) -> Pair | None:
    """Two lines against each other; None where they have no two learning rates in common."""
    by_label = {recipe.label: recipe for recipe in study.recipes}

    def gap(ours: Trial, theirs: Trial) -> Estimate:
        return loss_gap(study, by_label[ours.recipe], by_label[theirs.recipe], study.target, a.tokens, confidence)

    theirs = {trial.rate: trial for trial in b.trials}
    at = [Gap(trial.rate, gap(trial, theirs[trial.rate])) for trial in a.trials if trial.rate in theirs]
    if len(at) < 2:
        return None
    lack = noise_of(study, by_label[a.best.recipe], study.target).lack
    return Pair(a, b, tuple(at), Gap(None, gap(a.best, b.best)), study.target, lack)


# ---- in words --------------------------------------------------------------------------------------


def rate_text(rate: float) -> str:
    """A learning rate for people: 0.004, 3e-05."""
    return f"{rate:g}"


def listed(rates: Sequence[float]) -> str:
    """Learning rates for people."""
    return ", ".join(map(rate_text, rates))
