"""What the models saw: tables of the exposure ledger."""

from __future__ import annotations

from collections.abc import Mapping

from analysis.page.labels import count_text, percent_text
from analysis.page.language import listed, say
from analysis.page.table import Cell, Table, number_text
from analysis.runs.points import Study
from analysis.runs.recipes import Recipe
from analysis.runs.run import Run

MIN_CHANGE = 0.002
"""A weight that changes by less is rounding."""
MAX_REASONS = 4
ROUNDING = 0.01
"""Of an epoch."""


def ledger_table(study: Study) -> Table:
    """What the runs saw of each domain: one row per complete run and domain."""
    rows: list[tuple[Cell, ...]] = []
    for run in study.runs:
        for domain, seen in run.ledger.domains.items() if run.ledger else ():
            rows.append(
                (
                    study.recipe_of[run.fingerprint],
                    run.name,
                    domain,
                    seen.weight,
                    seen.realised_weight,
                    seen.tokens,
                    seen.unique_tokens,
                    seen.epochs,
                    seen.planted_tokens,
                    seen.documents,
                    sum(seen.dropped.values()),
                    ", ".join(f"{reason} {count}" for reason, count in seen.dropped.items()) or None,
                )
            )
    seen_of = ("recipe", "run", "domain", "weight", "realised weight", "tokens", "unique tokens", "epochs")
    columns = (*seen_of, "planted tokens", "documents", "dropped", "dropped by reason")  # of a file: English always
    return Table("ledger", columns, tuple(rows))


def ledger_summary(study: Study) -> Table:
    """The ledger of each recipe at its largest D (its first run there): what the report shows."""
    runs = {recipe.label: run for recipe in study.recipes if (run := _largest_run(study, recipe))}
    ledgers = {label: run.ledger for label, run in runs.items() if run.ledger}
    has_planted = any(seen.planted_tokens for ledger in ledgers.values() for seen in ledger.domains.values())
    rows: list[tuple[Cell, ...]] = []
    for label, ledger in ledgers.items():
        for domain, seen in ledger.domains.items():
            planted = (
                None if seen.planted_tokens is None else percent_text(seen.planted_tokens / max(1, seen.tokens), 1),
            )
            documents = seen.documents + sum(seen.dropped.values())
            rows.append(
                (
                    label,
                    domain,
                    percent_text(seen.weight, 1),
                    percent_text(seen.realised_weight, 1),
                    seen.tokens,
                    seen.unique_tokens,
                    round(seen.epochs, 3),
                    *(planted if has_planted else ()),
                    seen.documents,
                    percent_text(seen.documents / documents, 1) if documents else None,
                    reasons_text(seen.dropped),
                )
            )
    columns = (
        say("recipe"),
        say("domain"),
        say("weight"),
        say("realised"),
        say("tokens"),
        say("unique tokens"),
        say("epochs"),
        *((say("planted copies"),) if has_planted else ()),
        say("documents kept"),
        say("share kept"),
        say("documents dropped"),
    )
    return Table("exposure", columns, tuple(rows))


def reasons_text(dropped: Mapping[str, int]) -> str:
    """Reasons with their counts, the most frequent first, the rest summed up."""
    ordered = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count:,} {reason}" for reason, count in ordered[:MAX_REASONS]]
    rest = ordered[MAX_REASONS:]
    if len(rest) == 1:
        named.append(f"{rest[0][1]:,} {rest[0][0]}")
    elif rest:
        count = f"{sum(count for _, count in rest):,}"
        named.append(say("{count} for {reasons} more reasons", count=count, reasons=len(rest)))
    return listed(named) or say("none")


def displacement_table(study: Study) -> Table | None:
    """Which weights rose and which fell against the reference; None if all recipes have the same weights.

    The weights are those that the ledger of each recipe's largest run intends.
    """
    known = [recipe for recipe in study.recipes if recipe.weights]
    if not known:
        return None
    rows: list[tuple[Cell, ...]] = []
    for recipe in known[1:]:
        before, after = known[0].weights or {}, recipe.weights or {}
        changes = {d: after.get(d, 0.0) - before.get(d, 0.0) for d in sorted({*before, *after})}
        texts = {
            d: say(
                "{domain} {before} to {after} %",
                domain=d, before=f"{100 * before.get(d, 0.0):.3g}", after=f"{100 * after.get(d, 0.0):.3g}",
            )
            for d in changes
        }  # fmt: skip
        rose = sorted((d for d in changes if changes[d] > MIN_CHANGE), key=lambda d: -changes[d])
        fell = sorted((d for d in changes if changes[d] < -MIN_CHANGE), key=lambda d: changes[d])
        moved = sum(changes[d] for d in rose)
        rows.append(
            (
                recipe.label,
                listed(texts[d] for d in rose) or None,
                listed(texts[d] for d in fell) or None,
                percent_text(moved, 1),
            )
        )
    if all(row[1] is row[2] is None for row in rows):
        return None
    columns = (say("recipe"), say("rose"), say("fell"), say("share of the mixture moved"))
    return Table("displacement", columns, tuple(rows))


def repeats_at(study: Study, recipe: Recipe, tokens: float) -> list[str]:
    """What a budget would repeat of the documents there are, where the runs of the recipe repeated none of it."""
    run = _largest_run(study, recipe)
    if run is None or run.ledger is None:
        return []
    times = tokens / run.ledger.tokens
    return [
        say(
            "at {tokens} tokens {recipe} would see {domain} {epochs} times, of which its runs saw at most {most}: "
            "their curves know of no repeats, which are worth less",
            tokens=count_text(tokens), recipe=recipe.label, domain=domain, epochs=number_text(times * seen.epochs, 2),
            most=number_text(seen.epochs, 2),
        )
        for domain, seen in run.ledger.domains.items()
        if seen.epochs <= 1 + ROUNDING < times * seen.epochs
    ]  # fmt: skip


def _largest_run(study: Study, recipe: Recipe) -> Run | None:
    runs = [run for run in study.runs if run.ledger and study.recipe_of[run.fingerprint] == recipe.label]
    return max(runs, key=lambda run: (run.ledger.tokens if run.ledger else 0, run.name), default=None)
