"""`contrast RUNS|TABLE --a X --b Y`: compare two recipes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.contrasts.contrast import Contrast

TABLES = (".csv", ".parquet", ".pq")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "places", nargs="+", metavar="RUNS|TABLE",
        help="folders with runs, wandb:entity/project?group=NAME, or one CSV or parquet table",
    )  # fmt: skip
    parser.add_argument("--a", required=True, metavar="RECIPE", help="its name, or a part that no other name has")
    parser.add_argument("--b", required=True, metavar="RECIPE", help="what A is compared with")
    parser.add_argument(
        "--match", choices=("tokens", "unique_tokens", "flops", "weights"),
        help="what must be equal (default: as the study declares; tokens for a table)",
    )  # fmt: skip
    parser.add_argument(
        "--at", action="append", default=[], metavar="D=1e9[,N=1e8]", help="a budget to decide for; may be repeated"
    )
    parser.add_argument("--domain", help="of the loss (default: the target of the study)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here as well")
    table = parser.add_argument_group("for a TABLE")
    table.add_argument("--loss-column", metavar="C", help="where the loss stands")
    table.add_argument("--group", metavar="RECIPE", help="the column that tells recipes apart (default: recipe)")
    table.add_argument("--cluster", metavar="RUN", help="the column of the unit that is drawn at random")
    table.add_argument("--columns", metavar="N=params,D=tokens,...", help="columns by letter")
    table.add_argument("--where", action="append", default=[], metavar="COL=VALUE", help="rows to keep; repeatable")


def run(arguments: argparse.Namespace) -> int:
    import json
    import sys

    from analysis.contrasts.contrast_words import contrast_json, sentences

    found = contrast_of(arguments)
    if arguments.json:
        from analysis.page.writing import write_whole

        write_whole(arguments.json, json.dumps(contrast_json(found), indent=1, ensure_ascii=False).encode())
    if found.refused:
        print(f"refused: {sentences(found)[0]}", file=sys.stderr)
        return 2
    print("\n".join(sentences(found)))
    return 0


def contrast_of(arguments: argparse.Namespace) -> Contrast:
    """The contrast that was asked for. Raises AnalysisError for what is not there."""
    places, at = arguments.places, [_budget(text) for text in arguments.at]
    if any(place.lower().endswith(TABLES) for place in places):
        return _of_table(arguments, at)
    from dataclasses import replace

    from analysis.contrasts.contrast import compare
    from analysis.runs.logs import AnalysisError
    from analysis.runs.points import build_study
    from analysis.runs.records import read_runs

    for option in ("loss_column", "group", "cluster", "columns", "where"):
        if getattr(arguments, option):
            raise AnalysisError(f"--{option.replace('_', '-')} is for a table; RUNS say what they are themselves")
    study = build_study(read_runs(places))
    if arguments.match:
        study = replace(study, match=arguments.match)
    domain = arguments.domain or study.target
    if domain not in study.domains:
        raise AnalysisError(f"--domain must be one of {', '.join(study.domains)}, got {domain!r}")
    recipes = {recipe.label: recipe for recipe in study.recipes if study.points_of(recipe.label, domain)}
    a, b = (recipes[chosen(name, list(recipes), option)] for name, option in pair_of(arguments))
    check_pair(a.label, b.label)
    sizes = {a.num_params, b.num_params}
    for size, _ in at:
        if size is not None and sizes != {size}:
            have = ", ".join(f"{each:,}" for each in sorted(sizes))
            raise AnalysisError(f"--at N must be the size of the recipes ({have}), got {size:g}")
    return compare(study, a, b, domain, at=[tokens for _, tokens in at])


def _of_table(arguments: argparse.Namespace, at: Sequence[tuple[float | None, float]]) -> Contrast:
    from analysis.contrasts.table_contrast import compare_table
    from analysis.runs.logs import AnalysisError
    from analysis.runs.read_table import read_table
    from analysis.verbs.pairs import pairs_of

    if len(arguments.places) > 1:
        raise AnalysisError(f"one table at a time, got {len(arguments.places)} places")
    columns = pairs_of(arguments.columns, "--columns", "LETTER=COLUMN")
    needs = {"unique_tokens": ("U",), "flops": ("C",), "weights": ("w",)}.get(arguments.match or "", ())
    where = [*arguments.where, *([f"domain={arguments.domain}"] if arguments.domain else [])]
    table = read_table(
        arguments.places[0], needs=("D", *needs), columns=columns, response_column=arguments.loss_column,
        group=arguments.group, cluster=arguments.cluster, where=where,
    )  # fmt: skip
    names = [str(name) for name in table.by_recipe()]
    if names == [""]:
        raise AnalysisError(f"{table.source}: no column tells recipes apart; name it with --group")
    a, b = (chosen(name, names, option) for name, option in pair_of(arguments))
    check_pair(a, b)
    return compare_table(table, a, b, arguments.match or "tokens", at)


def pair_of(arguments: argparse.Namespace) -> tuple[tuple[str, str], tuple[str, str]]:
    return (arguments.a, "--a"), (arguments.b, "--b")


def check_pair(a: str, b: str) -> None:
    """Raises AnalysisError for a recipe against itself."""
    from analysis.runs.logs import AnalysisError

    if a == b:
        raise AnalysisError(f"--a and --b must be two recipes, both are {a!r}")


def chosen(name: str, names: Sequence[str], option: str) -> str:
    """The one name that is this, or has this as a part. Raises AnalysisError that lists the names."""
    from analysis.runs.logs import AnalysisError

    if name in names:
        return name
    like = [each for each in names if name.lower() in each.lower()]
    if len(like) != 1:
        what = f"is part of {len(like)} names: {', '.join(like)}" if like else f"must be one of: {'; '.join(names)}"
        raise AnalysisError(f"{option} {name!r} {what}")
    return like[0]


def _budget(text: str) -> tuple[float | None, float]:
    """N (None where not said) and D of `--at`."""
    from analysis.runs.logs import AnalysisError

    found: dict[str, float] = {}
    for part in text.split(","):
        letter, _, value = part.strip().partition("=")
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if letter not in ("N", "D") or not 0 < number < float("inf"):
            raise AnalysisError(f"--at must be D=TOKENS or D=TOKENS,N=PARAMETERS with amounts above 0, got {text!r}")
        found[letter] = number
    if "D" not in found:
        raise AnalysisError(f"--at needs D, got {text!r}")
    return found.get("N"), found["D"]
