"""`design STUDY`: what a planned sweep can see, and the next runs as a sweep file."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.page.table import Table
    from analysis.planning.noise_floor import NoiseFloor
    from analysis.planning.plan import Plan
    from analysis.planning.question import Kind
    from analysis.runs.points import Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", help="folder with plan.json (action=plan writes it), runs, or both")
    parser.add_argument("--noise", metavar="RUNS", help="runs with repeated seeds that tell the noise floor")
    parser.add_argument("--noise-sd", type=float, metavar="SD", help="or stated: of one log loss, such as 0.005")
    parser.add_argument("--trunk-share", type=float, metavar="S", help="the part of its square that a trunk shares")
    parser.add_argument("--question", choices=("gap", "multiplier", "loss"), help="what is to be known (default: gap)")
    parser.add_argument("--a", metavar="RECIPE", help="which recipe it is about")
    parser.add_argument("--b", metavar="RECIPE", help="and which it is compared with")
    parser.add_argument("--at", type=_count, metavar="D", help="at how many tokens (default: the largest size)")
    parser.add_argument(
        "--half-width", type=float, metavar="W", help="of the interval to reach: nats per token, or a factor of tokens"
    )
    parser.add_argument("--budget", type=float, metavar="FLOPS", help="or the most that the next runs may cost")
    parser.add_argument("--sizes", type=_counts, default=(), metavar="D,D", help="further sizes to consider")
    parser.add_argument("--assume", metavar="E=..,B=..,beta=..", help="the curve, where no run tells it")
    parser.add_argument("--out", type=Path, metavar="YAML", help="where to write the next runs as a sweep")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results for scripts")


def run(arguments: argparse.Namespace) -> int:
    from analysis.design import design, facts, forecast_table, note, power_table, question_about, run_table, sentences
    from analysis.page.summary import plain
    from analysis.page.writing import write_whole
    from analysis.planning.assumed import fitted_curves, stated_curves
    from analysis.planning.sweep_file import sweep_yaml

    plan, study = _read(arguments.study)
    theta = _theta(arguments.assume)
    floor = _floor(arguments, plan, study)
    is_told = arguments.question or arguments.a or arguments.b or arguments.at
    question = None
    if is_told:
        kind: Kind = arguments.question or ("gap" if len(plan.recipes) > 1 else "loss")
        question = question_about(plan, kind, arguments.a, arguments.b, arguments.at)
    found = design(
        plan,
        floor,
        fitted_curves(plan, study, theta=theta) if study else stated_curves(plan, theta),
        question=question,
        half_width=arguments.half_width,
        max_flops=arguments.budget,
        sizes=arguments.sizes,
    )
    print("\n".join(sentences(found)))
    for table in (forecast_table(found), power_table(found), run_table(found.proposal) if found.proposal else None):
        if table is not None:
            print("\n" + _lines(table))
    print(f"\n{note()}")
    if arguments.json:
        write_whole(arguments.json, json.dumps(plain(facts(found)), indent=1, ensure_ascii=False).encode())
    if arguments.out and found.proposal:
        write_whole(arguments.out, sweep_yaml(plan, found.proposal.runs).encode())
        then = "" if arguments.out.parent.name == "sweeps" else ", once it lies in sweeps/"
        print(f"\n{arguments.out}: python -m scaling +sweeps={arguments.out.stem}{then}")
    elif arguments.out:
        print(f"\n{arguments.out} is not written: there is no run to add")
    return 0


def _lines(table: Table) -> str:
    rows = [list(table.columns), *table.texts]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _read(place: str) -> tuple[Plan, Study | None]:
    """The plan in a file or folder, and what runs in the folder have measured."""
    from analysis.planning.plan import PLAN_FILE, plan_of, read_plan
    from analysis.runs.logs import AnalysisError, find_log_files
    from analysis.runs.points import build_study
    from analysis.runs.records import read_runs

    path = Path(place)
    if place.startswith("wandb:"):
        study = build_study(read_runs([place]))
        return plan_of(study), study
    if not path.exists():
        raise AnalysisError(f"no such folder or plan: {place!r}")
    planned = read_plan(path if path.is_file() else path / PLAN_FILE) if _has_plan(path, PLAN_FILE) else ()
    logged = build_study(read_runs([place])) if path.is_dir() and find_log_files(path) else None
    if not planned and logged is None:
        raise AnalysisError(f"{place!r} holds neither {PLAN_FILE} (python -m scaling ... action=plan) nor runs")
    return plan_of(logged, planned), logged


def _has_plan(path: Path, name: str) -> bool:
    return path.is_file() or (path / name).is_file()


def _floor(arguments: argparse.Namespace, plan: Plan, study: Study | None) -> NoiseFloor:
    from analysis.planning.noise_floor import USUAL_SHARE, NoiseFloor, study_floor
    from analysis.runs.logs import AnalysisError
    from analysis.runs.points import build_study
    from analysis.runs.records import read_runs

    sd, share = arguments.noise_sd, arguments.trunk_share
    if share is not None and not 0 <= share <= 1:
        raise AnalysisError(f"--trunk-share must be from 0 to 1, got {share:g}")
    if sd is not None:
        if arguments.noise:
            raise AnalysisError("--noise and --noise-sd are two answers to one question: give one")
        if not 0 < sd < 1:
            raise AnalysisError(f"--noise-sd must be above 0 and below 1 (0.005 is half a per cent), got {sd:g}")
        return NoiseFloor(sd, USUAL_SHARE if share is None else share, None)
    told = build_study(read_runs([arguments.noise])) if arguments.noise else study
    floor = study_floor(told) if told else None
    if floor is None:
        where = repr(arguments.noise or arguments.study)
        raise AnalysisError(
            f"no seed is repeated in {where}: give --noise RUNS with repeated seeds, or --noise-sd 0.005"
        )
    return floor if share is None else NoiseFloor(floor.sd, share, floor.degrees)


def _theta(text: str | None) -> tuple[float, float, float] | None:
    from analysis.runs.logs import AnalysisError

    if text is None:
        return None
    try:
        told = {name.strip(): float(value) for name, value in (part.split("=") for part in text.split(","))}
        is_whole = set(told) == {"E", "B", "beta"} and all(map(math.isfinite, told.values()))
        if not is_whole or told["E"] < 0 or told["B"] <= 0 or told["beta"] <= 0:
            raise ValueError
    except ValueError:
        raise AnalysisError(
            f"--assume must be E=..,B=..,beta=.. with E from 0 and the others above, got {text!r}"
        ) from None
    return told["E"], told["B"], told["beta"]


def _count(text: str) -> int:
    try:
        value = float(text.replace("_", ""))
    except ValueError:
        value = math.nan
    if not 1 <= value < 1e18:
        raise argparse.ArgumentTypeError(f"wanted a number of tokens, got {text!r}")
    return round(value)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.split(","))
