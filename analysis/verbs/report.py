"""`report RUNS... [--out DIR] [--language zh]`: write the report of a study."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

OVERRIDE = "report.language="
"""The language may be said as sweeps say their settings."""


def as_options(words: Sequence[str]) -> list[str]:
    """The words of the command line with the language as an option, which may stand anywhere among them."""
    return [f"--{word}" if word.startswith(OVERRIDE) else word for word in words]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from analysis.page.language import LANGUAGES

    parser.add_argument("runs", nargs="+", metavar="RUNS", help="folder with runs, or wandb:entity/project?group=NAME")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default for one folder: RUNS/report)")
    parser.add_argument(
        "--language", choices=LANGUAGES, help="of the page and its figures (default: en); also report.language=zh"
    )
    parser.add_argument(f"--{OVERRIDE[:-1]}", dest="override", help=argparse.SUPPRESS)
    parser.add_argument(
        "--publish",
        nargs="?",
        const="offline",
        choices=("offline", "online"),
        help="log it to W&B as well, in the study's group; offline (default): beside the report, for `wandb sync`",
    )


def run(arguments: argparse.Namespace) -> int:
    from analysis.page.language import LANGUAGES, speaking
    from analysis.report import report
    from analysis.runs.logs import AnalysisError

    places = arguments.runs
    language = arguments.language or (arguments.override if arguments.override is not None else "en")
    if language not in LANGUAGES:
        raise AnalysisError(f"report.language must be one of {', '.join(LANGUAGES)}, got {language!r}")
    out = arguments.out
    if out is None and (len(places) > 1 or places[0].startswith("wandb:")):
        raise AnalysisError("--out DIR is needed where runs come from a server or from several folders")
    written = report(places, out or Path(places[0]) / "report", language=language)
    print(written.path)
    print(written.headline)
    if arguments.publish:
        from analysis.publish import publish

        with speaking(language):
            published = publish(written, arguments.publish)
        for place in (published.place, *published.views):
            print(place)
        if arguments.publish == "online" and not published.views:
            print("no workspace or W&B report was saved: install data-scaling[reports] for that")
    return 0
