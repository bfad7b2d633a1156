"""Could a data effect be a learning-rate effect: recipes that were each trained at several learning rates.

Two recipes at one learning rate differ by what their data does and by how far that rate is from the best of each. The
gap where each has its own best is free of the second, as far as the grid shows the best. All intervals at one size
hold together (Tukey, as in a ranking), so they allow for the best having been picked by its loss, and for every
learning rate having been looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.contrast import Decision, loss_gap
from analysis.fitting.result import Estimate
from analysis.labels import count_text
from analysis.noise import noise_of
from analysis.points import Study
from analysis.ranking import at_largest_size, loss_at, together, unknown
from analysis.recipes import Recipe, labels_without
from analysis.table import Table, estimate_text, number_text

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
            names = " and ".join(f"{line.name} ({rate_text(line.best.rate)})" for line in edges)
            text += f" The best learning rate of {names} is at the edge of those tried: widen them."
        return text

    def _verdict(self) -> str:
        a, b, gaps = self.a.name, self.b.name, sorted(at.gap.value for at in self.at)
        apart = f"{number_text(gaps[0], 2)} to {number_text(gaps[-1], 2)}"
        where = f"on {self.target} at {count_text(self.a.tokens)} tokens"
        if self.lack:
            return (
                f"Cannot tell {unknown(self.lack)}: {where} the gap of {a} to {b} is {apart} nats per token at equal "
                f"learning rates and {number_text(self.own.gap.value, 2)} where each has its best."
            )
        for_a, for_b = (self._rates(decision) for decision in (Decision.A_BETTER, Decision.B_BETTER))
        if not self.is_data:
            text = f"Cannot tell {a} from {b} {where}, each with the learning rate that is best for it: the gap is "
            text += f"{estimate_text(self.own.gap)} nats per token. "
            if for_a or for_b:
                return text + f"At equal learning rates it is {apart}: that effect could be one of the learning rate."
            return text + "Nor at any equal learning rate: there is no effect to explain."
        better, worse = (a, b) if self.own.decision is Decision.A_BETTER else (b, a)
        by = Estimate(abs(self.own.gap.value), *sorted(map(abs, (self.own.gap.lo, self.own.gap.hi))))
        if for_a and for_b:
            return (
                f"Which of {a} and {b} is better {where} depends on the learning rate: the first at {_listed(for_a)}, "
                f"the second at {_listed(for_b)}. Each with the one that is best for it, {better} is better by "
                f"{estimate_text(by)} nats per token."
            )
        ahead = [gap if better == b else -gap for gap in gaps]
        least, most = number_text(min(ahead), 2), number_text(max(ahead), 2)
        told = len(for_a or for_b)
        count = f"each of the {told}" if told == len(gaps) else f"{told} of the {len(gaps)}"
        return (
            f"{better} is better than {worse} {where} with each at its own best learning rate, by {estimate_text(by)} "
            f"nats per token, and at {count} learning rates tried for both, by {least} to {most}: the effect of the "
            "data is not one of the learning rate."
        )

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
        text = f"{len(pairs) - len(rest)} of {len(pairs)} recipes differ from {pairs[0].b.name} on {pairs[0].target} "
        text += "where each has the learning rate that is best for it"
        return f"{text}; of {', '.join(rest)} it cannot be told." if rest else f"{text}."


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


def _listed(rates: Sequence[float]) -> str:
    return ", ".join(map(rate_text, rates))


def best_table(check: LrCheck) -> Table:
    """A row per recipe of data and size: its best learning rate, and which others may be as good."""
    rows = []
    for line in check.lines:
        alike = [trial.rate for trial in line.trials if trial is not line.best and not trial.is_told_from_best]
        best, is_known = line.best, math.isfinite(line.best.loss.lo)
        loss, others = (best.loss, _listed(alike) or "none") if is_known else (best.loss.value, None)
        rows.append((line.name, line.tokens, rate_text(best.rate), loss, others, line.is_at_edge))
    columns = ("recipe", "D", "best learning rate", "loss there", "not told from it", "at the edge")
    return Table("best_learning_rates", columns, tuple(rows))


def gap_table(check: LrCheck) -> Table:
    """A row per pair, size and learning rate, and one where each has its own best."""
    rows = []
    for pair in check.pairs:
        own = f"own best ({rate_text(pair.a.best.rate)}, {rate_text(pair.b.best.rate)})"
        for at in (*pair.at, pair.own):
            gap = at.gap.value if pair.lack else at.gap
            decision = None if pair.lack else at.decision.value
            rows.append(
                (pair.a.name, pair.b.name, pair.a.tokens, own if at.rate is None else rate_text(at.rate), gap, decision)
            )
    columns = ("A", "B", "D", "learning rate", "gap A - B [nats per token]", "decision")
    return Table("learning_rate_gaps", columns, tuple(rows))
