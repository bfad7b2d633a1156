"""A sweep as a whole: check its data, skip what is done, run the rest side by side, say how it ended."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from rich.console import Console

from scaling.away import chains_of, prepare_away, run_away
from scaling.data.card import write_data_card
from scaling.data.prepare import Prepared, is_prepared, open_stream, packed, prepare
from scaling.data.stream import check_budget
from scaling.devices import seats
from scaling.files import write_json
from scaling.identity import directory_name, fingerprint, trunk_identity
from scaling.launch import DISK_EXIT_CODE, exit_reason, launch, run_warnings, start_server
from scaling.launchers.here import Here, OnThisMachine
from scaling.launchers.launcher import Elsewhere, Launcher
from scaling.plan import plan_table, tokens_to_train, unique_tokens, write_plan
from scaling.progress import SweepProgress
from scaling.spec import RunSpec, read_spec
from scaling.status import DISK, LOG_WIDTH, Status, read_status, status_table, write_status
from scaling.train.preemption import EXIT_CODE as PREEMPTED
from scaling.train.preemption import PreemptedError, Stop

HERE = Here()
SECONDS_BETWEEN_LOOKS = 0.3
SECONDS_TO_STOP = 60.0
"""What runs get to write a checkpoint when the sweep is asked to stop."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One point of a sweep and its folder."""

    spec: RunSpec
    run_dir: Path

    @property
    def status(self) -> Status:
        return read_status(self.run_dir)

    @property
    def chain(self) -> str:
        """Runs of one chain share a trunk, so they run one after another, the smallest first."""
        return trunk_identity(self.spec) or fingerprint(self.spec)


def run_study(
    specs: Iterable[RunSpec],
    action: str,
    runs: Path,
    cache: Path,
    stop: Stop | None = None,
    launcher: Launcher = HERE,
    num_shards: int | None = None,
) -> int:
    """Do `action` with the runs of a study. Returns the exit code: 0 if every run is complete.

    num_shards: in how many tasks of the launcher data is prepared; None: in this process.

    Raises PreemptedError if it was asked to `stop` before they were.
    Raises ValueError, with the numbers, if the data of any run is too small; then none has started.
    """
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    points = list(specs)
    if isinstance(launcher, OnThisMachine):
        points = [spec.model_copy(update={"placement": launcher.placed(spec.placement)}) for spec in points]
    planned = plan_runs(points, runs)
    if len(planned) < len(points):
        console.print(f"{len(points)} points are {len(planned)} runs: the others differ in nothing that counts.")
    if action == "plan":
        rows = [(run.spec, run.status) for run in planned]
        console.print(plan_table(rows, [unique_tokens(run.spec, cache) for run in planned]))
        _check_writable(runs)
        write_plan(runs / "plan.json", [run.spec for run in planned])
        ready = [run for run in planned if is_prepared(run.spec, cache)]  # of the others the data is not there to tell
        check_all(ready, prepare_all(ready, cache, lambda line: None))
        return 0
    _check_writable(runs)
    states = [run.status.state for run in planned]
    waiting = [run for run, state in zip(planned, states, strict=True) if state not in ("complete", "diverged")]
    # Data may well be prepared where no run could start.
    launcher.check([runs, cache], [run.spec for run in waiting] if action == "run" else [])
    is_here = isinstance(launcher, OnThisMachine)
    context = None
    if action == "run" and waiting and is_here:  # its imports take as long as data
        context = start_server(any(run.spec.needs_deepspeed for run in waiting))
    if num_shards is not None and isinstance(launcher, Elsewhere):
        prepare_away([run.spec for run in planned], num_shards, launcher, runs / "jobs", cache)
    with console.status("preparing data") as line:
        prepared = prepare_all(planned, cache, lambda text: line.update(text))
    write_data_card(runs, [run.spec for run in planned], [prepared[run.run_dir] for run in planned])
    check_all(planned, prepared)  # after the card, which says what left too little
    if action == "prepare":
        console.print(f"data card: {runs / 'data_card.md'}")
        return 0
    _link(planned, runs)
    write_json(runs / "study.json", {"schema": 1, "study": planned[0].spec.study.model_dump(mode="json")})
    if num_complete := states.count("complete"):
        console.print(f"{num_complete} of {len(planned)} runs are complete already")
    for run, state in zip(planned, states, strict=True):
        if state == "diverged":  # an outcome: the same run would diverge again
            console.print(f"{run.run_dir.name} diverged and is left as it is; to train it again, remove {run.run_dir}")
    stop = stop or Stop()
    if context is not None and isinstance(launcher, OnThisMachine):
        ended = run_all(waiting, context, cache, console, stop, launcher.most_runs)
    elif waiting and isinstance(launcher, Elsewhere):
        ended = run_away(planned, waiting, launcher, runs / "jobs", cache, console)
    else:
        ended = {}
    rows = [(run.spec, ended.get(run.run_dir) or run.status) for run in planned]
    console.print(status_table(rows))
    is_complete = all(status.state == "complete" for _, status in rows)
    if stop.is_requested and not is_complete:
        raise PreemptedError
    return 0 if is_complete else 1


def plan_runs(specs: Iterable[RunSpec], runs: Path) -> list[PlannedRun]:
    """The runs of a sweep, each once, with their folders."""
    unique = {fingerprint(spec): spec for spec in specs}
    return [PlannedRun(spec, _run_dir(spec, runs)) for spec in unique.values()]


def prepare_all(planned: list[PlannedRun], cache: Path, report: Callable[[str], None]) -> dict[Path, Prepared]:
    """What every run reads."""
    return {run.run_dir: prepare(run.spec, cache, report) for run in planned}


def check_all(planned: list[PlannedRun], prepared: Mapping[Path, Prepared]) -> None:
    """Raises ValueError, with the numbers of the first run that it is about, if budgets ask for more than there is."""
    errors: list[tuple[PlannedRun, ValueError]] = []
    for run in planned:
        try:
            check_data(run.spec, prepared[run.run_dir])
        except ValueError as error:
            errors.append((run, error))
    if errors:
        run, first = errors[0]
        where = f" (in {len(errors)} of {len(planned)} runs, first: {run.run_dir.name})" if len(planned) > 1 else ""
        raise ValueError(f"{first}{where}")


def check_data(spec: RunSpec, prepared: Prepared) -> None:
    """ValueError, with the numbers, if a run's data is too little to train on or to evaluate."""
    stream = open_stream(spec, prepared)
    check_budget(stream)
    for name, selected in prepared.validation.items():
        if packed(selected, spec.batch.sequence_length).num_sequences == 0:
            raise ValueError(
                f"corpus.domains.{name} has {selected.counts.tokens} validation tokens: wanted at least one sequence of"
                f" {spec.batch.sequence_length}: more documents, or a larger corpus.validation_frac"
                f" (now {spec.recipe.corpus.validation_frac:g})"
            )


def run_all(
    waiting: list[PlannedRun],
    context: ForkServerContext,
    cache: Path,
    console: Console,
    stop: Stop,
    most_runs: int | None = None,
) -> dict[Path, Status]:
    """Run all of `waiting`, each in a process of its own; one that fails leaves the others running.

    Returns how those that were begun have ended, by their folders. Asked to `stop`, it passes that on and waits.
    most_runs: side by side, at most; None: one for each of their seats.
    """
    stop.raises = False
    chains = chains_of(waiting)
    costs = {chain: tokens_to_train([run.spec for run in runs]) for chain, runs in chains.items()}
    free_seats = min((seats(run.spec.placement) for run in waiting), key=len)[:most_runs]
    active: dict[str, tuple[ForkServerProcess, PlannedRun, str | None]] = {}
    ended: dict[Path, Status] = {}
    num_tokens_ended = 0
    deadline: float | None = None
    with SweepProgress(console, len(waiting), sum(costs.values())) as progress, _ended_at_exit(active):
        while any(chains.values()) or active:
            if stop.is_requested and deadline is None:
                deadline = time.monotonic() + SECONDS_TO_STOP
                chains.clear()
                for process, _, _ in active.values():
                    process.terminate()
            if deadline is not None and time.monotonic() > deadline:
                break
            free = sorted((c for c in chains if chains[c] and c not in active), key=lambda c: -costs[c])
            for chain in free[: len(free_seats)]:
                run, seat = chains[chain].pop(0), free_seats.pop(0)
                active[chain] = (launch(context, run.spec, run.run_dir, cache, seat), run, seat)
            time.sleep(SECONDS_BETWEEN_LOOKS)
            for chain, (process, run, seat) in list(active.items()):
                if process.exitcode is not None:
                    del active[chain]
                    free_seats.append(seat)
                    status = ended[run.run_dir] = _outcome(process.exitcode, run)
                    if status.state == "preempted":
                        chains[chain] = []  # the machine is wanted for something else
                    num_tokens_ended += max(0, status.tokens - status.trunk_tokens)
                    progress.ended(run.run_dir.name, status, run.spec.study.target, run_warnings(run.run_dir))
            under_way = {run.run_dir.name: run.status for _, run, _ in active.values()}
            num_tokens = sum(max(0, status.tokens - status.trunk_tokens) for status in under_way.values())
            progress.update(num_tokens_ended + num_tokens, under_way)
    return ended


@contextlib.contextmanager
def _ended_at_exit(active: Mapping[str, tuple[ForkServerProcess, PlannedRun, str | None]]) -> Iterator[None]:
    """End the runs when the sweep ends early: Python would wait for them at exit, and they ignore Ctrl-C."""
    try:
        yield
    finally:
        for process, _, _ in active.values():
            process.kill()


def _outcome(exit_code: int, run: PlannedRun) -> Status:
    """How a run whose process has ended did end; a process that was killed could not say so itself."""
    status = run.status
    if exit_code == PREEMPTED:
        return status
    if exit_code == DISK_EXIT_CODE and status.state not in ("failed", "diverged"):
        return status.model_copy(update={"state": "failed", "error": f"{DISK}cannot write to {run.run_dir}"})
    if exit_code != 0 and status.state in ("planned", "running", "interrupted"):
        reason = f"the process {exit_reason(exit_code)}, see {run.run_dir}/log.txt"
        status = status.model_copy(update={"state": "interrupted", "error": reason})
        with contextlib.suppress(OSError):  # the disk may be what failed; the other runs go on
            write_status(run.run_dir, status)
    return status


def _run_dir(spec: RunSpec, runs: Path) -> Path:
    """The folder of a run: of a complete record of it anywhere under the root, else its own in `runs`."""
    run_dir, identity = runs / directory_name(spec), fingerprint(spec)
    root = runs.parent if runs.name == spec.study.name else runs
    if not run_dir.exists():
        for known in [*runs.glob(f"*-{identity[:8]}"), *root.glob(f"*/*-{identity[:8]}")]:
            complete = (known / "spec.json").exists() and read_status(known).state == "complete"
            if complete and fingerprint(read_spec(known / "spec.json")) == identity:
                return known
    return run_dir


def _link(planned: list[PlannedRun], runs: Path) -> None:
    """Let the study's folder hold the records that other studies made."""
    for run in planned:
        here = runs / run.run_dir.name
        if here.is_symlink() and not here.exists():  # what it led to was removed
            here.unlink()
        if run.run_dir.parent != runs and not here.exists():
            here.symlink_to(os.path.relpath(run.run_dir, runs))


def _check_writable(runs: Path) -> None:
    """Raises ValueError now rather than in every run."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"runs: cannot create the folder {runs}: {error.strerror}") from None
    if not os.access(runs, os.W_OK | os.X_OK):
        raise ValueError(f"runs: the folder {runs} is not writable")
