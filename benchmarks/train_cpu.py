"""How fast the demo's model trains on the CPU, against `transformers.Trainer` on the same cores.

    python -m benchmarks.train_cpu [--rounds 3] [--seconds 5]

One run on all cores, and, as the demo does it, two runs at once on one core each; the Trainer in the same way. Ours
is a whole run with real data, logging and four evaluations of 5,000 tokens; the Trainer's tokens are random and in
memory, and it evaluates nothing. Where there is a C++ compiler, ours is measured compiled, too. The rounds alternate,
and the median of each side counts. Every measurement has a process of its own; the Trainer's is a fresh one, without
what our launcher sets for its own. Prints one line of JSON per comparison.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.train_cases import CASES, Texts
from benchmarks.train_peers import PEERS
from benchmarks.train_runs import Lab, comparison, steps
from scaling.launch import start_server


def compare(lab: Lab, texts: Texts, num_runs: int, rounds: int, seconds: float, is_compiled: bool) -> dict[str, Any]:
    """Tokens per second in all of `num_runs` runs at once, which share the cores."""
    case, threads = CASES["tiny"], max(1, (os.cpu_count() or 1) // num_runs)
    place = {
        "placement.device": "cpu",
        "placement.threads": threads,
        "placement.runs_per_device": num_runs,
        "placement.compile": is_compiled,
        "evaluation.max_tokens": 5000,
    }
    specs = [
        texts.spec(case, steps(case, seconds), {**place, "seeds.order": order, "seeds.init": order})
        for order in range(num_runs)
    ]
    pairs = [(lab.ours(specs), lab.peer("trainer", specs, seconds)) for _ in range(rounds)]
    return comparison(
        f"{case.title}: {num_runs} run{'s' * (num_runs > 1)} at once, threads of each: {threads}"
        + (", compiled" if is_compiled else ""),
        median(ours.tokens_per_second for ours, _ in pairs),
        median(peer.tokens_per_second for _, peer in pairs),
        PEERS["trainer"][0],
        "tokens per second",
        rounds=[[round(ours.tokens_per_second), round(peer.tokens_per_second)] for ours, peer in pairs],
        first_step_seconds={
            "ours": round(median(ours.first_step_seconds for ours, _ in pairs), 2),
            "peer": round(median(peer.first_step_seconds for _, peer in pairs), 2),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a measurement, after warm-up")
    asked = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")  # GOMP_SPINCOUNT is for ours, whose server has its environment by now
    context = start_server()
    os.environ.pop("GOMP_SPINCOUNT")
    with tempfile.TemporaryDirectory() as scratch:
        folder, cache = Path(scratch), Path(scratch) / "cache"
        lab, texts = Lab(context, spawn, folder, cache), Texts(folder / "corpus", cache)
        for num_runs, is_compiled in product((1, 2), (False, True) if shutil.which("g++") else (False,)):
            line = compare(lab, texts, num_runs, asked.rounds, asked.seconds, is_compiled)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
