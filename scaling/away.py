"""Runs that are started elsewhere: chains of them are handed over as tasks, and this process watches their files."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from scaling.data.prepare import prepare_shard
from scaling.identity import digest, fingerprint
from scaling.launch import modules_of, run_warnings, start_server
from scaling.launchers.launcher import Elsewhere, Task
from scaling.plan import tokens_to_train
from scaling.progress import SweepProgress
from scaling.spec import RunSpec
from scaling.status import LOG_WIDTH, Status
from scaling.train.preemption import Stop

if TYPE_CHECKING:
    from scaling.study import PlannedRun

SECONDS_BETWEEN_LOOKS = 1.0


class RunChain(Task):
    """Runs of one trunk, one after another; those at their end are left out.

    They make its name, so a sweep that has more of them is not taken to be in the job of one that had fewer.
    """

    def __init__(self, chain: Sequence[PlannedRun], cache: Path) -> None:
        self.chain = [replace(run, run_dir=run.run_dir.absolute()) for run in chain]
        self.cache = cache.absolute()
        self.name = digest(["chain", sorted(fingerprint(run.spec) for run in chain)])[:16]
        self.num_nodes = max(run.spec.placement.nodes for run in chain)

    def __call__(self) -> None:
        from scaling.study import run_all

        # A job that was queued again finds some of its runs at their end.
        left = [run for run in self.chain if run.status.state not in ("complete", "diverged")]
        if left:
            context = start_server(modules_of(run.spec for run in left))
            run_all(left, context, self.cache, Console(width=LOG_WIDTH), Stop())


class PrepareShard(Task):
    """One share of the data of a sweep."""

    def __init__(self, specs: Sequence[RunSpec], shard: int, num_shards: int, cache: Path) -> None:
        self.specs, self.shard, self.num_shards, self.cache = list(specs), shard, num_shards, cache.absolute()
        self.name = digest(["shard", shard, num_shards, sorted(map(fingerprint, specs))])[:16]

    def __call__(self) -> None:
        for spec in self.specs:
            prepare_shard(spec, self.shard, self.num_shards, self.cache, print)


def chains_of(runs: Iterable[PlannedRun]) -> dict[str, list[PlannedRun]]:
    """The runs that share a trunk, the smallest first; a child shares none."""
    chains: dict[str, list[PlannedRun]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.spec.num_steps if isinstance(run.spec, RunSpec) else 0):
        chains[run.chain].append(run)
    return chains


def prepare_away(
    specs: Sequence[RunSpec],
    num_shards: int,
    launcher: Elsewhere,
    jobs: Path,
    cache: Path,
    report: Callable[[str], None],
) -> None:
    """Let `num_shards` tasks build what they can; whatever one of them leaves out is left to `prepare`."""
    tasks = [PrepareShard(specs, shard, num_shards, cache) for shard in range(num_shards)]
    over = launcher.start(tasks, jobs.absolute(), report)
    while None in over():
        time.sleep(SECONDS_BETWEEN_LOOKS)


def run_away(
    planned: list[PlannedRun],
    waiting: list[PlannedRun],
    launcher: Elsewhere,
    jobs: Path,
    cache: Path,
    console: Console,
    stop: Stop,
) -> dict[Path, Status]:
    """Have all of `waiting` run elsewhere. Returns how each ended, by its folder; after a `stop`, of those that had.

    planned: all runs of the sweep, which name its tasks alike however many of them are over by now. jobs: a folder for
    what the launcher leaves.
    """
    chains = sorted(chains_of(waiting).values(), key=lambda chain: -tokens_to_train([run.spec for run in chain]))
    seen = {run.run_dir: _version(run) for run in waiting}
    threads, whole = launcher.threads(len(chains)), chains_of(planned)
    tasks = [RunChain([_with_threads(run, threads) for run in whole[chain[0].chain]], cache) for chain in chains]
    over = launcher.start(tasks, jobs.absolute(), console.print)
    ended: dict[Path, Status] = {}
    with SweepProgress(console, len(waiting), tokens_to_train([run.spec for run in waiting])) as progress:
        while len(ended) < len(waiting) and not stop.is_requested:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            active: dict[str, Status] = {}
            for chain, output in zip(chains, over(), strict=True):
                begun = [run for run in chain if _version(run) != seen[run.run_dir]]
                for run in chain:
                    if run.run_dir in ended or (output is None and run not in begun):
                        continue
                    status = run.status
                    is_passed = run in begun[:-1]  # the next one has begun
                    if output is None and not is_passed and status.state not in ("complete", "failed", "diverged"):
                        active[run.run_dir.name] = status
                        continue
                    if run not in begun and status.state != "complete":
                        status = status.model_copy(update={"error": f"its job has not begun it, {output}"})
                    ended[run.run_dir] = status
                    progress.ended(run.run_dir.name, run.spec, status, run_warnings(run.run_dir))
            progress.update(sum(_trained(status) for status in [*ended.values(), *active.values()]), active)
    return ended


def _with_threads(run: PlannedRun, threads: int | None) -> PlannedRun:
    placement = run.spec.placement
    if threads is None or placement.threads is not None:
        return run
    return run.placed(placement.model_copy(update={"threads": threads}))


def _trained(status: Status) -> int:
    return max(0, status.tokens - status.trunk_tokens)


def _version(run: PlannedRun) -> tuple[int, int] | None:
    """Changes whenever the status of a run is written."""
    try:
        stat = (run.run_dir / "status.json").stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns
