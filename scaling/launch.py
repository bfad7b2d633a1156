"""Put one run on its processes.

A run has a process of its own, forked from a server that has torch, transformers and deepspeed loaded, so
that it starts in a moment and cannot take its neighbours down. With several ranks that process becomes
torch's elastic agent and forks the ranks. All of them end when the sweep ends.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from scaling.child import AnySpec, CompressSpec, FinetuneSpec, read_spec, write_spec
from scaling.nodes import SECONDS_TO_START, LostRankError, Seat, exit_reason, run_on_nodes
from scaling.status import DISK, failure, read_status, run_lock, write_status
from scaling.train.preemption import PreemptedError, Stop, deaf_children

WARNINGS = "warnings.txt"
DISK_EXIT_CODE = os.EX_IOERR
"""Of a run whose disk failed, and with it, perhaps, the status that would say so."""


def run_warnings(run_dir: Path) -> list[str]:
    """What a run warned of, each warning once though every rank gave it."""
    file = run_dir / WARNINGS
    return list(dict.fromkeys(file.read_text(encoding="utf-8").splitlines())) if file.exists() else []


def modules_of(specs: Iterable[AnySpec]) -> list[str]:
    """What runs need loaded; of what takes seconds to import, no more."""
    modules = {"scaling.train.pretrain"}
    for spec in specs:
        modules |= {"scaling.train.zero"} if spec.needs_deepspeed else set()
        modules |= _modules_of_finetuning(spec) if isinstance(spec, FinetuneSpec) else set()
        modules |= {"scaling.compress.compress"} if isinstance(spec, CompressSpec) else set()
    return sorted(modules)


def _modules_of_finetuning(spec: FinetuneSpec) -> set[str]:
    modules = {"scaling.finetune.finetune", f"scaling.finetune.kinds.{spec.task.kind}"}
    return modules | ({"scaling.finetune.methods_lora"} if spec.method.adaptation.kind == "lora" else set())


def start_server(modules: Sequence[str] = ("scaling.train.pretrain", "scaling.train.zero")) -> ForkServerContext:
    """Start loading modules that runs need; returns at once."""
    # Asking torch whether CUDA is there would otherwise initialise it before the fork.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    # Threads that wait for each other by spinning, even for a moment, are 1.8 times faster where a run has its cores to
    # itself, and 1.7 times slower where two runs of two threads share two.
    os.environ.setdefault("GOMP_SPINCOUNT", "100000")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["scaling.train.forkable", *modules])
    from multiprocessing import resource_tracker
    from multiprocessing.forkserver import ensure_running

    for ensure in (resource_tracker.ensure_running, ensure_running):  # the first lets SIGTERM through again on its way
        with deaf_children(signal.SIGINT):  # while it loads modules, Ctrl-C would end it with a traceback of its own
            ensure()
    return context


def launch(
    context: ForkServerContext, spec: AnySpec, run_dir: Path, cache: Path, gpus: str | None = None
) -> ForkServerProcess:
    """Start one run in its own process. Its output goes to `run_dir/log.txt`, its outcome to `status.json`.

    gpus: its CUDA_VISIBLE_DEVICES; None: that of the server.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=run_process, args=(spec, run_dir, cache, gpus), name=run_dir.name)
    process.start()
    return process


def run_process(spec: AnySpec, run_dir: Path, cache: Path, gpus: str | None = None) -> None:
    """The body of a run's process: hold the folder, train, and leave a status whatever happens."""
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus  # CUDA reads it when it starts, after the fork
    # Libraries find the usual way to start processes, not that by which this one was started: there each of their locks
    # (of torch's compiler, of progress bars) has a name, which is left behind and complained of where a run is killed.
    multiprocessing.set_start_method(None, force=True)
    stop = Stop()
    stop.listen()
    _end_with_parent()
    try:
        _redirect_output(run_dir)
        with run_lock(run_dir):
            if read_status(run_dir).state != "complete":  # another sweep may have trained it while this one waited
                _run_to_an_end(spec, run_dir, cache, stop)
    except Exception as error:
        if failure(error).startswith(DISK):
            sys.exit(DISK_EXIT_CODE)
        raise


def _run_to_an_end(spec: AnySpec, run_dir: Path, cache: Path, stop: Stop) -> None:
    try:
        write_spec(run_dir / "spec.json", spec)
        write_status(run_dir, read_status(run_dir).model_copy(update={"state": "running", "error": None, "note": None}))
        _run(spec, run_dir, cache, stop)
    except BaseException as error:
        _leave_failure(run_dir, error)
        raise


def _run(spec: AnySpec, run_dir: Path, cache: Path, stop: Stop) -> None:
    if spec.placement.ranks == 1:
        run_rank(run_dir, cache, stop)
    elif spec.placement.nodes == 1:
        run_agent(run_dir, cache, None, stop)
    else:
        run_on_nodes(spec.placement, run_dir, cache, stop, run_agent)


def run_agent(run_dir: Path, cache: Path, seat: Seat | None, stop: Stop) -> None:
    """Start the ranks of one machine, and wait for them. seat: its place among several."""
    _end_with_parent()
    stop.raises, stop.passes_on = False, True  # ranks stop together, between two steps
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    placement = read_spec(run_dir / "spec.json").placement
    # Where nodes have seats, ranks have theirs: the c10d rendezvous orders machines by their names.
    meeting: dict[str, Any] = (
        {"rdzv_backend": "c10d", "rdzv_endpoint": "127.0.0.1:0"}  # a free port
        if seat is None
        else {
            "rdzv_backend": "static",
            "rdzv_endpoint": f"{seat.address}:{seat.port}",
            "rdzv_configs": {"rank": seat.number, "timeout": SECONDS_TO_START},
        }
    )
    config = LaunchConfig(
        min_nodes=placement.nodes,
        max_nodes=placement.nodes,
        nproc_per_node=placement.ranks // placement.nodes,
        run_id=run_dir.name,
        **meeting,
        max_restarts=0,
        start_method="fork",  # the imports are already here
        signals_to_handle="SIGQUIT",  # of the others we know better
    )
    try:
        preempted = elastic_launch(config, _one_of_several)(run_dir, cache, stop)
    except ChildFailedError as error:
        # The agent ends the others with SIGTERM; those that lose a neighbour fail on their own.
        killed = [
            rank for rank, failed in error.failures.items() if failed.exitcode in (-signal.SIGKILL, -signal.SIGSEGV)
        ]
        rank = killed[0] if killed else error.get_first_failure()[0]
        raise LostRankError(f"rank {rank} {exit_reason(error.failures[rank].exitcode)}") from error
    if any(preempted.values()):
        raise PreemptedError


def _one_of_several(run_dir: Path, cache: Path, stop: Stop) -> bool:
    """A rank that was preempted ends well, and says True: torch would take any other end for a failure."""
    try:
        run_rank(run_dir, cache, stop)
    except PreemptedError:
        return True
    return False


def run_rank(run_dir: Path, cache: Path, stop: Stop) -> None:
    """One rank of a run: it reads `spec.json` and does what it says."""
    _end_with_parent()
    import torch
    from joblib import cpu_count  # those of a job, not of the machine

    spec = read_spec(run_dir / "spec.json")
    placement = spec.placement
    torch.set_num_threads(
        placement.threads or max(1, cpu_count() // (placement.ranks // placement.nodes * placement.runs_per_device))
    )
    if isinstance(spec, FinetuneSpec):
        from scaling.finetune.finetune import finetune

        finetune(spec, run_dir, cache, stop)
    elif isinstance(spec, CompressSpec):
        from scaling.compress.compress import compress

        compress(spec, run_dir, cache, stop)
    else:
        from scaling.train.pretrain import pretrain

        pretrain(spec, run_dir, cache, stop)


def _leave_failure(run_dir: Path, error: BaseException) -> None:
    """Say in the status how the run ended, unless the run itself already did."""
    status = read_status(run_dir)
    if isinstance(error, PreemptedError):
        state, reason = "preempted", str(error)
    else:
        logging.getLogger(__name__).error("the run failed", exc_info=error)
        state, reason = "failed", failure(error)
    # A rank that loses another says so, and then the loss is the reason; all else a run knows better itself.
    is_echo = status.state == "failed" and not (status.error or "").startswith(DISK)
    is_cause = isinstance(error, LostRankError) and not str(error).startswith("rank 0 ended")
    if status.state in ("complete", "preempted", "failed", "diverged") and not (is_echo and is_cause):
        return
    with contextlib.suppress(OSError):  # the disk may be what failed; the exit code tells the sweep
        write_status(run_dir, status.model_copy(update={"state": state, "error": reason, "note": None}))


def _end_with_parent() -> None:
    """Kill this process when the one that asked for it is gone, also by kill -9; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _redirect_output(run_dir: Path) -> None:
    """Send everything this process and its children print to the run's log, and our own warnings to a file, too."""
    descriptor = os.open(run_dir / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    logging.getLogger("scaling").setLevel(logging.INFO)
    ours = logging.FileHandler(run_dir / WARNINGS, mode="w", encoding="utf-8")
    ours.addFilter(lambda record: record.levelno == logging.WARNING)
    logging.getLogger("scaling").addHandler(ours)
    logging.captureWarnings(True)
    warnings.simplefilter("default")
