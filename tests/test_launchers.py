"""Where runs are started: the same sweep, the same records, whoever starts them."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from lab import Lab, SpecMaker, points, wait_for, wandb_files
from rich.console import Console

from scaling import study
from scaling.away import RunChain, prepare_away, run_away
from scaling.data.prepare import prepare
from scaling.devices import seats
from scaling.launchers.here import Joblib
from scaling.launchers.launcher import Launcher, Over, Task, check_shared
from scaling.launchers.ray import Ray
from scaling.launchers.slurm import Slurm
from scaling.placement import Placement
from scaling.spec import RunSpec
from scaling.status import read_status
from scaling.study import plan_runs, run_study
from scaling.train.preemption import Stop

SHORT = {"budget.num_tokens": 24 * 128, "evaluation.every_tokens": None, "schedule.decay_frac": 0.25}
LOCAL = Slurm(cluster="local", timeout_min=10, signal_delay_s=5)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "tiny"


def budgets(spec: SpecMaker, *steps: int, **changes: object) -> list[RunSpec]:
    """Runs of one trunk."""
    return [spec({**SHORT, "name": f"run{n}", "budget.num_tokens": n * 128, **changes}) for n in steps]


def seeds(spec: SpecMaker, num: int, **changes: object) -> list[RunSpec]:
    """Runs that share no trunk."""
    return [spec({**SHORT, "name": f"run{seed}", "seeds.order": seed, **changes}) for seed in range(num)]


def states(runs: Path) -> dict[str, str]:
    return {path.name.split("-")[0]: read_status(path).state for path in sorted(runs.glob("run*"))}


def losses(runs: Path) -> dict[str, object]:
    return {path.name: points(path) for path in sorted(runs.glob("run*"))}


def jobs_in(folder: Path) -> set[int]:
    """The processes of submitit's that do the tasks of a folder."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"submitit.core._submit" in command and str(folder).encode() in command:
            found.add(int(process.name))
    return found


def check_a_sweep(launcher: Launcher, spec: SpecMaker, lab: Lab, runs: Path) -> None:
    """Two chains, one of which fails in its first run: its second, and the other chain, go on; then all are as here."""
    good = budgets(spec, 24, 48)
    bad = budgets(spec, 32, 40, **{"optimizer.learning_rate": 1e30})
    assert run_study([*good, *bad], "run", runs, lab.cache, launcher=launcher) == 1
    assert states(runs) == {"run24": "complete", "run48": "complete", "run32": "diverged", "run40": "diverged"}
    (second,) = runs.glob("run48*")
    assert read_status(second).trunk_tokens == 18 * 128
    here = runs.parent / "here"
    assert run_study(good, "run", here, lab.with_no_trunks(runs.parent).cache) == 0
    assert {name: points for name, points in losses(runs).items() if name in losses(here)} == losses(here)


def test_joblib_counts_how_many_runs_are_side_by_side(
    lab: Lab, spec: SpecMaker, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Joblib(n_jobs=3).placed(Placement()).runs_per_device == 3
    assert Joblib(n_jobs=-1).placed(Placement()).runs_per_device == len(os.sched_getaffinity(0))
    monkeypatch.setattr(study, "start_server", lambda modules: lab.context)
    assert run_study(seeds(spec, 2), "run", runs, lab.cache, launcher=Joblib(n_jobs=2)) == 0
    for path in runs.glob("run*/spec.json"):
        assert json.loads(path.read_text())["placement"]["runs_per_device"] == 2


@pytest.mark.parametrize(
    ("ranks", "n_jobs", "seated"),
    [
        (1, 2, ["0", "1"]),
        (1, 4, ["0", "1", "2", "3"]),
        (1, 6, ["0", "1", "2", "3", "0", "1"]),
        (2, 3, ["0,1", "2,3", "0,1"]),
    ],
)
def test_joblib_runs_as_many_as_it_is_told_however_many_gpus_there_are(
    monkeypatch: pytest.MonkeyPatch, ranks: int, n_jobs: int, seated: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    launcher = Joblib(n_jobs=n_jobs)
    placement = launcher.placed(Placement(ranks=ranks))
    assert seats(placement)[: launcher.most_runs] == seated
    assert placement.runs_per_device == max(map(seated.count, seated))


def test_a_sweep_has_no_more_runs_at_once_than_joblib_is_told(
    lab: Lab, spec: SpecMaker, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four seats, as there are on four GPUs, the launcher leaves two."""
    begun: list[int] = []

    class Ended:
        exitcode = 0

        def kill(self) -> None: ...

    def launched(context: object, spec: RunSpec, run_dir: Path, cache: Path, seat: str | None) -> Ended:
        begun[-1] += 1
        return Ended()

    monkeypatch.setattr(study, "seats", lambda placement: ["0", "1", "2", "3"])
    monkeypatch.setattr(study, "launch", launched)
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: begun.append(0))
    monkeypatch.setattr(study, "time", clock)
    monkeypatch.setattr(study, "start_server", lambda modules: lab.context)
    begun.append(0)
    run_study(seeds(spec, 5), "run", runs, lab.cache, launcher=Joblib(n_jobs=2))
    assert [num for num in begun if num] == [2, 2, 1]


def test_a_sweep_in_jobs_of_submitit_is_the_sweep_here_and_a_run_that_fails_leaves_the_others(
    lab: Lab, spec: SpecMaker, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(study, "start_server", lambda modules: lab.context)
    check_a_sweep(LOCAL, spec, lab, runs)
    assert "2 jobs submitted" in capsys.readouterr().out


@pytest.mark.slow
def test_a_job_that_is_pre_empted_is_queued_again_and_a_second_call_watches_it(
    lab: Lab, spec: SpecMaker, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (long,) = budgets(spec, 230, **{"placement.checkpoint_seconds": 0})
    prepare(long, lab.cache, lambda line: None)
    (run,) = plan_runs([long], runs)
    over = LOCAL.start([RunChain([run], lab.cache)], runs / "jobs", print)
    wait_for(lambda: any(run.run_dir.glob("checkpoints/step-*")))
    (job,) = jobs_in(runs / "jobs")
    os.kill(job, signal.SIGUSR2)
    wait_for(lambda: run.status.state == "preempted")
    assert over() == [None]
    assert run_study([long], "run", runs, lab.cache, launcher=LOCAL) == 0
    assert "0 jobs submitted, 1 that were there already" in capsys.readouterr().out
    assert len(wandb_files(run.run_dir)) == 2
    wait_for(lambda: not jobs_in(runs / "jobs"), seconds=20)


def test_runs_added_to_a_sweep_are_not_taken_to_be_in_a_job_that_was_there_before(
    lab: Lab, spec: SpecMaker, runs: Path
) -> None:
    names = [RunChain(plan_runs(budgets(spec, *steps), runs), lab.cache).name for steps in ((24,), (24, 48), (48, 24))]
    assert names[0] != names[1] == names[2]


def test_a_chain_has_one_job_however_many_of_its_runs_are_over(lab: Lab, spec: SpecMaker, runs: Path) -> None:
    planned = plan_runs(budgets(spec, 24, 48), runs)
    asked: list[str] = []

    class Asked(Slurm):
        def start(self, tasks: Sequence[Task], folder: Path, report: Callable[[str], None]) -> Over:
            asked.extend(task.name for task in tasks)
            return lambda: ["nowhere"] * len(tasks)

    for waiting in (planned, planned[1:]):
        run_away(planned, waiting, Asked(cluster="local"), runs / "jobs", lab.cache, Console(), Stop())
    assert len(asked) == 2
    assert len(set(asked)) == 1


def test_jobs_that_are_processes_of_this_machine_refuse_runs_on_several(lab: Lab, spec: SpecMaker, runs: Path) -> None:
    several = spec({**SHORT, "placement.nodes": 2, "placement.ranks": 2})
    with pytest.raises(ValueError, match=r"launch\.cluster=local is one machine: wanted placement\.nodes=1, got 2"):
        run_study([several], "run", runs, lab.cache, launcher=LOCAL)


def test_data_is_prepared_on_a_machine_where_its_runs_could_not_start(
    lab: Lab, spec: SpecMaker, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    on_gpus = spec({**SHORT, "placement.device": "cuda"})
    with pytest.raises(ValueError, match=r"placement\.device=cuda needs a GPU"):
        run_study([on_gpus], "run", runs, lab.cache)
    assert not (runs / "data_card.md").exists()
    assert run_study([on_gpus], "prepare", runs, lab.cache) == 0


def test_a_job_that_cannot_begin_says_where_to_look(
    lab: Lab, spec: SpecMaker, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = LOCAL.model_copy(update={"setup": ("false",)})
    assert run_study(budgets(spec, 24), "run", runs, lab.cache, launcher=launcher) == 1
    said = capsys.readouterr().out
    assert re.search(r"planned +run24\S+ .* its job has not begun it, see\s+\S+/jobs/\d+_0_log.err", said), said


def test_shards_of_the_preparation_are_jobs_too(lab: Lab, spec: SpecMaker, runs: Path, tmp_path: Path) -> None:
    cache = tmp_path / "empty"
    cache.mkdir()
    prepare_away([spec(SHORT)], 2, LOCAL, runs / "jobs", cache, print)
    parts = {path.name for path in (cache / "tokens").iterdir() if path.is_dir()}
    assert run_study([spec(SHORT)], "prepare", runs, cache, launcher=LOCAL) == 0
    assert parts == {path.name for path in (cache / "tokens").iterdir() if path.is_dir()}
    assert len(parts) >= 5  # of three domains to evaluate on, and two to train on


@pytest.mark.slow
def test_a_sweep_in_tasks_of_ray_is_the_sweep_here(
    lab: Lab, spec: SpecMaker, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(study, "start_server", lambda modules: lab.context)
    try:
        check_a_sweep(Ray(num_cpus=0.5), spec, lab, runs)
    finally:
        ray.shutdown()


def test_a_folder_that_other_machines_cannot_see_is_refused() -> None:
    check_shared([Path("/home/me/runs")], "slurm")
    with pytest.raises(ValueError, match=r"launch=slurm needs folders that every machine sees, got /tmp/runs"):
        check_shared([Path("/home/me/cache"), Path("/tmp/runs")], "slurm")


def test_without_slurm_a_sweep_for_it_is_an_error_before_anything_starts(
    lab: Lab, spec: SpecMaker, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match=r"launch\.cluster: wanted a machine from which Slurm takes jobs"):
        run_study(budgets(spec, 24), "run", runs, lab.cache, launcher=Slurm())
    assert not list(runs.glob("run*"))


def test_what_slurm_is_asked_for_stands_in_the_batch_file(
    lab: Lab, spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of Slurm are stand-ins: sbatch keeps what it is given, and sacct knows of nothing."""
    sbatch = f'cp "$1" {tmp_path}/batch; echo Submitted batch job 77'
    (tmp_path / "bin").mkdir()
    for name, text in {"sbatch": sbatch, "srun": "", "sacct": ""}.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    launcher = Slurm(
        partition="gpu",
        gpus_per_node=4,
        array_parallelism=8,
        mem_gb=64,
        setup=("module load cuda",),
        additional_parameters={"reservation": "mine"},
    )
    two_nodes = {"placement.nodes": 2, "placement.ranks": 2}
    chains = [plan_runs([run], tmp_path / "runs") for run in seeds(spec, 2, **two_nodes)]
    over = launcher.start([RunChain(chain, lab.cache) for chain in chains], tmp_path / "jobs", print)
    assert over() == [None, None]
    batch = (tmp_path / "batch").read_text()
    for option in ("partition=gpu", "gpus-per-node=4", "mem=64GB", "nodes=2", "ntasks-per-node=1", "time=1440"):
        assert f"#SBATCH --{option}\n" in batch, batch
    for option in ("array=0-1%2", "signal=USR2@120", "reservation=mine"):
        assert f"#SBATCH --{option}\n" in batch, batch
    assert "\nmodule load cuda\n" in batch
    assert "--nodes=1 --ntasks=1" in batch.splitlines()[-1]  # the job leads the run, and starts the other node itself
    ids = {json.loads(path.read_text())["job_id"] for path in (tmp_path / "jobs").glob("*.json")}
    assert ids == {"77_0", "77_1"}
