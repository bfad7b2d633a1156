"""The state of each run, in a small file that a sweep keeps up to date; `python -m scaling.status RUNS` shows it."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scaling.child import AnySpec, job_type, read_spec, task_of
from scaling.files import write_json
from scaling.identity import directory_name, fingerprint
from scaling.spec import RunSpec
from scaling.task import metric_of

State = Literal["planned", "running", "complete", "preempted", "interrupted", "failed", "diverged"]
LOG_WIDTH = 160
"""Columns of a table that goes to a file or a pipe, which have no edge to wrap at."""
STYLES = {
    "complete": "green",
    "running": "cyan",
    "failed": "red",
    "diverged": "red",
    "preempted": "yellow",
    "interrupted": "yellow",
}
SETTLED = ("complete", "diverged")
"""States of runs that the same command leaves as they are."""
OVER = (*SETTLED, "failed")
"""States of runs that were not cut off."""
KINDS = {"pretrain": "pretraining", "finetune": "fine-tuning", "compress": "compression"}
"""What runs of each job type do, in words."""
DISK = "disk: "
"""How the error of a run begins whose disk is full, read-only or broken: it goes on once that is put right."""
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class Status(BaseModel):
    """What a run is doing, or how it ended.

    tokens: trained on so far; of fine-tuning, rows of its task. trunk_tokens: of those, taken over. note: what it waits
    for. loss: nats per token, by domain. scores: of a task, by metric.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: State = "planned"
    tokens: int = 0
    trunk_tokens: int = 0
    tokens_per_second: float | None = None
    seconds: float = 0.0
    error: str | None = None
    note: str | None = None
    loss: dict[str, float] = {}
    scores: dict[str, float] = {}


def read_status(run_dir: Path) -> Status:
    """The status of a run. A run that says it is running while nobody holds its lock was interrupted."""
    try:
        status = Status.model_validate_json((run_dir / "status.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Status()
    except (OSError, ValueError) as error:  # pydantic's and unicode's are ValueErrors
        return Status(state="failed", error=f"status.json cannot be read: {error}".splitlines()[0])
    if status.state == "running" and not is_locked(run_dir):
        return status.model_copy(update={"state": "interrupted", "error": "cut off; the same command goes on"})
    return status


def write_status(run_dir: Path, status: Status) -> None:
    """Replace the status of a run."""
    write_json(run_dir / "status.json", status.model_dump(mode="json"))


def failure(error: BaseException) -> str:
    """One line that says how a run failed. Libraries wrap the system's errors, so the causes are searched, too."""
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    cause: BaseException | None = error
    while cause is not None:
        for line in str(cause).splitlines():
            if any(os.strerror(code) in line for code in DISK_ERRORS):
                return DISK + line.strip()
        cause = cause.__cause__ or cause.__context__
    return reason


@contextlib.contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Hold a run's folder for this process. While another process trains this run, wait for it to end."""
    with FileLock(run_dir / "run.lock").acquire(poll_interval=0.2):
        yield


def is_locked(run_dir: Path) -> bool:
    """Whether a living process holds the run."""
    lock = FileLock(run_dir / "run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def short(number: float) -> str:
    """1_500_000 -> '1.5M': three significant digits with a unit."""
    number = float(f"{number:.3g}")
    for unit, size in {"T": 1e12, "B": 1e9, "M": 1e6, "k": 1e3}.items():
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """3725 -> '1:02:05'."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def outcome(spec: AnySpec, status: Status) -> str:
    """The number that a run is made for, as far as it is known: the target's loss, or the metric of the task."""
    if isinstance(spec, RunSpec):
        loss = status.loss.get(spec.study.target)
        return "" if loss is None else f"{loss:.3f}"
    metric = metric_of(task_of(spec))
    if metric not in status.scores:
        return ""
    return f"{metric} {status.scores[metric]:.3f}" + ("" if status.state == "complete" else " (validation)")


def status_table(rows: list[tuple[AnySpec, Status]], num_to_come: int = 0) -> Table:
    """One line per run: state, tokens, speed, loss or score, and the error if there is one.

    num_to_come: runs that have not begun, which have no line.
    """
    caption = totals(rows) + (f"\nto come: {num_to_come} of the last sweep" if num_to_come else "")
    table = Table(caption=caption, caption_justify="left", box=None, header_style="bold")
    table.add_column("run", overflow="fold", min_width=24)
    table.add_column("state", no_wrap=True)
    is_mixed = any(not isinstance(spec, RunSpec) for spec, _ in rows)
    amount = "tokens or rows" if is_mixed else "tokens"
    for name in (amount, "of", "from trunk", f"{amount}/s", "loss or score" if is_mixed else "loss"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for spec, status in rows:
        table.add_row(
            directory_name(spec),
            f"[{STYLES.get(status.state, 'dim')}]{status.state}",
            short(status.tokens),
            short(spec.budget.num_tokens) if isinstance(spec, RunSpec) else "",
            short(status.trunk_tokens) if status.trunk_tokens else "",
            "" if status.tokens_per_second is None else short(status.tokens_per_second),
            outcome(spec, status),
            Text(status.error or status.note or ""),  # not markup: it may hold brackets
        )
    return table


def totals(rows: list[tuple[AnySpec, Status]]) -> str:
    """A line per kind of run: how many are in which state, what they trained on themselves, how long they took."""
    lines = []
    for kind, word in KINDS.items():
        found = [status for spec, status in rows if job_type(spec) == kind]
        if found:
            states = Counter(status.state for status in found)
            amount = sum(status.tokens - status.trunk_tokens for status in found)
            trained = f"{short(amount)} {'tokens' if kind == 'pretrain' else 'rows'}, " if amount else ""
            counts = ", ".join(f"{count} {state}" for state, count in states.items())
            lines.append(f"{word}: {counts}; {trained}{duration(sum(status.seconds for status in found))} of run time")
    return "\n".join(lines)


def read_runs(runs: Path) -> list[tuple[AnySpec, Status]]:
    """Every run under a study's folder, by name; those whose spec cannot be read are left out."""
    rows = []
    for path in sorted(runs.glob("*/spec.json")):
        with contextlib.suppress(OSError, ValueError):
            rows.append((read_spec(path), read_status(path.parent)))
    return rows


def count_to_come(runs: Path) -> int:
    """How many runs of the last sweep have not begun; 0 where no sweep has said which there are."""
    try:
        told = json.loads((runs / "study.json").read_text(encoding="utf-8"))
        return sum(not (runs / name / "spec.json").exists() for name in told["runs"])
    except (OSError, ValueError, LookupError, TypeError):  # none, of before, or damaged: no run's fault
        return 0


def find_run(runs: Path, spec: AnySpec) -> Path | None:
    """The folder of a run among those of a study, whatever it is called; None if there is none."""
    identity = fingerprint(spec)
    named = runs / directory_name(spec)
    for folder in (named, *sorted(runs.glob(f"*-{identity[:8]}"))):
        with contextlib.suppress(OSError, ValueError):
            if fingerprint(read_spec(folder / "spec.json")) == identity:
                return folder
    return None


def unreadable_specs(runs: Path) -> list[tuple[Path, str]]:
    """The specs under a study's folder that cannot be read, and why, in a line."""
    found = []
    for path in sorted(runs.glob("*/spec.json")):
        try:
            read_spec(path)
        except (OSError, ValueError) as error:
            found.append((path, " ".join(str(error).split())[:300]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scaling.status", description="Show the states of a study's runs.")
    parser.add_argument("runs", type=Path, help="the study's folder, such as runs/demo")
    parser.add_argument("--once", action="store_true", help="print once, also while a sweep runs")
    arguments = parser.parse_args()
    if not any(arguments.runs.glob("*/spec.json")):
        parser.exit(2, f"no runs in {arguments.runs} (yet): wanted a study's folder, such as runs/demo\n")
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    for path, reason in unreadable_specs(arguments.runs):
        console.print(f"{path.parent.name}: spec.json cannot be read: {reason}", highlight=False, markup=False)
    if arguments.once or not console.is_terminal:
        console.print(status_table(read_runs(arguments.runs), count_to_come(arguments.runs)))
        return
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            rows = read_runs(arguments.runs)
            live.update(status_table(rows, count_to_come(arguments.runs)), refresh=True)
            if all(status.state != "running" for _, status in rows):
                return
            time.sleep(1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
