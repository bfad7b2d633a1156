"""Starts runs as a sweep does, each a fork of one server, and reads what they leave."""

from __future__ import annotations

import importlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Literal

from analysis.runs.wandb_file import LogFile, read_log_file
from scaling.child import FinetuneSpec
from scaling.data.prepare import prepare
from scaling.launch import launch
from scaling.record import EvalPoint, restart_points
from scaling.spec import RunSpec
from scaling.status import Status, read_status

CANARY = "c0ffee" * 6 + "beef"
"""Stands for the user's W&B key in the environment of every run of these tests; 40 characters as a real one."""

SpecMaker = Callable[[Mapping[str, Any]], RunSpec]


@dataclass(frozen=True)
class Lab:
    """Starts runs as a sweep does, and waits for them."""

    context: ForkServerContext
    cache: Path

    def start(self, spec: RunSpec, run_dir: Path) -> ForkServerProcess:
        prepare(spec, self.cache, lambda text: None)
        return launch(self.context, spec, run_dir, self.cache)

    def train(self, spec: RunSpec, run_dir: Path) -> Status:
        """The status that the run leaves."""
        process = self.start(spec, run_dir)
        process.join(120)
        assert process.exitcode is not None, f"the run hangs:\n{(run_dir / 'log.txt').read_text()[-2000:]}"
        return read_status(run_dir)

    def train_all(self, specs: Mapping[str, RunSpec], folder: Path) -> dict[str, Status]:
        """The statuses of runs that train side by side in `folder/<name>`, two at a time, and must succeed."""
        for spec in specs.values():
            prepare(spec, self.cache, lambda text: None)
        with ThreadPoolExecutor(2) as pool:
            ended = pool.map(lambda name: self.train(specs[name], folder / name), specs)
            statuses = dict(zip(specs, ended, strict=True))
        for name, status in statuses.items():
            assert status.state == "complete", (name, status, (folder / name / "log.txt").read_text()[-4000:])
        return statuses

    def complete(self, spec: RunSpec, run_dir: Path) -> list[EvalPoint]:
        """The points of a run that must succeed."""
        status = self.train(spec, run_dir)
        assert status.state == "complete", (status, (run_dir / "log.txt").read_text()[-4000:])
        return points(run_dir)

    def kill_after_checkpoint(self, spec: RunSpec, run_dir: Path, count: int = 1) -> None:
        """Start a run and kill it with SIGKILL once its `count`-th checkpoint is there."""
        process = self.start(spec, run_dir)
        wait_for(lambda: (run_dir / "checkpoints").exists() and newest_step(run_dir) >= 20 * count, process)
        process.kill()
        process.join(20)
        assert process.exitcode == -9, "the run was over before it could be killed"
        wait_for(lambda: read_status(run_dir).state == "interrupted")

    def trap(self, module: str, function: str, **how: Any) -> Lab:
        """A lab whose runs go into a Trap."""
        return Lab(Trap(self.context, module, function, **how), self.cache)  # type: ignore[arg-type]

    def with_no_trunks(self, folder: Path) -> Lab:
        """A lab with the same data and a cache in `folder` that has no trunks yet."""
        cache = folder / "fresh-cache"
        cache.mkdir(parents=True)
        for name in ("documents", "tokenizers", "tokens"):
            (cache / name).symlink_to((self.cache / name).resolve())
        return Lab(self.context, cache)


def tuned_on(parent: RunSpec, **changes: Any) -> FinetuneSpec:
    """A fine-tuning of a task whose rows nobody reads."""
    tree = {
        "name": "child",
        "study": parent.study,
        "parent": parent,
        "task": {"kind": "classification", "name": "mood", "rows": {"kind": "local", "train": "rows.jsonl"}},
        "batch": {"num_sequences": 8},
        "schedule": {"num_epochs": 3.0},
        "optimizer": {"learning_rate": 1e-3},
        "content": {"train": "0" * 64},
    }
    return FinetuneSpec.model_validate({**tree, **changes})


def record_of(run_dir: Path, lab: Lab) -> dict[str, Any]:
    """All that a run leaves that must not depend on how often it was interrupted.

    Points, weights, what the log sums up, and the states in the trunks of `lab`, which must be this run's alone.
    """
    found: dict[str, Any] = {
        name: (run_dir / name).read_bytes() for name in ("points.jsonl", "model/model.safetensors", "model/config.json")
    }
    summary = wandb_files(run_dir)[-1].summary
    of_the_data = ("ledger/", "trunk/", "flops", "state", "elastic", "error")
    found["summary"] = {key: value for key, value in summary.items() if key.startswith(of_the_data)}
    found |= {
        "/".join(path.parts[-2:]): path.read_bytes() for path in sorted(lab.cache.glob("trunks/*/step-*/*.safetensors"))
    }
    return found


def points(run_dir: Path) -> list[EvalPoint]:
    return restart_points(run_dir / "points.jsonl", 10**12)


def newest_step(run_dir: Path) -> int:
    return max((int(path.name[5:]) for path in (run_dir / "checkpoints").glob("step-*")), default=0)


def wait_for(happened: Callable[[], bool], process: ForkServerProcess | None = None, seconds: float = 90) -> None:
    """Wait until `happened()`; fail if it does not, or if `process` ends before."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        assert process is None or process.exitcode is None, "the process ended before it happened"
        time.sleep(0.005)


def wandb_files(run_dir: Path) -> list[LogFile]:
    """The W&B files of a run, the oldest first."""
    files = [read_log_file(path) for path in run_dir.glob("wandb/offline-run-*/run-*.wandb")]
    return sorted(files, key=lambda file: file.path.parent.name)  # offline-run-<date>_<time>-<id>


@dataclass(frozen=True)
class Trap:
    """A forkserver whose runs get a signal at the `count`-th call of `function` of `module`, before it or after.

    whose: the process that calls, or the run's process, whose ranks it is the parent of. rank: the one that calls.
    """

    context: ForkServerContext
    module: str
    function: str
    count: int = 1
    when: Literal["before", "after"] = "before"
    signal: signal.Signals = signal.SIGKILL
    whose: Literal["own", "parent"] = "own"
    rank: int = 0

    def Process(self, target: Callable[..., None], args: tuple[Any, ...], name: str) -> ForkServerProcess:
        how = (self.module, self.function, self.count, self.when, self.signal, self.whose, self.rank)
        return self.context.Process(target=trapped, args=(how, target, *args), name=name)


def trapped(how: tuple[Any, ...], target: Callable[..., None], *arguments: object) -> None:
    """The body of a run that goes into a trap."""
    module, function, count, when, number, whose, rank = how
    owner: Any = importlib.import_module(module)
    *parents, name = function.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original, calls = getattr(owner, name), itertools.count(1)

    def call(*arguments: Any, **named: Any) -> Any:
        is_now = int(os.environ.get("RANK", "0")) == rank and next(calls) == count
        if is_now and when == "before":
            os.kill(os.getpid() if whose == "own" else os.getppid(), number)
        result = original(*arguments, **named)
        if is_now and when == "after":
            os.kill(os.getpid() if whose == "own" else os.getppid(), number)
        return result

    setattr(owner, name, call)
    target(*arguments)


@dataclass(frozen=True)
class Saboteur:
    """A forkserver whose runs fail in a given way where `how` says so, by the order seed of the run."""

    context: ForkServerContext
    how: Mapping[int, str]

    def Process(self, target: Callable[..., None], args: tuple[Any, ...], name: str) -> ForkServerProcess:
        how = self.how.get(args[0].seeds.order)
        return self.context.Process(target=sabotaged, args=(how, target, *args), name=name)


def sabotaged(how: str | None, target: Callable[..., None], spec: RunSpec, *rest: Any) -> None:
    """The body of a run whose training is replaced by a failure."""
    import torch.distributed

    import scaling.train.pretrain as module
    from scaling.ranks import join_ranks

    def fail(spec: RunSpec, *others: object) -> None:
        if how == "exception":
            raise RuntimeError("the cat ate it\nand more")
        if how == "exit":
            sys.exit(3)
        if how == "exit without error":
            sys.exit(0)
        if how == "rank 1 dies":
            join_ranks(spec)
            if os.environ["RANK"] == "0":
                try:
                    torch.distributed.barrier()
                finally:
                    time.sleep(1)  # as long as it takes to close a log
        if how == "rank 1 dies, rank 0 is deaf" and os.environ["RANK"] == "0":
            time.sleep(300)
        os.kill(os.getpid(), signal.SIGKILL)

    if how is not None:
        module.pretrain = fail
    target(spec, *rest)
