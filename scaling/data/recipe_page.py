"""One recipe of the data card as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scaling.data.card_comparison import in_percent
from scaling.data.markdown import escaped, percent, table

FEWEST_LETTERS, FEWEST_DOCUMENTS = 0.005, 0.02
"""Smaller shares of scripts and of languages are added up as `other`; one sampled document is 0.005 to 0.01."""

LONGEST_PART = 4000
"""Letters of a part of a recipe: long enough for every threshold of a filter."""
MOST_WORDS = 5
"""Longer lists of words are counted: stop words and bullets would hide the thresholds."""

Json = Mapping[str, Any]


def recipe_lines(recipe: Json, shown: dict[tuple[str, ...], int]) -> Iterator[str]:
    """The section of a recipe. shown: tables that are on the page already, and whose; grows."""
    yield from ("", f"## Recipe {recipe['number']}", "")
    for part, text in recipe["in_words"].items():
        steps = recipe["steps"].get(part) if part == "filters" else None
        yield f"- {part}:" if steps else f"- {part}: {escaped(text, LONGEST_PART)}"
        yield from (f"  - {escaped(_settings(step), LONGEST_PART)}" for step in steps or ())
    if recipe["mixture"]["declared"]["kind"] not in ("weights", "stages"):
        yield from (f"- weights: {in_percent(stage['weights'])}" for stage in recipe["mixture"]["stages"])
    trained_on = ", ".join(f"{num:,} of {name}" for name, num in recipe["tokenizer"]["trained_on_bytes"].items())
    yield f"- tokenizer trained on bytes: {trained_on or 'none, it is that of the checkpoint'}"
    yield f"- runs: {escaped(', '.join(recipe['runs']), 400)}"
    yield from ("", "What each budget reads: tokens (epochs). A copy of a text counts as another text here.", "")
    yield from _budgets(recipe["budgets"])
    as_before: dict[int, list[str]] = {}
    for title, lines in _sections(recipe):
        first = shown.setdefault((title, *lines), recipe["number"])
        if lines and first != recipe["number"]:
            as_before.setdefault(first, []).append(title.lower())
        elif lines:
            yield from ("", f"### {title}", "", *lines)
    for number, titles in sorted(as_before.items()):
        yield from ("", f"As in recipe {number}: {'; '.join(titles)}.")


def _settings(step: Json) -> str:
    """A filter with all its settings, those at their default, too."""
    listed = ", ".join(f"{name} {_setting(value)}" for name, value in _named(step))
    return f"{step['kind']}: {listed}"


def _named(step: Json) -> Iterator[tuple[str, Any]]:
    """Its settings; domains only where it does not apply to all, and then by name."""
    for name, value in step.items():
        if name == "domains" and value is not None:
            yield name, " ".join(value)
        elif name not in ("kind", "domains"):
            yield name, value


def _setting(value: Any) -> str:
    """A value in full; of a long list of words their number."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_setting(of)}" for name, of in value.items())
    if not isinstance(value, list | tuple):
        return str(value)
    if len(value) > MOST_WORDS and all(isinstance(item, str) for item in value):
        return f"{len(value)} entries"
    return " ".join(map(_setting, value)) or "none"


def _sections(recipe: Json) -> Iterator[tuple[str, list[str]]]:
    """Titles and tables, some of them empty."""
    train = {name: domain["train"] for name, domain in recipe["domains"].items() if domain["train"]}
    validation = {name: domain["validation"] for name, domain in recipe["domains"].items()}
    yield "Training documents", list(_sizes(train, "unique_tokens"))
    yield "Share of the documents that each step keeps of those that it saw", list(_steps(train))
    yield "Dropped documents", list(_dropped(train))
    yield "Clusters of duplicates", list(_clusters(train))
    yield "Harm done on purpose", list(_harm(train))
    yield "Tokens per kept document", list(_lengths(train))
    yield "Kept documents by tokens, from the number above to the next", list(_length_histogram(train))
    yield "Scores", list(_scores(train))
    yield "Scripts and languages of the kept documents", list(_languages(train))
    yield "Validation documents", list(_sizes(validation))


def _budgets(budgets: Sequence[Json]) -> Iterator[str]:
    domains = list(budgets[0]["domains"])
    repetition = ["repetition asked for"] if any(card["budget"]["repetition"] for card in budgets) else []
    yield from table(
        ["tokens", "unique tokens asked for", *repetition, "unique tokens read", "repeated", *domains],
        [
            [
                card["tokens"],
                card["budget"]["unique_tokens"],
                *([_repetition(card["budget"]["repetition"])] if repetition else []),
                card["unique_tokens"],
                percent(1 - card["unique_tokens"] / card["tokens"]),
                *(_read(card["domains"][name]) for name in domains),
            ]
            for card in budgets
        ],
    )


def _read(seen: Json) -> str:
    epochs = seen["epochs"]
    return f"{seen['tokens']:,} ({epochs:.3g})" if epochs < 100 else f"{seen['tokens']:,} ({epochs:,.0f})"


def _repetition(asked: Json | None) -> str | None:
    if asked is None:
        return None
    if asked["kind"] == "proxy":
        return f"as in {asked['num_tokens']:,} tokens"
    return ", ".join(f"{name} {epochs:g} epochs" for name, epochs in sorted(asked["domains"].items()))


def _sizes(sides: Json, *more: str) -> Iterator[str]:
    units = ["documents", "characters", "bytes", "tokens", *more]
    kept = [f"{unit.replace('_', ' ')} kept" for unit in units]
    yield from table(
        ["domain", "documents read", "bytes read", *kept, "kept, of the bytes read"],
        [
            [
                name,
                side["read"]["documents"],
                side["read"]["bytes"],
                *(side["kept"][unit] for unit in units),
                percent(side["kept"]["bytes"] / max(side["read"]["bytes"], 1)),
            ]
            for name, side in sides.items()
        ],
    )


def _steps(train: Json) -> Iterator[str]:
    names = list(dict.fromkeys(step["step"] for side in train.values() for step in side["steps"]))
    rows = [{step["step"]: _share(step["kept_documents_frac"]) for step in side["steps"]} for side in train.values()]
    yield from table(
        ["domain", *names],
        [[name, *(row.get(step, "") for step in names)] for name, row in zip(train, rows, strict=True)]
        if names
        else [],
    )


def _dropped(train: Json) -> Iterator[str]:
    found = [
        (name, reason, of, side["read"]["documents"])
        for name, side in train.items()
        for reason, of in sorted(side["dropped"].items(), key=lambda item: (-item[1]["documents"], item[0]))
    ]
    yield from table(
        ["domain", "reason", "documents", "of those read", "bytes", "such as"],
        [
            [name, reason, of["documents"], percent(of["documents"] / read), of["bytes"], of["examples"]]
            for name, reason, of, read in found
        ],
    )


def _clusters(train: Json) -> Iterator[str]:
    yield from table(
        ["domain", "kind", "clusters", "largest", "documents dropped here"],
        [
            [name, kind, of["clusters"], of["largest"], side["dropped"].get(kind, {}).get("documents", 0)]
            for name, side in train.items()
            for kind, of in side["clusters"].items()
            if of["clusters"]
        ],
    )


def _harm(train: Json) -> Iterator[str]:
    keys = ("harmed_documents", "planted_documents")
    yield from table(
        ["domain", "harmed", "of them kept", "planted", "of them kept"],
        [
            [name, *(side[which].get(key, 0) for key in keys for which in ("read", "kept"))]
            for name, side in train.items()
            if any(key in side["read"] for key in keys)
        ],
    )


def _lengths(train: Json) -> Iterator[str]:
    yield from _quantiles([([name], side["lengths"]["kept_tokens"]) for name, side in train.items()], ["domain"])


def _length_histogram(train: Json) -> Iterator[str]:
    bins = sorted({start for side in train.values() for start in side["lengths"]["tokens_from"]})
    rows = [dict(zip(side["lengths"]["tokens_from"], side["lengths"]["kept"], strict=True)) for side in train.values()]
    yield from table(
        ["domain", *(f"{start:,}" for start in bins)],
        [[name, *(row.get(start, 0) or "" for start in bins)] for name, row in zip(train, rows, strict=True)],
    )


def _scores(train: Json) -> Iterator[str]:
    yield from _quantiles(
        [
            ([name, f"{use}: {of['scorer']}", which], of[which])
            for name, side in train.items()
            for use, of in side["scores"].items()
            for which in ("read", "kept")
        ],
        ["domain", "score", "documents"],
    )


def _quantiles(rows: Sequence[tuple[list[str], Json]], header: list[str]) -> Iterator[str]:
    order = ("min", "5%", "25%", "median", "75%", "95%", "max")
    cells = [[*first, *map(found.get, order)] for first, found in rows]
    yield from table([*header, *order], cells)


def _languages(train: Json) -> Iterator[str]:
    rows = [(name, side["languages"]["kept"]) for name, side in train.items()]
    yield from table(
        ["domain", "scripts, of all letters", "languages, of the documents looked at", "documents looked at"],
        [
            [name, _listed(of["scripts"], FEWEST_LETTERS), _listed(of["languages"], FEWEST_DOCUMENTS), of["sampled"]]
            for name, of in rows
        ],
    )


def _share(share: float | None) -> str | None:
    return None if share is None else percent(share)


def _listed(shares: Mapping[str, float] | None, fewest: float) -> str:
    if shares is None:
        return "not looked for"
    large = {name: share for name, share in shares.items() if share >= fewest and name != "other"}
    other = sum(shares.values()) - sum(large.values())
    parts = [f"{name} {percent(share)}" for name, share in sorted(large.items(), key=lambda item: (-item[1], item[0]))]
    return ", ".join([*parts, *([f"other {percent(other)}"] if other > 5e-4 else [])]) or "none"
