"""Decision and regret: which recipe to take, what that may cost, and whether smaller runs would have told."""

from __future__ import annotations

from analysis.contrasts.decision import Decisions, decisions
from analysis.page.answer import Answer
from analysis.page.decision_figures import decision_figure
from analysis.page.language import say
from analysis.page.table import Cell, Cost, Probability, Table
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section


def section(study: Study, results: Answer) -> Section | None:
    """None where there are no two recipes to decide between, or where they are learning rates of one."""
    found = decisions(study, results.ranking) if results.lr_check is None else None
    if found is None:
        return None
    paragraphs = [found.sentence]
    if found.odds and len(found.odds) > 2:
        paragraphs.append(
            say(
                "The more the losses look like noise, the more they are drawn together here: the lowest of many is low "
                "partly by luck."
            )
        )
    points = [found.smaller] if found.smaller else []
    small = (small_table(found),) if found.orders_pairs else ()
    figure = decision_figure(study, found)
    caption = say("The probability that a recipe has the lowest loss at {tokens} tokens.", tokens=found.scale.text)
    if found.orders_pairs:
        caption = say(
            "The probability that a recipe has the lowest loss at {tokens} tokens, and the share of pairs of recipes "
            "that smaller sizes put in the order which they have there, with 95 % intervals; dashed: chance.",
            tokens=found.scale.text,
        )
    return Section(
        "decision",
        say("Decision and regret"),
        tuple(paragraphs),
        tuple(points),
        (Drawing("decision", caption, figure),) if figure else (),
        tuple(table for table in (odds_table(found), *small) if table.rows),
        (_small_note(),) if small else (),
        facts=decision_json(found),
    )


def _small_note() -> str:
    return say(
        "right: the choice is that of the target, where its regret is counted; cost: of a run there, in per cent of "
        "one at the target. The interval of a share of pairs allows for the recipes being few."
    )


def odds_table(found: Decisions) -> Table:
    """A row per recipe, the most likely best first.

    Expected regrets stand without an interval: a cost that is mostly 0 and seldom large has its mean beyond the most
    that 95 % of it come to.
    """
    rows: list[tuple[Cell, ...]] = [
        (one.recipe, Probability(round(one.best, 3)), Cost(one.regret.value), Cost(one.regret.hi))
        for one in sorted(found.odds, key=lambda one: -one.best)
    ]
    columns = (
        say("recipe"), say("probability of best"), say("expected regret [nats per token]"),
        say("regret at most, 95 % [nats per token]"),
    )  # fmt: skip
    return Table("decision", columns, tuple(rows))


def small_table(found: Decisions) -> Table:
    """A row per smaller scale and way of choosing. cost: of a run there, in per cent of one at the target."""
    rows: list[tuple[Cell, ...]] = []
    for one in found.small:
        rows.append(
            (
                one.scale.text,
                say("laws up to there") if one.by == "law" else say("losses there"),
                one.choice,
                one.is_right,
                Cost(one.regret.value),
                one.accuracy,
                one.pairs,
                one.told,
                one.wrong,
                f"{100 * one.work:.2g} %",
            )
        )
    columns = (
        say("size"), say("chosen by"), say("choice"), say("right"), say("regret [nats per token]"),
        say("pairs in order"), say("pairs"), say("told apart"), say("wrong"), say("cost"),
    )  # fmt: skip
    return Table("small_scales", columns, tuple(rows))


def decision_json(found: Decisions) -> dict[str, object]:
    """The decision for scripts."""
    return {
        "best": found.best,
        "by": found.by,
        "lack": found.lack,
        "ceiling": found.ceiling,
        "tokens": found.scale.tokens,
        "num_params": found.scale.num_params,
        "odds": [{"recipe": one.recipe, "best": one.best, "regret": one.regret.plain} for one in found.odds],
        "small_scales": [
            {
                "tokens": one.scale.tokens,
                "num_params": one.scale.num_params,
                "by": one.by,
                "choice": one.choice,
                "is_right": one.is_right,
                "accuracy": one.accuracy.plain,
                "pairs": one.pairs,
                "told": one.told,
                "wrong": one.wrong,
                "regret": one.regret.value,
            }
            for one in found.small
        ],
    }
