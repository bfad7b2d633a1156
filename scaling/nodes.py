"""One run on several machines.

The machine where a run was started leads: it holds the run's lock, has rank 0, and starts an agent on every other one,
by `srun` inside a Slurm allocation, by `ssh` with a hostfile. An agent hears on its standard input what to do, so that
nothing of it stands on a command line, and from then on a pulse; on its output it gives one back. Whoever misses the
other's pulse, or is cut off, ends, and with it the ranks under it: neither the end of a machine nor that of a
connection leaves anybody waiting.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import multiprocessing
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path

import psutil

from scaling.placement import Placement
from scaling.train.preemption import EXIT_CODE as PREEMPTED
from scaling.train.preemption import PreemptedError, Stop, deaf_children

SECONDS_BETWEEN_PULSES = 2.0
SECONDS_WITHOUT_PULSE = 30.0
SECONDS_TO_START = 300
SECONDS_TO_TELL = 3.0
"""How long after the first sign of a loss its cause may come: ranks that lose another fail, too, and may be faster."""
TOLD = ("GLOO_", "GOMP_", "HF_HOME", "HF_HUB_", "NCCL_", "OMP_", "PYTORCH_", "SCALING_", "TORCH", "TRITON_")
"""How the environment variables begin that agents are told of, besides those that find programs and modules."""
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=2")
PATHS = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")


class LostRankError(RuntimeError):
    """One rank of several has ended, and took the run with it."""


def exit_reason(exit_code: int) -> str:
    """How a process ended that could not say so itself."""
    return f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of a machine in a run: its number from 0, which leads, and where the leader is met."""

    number: int
    address: str
    port: int


Agent = Callable[[Path, Path, Seat, Stop], None]
"""Starts the ranks that a machine has of a run (folder, cache), and waits for them."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an agent is told. number: of its machine; None: as Slurm counts."""

    run_dir: str
    cache: str
    number: int | None
    address: str
    port: int
    environment: dict[str, str]


def find_hosts(placement: Placement) -> list[str]:
    """The machines of a run, this one first. ValueError if there are fewer than it wants."""
    if placement.nodes == 1:
        return [socket.gethostname()]
    if placement.hostfile is not None:
        where = f"placement.hostfile {placement.hostfile}"
        hosts = read_hostfile(Path(placement.hostfile), placement.ranks // placement.nodes)
        hosts.sort(key=lambda host: not _is_this_machine(host))
        if hosts and not _is_this_machine(hosts[0]):
            raise ValueError(f"{where} must name this machine, {socket.gethostname()}, got {', '.join(hosts)}")
    elif node_list := os.environ.get("SLURM_JOB_NODELIST"):
        where = "SLURM_JOB_NODELIST"
        command = ["scontrol", "show", "hostnames", node_list]
        hosts = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        own = os.environ.get("SLURMD_NODENAME")
        hosts.sort(key=lambda host: own not in (None, host))
    else:
        raise ValueError(
            f"placement.nodes={placement.nodes} needs placement.hostfile, or an allocation of Slurm's: launch=slurm"
        )
    if len(hosts) < placement.nodes:
        raise ValueError(
            f"{where} names {', '.join(hosts) or 'nothing'}: wanted placement.nodes={placement.nodes} machines"
        )
    return hosts[: placement.nodes]


def read_hostfile(path: Path, num_ranks: int) -> list[str]:
    """The hosts of a file in DeepSpeed's format, `host slots=4` a line. ValueError if one lacks slots for its ranks."""
    hosts = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"placement.hostfile: cannot read {path}: {error.strerror}") from None
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or not words[1].startswith("slots=") or not words[1][6:].isdigit():
            raise ValueError(f"placement.hostfile {path}, line {number}: wanted `host slots=4`, got {line!r}")
        if int(words[1][6:]) < num_ranks:
            raise ValueError(
                f"placement.hostfile {path}, line {number}: {num_ranks} ranks a machine need as many slots"
            )
        hosts.append(words[0])
    return hosts


def run_on_nodes(placement: Placement, run_dir: Path, cache: Path, stop: Stop, agent: Agent) -> None:
    """Run the agents of all machines to their end.

    Raises LostRankError, PreemptedError, or what this machine's agent raised; then the others have ended, too.
    """
    stop.raises, stop.passes_on = False, True  # to the ranks of this machine, which tell the others
    hosts = find_hosts(placement)
    port = _free_port(hosts[0], placement.port)
    with contextlib.ExitStack() as stack:
        context = multiprocessing.get_context("fork")  # what the ranks need is loaded already
        ours, theirs = context.Pipe(duplex=False)
        own = context.Process(
            target=_lead, args=(theirs, agent, run_dir, cache, Seat(0, hosts[0], port), hosts[1], stop)
        )
        own.start()
        theirs.close()
        stack.callback(own.kill)
        links = [stack.enter_context(link) for link in _links(placement, hosts, port, run_dir, cache)]
        errors = _wait(own, ours, links, hosts[0])
    if errors:  # that a rank ended is an echo of what killed another
        raise min(errors, key=lambda error: " ended with " in str(error))


def _wait(own: ForkProcess, results: Connection, links: list[Link], host: str) -> list[BaseException]:
    """Wait for all agents to end well, or for one not to; then for a moment more, and return what was wrong."""
    own_error: BaseException | None = None
    deadline = float("inf")
    while time.monotonic() < deadline:
        if own_error is None and results.poll(0.1):
            try:
                own_error = results.recv()
            except EOFError:  # it has sent all that it had to say
                own.join()
                own_error = LostRankError(f"node 0 ({host}) {exit_reason(own.exitcode or 0)}") if own.exitcode else None
        lost = [LostRankError(loss) for link in links if (loss := link.loss())]
        errors = [*lost, *([own_error] if own_error is not None else [])]
        if own.exitcode is not None and all(link.exit_code is not None for link in links):
            return errors
        if lost or (own_error is not None and not isinstance(own_error, PreemptedError)):
            deadline = min(deadline, time.monotonic() + SECONDS_TO_TELL)
        time.sleep(0.1)
    return errors


def _lead(results: Connection, agent: Agent, run_dir: Path, cache: Path, seat: Seat, peer: str, stop: Stop) -> None:
    """The agent of this machine."""
    _use_interface(peer)
    try:
        agent(run_dir, cache, seat, stop)
    except (LostRankError, PreemptedError) as error:
        results.send(error)
    except Exception as error:
        results.send(RuntimeError(f"{type(error).__name__}: {error}"))


class Link:
    """A connection to one agent or several. They end when it is left."""

    def __init__(self, command: list[str], hosts: dict[int, str], order: Order, log: Path) -> None:
        """hosts: the machines of the agents, by number. log: for all that they print."""
        self._hosts, self._order = hosts, order
        self._heard = dict.fromkeys(hosts, time.monotonic() + SECONDS_TO_START)
        self._reasons: list[str] = []
        with log.open("ab") as output, deaf_children():
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, bufsize=0
            )

    def __enter__(self) -> Link:
        for work in (self._talk, self._listen):
            threading.Thread(target=work, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # without it its agents end, wherever they are
        self._process.kill()
        self._process.wait()

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def loss(self) -> str | None:
        """What is wrong with an agent, if anything is."""
        if self._reasons:
            return self._reasons[0]
        silent = [number for number, heard in self._heard.items() if time.monotonic() > heard + SECONDS_WITHOUT_PULSE]
        if self.exit_code is None and silent:
            return f"node {silent[0]} ({self._hosts[silent[0]]}) fell silent"
        if self.exit_code not in (None, 0, PREEMPTED):
            names = ", ".join(f"{number} ({host})" for number, host in self._hosts.items())
            return f"node {names} {exit_reason(self.exit_code)}"
        return None

    def _talk(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended, or is being left
            line = json.dumps(asdict(self._order))
            while self.exit_code is None:
                self._process.stdin.write(f"{line}\n".encode())
                line = ""
                time.sleep(SECONDS_BETWEEN_PULSES)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self._heard[said["number"]] = time.monotonic()
            self._hosts[said["number"]] = said["host"]
            if said["loss"]:
                self._reasons.append(f"{said['loss']} (on node {said['number']}, {said['host']})")


def _links(placement: Placement, hosts: list[str], port: int, run_dir: Path, cache: Path) -> Iterator[Link]:
    """Connections to the agents of all machines but the first."""
    told = {name: value for name, value in os.environ.items() if name.startswith(TOLD)}
    order = Order(str(run_dir.absolute()), str(cache.absolute()), None, hosts[0], port, told)
    python = [sys.executable, "-m", "scaling.nodes"]
    log = run_dir / "log.txt"
    if placement.hostfile is not None:
        paths = [f"{name}={os.environ[name]}" for name in PATHS if name in os.environ]
        command = f"cd {shlex.quote(os.getcwd())} && exec {shlex.join(['env', *paths, *python])}"
        for number, host in enumerate(hosts[1:], start=1):
            yield Link([*SSH, "--", host, command], {number: host}, replace(order, number=number), log)
    else:
        num = str(len(hosts) - 1)
        asked = ["--overlap", "--unbuffered", "--kill-on-bad-exit=1", "--ntasks-per-node=1", f"--chdir={os.getcwd()}"]
        asked += [f"--nodes={num}", f"--ntasks={num}", f"--nodelist={','.join(hosts[1:])}"]
        if cores := os.environ.get("SLURM_CPUS_PER_TASK"):  # srun does not take it over from the job
            asked.append(f"--cpus-per-task={cores}")
        yield Link(["srun", *asked, *python], dict(enumerate(hosts[1:], start=1)), order, log)


def _is_this_machine(host: str) -> bool:
    return ipaddress.ip_address(_address(host)).is_loopback or _interface_with(_address(host)) is not None


def _address(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise ValueError(f"placement.hostfile: no machine has the name {host}: {error.strerror}") from None


def _interface_with(address: str) -> str | None:
    """The network interface of this machine that has an address."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address.partition("%")[0] == address for each in addresses):
            return str(name)
    return None


def _free_port(host: str, port: int | None) -> int:
    """A port of this machine that is free now."""
    address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
    try:
        with socket.create_server(address[4][:2], family=address[0]) as server:
            return int(server.getsockname()[1])
    except OSError as error:
        raise ValueError(f"placement.port: cannot listen on {host}:{port or 'any'}: {error.strerror}") from None


def _use_interface(peer: str) -> None:
    """Let gloo talk through the interface that leads to a peer: it would take that of the machine's name, often lo."""
    address = socket.getaddrinfo(peer, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(address[0], socket.SOCK_DGRAM) as probe:
        probe.connect(address[4])  # sends nothing
        interface = _interface_with(probe.getsockname()[0])
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)


def main() -> None:
    """An agent, which the leader has started on another machine."""
    stop = Stop()
    stop.listen()
    order = Order(**json.loads(sys.stdin.readline()))
    os.environ.update(order.environment)
    number = int(os.environ["SLURM_PROCID"]) + 1 if order.number is None else order.number
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(loss: str | None = None) -> None:
        print(json.dumps({"number": number, "host": socket.gethostname(), "loss": loss}), file=output, flush=True)

    def talk() -> None:
        with contextlib.suppress(OSError):
            while True:
                tell()
                time.sleep(SECONDS_BETWEEN_PULSES)
        os.kill(os.getpid(), signal.SIGKILL)  # and the ranks end with it

    def listen() -> None:
        while select.select([0], [], [], SECONDS_WITHOUT_PULSE)[0] and os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    for work in (talk, listen):
        threading.Thread(target=work, daemon=True).start()
    import scaling.train.forkable
    import scaling.train.pretrain  # noqa: F401  (the ranks are forks)
    from scaling.launch import run_agent

    _use_interface(order.address)
    try:
        run_agent(Path(order.run_dir), Path(order.cache), Seat(number, order.address, order.port), stop)
    except LostRankError as error:
        tell(str(error))
        sys.exit(1)


if __name__ == "__main__":
    from scaling.nodes import main as run  # of the module that the others import: an error has one class

    run()
