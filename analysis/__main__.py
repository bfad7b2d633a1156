"""The command line: `python -m analysis VERB ...`."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Sequence

VERBS = {
    "report": "write the report of a study",
    "fit": "fit scaling laws to a table of runs",
    "contrast": "compare two recipes",
    "design": "say what a planned sweep can see, and which runs to add",
    "points": "write the measurements of a study as a table",
}
"""Each is a module of `analysis.verbs`, imported only where it is asked for: help must be quick."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns 0, 2 with a one-line message for what the user can put right, or 130 after Ctrl-C."""
    # The systems that are solved are small: threads of the linear algebra would wait for each other. Before NumPy.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from analysis.runs.logs import AnalysisError

    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m analysis", description="Read runs, fit curves, write the report.")
    parsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = None
    for name, does in VERBS.items():
        parser_of_verb = parsers.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
        if words[:1] == [name]:
            verb = importlib.import_module(f"analysis.verbs.{name}")
            verb.add_arguments(parser_of_verb)
    words = getattr(verb, "as_options", list)(words)  # of settings, such as report.language=zh
    arguments = parser.parse_args(words)
    assert verb is not None  # a word that is no verb ended in parse_args
    try:
        return int(verb.run(arguments))
    except BrokenPipeError:  # who reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (AnalysisError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    gc.disable()  # looking for cycles among a million points takes a tenth of the time, and finds none worth freeing
    code = main()
    gc.freeze()  # nor does it at the end, where Python looks whether it is enabled or not
    sys.exit(code)
