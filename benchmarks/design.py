"""What designed runs save against an even grid that reaches the same interval, on simulated studies.

Two recipes, K sizes over a range of 8, S seeds of each; noise as measured between the mixtures of the demo. The design
knows the noise floor, but plans on a curve that is not the true one. It is priced as the grid is: each run on its own,
or with shared trunks. `width` is the median half-width that the analysis reports of simulated studies, ours over the
grid's (for a gap 8 times as many studies, whose widths cost little); `told`: what was forecast of the two, each with
the true curve, over what came out. A JSON line each: what, ours and peer in FLOPs, ratio, unit, width, told, seconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    sys.path[:1] = [str(ROOT), str(ROOT / "tests" / "analysis")]
    import numpy as np
    from planning import simulated as sim

    from analysis.planning.forecast import forecast
    from analysis.planning.planned_run import flops_to_train
    from analysis.planning.question import Question, in_log_loss
    from analysis.planning.search import cheapest, field_of

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=60, help="simulated studies of each design")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5], help="of the even grid")
    parser.add_argument("--sizes", type=int, nargs="+", default=[7, 10], help="of the even grid")
    arguments = parser.parse_args()
    low, top, guess = sim.SIZES[0], sim.SIZES[-1], sim.curves((1.3, 45.0, 0.23))
    cases = itertools.product(
        {"alone": sim.ALONE, "trunks": sim.SHARED}.items(), arguments.sizes, arguments.seeds, ("gap", "multiplier")
    )
    for (pricing, schedule), num_sizes, count, kind in cases:
        sizes = [int(round(size, -4)) for size in np.geomspace(low, top, num_sizes).tolist()]
        question, grid = Question(kind, "a", "b", top), sim.even_grid(count, schedule, sizes)
        wanted = in_log_loss(question, forecast(question, grid, guess, sim.FLOOR).half_width, guess)
        began = time.process_time()
        runs = cheapest(field_of(question, grid, sizes, guess, sim.FLOOR), wanted) or ()
        seconds = time.process_time() - began
        widths, told, count_studies = [], [], arguments.studies * (8 if kind == "gap" else 1)
        for seed, design in enumerate((runs, grid)):
            rng = np.random.default_rng(seed)
            studies = [sim.simulated_study(design, rng) for _ in range(count_studies)]
            found = [sim.gap_width(s) if kind == "gap" else sim.multiplier_width(s, top) for s in studies]
            widths.append(float(np.median(found)))
            width = forecast(question, design, sim.curves(), sim.FLOOR).half_width
            told.append(round((width if kind == "gap" else float(np.log(width))) / widths[-1], 3))
        line = {
            "what": f"design: {kind} at the largest of {num_sizes} sizes, {count} seeds, runs {pricing}",
            "ours": flops_to_train(runs),
            "peer": flops_to_train(grid),
            "ratio": round(flops_to_train(runs) / flops_to_train(grid), 3),
            "unit": "FLOPs",
            "width": round(widths[0] / widths[1], 3),
            "told": told,
            "seconds": round(seconds, 2),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
