"""`points RUNS --out points.parquet`: write the measurements of a study as a table."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="folder with runs, or wandb:entity/project?group=NAME")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="points.parquet or points.csv")
    parser.add_argument(
        "--every", action="store_true", help="all evaluations of all runs, not only those that a law may be fitted to"
    )


def run(arguments: argparse.Namespace) -> int:
    from analysis.runs.point_table import write_points

    written = write_points(arguments.runs, arguments.out, arguments.every)
    print(f"{written.path}: {written.num_points} points of {written.num_runs} runs on {', '.join(written.domains)}")
    return 0
