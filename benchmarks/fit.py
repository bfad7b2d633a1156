"""Fits against what one would run instead: SciPy's L-BFGS-B from the usual 4500 starts, and `chinchilla` from PyPI.

python -m benchmarks.fit [--published DIR] [--every 100]: one JSON line per comparison, all of one run; times are CPU
seconds of one thread, because other work on the machine would count otherwise. --every k: the peers take every k-th of
their starts and resamples, and their time is multiplied by k. DIR: a folder with the published tables, whose objectives
are compared too; without it the speed is measured on a simulated table of the same size.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path

if not __package__:  # run as a file: else `import coverage`, which numba does, would find benchmarks/coverage.py
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import pyarrow.csv
from numpy.typing import NDArray
from scipy.optimize import minimize

from analysis.fitting.minimise import minimise, minimise_resamples
from analysis.fitting.objective import Huber
from analysis.laws.chinchilla import Chinchilla
from analysis.laws.law import Array, Columns
from analysis.laws.power import Power

HUBER = Huber(1e-3)
STARTS = np.array(list(product(range(0, 30, 5), range(0, 30, 5), np.linspace(-1, 1, 5), *[np.linspace(0, 2, 5)] * 2)))
"""log A, log B, log E, alpha, beta: the grid of Hoffmann et al. 2022, as Besiroglu et al. 2024 run it."""
NUM_RESAMPLES = 4000


def main() -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--published", type=Path)
    parser.add_argument("--every", type=int, default=100)
    arguments = parser.parse_args()
    at, y = chinchilla_table(arguments.published)
    minimise(Chinchilla(), at, y, HUBER)  # compiled once per machine
    for line in (
        *speed(at, y, arguments.every),
        curves(arguments.every),
        *(objectives(arguments.published, arguments.every) if arguments.published else ()),
    ):
        print(json.dumps(line), flush=True)


def speed(at: Columns, y: Array, every: int) -> Iterator[dict[str, object]]:
    """One fit of the five-parameter law and its bootstrap."""
    ours = minimise(Chinchilla(), at, y, HUBER)
    seconds = best_seconds(lambda: minimise(Chinchilla(), at, y, HUBER), rounds=9)
    start = time.process_time()
    peer = scipy_fit(at, y, np.ones(len(y)), STARTS[::every])
    peer_seconds = (time.process_time() - start) * len(STARTS) / len(STARTS[::every])
    yield line(
        "one global fit of five parameters",
        seconds,
        peer_seconds,
        peer_name=f"SciPy L-BFGS-B, {len(STARTS)} starts",
        num_points=len(y),
        objective_excess=ours.value / peer - 1,
    )
    own, found, num_starts = pypi_fit(at, y, every)
    yield line(
        "one global fit of five parameters",
        seconds,
        own,
        peer_name=f"chinchilla {version('chinchilla')}, {num_starts} starts",
        num_points=len(y),
        objective_excess=ours.value / found - 1,
    )
    counts = resamples(len(y), NUM_RESAMPLES)
    _, values = minimise_resamples(Chinchilla(), at, y, HUBER, counts, ours.theta)
    seconds = best_seconds(lambda: minimise_resamples(Chinchilla(), at, y, HUBER, counts, ours.theta))
    warm = np.array([[*np.log(ours.theta[[1, 2, 0]]), *ours.theta[3:]]])
    start = time.process_time()
    peers = np.array([scipy_fit(at, y, w, warm) for w in counts[::every]])
    peer_seconds = (time.process_time() - start) * NUM_RESAMPLES / len(peers)
    yield line(
        f"{NUM_RESAMPLES} bootstraps of five parameters",
        seconds,
        peer_seconds,
        peer_name="SciPy L-BFGS-B from the fit to all rows",
        num_points=len(y),
        largest_objective_excess=float((values[::every] / peers - 1).max()),
    )


def curves(every: int, num_curves: int = 100, num_resamples: int = 1000) -> dict[str, object]:
    """Power laws of 8 sizes x 3 seeds with a bootstrap each: a study of many recipes and domains."""
    rng = np.random.default_rng(0)
    D = np.repeat(np.geomspace(1e7, 2e9, 8), 3)
    tables = [
        (2 + rng.random()) * (1 + (D / 1e6) ** -rng.uniform(0.2, 0.5)) * np.exp(rng.normal(0, 0.003, len(D)))
        for _ in range(num_curves)
    ]
    counts = resamples(len(D), num_resamples)
    minimise(Power(), {"D": D}, tables[0], HUBER)
    start = time.process_time()
    fits = []
    for y in tables:
        fits.append(minimise(Power(), {"D": D}, y, HUBER))
        minimise_resamples(Power(), {"D": D}, y, HUBER, counts, fits[-1].theta)
    seconds = time.process_time() - start
    start = time.process_time()
    chosen = range(0, num_curves, max(1, num_curves // 4))
    for i in chosen:
        E, B, beta = fits[i].theta
        for w in counts[::every]:
            scipy_power(D, tables[i], w, np.array([np.log(B), np.log(max(E, 1e-3)), beta]))
    share = len(chosen) * len(counts[::every]) / (num_curves * num_resamples)
    return line(
        f"{num_curves} curves x {num_resamples} bootstraps",
        seconds,
        (time.process_time() - start) / share,
        peer_name="SciPy L-BFGS-B from the fit to all rows",
        num_points=len(D),
    )


def objectives(published: Path, every: int) -> Iterator[dict[str, object]]:
    """The objective of every published table that has N, D and a loss: never above SciPy's by more than rounding."""
    for name, at, y in published_tables(published):
        ours = minimise(Chinchilla(), at, y, HUBER)
        peer = scipy_fit(at, y, np.ones(len(y)), STARTS[::every])
        yield {
            "what": f"objective of {name}",
            "ours": ours.value,
            "peer": peer,
            "ratio": ours.value / peer,
            "unit": "sum of Huber(1e-3) of log residuals",
            "peer_name": f"SciPy L-BFGS-B, {len(STARTS[::every])} starts",
            "num_points": len(y),
            "converged": ours.converged,
            "at_bound": ours.at_bound,
        }


def line(what: str, seconds: float, peer_seconds: float, **more: object) -> dict[str, object]:
    """A comparison of times. ratio: how many times the peer's time is ours."""
    return {
        "what": what,
        "ours": round(seconds, 5),
        "peer": round(peer_seconds, 3),
        "ratio": round(peer_seconds / seconds, 1),
        "unit": "CPU seconds, one thread",
        **more,
    }


def best_seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """CPU seconds of the fastest round."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def resamples(num_points: int, count: int) -> NDArray[np.float64]:
    """How often each row is drawn in each bootstrap, (count, num_points)."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, num_points, (count, num_points))
    return np.stack([np.bincount(row, minlength=num_points) for row in drawn]).astype(float)


def scipy_fit(at: Columns, y: Array, weights: Array, starts: Sequence[Array] | Array) -> float:
    """The least objective that L-BFGS-B reaches, with exact derivatives, the law as a sum of exponentials."""
    log_N, log_D, goal = np.log(at["N"]), np.log(at["D"]), np.log(y)

    def objective(x: Array) -> tuple[float, Array]:
        a, b, e, alpha, beta = x
        terms = np.exp(np.stack([a - alpha * log_N, b - beta * log_D, np.full(len(goal), e)]))
        loss = terms.sum(axis=0)
        residual = np.log(loss) - goal
        pull = weights * np.clip(residual, -HUBER.delta, HUBER.delta) / loss
        by_term = terms @ pull
        slope = np.array([*by_term, -(terms[0] * log_N) @ pull, -(terms[1] * log_D) @ pull])
        return float((weights * HUBER.value(residual)).sum()), slope

    return lowest(objective, starts)


def scipy_power(D: Array, y: Array, weights: Array, start: Array) -> float:
    """The same for L(D) = E + B / D^beta; start: log B, log E, beta."""
    log_D, goal = np.log(D), np.log(y)

    def objective(x: Array) -> tuple[float, Array]:
        falling = np.exp(x[0] - x[2] * log_D)
        floor = np.exp(x[1])
        residual = np.log(floor + falling) - goal
        pull = weights * np.clip(residual, -HUBER.delta, HUBER.delta) / (floor + falling)
        slope = np.array([falling @ pull, floor * pull.sum(), -(falling * log_D) @ pull])
        return float((weights * HUBER.value(residual)).sum()), slope

    return lowest(objective, [start])


def lowest(objective: Callable[[Array], tuple[float, Array]], starts: Sequence[Array] | Array) -> float:
    """Least value over the starts; the best is polished once more, because tolerances are absolute below 1."""
    tight = {"ftol": 1e-15, "gtol": 1e-12, "maxiter": 2000, "maxfun": 4000}
    with np.errstate(all="ignore"):
        found = [minimize(objective, start, jac=True, method="L-BFGS-B") for start in starts]
        best = min(found, key=lambda result: float(result.fun))
        polished = minimize(objective, best.x, jac=True, method="L-BFGS-B", options=tight)
    return float(min(best.fun, polished.fun))


def pypi_fit(at: Columns, y: Array, every: int) -> tuple[float, float, int]:
    """`chinchilla` from PyPI on the same rows: CPU seconds for its 3125 starts, our objective at its parameters."""
    from chinchilla import Chinchilla as Peer
    from chinchilla._metrics import log_huber

    side = max(1, round((3125 / every) ** 0.2))
    spans = {"E": (1.0, 2.5), "A": (1.0, 10.0), "B": (1.0, 10.0), "alpha": (0.1, 0.7), "beta": (0.1, 0.7)}
    grid = {name: np.linspace(*span, side) for name, span in spans.items()}
    for name in "AB":
        grid[name] = np.exp(grid[name])
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "df.csv"
        rows = zip(6 * at["N"] * at["D"], at["N"], at["D"], y, strict=True)
        table.write_text("C,N,D,loss\n" + "".join(",".join(map(repr, map(float, row))) + "\n" for row in rows))
        peer = Peer(folder, param_grid=grid, log_level=50, loss_fn=partial(log_huber, delta=HUBER.delta))
        start = time.process_time()
        peer.fit(parallel=False)
        seconds = time.process_time() - start
    found = np.array([float(peer.params[name]) for name in ("E", "A", "B", "alpha", "beta")])
    residual = np.log(Chinchilla().loss(found, at)) - np.log(y)
    return seconds * 3125 / side**5, float(HUBER.value(residual).sum()), 3125


def chinchilla_table(published: Path | None) -> tuple[Columns, Array]:
    """The 240 points of Hoffmann et al. 2022 as read off their figure, or as many simulated ones."""
    if published is not None:
        table = read(published / "chinchilla_epoch" / "chinchilla_NDL.csv")
        kept = np.array([value not in (True, "True") for value in table["outlier_dropped"]])
        return {k: table[k][kept].astype(float) for k in "ND"}, table["loss"][kept].astype(float)
    rng = np.random.default_rng(0)
    at = {"N": 10 ** rng.uniform(7.5, 10, 240), "D": 10 ** rng.uniform(8.5, 11.5, 240)}
    truth = np.array([1.8, 480.0, 2100.0, 0.35, 0.37])
    return at, Chinchilla().loss(truth, at) * np.exp(0.005 * rng.standard_t(3, 240))


def published_tables(published: Path) -> Iterator[tuple[str, Columns, Array]]:
    """Name, columns N and D, loss of every published table of L(N, D)."""
    yield "chinchilla_epoch, 240 points", *chinchilla_table(published)
    table = read(published / "chinchilla_epoch" / "chinchilla_NDL.csv")
    yield "chinchilla_epoch, all points", *columns(table, "N", "D", "loss")
    yield "llm_tutorial_kyo", *columns(read(published / "llm_tutorial_kyo" / "df.csv"), "N", "D", "loss")
    for name in ("runs_182_outliers_removed", "runs_all_incl_seeds"):
        table = read(published / "datablations" / f"{name}.csv")
        yield f"datablations {name}, every token as new", *columns(table, "params", "tokens", "val_loss")
    table = read(published / "gadre_overtraining" / "models_104.csv")
    for corpus in np.unique(table["dataset_name"]):
        own = {name: column[table["dataset_name"] == corpus] for name, column in table.items()}
        for loss in sorted(own):
            if loss.startswith("loss_") and "_upper_" not in loss and "_lower_" not in loss:
                yield f"gadre_overtraining {corpus} {loss}", *columns(own, "N", "D", loss)


def columns(table: dict[str, NDArray[np.generic]], N: str, D: str, loss: str) -> tuple[Columns, Array]:
    """N, D and the loss of the rows that have one above 0."""
    n, d, y = (np.asarray(table[name], float) for name in (N, D, loss))
    kept = np.isfinite(y) & (y > 0) & (d > 0)
    return {"N": n[kept], "D": d[kept]}, y[kept]


def read(path: Path) -> dict[str, NDArray[np.generic]]:
    """A CSV file as arrays."""
    table = pyarrow.csv.read_csv(path)
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


if __name__ == "__main__":
    main()
