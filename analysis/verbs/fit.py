"""`fit TABLE --law NAME`: fit scaling laws to a table of runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.fitting.objective import Objective, Scale
    from analysis.laws.law import Law


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from analysis.laws.catalogue import catalogue

    laws = catalogue()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "laws:\n" + "\n".join(str(law) for law in laws)
    parser.add_argument("table", metavar="TABLE", help="CSV or parquet, a row per measurement; or RUNS")
    parser.add_argument(
        "--law", action="append", required=True, metavar="NAME",
        help=f"one of {', '.join(law.name for law in laws)} (below); several are compared by their error at the "
        "largest scale, which is then held out",
    )  # fmt: skip
    parser.add_argument("--loss-column", metavar="C", help="where the response stands (default: loss, or metric)")
    parser.add_argument("--group", metavar="RECIPE", help="the column that tells recipes apart (default: recipe)")
    parser.add_argument("--cluster", metavar="RUN", help="the column of the unit that is drawn at random")
    parser.add_argument(
        "--columns", metavar="N=params,D=tokens,...",
        help="columns by letter; for the weights w a pattern, 'weights=train_*', or a list, 'weights=web|code|math'",
    )  # fmt: skip
    parser.add_argument(
        "--where", action="append", default=[], metavar="COL=VALUE",
        help="rows to keep: '=', '!=', '<', '>', '<=' or '>=' ('C<1e22'; 'loss!=' for cells that are not empty); "
        "repeatable, all must hold",
    )  # fmt: skip
    parser.add_argument(
        "--hold-out", metavar="largest:K",
        help="predict the K largest scales instead of fitting them (default: what a study says; else 1 to compare "
        "several --law, 0 for one)",
    )  # fmt: skip
    parser.add_argument("--objective", choices=("huber", "lad", "squares"), default="huber", help="default: huber")
    parser.add_argument("--delta", type=float, metavar="X", help="of Huber's loss (default: 0.001)")
    parser.add_argument("--scale", choices=("log", "raw"), help="of residuals (default: log; raw for a metric)")
    parser.add_argument("--fix", metavar="A=406,alpha=0.34", help="parameters that are known")
    parser.add_argument(
        "--at", action="append", default=[], metavar="N=1e9,D=2e10",
        help="predict there; C=1e21 alone: the best N and D for that budget; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--bootstrap", type=int, default=0, metavar="COUNT",
        help="also resample the runs so often; with few sizes its intervals are too narrow, the profile's hold",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the fits here as well")


def run(arguments: argparse.Namespace) -> int:
    import json

    from analysis.fit_json import fits_json, fits_text
    from analysis.fit_table import fit_table
    from analysis.laws.law import law_named
    from analysis.page.writing import write_whole
    from analysis.runs.logs import AnalysisError
    from analysis.verbs.pairs import amounts_of, pairs_of

    try:
        kinds = [law_named(name) for name in arguments.law]
    except ValueError as error:
        raise AnalysisError(str(error)) from error
    if arguments.bootstrap < 0:
        raise AnalysisError(f"--bootstrap must be 0 or more resamples, got {arguments.bootstrap}")
    usual_scale: Scale = "log" if kinds[0].response == "loss" else "raw"
    _say_that_it_compiles(kinds)
    found = fit_table(
        arguments.table,
        arguments.law,
        columns=pairs_of(arguments.columns, "--columns", "LETTER=COLUMN"),
        response_column=arguments.loss_column,
        group=arguments.group,
        cluster=arguments.cluster,
        where=arguments.where,
        hold_out=_hold_out(arguments.hold_out),
        objective=_objective(arguments, usual_scale),
        fixed=amounts_of(arguments.fix, "--fix", "PARAMETER=VALUE"),
        at=[amounts_of(text, "--at", "D=TOKENS") for text in arguments.at],
        bootstrap=arguments.bootstrap,
    )
    if arguments.json:
        write_whole(
            arguments.json, json.dumps(fits_json(found), indent=1, ensure_ascii=False, allow_nan=False).encode()
        )
    print(fits_text(found))
    return 0


def _say_that_it_compiles(kinds: Sequence[type[Law]]) -> None:
    import sys

    from analysis.laws.posynomial import Posynomial

    if any(issubclass(kind, Posynomial) for kind in kinds):
        from analysis.fitting.kernel import is_compiled

        if not is_compiled():
            print("compiling, once on this machine: some ten seconds ...", file=sys.stderr)


def _hold_out(text: str | None) -> int | None:
    from analysis.runs.logs import AnalysisError

    if text is None:
        return None
    which, _, count = text.partition(":")
    if which != "largest" or not count.isdigit():
        raise AnalysisError(f"--hold-out must be largest:K, got {text!r}")
    return int(count)


def _objective(arguments: argparse.Namespace, usual_scale: Scale) -> Objective:
    from analysis.fitting.objective import AbsoluteDeviation, Huber, LeastSquares
    from analysis.runs.logs import AnalysisError

    scale: Scale = arguments.scale or usual_scale
    if arguments.objective != "huber" and arguments.delta is not None:
        raise AnalysisError("--delta is of Huber's loss alone")
    if arguments.objective == "lad":
        return AbsoluteDeviation(scale=scale)
    if arguments.objective == "squares":
        return LeastSquares(scale=scale)
    delta = 1e-3 if arguments.delta is None else arguments.delta
    if not 0 < delta < float("inf"):
        raise AnalysisError(f"--delta must be above 0, got {delta:g}")
    return Huber(delta=delta, scale=scale)
