"""The measurements of a study as a plain table, with the columns that `fit` and `contrast` read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.downstream.task_points import task_point_table, with_task_points
from analysis.downstream.task_study import task_study
from analysis.page.table import Cell, Table, csv_bytes
from analysis.page.writing import write_whole
from analysis.runs.logs import AnalysisError
from analysis.runs.points import Study, build_study
from analysis.runs.records import read_runs
from analysis.runs.run import EvalPoint, Run, Sums

COLUMNS = (
    "recipe",
    "run",
    "fingerprint",
    "state",
    "role",
    "domain",
    "N",
    "D",
    "U",
    "C",
    "epochs",
    "loss",
    "bpb",
    "sum_nats",
    "num_eval_tokens",
    "num_eval_bytes",
    "at_decay_end",
    "seed",
    "trunk",
    "is_held_out",
)
"""Then `w:<domain>` per domain: the share of D that the run read of it.

role: `fit` or `held_out` for what a fit reads, `trajectory` for the rest. N: parameters without embeddings. D, C:
tokens trained on and FLOPs spent so far. U: unique tokens, those of the whole run, D before it has read as many.
epochs: how often the whole run read a token, on average. loss: nats per token; bpb: bits per byte; sum_nats,
num_eval_tokens, num_eval_bytes: the sums behind them. seed: all seeds of a run. trunk: runs of one recipe and equal
seeds, which share a trunk or at least their start: what a bootstrap draws.
"""


@dataclass(frozen=True)
class PointFile:
    """The table as written."""

    path: Path
    num_points: int
    num_runs: int
    domains: tuple[str, ...]


def write_points(places: Sequence[str], out: Path, every: bool = False, api: Any = None) -> PointFile:
    """Write the points of the runs in `places` to `out`: `.parquet` or `.csv`.

    every: all evaluations of all runs, not only those at the end of a complete run, which a law may be fitted to.
    api: a wandb.Api for runs on a server. Raises AnalysisError for another suffix, or where the runs make no study.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise AnalysisError(f"--out must end in .parquet or .csv, got {str(out)!r}")
    logs = read_runs(places, api)
    tasks = task_study(logs)
    has_losses = tasks is None or any(run.state == "complete" for run in logs.runs)
    table = point_table(build_study(logs), every) if has_losses else None
    if tasks is not None:
        table = with_task_points(table, task_point_table(tasks))
    assert table is not None
    write_whole(out, csv_bytes(table) if out.suffix == ".csv" else _parquet_bytes(table))
    run, domain = table.columns.index("fingerprint"), table.columns.index("domain")
    domains = tuple(sorted({str(row[domain]) for row in table.rows}))
    return PointFile(out, len(table.rows), len({row[run] for row in table.rows}), domains)


def point_table(study: Study, every: bool = True) -> Table:
    """A row per run, evaluation and domain; without `every`, those that a law may be fitted to."""
    roles = {(p.run, p.tokens, p.domain): "held_out" if p.is_held_out else "fit" for p in study.points}
    shares = sorted({domain for run in study.runs if run.ledger for domain in run.ledger.domains})
    rows = []
    for run in study.runs:
        about = _About.of(run, study.recipe_of[run.fingerprint], shares)
        for point in run.points:
            for domain, sums in point.domains.items():
                role = roles.get((run.name, point.tokens, domain), "trajectory")
                if every or role != "trajectory":
                    rows.append(about.row(point, domain, sums, role))
    return Table("points", (*COLUMNS, *(f"w:{domain}" for domain in shares)), tuple(rows))


@dataclass(frozen=True)
class _About:
    """What is the same in all rows of a run."""

    run: Run
    recipe: str
    seed: str
    unique_tokens: int | None
    epochs: float | None
    weights: tuple[float | None, ...]

    @classmethod
    def of(cls, run: Run, recipe: str, shares: Sequence[str]) -> _About:
        seed = ", ".join(f"{name} {value}" for name, value in run.seeds)
        if run.ledger is None:
            return cls(run, recipe, seed, None, None, (None,) * len(shares))
        seen = run.ledger.domains
        weights = tuple(seen[domain].realised_weight if domain in seen else 0.0 for domain in shares)
        return cls(run, recipe, seed, run.ledger.unique_tokens, run.ledger.mean_epochs, weights)

    def row(self, point: EvalPoint, domain: str, sums: Sums, role: str) -> tuple[Cell, ...]:
        """In the order of COLUMNS."""
        run = self.run
        is_last = run.ledger is not None and point.tokens == run.ledger.tokens
        return (
            self.recipe,
            run.name,
            run.fingerprint,
            run.state,
            role,
            domain,
            run.num_params,
            point.tokens,
            None if self.unique_tokens is None else min(self.unique_tokens, point.tokens),
            run.flops if is_last else run.flops_per_token * point.tokens,
            self.epochs,
            sums.loss,
            sums.bpb,
            sums.sum_nats,
            sums.num_tokens,
            sums.num_bytes,
            point.at_decay_end,
            self.seed,
            f"{self.recipe} / {self.seed}",
            role == "held_out",
            *self.weights,
        )


def _parquet_bytes(table: Table) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = zip(*table.rows, strict=True)
    arrow = pa.table({name: list(column) for name, column in zip(table.columns, columns, strict=True)})
    sink = pa.BufferOutputStream()
    pq.write_table(arrow, sink, compression="zstd")
    return bytes(sink.getvalue())
