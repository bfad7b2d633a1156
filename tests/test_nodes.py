"""One run on several machines, which here are network namespaces: the same numbers, and none outlives another."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from lab import CANARY, Lab, SpecMaker, points, wait_for

from scaling.nodes import find_hosts
from scaling.placement import Placement
from scaling.status import is_locked, read_status
from scaling.study import run_study

ROOT = Path(__file__).parent.parent
SSH = """#!/bin/sh
# Like ssh: the command runs elsewhere, in a session of its own, and does not end with this client.
printf '%s\\n' "$*" >> "$0.said"
while [ "$1" = -o ]; do shift 2; done
[ "$1" = -- ] || exit 2  # a host is never taken for an option
host=$2; shift 2
exec 3<&0
setsid {enter} sh -c "$*" <&3 &
wait $!
"""
SRUN = """#!/bin/sh
# Like srun: one task on each other node, which counts from 0.
printf '%s\\n' "$*" >> "$0.said"
while [ "${1#--}" != "$1" ]; do shift; done
exec 3<&0
SLURM_PROCID=0 setsid "$@" <&3 &
wait $!
"""
TWO_NODES = {"placement.ranks": 2, "placement.nodes": 2, "budget.num_tokens": 24 * 128, "schedule.decay_frac": 1.0}


@dataclass(frozen=True)
class Changed:
    """A forkserver whose runs have another environment."""

    context: ForkServerContext
    environment: Mapping[str, str]

    def Process(self, target: Callable[..., None], args: tuple[Any, ...], name: str) -> ForkServerProcess:
        return self.context.Process(target=with_environment, args=(self.environment, target, *args), name=name)


def with_environment(environment: Mapping[str, str], target: Callable[..., None], *arguments: object) -> None:
    os.environ.update(environment)
    target(*arguments)


@dataclass(frozen=True)
class Cluster:
    """Two machines. hosts: their names; this is the first. tool: the program that starts things on the second."""

    lab: Lab
    hosts: tuple[str, str]
    hostfile: Path
    tool: Path

    def processes(self) -> set[int]:
        """What the tool has started: agents and their ranks."""
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes()
                alive = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
            except OSError:
                continue
            if (
                alive
                and f"CLUSTER={self.tool}".encode() in environment
                and b"scaling.nodes" in (folder / "cmdline").read_bytes()
            ):
                found.add(int(folder.name))
        return found


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def second_machine() -> Iterator[tuple[tuple[str, str], str]]:
    """The addresses of two machines, and how to enter the second: a network namespace, where that is allowed."""
    name, here, there = f"scaling-{os.getpid()}", "10.213.77.1", "10.213.77.2"
    steps = [
        f"netns add {name}",
        f"link add sc{os.getpid() % 10**6} type veth peer name eth0 netns {name}",
        f"addr add {here}/30 dev sc{os.getpid() % 10**6}",
        f"link set sc{os.getpid() % 10**6} up",
        f"-n {name} addr add {there}/30 dev eth0",
        f"-n {name} link set eth0 up",
        f"-n {name} link set lo up",
    ]
    try:
        for step in steps:
            subprocess.run(["ip", *step.split()], check=True, capture_output=True)
        yield (here, there), f"ip netns exec {name} unshare --uts sh -c 'hostname node-b; exec \"$@\"' sh"
    except (OSError, subprocess.CalledProcessError):  # not root, or no such tool: two names of one machine
        yield ("127.0.0.1", "127.0.0.2"), "env"
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.fixture
def cluster(lab: Lab, second_machine: tuple[tuple[str, str], str], tmp_path: Path) -> Cluster:
    hosts, enter = second_machine
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("".join(f"{host} slots=1\n" for host in hosts))
    tool = write_program(
        tmp_path / "bin" / "ssh", SSH.replace("{enter}", f"{enter} env CLUSTER={tmp_path / 'bin/ssh'}")
    )
    environment = {"PATH": f"{tool.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return Cluster(Lab(Changed(lab.context, environment), lab.cache), hosts, hostfile, tool)  # type: ignore[arg-type]


def test_a_run_on_two_machines_is_bit_for_bit_the_run_on_one(
    cluster: Cluster, lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    cluster.lab.complete(spec({**TWO_NODES, "placement.hostfile": str(cluster.hostfile)}), tmp_path / "two")
    lab.complete(spec({**TWO_NODES, "placement.nodes": 1}), tmp_path / "one")
    assert points(tmp_path / "two") == points(tmp_path / "one")
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("two", "one")]
    assert weights[0] == weights[1]
    said = Path(f"{cluster.tool}.said").read_text()
    assert said.count("-m scaling.nodes") == 1
    assert CANARY not in said
    wait_for(lambda: not cluster.processes(), seconds=10)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["rank", "agent", "machine"])
def test_a_machine_that_is_lost_ends_the_run_within_a_minute_and_leaves_nothing(
    cluster: Cluster, spec: SpecMaker, tmp_path: Path, how: str
) -> None:
    run_dir = tmp_path / "run"
    long = spec({**TWO_NODES, "placement.hostfile": str(cluster.hostfile), "budget.num_tokens": 230 * 128})
    process = cluster.lab.start(long, run_dir)
    wait_for(lambda: len(cluster.processes()) >= 2 and (read_status(run_dir).tokens_per_second or 0) > 0, process)
    agent, *ranks = sorted(cluster.processes())
    if how == "machine":  # one that has no power does not even close its connections
        for pid in (agent, *ranks):
            os.kill(pid, signal.SIGSTOP)
    else:
        os.kill(agent if how == "agent" else ranks[0], signal.SIGKILL)
    process.join(60)
    assert process.exitcode not in (None, 0)
    status = read_status(run_dir)
    reason = {
        "rank": r"rank 1 was killed by signal 9 \(on node 1, .*\)",
        "agent": r"node 1 \(.*\) ended with exit code 137",
        "machine": r"node 1 \(.*\) fell silent",
    }
    assert status.state == "failed"
    assert re.fullmatch(f"LostRankError: {reason[how]}", status.error or ""), status
    for pid in cluster.processes():
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: not cluster.processes(), seconds=20)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_other_machine_ends_with_the_one_that_leads_and_the_run_goes_on_later(
    cluster: Cluster, lab: Lab, spec: SpecMaker, tmp_path: Path, how: signal.Signals
) -> None:
    run_dir = tmp_path / "run"
    changes = {**TWO_NODES, "budget.num_tokens": 230 * 128, "placement.checkpoint_seconds": 0}
    process = cluster.lab.start(spec({**changes, "placement.hostfile": str(cluster.hostfile)}), run_dir)
    wait_for(lambda: any(run_dir.glob("checkpoints/step-*")), process)
    assert process.pid is not None
    os.kill(process.pid, how)
    process.join(60)
    wait_for(lambda: not cluster.processes() and not is_locked(run_dir), seconds=20)
    assert read_status(run_dir).state == {signal.SIGKILL: "interrupted", signal.SIGTERM: "preempted"}[how]
    lab.complete(spec({**changes, "placement.nodes": 1}), run_dir)


@pytest.mark.slow
def test_in_a_slurm_job_the_other_machines_are_those_that_slurm_names(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    tool = write_program(tmp_path / "bin" / "srun", SRUN)
    write_program(tool.parent / "scontrol", "#!/bin/sh\nprintf '127.0.0.1\\n127.0.0.2\\n'\n")
    environment = {
        "PATH": f"{tool.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SLURM_JOB_NODELIST": "127.0.0.[1-2]",
        "SLURM_CPUS_PER_TASK": "3",
    }
    slurm = Lab(Changed(lab.context, environment), lab.cache)  # type: ignore[arg-type]
    slurm.complete(spec(TWO_NODES), tmp_path / "two")
    lab.complete(spec({**TWO_NODES, "placement.nodes": 1}), tmp_path / "one")
    assert points(tmp_path / "two") == points(tmp_path / "one")
    said = Path(f"{tool}.said").read_text()
    for option in ("--overlap", "--nodes=1", "--ntasks=1", "--nodelist=127.0.0.2", "--cpus-per-task=3"):
        assert f"{option} " in said


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("127.0.0.1 slots=1\n", "names 127.0.0.1: wanted placement.nodes=2 machines"),
        ("127.0.0.1 slots=1\n127.0.0.2\n", "line 2: wanted `host slots=4`, got '127.0.0.2'"),
        ("127.0.0.1 slots=1  # one\n\n127.0.0.2 slots=0\n", "line 3: 1 ranks a machine need as many slots"),
        (
            "198.51.100.1 slots=1\n198.51.100.2 slots=1\n",
            f"must name this machine, {socket.gethostname()}, got 198.51.100.1, 198",
        ),
    ],
)
def test_a_hostfile_that_does_not_do_is_refused_with_its_line(tmp_path: Path, lines: str, error: str) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text(lines)
    with pytest.raises(ValueError, match=re.escape(error)):
        find_hosts(Placement(ranks=2, nodes=2, hostfile=str(hostfile)))


def test_this_machine_leads_wherever_it_stands_in_the_hostfile(tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("198.51.100.1 slots=8\n127.0.0.1 slots=8\n")
    assert find_hosts(Placement(ranks=16, nodes=2, hostfile=str(hostfile))) == ["127.0.0.1", "198.51.100.1"]


def test_several_machines_that_nobody_names_are_an_error_before_anything_starts(
    lab: Lab, spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_NODELIST", raising=False)
    with pytest.raises(ValueError, match=r"placement\.nodes=2 needs placement\.hostfile, or an allocation of Slurm's"):
        run_study([spec(TWO_NODES)], "run", tmp_path / "runs" / "tiny", lab.cache)
