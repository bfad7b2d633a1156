"""Decisions: which recipe to take at the target scale, what that may cost, and whether smaller runs would have told.

Decision accuracy is the share of pairs of recipes that a smaller scale puts in the order which was measured at the
target (Magnusson et al. 2025, arXiv 2504.11393). The target is noisy too: the ceiling is the share of pairs whose order
there is expected to be the true one, which no smaller scale can be expected to pass. Pairs that share a recipe are not
independent, so the share counts as one of n draws, n from the jackknife over recipes; with fewer than 6 recipes, or
where all pairs agree, n is half their number (Hoeffding 1963: pairs without a common recipe).

Measured, 200 studies each of 3, 5, 10 and 25 recipes, noise half as large as their spread and as large: nominal 95 %
intervals of the accuracy covered its expectation in 93 to 95 % with 10 recipes or more, at a width of .40 and .21 for
the smaller noise, and in 99 to 100 % with 3 and 5, at a width of .90 and .80: so few recipes say little. The share of
pairs that agree with the true order, by draws of it, was tried instead and is .09 to .13 too low: draws know nothing of
the smaller scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.contrasts.board import Board, Scale, board_of_study, board_of_table
from analysis.contrasts.fit import CONFIDENCE, EPOCHS_TOLERANCE, MAX_EPOCHS
from analysis.contrasts.odds import Odds, draw_losses, odds, regret_of
from analysis.contrasts.ranking import Ranking, rank
from analysis.contrasts.table_contrast import cells_of, predictions
from analysis.contrasts.verdict import chance
from analysis.fitting.law_fit import HUBER
from analysis.fitting.minimise import minimise
from analysis.fitting.result import Estimate
from analysis.laws.chinchilla import Chinchilla
from analysis.laws.law import Array, Law
from analysis.laws.power import Power
from analysis.page.labels import percent_text
from analysis.page.language import say
from analysis.page.table import Cost, cell_text
from analysis.runs.points import Study
from analysis.runs.run_table import RunTable

MIN_FOR_JACKKNIFE = 6
MIN_PAIRS = 3
"""Of fewer pairs no share is told."""


@dataclass(frozen=True)
class SmallScale:
    """What runs at a scale, or a law through all up to it, would have chosen for the target.

    by: "loss" or "law". choice: the recipe; is_right: it is the one measured best at the target, of those that the
    scale has. work: cost of a run there over that of one at the target. accuracy: share of pairs in their order at the
    target. pairs: all; told: those whose gap has an interval without 0, and wrong: those of them that are the other way
    round at the target; None where the noise is not known. regret: what the choice costs at the target, nats
    per token.
    """

    scale: Scale
    by: str
    work: float
    recipes: tuple[str, ...]
    choice: str
    is_right: bool
    accuracy: Estimate
    pairs: int
    told: int | None
    wrong: int | None
    regret: Estimate


@dataclass(frozen=True)
class Decisions:
    """The choice at the target scale, and what smaller scales would have chosen.

    best: the recipe to take. by: "loss", its measured loss is the lowest there; "law", the laws through all runs say
    so, where no run is repeated. lack: why no odds are known, if they are not. ceiling: of
    the accuracy, by the noise at the target.
    """

    domain: str
    scale: Scale
    best: str
    odds: tuple[Odds, ...]
    small: tuple[SmallScale, ...]
    lack: str | None
    by: str = "loss"
    ceiling: float | None = None

    @property
    def sentence(self) -> str:
        """The choice, its odds and its cost."""
        at = say("At {scale} tokens", scale=self.scale.text) if self.scale.num_params is None else self.scale.text
        if self.lack:
            return say(
                "{at} {best} has the lowest loss on {domain}; how likely it is the best is not known without repeated "
                "seeds.",
                at=at, best=self.best, domain=self.domain,
            )  # fmt: skip
        first = next(one for one in self.odds if one.recipe == self.best)
        cost, most = first.regret.value, max(first.regret.hi, 1e-4)
        bound = say(" (at most {most}, 95 %)", most=f"{most:.2g}") if cost <= most else ""  # mostly 0, seldom large
        values = {
            "at": at, "best": self.best, "domain": self.domain, "count": len(self.odds), "chance": chance(first.best),
            "regret": cell_text(Cost(cost)), "bound": bound,
        }  # fmt: skip
        if self.by == "law":
            return say(
                "{at} {best} is the best of {count} recipes on {domain} with a probability of {chance}, by a law of "
                "each; taking it is expected to cost {regret} nats per token against the best{bound}.",
                **values,
            )
        return say(
            "{at} {best} has the lowest loss on {domain} and is the best of {count} recipes with a probability of "
            "{chance}; taking it is expected to cost {regret} nats per token against the best{bound}.",
            **values,
        )

    @property
    def orders_pairs(self) -> bool:
        """Whether there are pairs enough for a share of them to say anything."""
        return max((one.pairs for one in self.small), default=0) >= MIN_PAIRS

    @property
    def smaller(self) -> str | None:
        """What smaller scales would have chosen, in a sentence; None without any."""
        single = [one for one in self.small if one.by == "loss"]
        if not single:
            return None
        right = sum(one.is_right for one in single)
        laws = [one for one in self.small if one.by == "law"]
        if not self.orders_pairs:
            text = say(
                "Of {count} smaller scales, {right} would have chosen the same recipe by their losses.",
                count=len(single), right=right,
            )  # fmt: skip
            if not laws:
                return text
            right = sum(one.is_right for one in laws)
            return f"{text} " + say(
                "Laws through all runs up to a scale: {right} of {count}.", count=len(laws), right=right
            )
        share = float(np.mean([one.accuracy.value for one in single]))
        text = say(
            "Of {count} smaller scales, {right} would have chosen the same recipe by their losses; on average they put "
            "{share} of pairs in the order of the target.",
            count=len(single), right=right, share=percent_text(share),
        )  # fmt: skip
        if self.ceiling is not None:
            text += " " + say("By the noise at the target alone it could be {share}.", share=percent_text(self.ceiling))
        if not laws:
            return text
        share = float(np.mean([one.accuracy.value for one in laws]))
        return f"{text} " + say(
            "Laws through all runs up to a scale: {right} of {count}, {share} of pairs.",
            count=len(laws), right=sum(one.is_right for one in laws), share=percent_text(share),
        )  # fmt: skip


def decisions(study: Study, ranking: Ranking | None = None) -> Decisions | None:
    """The decision between the recipes that are comparable and matched, at their largest common size.

    ranking: of the study, where it is at hand. None for fewer than two recipes.
    """
    ranking = ranking or rank(study)
    if ranking is None:
        return None
    board = board_of_study(study, ranking)
    tables = {recipe: _plain_table(study, recipe) for recipe in board.recipes}
    holds = all(p.epochs <= MAX_EPOCHS + EPOCHS_TOLERANCE for p in study.points if p.recipe in tables)
    return decide_board(study.target, board, _law_of(board.recipes, tables, board.scales[-1]) if holds else None)


def decide_table(table: RunTable) -> Decisions | None:
    """The decision between the recipes of a table, at the largest (N, D) that most have. None for fewer than two."""
    board = board_of_table(table)
    there = np.flatnonzero(np.isfinite(board.log_loss[:, -1]))
    if len(there) < 2:
        return None
    names = tuple(board.recipes[i] for i in there)
    found = decide_board(table.response, board, _law_of(board.recipes, table.by_recipe(), board.scales[-1]))
    target = board.scales[-1]
    laws = predictions(table, names, (target.num_params, target.tokens)) if board.lack else None
    if laws is None:
        return found
    chances = odds(names, draw_losses(*laws))
    return replace(found, odds=chances, by="law", best=max(chances, key=lambda one: one.best).recipe, lack=None)


def decide_board(domain: str, board: Board, law: Callable[[Scale], Array | None] | None = None) -> Decisions:
    """The decision at the last scale of a board.

    law: what laws through all runs up to a scale predict for the target, losses (r,).
    """
    draws = _target_draws(board)
    small = []
    for i, scale in enumerate(board.scales[:-1]):
        measured = np.flatnonzero(np.isfinite(board.log_loss[:, i]) & np.isfinite(board.log_loss[:, -1]))
        if len(measured) > 1:
            small.append(_small(board, i, "loss", measured, board.log_loss[measured, i], draws))
        predicted = law(scale) if law else None
        if predicted is not None:
            held = np.flatnonzero(np.isfinite(predicted) & np.isfinite(board.log_loss[:, -1]))
            if len(held) > 1:
                small.append(_small(board, i, "law", held, np.log(predicted[held]), draws))
    there = np.flatnonzero(np.isfinite(board.log_loss[:, -1]))
    names = tuple(board.recipes[i] for i in there)
    best = names[int(np.argmin(board.log_loss[there, -1]))]
    chances = odds(names, draws[:, there]) if board.lack is None else ()
    ceiling = _ceiling(board.log_loss[there, -1], draws[:, there]) if board.lack is None else None
    return Decisions(domain, board.scales[-1], best, chances, tuple(small), board.lack, ceiling=ceiling)


def _ceiling(log_loss: Array, draws: Array) -> float:
    """The share of pairs whose measured order (r,) is that of the true losses, draws (k, r), on average over them."""
    chosen = draws[:: max(1, len(draws) // 256)]
    said, upper = np.sign(log_loss[:, None] - log_loss), np.triu_indices(len(log_loss), 1)
    shares = [(said * np.sign(losses[:, None] - losses))[upper].mean() for losses in chosen]
    return float(0.5 + 0.5 * np.mean(shares))


def _target_draws(board: Board) -> Array:
    """Losses at the target that are possible, (k, r); the measured ones alone where the noise is not known."""
    target = board.log_loss[:, -1]
    if board.lack is not None:
        return np.exp(target)[None]
    there = np.isfinite(target)
    draws = np.full((1, len(target)), math.nan)
    found = draw_losses(target[there], board.sd[-1] / np.sqrt(board.count[there, -1]), board.degrees)
    draws = np.full((len(found), len(target)), math.nan)
    draws[:, there] = found
    return draws


def _small(board: Board, i: int, by: str, measured: NDArray[np.intp], value: Array, draws: Array) -> SmallScale:
    """What a scale says of the target. measured: (m,) the recipes; value: (m,) their log losses by that scale."""
    upper = np.triu_indices(len(measured), 1)
    said = np.sign(value[:, None] - value)
    there = board.log_loss[measured, -1]
    right = 0.5 + 0.5 * said * np.sign(there[:, None] - there)
    told = wrong = None
    if by == "loss" and board.lack is None:
        se = np.sqrt(1 / board.count[measured, i][:, None] + 1 / board.count[measured, i]) * board.sd[i]
        is_told = np.abs(value[:, None] - value) > special.stdtrit(board.degrees, 0.5 + CONFIDENCE / 2) * se
        told, wrong = int(is_told[upper].sum()), int((is_told & (right == 0))[upper].sum())
    place = int(np.argmin(value))
    is_right = place == int(np.argmin(board.log_loss[measured, -1]))
    return SmallScale(
        board.scales[i], by, board.scales[i].work / board.scales[-1].work,
        tuple(board.recipes[k] for k in measured), board.recipes[measured[place]], is_right,
        accuracy_interval(right), len(upper[0]), told, wrong,
        regret_of(draws[:, measured], place),
    )  # fmt: skip


def accuracy_interval(agree: Array) -> Estimate:
    """The share of pairs that agree, with its 95 % interval, from a symmetric matrix (r, r) of agreement in [0, 1]."""
    r = len(agree)
    rows = agree.sum(axis=1) - np.diag(agree)
    share = float(rows.sum() / (r * (r - 1)))
    count = float(max(1, r // 2))
    if r >= MIN_FOR_JACKKNIFE:
        without = (rows.sum() - 2 * rows) / ((r - 1) * (r - 2))
        variance = (r - 1) / r * float(((without - without.mean()) ** 2).sum())
        if variance > 0:
            count = min(max(share * (1 - share) / variance, count), r * (r - 1) / 2)
    ends = special.betaincinv(share * count + 0.5, (1 - share) * count + 0.5, np.array([0.025, 0.975]))
    return Estimate(share, float(ends[0]) if share > 0 else 0.0, float(ends[1]) if share < 1 else 1.0)


def _plain_table(study: Study, recipe: str) -> RunTable:
    """D and loss of a recipe's points on the target domain."""
    points = study.points_of(recipe, study.target)
    names = np.array([p.run for p in points])
    return RunTable(
        {"D": np.array([p.tokens for p in points], float)}, np.array([p.loss for p in points]),
        np.array([recipe] * len(points)), names, names, np.arange(1, len(points) + 1),
    )  # fmt: skip


def _law_of(recipes: Sequence[str], tables: Mapping[str, RunTable], target: Scale) -> Callable[[Scale], Array | None]:
    """What a law of each recipe, through its runs up to a scale, predicts for the target; None if it has too few."""
    law: Law = Power() if target.num_params is None else Chinchilla()
    at = {"D": np.array([target.tokens])} | ({} if target.num_params is None else {"N": np.array([target.num_params])})

    def predicted(scale: Scale) -> Array | None:
        found = []
        for recipe in recipes:
            table = tables[recipe]
            seen = table.where(np.array([Scale(*cell).work <= scale.work * (1 + 1e-9) for cell in cells_of(table)]))
            cells = set(cells_of(seen))
            if len(cells) <= len(law.params) or (law.columns[0] == "N" and len({cell[0] for cell in cells}) < 3):
                return None
            best = minimise(law, seen.columns, seen.y, HUBER)
            found.append(float(law.loss(best.theta, at)[0]) if best.converged else math.nan)
        return np.array(found)

    return predicted
