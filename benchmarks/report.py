"""The report of a large study from offline logs: 1000 runs of 50 points each, cold, then with the logs remembered.

Recipes are mixtures of two domains; each has sizes x seeds runs of a planted power law, written as the files that wandb
leaves (two looks at the training between any two points). Every measurement is a process of its own and counts its
imports; peak memory is the most that it ever held. Prints a JSON line each: what, seconds, cpu_seconds, peak_gb.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SIZES, SEEDS, POINTS, LOOKS = 10, 5, 50, 2


def write_runs(folder: Path, recipes: int, runs: int) -> None:
    """The logs of so many runs, spread evenly over recipes, then sizes, then seeds."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "analysis")]
    import numpy as np
    from planted import eval_row, mixture_law, spec, summary_of, write_log

    rng = np.random.default_rng(0)
    seeds = max(1, runs // (recipes * SIZES))
    for number in range(runs):
        recipe, (size, seed) = number % recipes, divmod(number // recipes, seeds)
        weights = {"docs": round((recipe + 1) / (recipes + 1), 6)}
        weights["code"] = round(1 - weights["docs"], 6)
        tokens = 62_500 * 2**size
        at = [tokens * (i + 1) // POINTS for i in range(POINTS)]
        curves = {d: mixture_law(weights, d).loss(at) * np.exp(rng.normal(0, 0.003)) for d in weights}
        history: list[dict[str, Any]] = []
        for i, D in enumerate(at):
            for _ in range(LOOKS):
                looked = {"train/loss": 5.0, "train/lr": 0.01, "train/grad_norm": 0.8765, "perf/mfu": 0.31}
                history.append({"tokens": D, **looked, "perf/tokens_per_second": 6431.501, "_timestamp": 1.795e9})
            losses = {domain: float(curve[i]) for domain, curve in curves.items()}
            history.append(eval_row(D, losses, at_decay_end=i == POINTS - 1))
        tree = spec(tokens, seed, weights)
        write_log(folder, tree, history, summary_of(tree, 0 if size == 0 else tokens * 2 // 5))


def measured(what: str, command: list[str], cache: Path) -> dict[str, Any]:
    """Wall seconds, CPU seconds and peak memory of a process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "SCALING_CACHE": str(cache)}, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    assert before is not None
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6
    return {"what": what, "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "peak_gb": round(peak, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", type=int, default=20)
    parser.add_argument("--runs", type=int, default=1000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        runs, cache = Path(place, "runs"), Path(place, "cache")
        write_runs(runs, chosen.recipes, chosen.runs)
        points = [sys.executable, "-m", "analysis", "points", str(runs), "--out", str(Path(place, "points.parquet"))]
        page = [sys.executable, "-m", "analysis", "report", str(runs), "--out", str(Path(place, "page"))]
        of = f"{chosen.runs} runs x {POINTS} points, {chosen.recipes} recipes"
        print(json.dumps(measured(f"points, cold: {of}", points, cache)), flush=True)
        print(json.dumps(measured(f"points, warm: {of}", points, cache)), flush=True)
        print(json.dumps(measured(f"report, cold: {of}", page, Path(place, "another"))), flush=True)
        print(json.dumps(measured(f"report, warm: {of}", page, cache)), flush=True)


if __name__ == "__main__":
    main()
