"""Measures runs, each in its own process: ours as a sweep starts them and their log tells, peers by a stopwatch."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext, ForkServerContext
from pathlib import Path
from typing import Any

from analysis.runs.wandb_file import LogFile, read_log_file
from benchmarks.train_cases import Case
from scaling.data.prepare import prepare
from scaling.launch import launch
from scaling.ranks import device_of
from scaling.spec import RunSpec
from scaling.status import read_status

SECONDS_AT_MOST = 400.0
"""A measurement that takes longer is given up."""

TIMED_FRAC = 0.7
"""About the part of a run of ours that is timed."""


class FailedError(RuntimeError):
    """A measurement came to nothing."""


@dataclass(frozen=True)
class Measured:
    """What runs side by side came to.

    tokens_per_second: steady, of all of them. first_step_seconds: of the slowest. peak_frac: of the device's FLOPs per
    second, where its peak is known and the log tells.
    """

    tokens_per_second: float
    first_step_seconds: float
    peak_frac: float | None = None


@dataclass(frozen=True)
class Lab:
    """Where runs are made: `context` forks ours, `peers` forks or spawns theirs."""

    context: ForkServerContext
    peers: BaseContext
    folder: Path
    cache: Path

    def train(self, specs: Sequence[RunSpec]) -> tuple[list[LogFile], float]:
        """The logs of runs side by side, each complete, and the time at which they were started."""
        for spec in specs:
            prepare(spec, self.cache, lambda line: None)
        places = [self.folder / f"run{number}" for number in range(len(specs))]
        for place in places:
            shutil.rmtree(place, ignore_errors=True)
        started = time.time()
        runs = [launch(self.context, spec, place, self.cache) for spec, place in zip(specs, places, strict=True)]
        for run in runs:
            run.join(max(1.0, SECONDS_AT_MOST - (time.time() - started)))
        for run, place in zip(runs, places, strict=True):
            if run.exitcode is None:
                run.kill()
            if (status := read_status(place)).state != "complete":
                tail = (place / "log.txt").read_text(encoding="utf-8", errors="replace")[-3000:]
                raise FailedError(f"{status.state}: {status.error}\n{tail}")
        return [read_log_file(next(place.glob("wandb/*/*.wandb"))) for place in places], started

    def ours(self, specs: Sequence[RunSpec]) -> Measured:
        """From the first look after the first evaluation to the last look: looks, logging and evaluation included."""
        logs, started = self.train(specs)
        total = first = peak_frac = 0.0
        for log in logs:
            evaluated = next(row["_timestamp"] for row in log.history if "eval/at_decay_end" in row)
            looks = [(row["_timestamp"], row["tokens"]) for row in log.history if "train/loss" in row]
            first = max(first, looks[0][0] - started)
            (begin, before), (end, after) = next(look for look in looks if look[0] > evaluated), looks[-1]
            pace = (after - before) / (end - begin)
            last = [row for row in log.history if "train/loss" in row][-1]
            total += pace
            peak_frac += pace * last.get("perf/mfu", 0) / last["perf/tokens_per_second"]
        return Measured(total, first, peak_frac or None)

    def peer(self, name: str, specs: Sequence[RunSpec], seconds: float) -> Measured:
        """A peer, as often side by side as there are specs, each on its ranks; rank 0 of each holds the watch."""
        pairs: list[list[tuple[Any, Connection, Path]]] = []
        for number, spec in enumerate(specs):
            port = _free_port()
            pairs.append([])
            for rank in range(spec.placement.ranks):
                receiver, sender = self.peers.Pipe(duplex=False)
                log = self.folder / f"peer{number}-{rank}.txt"
                process = self.peers.Process(  # type: ignore[attr-defined]
                    target=_run_peer, args=(name, spec, seconds, rank, port, log, sender)
                )
                process.start()
                sender.close()
                pairs[-1].append((process, receiver, log))
        received = [[self._received(*pair) for pair in ranks] for ranks in pairs]
        paces = [of_ranks[0] for of_ranks in received]
        return Measured(sum(pace.tokens_per_second for pace in paces), max(pace.first_step_seconds for pace in paces))

    def _received(self, process: Any, receiver: Connection, log: Path) -> Any:
        try:
            if not receiver.poll(SECONDS_AT_MOST):
                raise EOFError
            return receiver.recv()
        except EOFError:
            process.kill()
            tail = log.read_text(encoding="utf-8", errors="replace")[-3000:] if log.exists() else ""
            raise FailedError(tail) from None
        finally:
            process.join()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _run_peer(name: str, spec: RunSpec, seconds: float, rank: int, port: int, log: Path, sender: Connection) -> None:
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    from benchmarks.train_peers import PEERS

    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(spec.placement.ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    device = device_of(spec)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if spec.placement.threads:
        torch.set_num_threads(spec.placement.threads)
    sender.send(PEERS[name][1](spec, device, seconds))


def steps(case: Case, seconds: float) -> int:
    """Steps of which the timed part takes about `seconds` where a case says; enough for looks between evaluations."""
    return max(200, round(seconds / TIMED_FRAC * case.tokens_per_second / (case.num_sequences * case.sequence_length)))


def comparison(what: str, ours: float, peer: float, peer_name: str, unit: str, **more: Any) -> dict[str, Any]:
    """One line of the results."""
    line = {"what": what, "ours": _rounded(ours), "peer": _rounded(peer), "peer_name": peer_name}
    return {**line, "ratio": round(ours / peer, 2), "unit": unit, **more}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
