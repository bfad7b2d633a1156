"""`contrast RUNS|TABLE --a X --b Y`: compare two recipes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.contrasts.contrast import Contrast
    from analysis.runs.run_table import RunTable

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
    from analysis.verbs.pairs import pairs_of

    found = contrast(
        arguments.places,
        arguments.a,
        arguments.b,
        match=arguments.match,
        at=[_budget(text) for text in arguments.at],
        domain=arguments.domain,
        columns=pairs_of(arguments.columns, "--columns", "LETTER=COLUMN"),
        response_column=arguments.loss_column,
        group=arguments.group,
        cluster=arguments.cluster,
        where=arguments.where,
    )
    if arguments.json:
        from analysis.page.writing import write_whole

        write_whole(arguments.json, json.dumps(contrast_json(found), indent=1, ensure_ascii=False).encode())
    if found.refused:
        print(f"refused: {sentences(found)[0]}", file=sys.stderr)
        return 2
    print("\n".join(sentences(found)))
    return 0


def contrast(
    places: Sequence[str],
    a: str,
    b: str,
    *,
    match: str | None = None,
    at: Sequence[tuple[float | None, float]] = (),
    domain: str | None = None,
    columns: Mapping[str, str] | None = None,
    response_column: str | None = None,
    group: str | None = None,
    cluster: str | None = None,
    where: Sequence[str] = (),
) -> Contrast:
    """Compare two recipes of RUNS, or of one CSV or parquet table.

    a, b: their names, or parts that no other name has. match: what must be equal; by default what the study declares,
    tokens for a table. at: (N or None, D) to decide for. domain: of the loss. columns to where: of a table alone, as
    `read_table` has them. Raises AnalysisError for what is not there; that arms are not matched is in the result.
    """
    from analysis.runs.logs import AnalysisError
    from analysis.runs.read_table import read_table

    if any(place.lower().endswith(TABLES) for place in places):
        if len(places) > 1:
            raise AnalysisError(f"one table at a time, got {len(places)} places")
        table = read_table(
            places[0],
            needs=("D", *{"unique_tokens": "U", "flops": "C", "weights": "w"}.get(match or "", "")),
            columns=columns,
            response_column=response_column,
            group=group,
            cluster=cluster,
            where=[*where, *([f"domain={domain}"] if domain else [])],
        )
        return _of_table(table, a, b, match or "tokens", at)
    told = {"columns": columns, "loss-column": response_column, "group": group, "cluster": cluster, "where": where}
    for option in (name for name, value in told.items() if value):
        raise AnalysisError(f"--{option} is for a table; RUNS say what they are themselves")
    return _of_runs(places, a, b, match, at, domain)


def _of_runs(
    places: Sequence[str],
    a: str,
    b: str,
    match: str | None,
    at: Sequence[tuple[float | None, float]],
    domain: str | None,
) -> Contrast:
    from dataclasses import replace

    from analysis.contrasts.contrast import compare
    from analysis.page.exposure import repeats_at
    from analysis.runs.logs import AnalysisError
    from analysis.runs.points import build_study
    from analysis.runs.records import read_runs

    study = build_study(read_runs(places))
    if match:
        study = replace(study, match=match)
    domain = domain or study.target
    if domain not in study.domains:
        raise AnalysisError(f"--domain must be one of {', '.join(study.domains)}, got {domain!r}")
    recipes = {recipe.label: recipe for recipe in study.recipes if study.points_of(recipe.label, domain)}
    first, second = (recipes[name] for name in _pair(a, b, list(recipes)))
    sizes = {first.num_params, second.num_params}
    for size, _ in at:
        if size is not None and sizes != {size}:
            have = ", ".join(f"{each:,}" for each in sorted(sizes))
            raise AnalysisError(f"--at N must be the size of the recipes ({have}), got {size:g}")
    found = compare(study, first, second, domain, at=[tokens for _, tokens in at])
    repeats = [note for _, tokens in at for recipe in (first, second) for note in repeats_at(study, recipe, tokens)]
    return replace(found, notes=(*found.notes, *repeats))


def _of_table(table: RunTable, a: str, b: str, match: str, at: Sequence[tuple[float | None, float]]) -> Contrast:
    from analysis.contrasts.table_contrast import compare_table
    from analysis.runs.logs import AnalysisError
    from analysis.runs.table_checks import check_falls

    check_falls(table)
    names = [str(name) for name in table.by_recipe()]
    if names == [""]:
        raise AnalysisError(f"{table.source}: no column tells recipes apart; name it with --group")
    first, second = _pair(a, b, names)
    return compare_table(table, first, second, match, at)


def _pair(a: str, b: str, names: Sequence[str]) -> tuple[str, str]:
    """The two names that are meant. Raises AnalysisError for a recipe against itself."""
    from analysis.runs.logs import AnalysisError

    first, second = _chosen(a, names, "--a"), _chosen(b, names, "--b")
    if first == second:
        raise AnalysisError(f"--a and --b must be two recipes, both are {first!r}")
    return first, second


def _chosen(name: str, names: Sequence[str], option: str) -> str:
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
