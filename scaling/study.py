"""A sweep as a whole: check its data, skip what is done, run the rest side by side, say how it ended."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from rich.console import Console

from scaling.away import chains_of, prepare_away, run_away
from scaling.child import AnySpec, job_type, parent_of, read_spec
from scaling.data.card import write_data_card
from scaling.data.prepare import is_prepared
from scaling.devices import seats
from scaling.files import write_json
from scaling.gates import RowCounts, check_all, prepare_all
from scaling.identity import directory_name, fingerprint, trunk_identity
from scaling.launch import DISK_EXIT_CODE, exit_reason, launch, modules_of, run_warnings, start_server
from scaling.launchers.here import Here, OnThisMachine
from scaling.launchers.launcher import Elsewhere, Launcher
from scaling.placement import Placement
from scaling.plan import plan_table, timed_flops_per_second, tokens_to_train, unique_tokens, write_plan
from scaling.plan_children import children_table
from scaling.progress import StudyConsole, SweepProgress
from scaling.spec import RunSpec
from scaling.status import DISK, OVER, SETTLED, Status, find_run, read_status, status_table, write_status
from scaling.train.preemption import EXIT_CODE as PREEMPTED
from scaling.train.preemption import PreemptedError, Stop

HERE = Here()
SECONDS_BETWEEN_LOOKS = 0.3
SECONDS_TO_STOP = 60.0
"""What runs get to write a checkpoint when the sweep is asked to stop."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a sweep, its folder, and that of the run which must be complete before it, if any."""

    spec: AnySpec
    run_dir: Path
    parent_dir: Path | None = None

    def placed(self, placement: Placement) -> PlannedRun:
        """The same run elsewhere."""
        return replace(self, spec=self.spec.model_copy(update={"placement": placement}))

    @property
    def status(self) -> Status:
        return read_status(self.run_dir)

    @property
    def chain(self) -> str:
        """Runs of one chain share a trunk, so they run one after another, the smallest first."""
        trunk = trunk_identity(self.spec) if isinstance(self.spec, RunSpec) else None
        return trunk or fingerprint(self.spec)

    @property
    def generation(self) -> int:
        """How many runs it descends from."""
        generation, parent = 0, parent_of(self.spec)
        while parent is not None:
            generation, parent = generation + 1, parent_of(parent)
        return generation


def run_study(
    specs: Iterable[AnySpec],
    action: str,
    runs: Path,
    cache: Path,
    stop: Stop | None = None,
    launcher: Launcher = HERE,
    num_shards: int | None = None,
) -> int:
    """Do `action` with the runs of a study. Returns the exit code: 0 if every run is complete.

    num_shards: in how many tasks of the launcher data is prepared; None: in this process.

    Raises PreemptedError, or KeyboardInterrupt after Ctrl-C, if it was asked to `stop` before they were.
    Raises ValueError, with the numbers, if the data of any run is too small; then none has started.
    """
    stop = stop or Stop()
    console = StudyConsole(stop)
    points = list(specs)
    planned = plan_runs(points, runs)
    if isinstance(launcher, OnThisMachine):
        planned = [run.placed(launcher.placed(run.spec.placement)) for run in planned]
    num_asked = len({fingerprint(spec) for spec in points})
    if num_asked < len(points):
        console.print(f"{len(points)} points are {num_asked} runs: the others differ in nothing that counts.")
    _check_writable(runs)
    if action == "plan":
        _show_plan(planned, runs, cache, console)
        return 0
    states = [run.status.state for run in planned]
    waiting = [run for run, state in zip(planned, states, strict=True) if state not in SETTLED]
    # Data may well be prepared where no run could start.
    launcher.check([runs, cache], [run.spec for run in waiting] if action == "run" else [])
    is_here = isinstance(launcher, OnThisMachine)
    context = None
    if action == "run" and waiting and is_here:  # its imports take as long as data
        context = start_server(modules_of(run.spec for run in waiting))
    if num_shards is not None and isinstance(launcher, Elsewhere):
        prepare_away(pretraining(planned), num_shards, launcher, runs / "jobs", cache, console.print)
    with console.status("preparing data") as line:
        prepared = prepare_all(planned, cache, lambda text: line.update(text))
    if prepared:
        trained = [run for run in planned if run.run_dir in prepared]
        write_data_card(runs, pretraining(planned), [prepared[run.run_dir] for run in trained])
        check_all(trained, prepared)  # after the card, which says what left too little
    if action == "prepare":
        console.print(f"data card: {runs / 'data_card.md'}" if prepared else "the rows of the tasks are ready")
        return 0
    _link(planned, runs)
    about = planned[0].spec.study.model_dump(mode="json")
    write_json(runs / "study.json", {"schema": 1, "study": about, "runs": [run.run_dir.name for run in planned]})
    if num_complete := states.count("complete"):
        console.print(f"{num_complete} of {len(planned)} runs are complete already")
    for run, state in zip(planned, states, strict=True):
        if state == "diverged":  # an outcome: the same run would diverge again
            console.print(f"{run.run_dir.name} diverged and is left as it is; to train it again, remove {run.run_dir}")
    ended: dict[Path, Status] = {}
    for generation in sorted({run.generation for run in waiting}):  # parents, then their children
        if stop.is_requested:
            break
        ready, orphans = _ready([run for run in waiting if run.generation == generation])
        ended |= orphans
        if len(ready) < len(waiting):
            kinds = Counter(job_type(run.spec) for run in ready)
            console.print(", ".join(f"{num} of {len(waiting)} runs: {kind}" for kind, num in kinds.items()))
        if ready and context is not None and isinstance(launcher, OnThisMachine):
            ended |= run_all(ready, context, cache, console, stop, launcher.most_runs)
        elif ready and isinstance(launcher, Elsewhere):
            ended |= run_away(planned, ready, launcher, runs / "jobs", cache, console, stop)
    rows = [(run.spec, ended.get(run.run_dir) or run.status) for run in planned]
    console.print(status_table(rows))
    if stop.is_requested and any(status.state not in OVER for _, status in rows):
        raise KeyboardInterrupt if stop.is_interrupted else PreemptedError
    return 0 if all(status.state == "complete" for _, status in rows) else 1


def plan_runs(specs: Iterable[AnySpec], runs: Path) -> list[PlannedRun]:
    """The runs of a sweep and those that they go on from, each once, with their folders; parents come first."""
    asked = {fingerprint(spec): spec for spec in specs}
    planned: dict[str, PlannedRun] = {}

    def add(spec: AnySpec) -> None:
        run_dir, parent = _run_dir(spec, runs), parent_of(spec)
        parent_dir = None if parent is None else _run_dir(parent, runs)
        if parent is not None and parent_dir is not None:
            # A complete child holds all that is asked of its parent, which may be gone.
            is_needed = read_status(run_dir).state != "complete" or fingerprint(parent) in asked
            if is_needed or read_status(parent_dir).state == "complete":
                add(parent)
        if run_dir.name != directory_name(spec):  # what there is of a run keeps its name
            spec = spec.model_copy(update={"name": read_spec(run_dir / "spec.json").name})
        planned[fingerprint(spec)] = PlannedRun(spec, run_dir, parent_dir)

    for spec in asked.values():
        add(spec)
    return list(planned.values())


def pretraining(planned: Iterable[PlannedRun]) -> list[RunSpec]:
    """The specs of those runs that pretrain."""
    return [run.spec for run in planned if isinstance(run.spec, RunSpec)]


def _show_plan(planned: list[PlannedRun], runs: Path, cache: Path, console: Console) -> None:
    """Print what the runs are and cost, and write it for `python -m analysis design`.

    ValueError if data that is prepared already is too little, or a task has fewer rows than are asked for.
    """
    trained = [(run.spec, run.status) for run in planned if isinstance(run.spec, RunSpec)]
    children = [(run.spec, run.status) for run in planned if not isinstance(run.spec, RunSpec)]
    if trained:
        console.print(plan_table(trained, [unique_tokens(spec, cache) for spec, _ in trained]))
        write_plan(runs / "plan.json", [spec for spec, _ in trained])
    if children:
        counted = RowCounts(cache)
        rows = [counted.rows(spec) for spec, _ in children]
        console.print(children_table(children, rows, timed_flops_per_second(trained)))
    # Of other runs the data is not there to tell.
    ready = [run for run in planned if isinstance(run.spec, RunSpec) and is_prepared(run.spec, cache)]
    check_all(ready, prepare_all(ready, cache, lambda line: None))


def _ready(waiting: list[PlannedRun]) -> tuple[list[PlannedRun], dict[Path, Status]]:
    """Those that can start, and, of those that cannot, why."""
    ready, orphans = [], {}
    for run in waiting:
        if run.parent_dir is None or read_status(run.parent_dir).state == "complete":
            ready.append(run)
        else:
            why = f"the run that it goes on from is not complete: {run.parent_dir.name}"
            orphans[run.run_dir] = run.status.model_copy(update={"error": why})
    return ready, orphans


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
                if stop.is_interrupted:
                    console.print("each run writes a checkpoint and ends; Ctrl-C again ends them at once")
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
                    progress.ended(run.run_dir.name, run.spec, status, run_warnings(run.run_dir))
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


def _run_dir(spec: AnySpec, runs: Path) -> Path:
    """The folder of a run: what there is of it in `runs`, under whatever name; else of a complete record of it anywhere
    under the root; else a new one in `runs`."""
    root, identity = runs.parent if runs.name == spec.study.name else runs, fingerprint(spec)
    if (known := find_run(runs, spec)) is not None:
        return known
    for folder in sorted({path.parent for path in root.glob(f"*/*-{identity[:8]}")}):
        if (known := find_run(folder, spec)) is not None and read_status(known).state == "complete":
            return known
    return runs / directory_name(spec)


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
