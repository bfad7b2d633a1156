"""Slurm, through submitit: one job per task, all in one array; this process only watches."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from joblib import cpu_count
from pydantic import Field

from scaling.child import AnySpec
from scaling.devices import check_devices
from scaling.files import write_json
from scaling.launchers.launcher import Elsewhere, Over, Task, check_installed, check_shared

if TYPE_CHECKING:
    import submitit


class Slurm(Elsewhere):
    """The fields have the names that submitit gives them; None leaves a setting to the cluster.

    cluster: local starts all jobs at once as processes of this machine, to try things out. timeout_min: of a job; one
    that runs out of time, or is pre-empted, is queued again `max_num_timeout` times and goes on. signal_delay_s: how
    long before its end a job is told. setup: lines of shell before it begins. additional_parameters: any of sbatch's.
    The number of nodes is `placement.nodes`.
    """

    kind: Literal["slurm"] = "slurm"
    cluster: Literal["slurm", "local"] = "slurm"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    timeout_min: int = Field(default=1440, ge=1)
    max_num_timeout: int = Field(default=10, ge=0)
    signal_delay_s: int = Field(default=120, ge=1)
    gpus_per_node: int | None = Field(default=None, ge=0)
    cpus_per_task: int | None = Field(default=None, ge=1)
    mem_gb: float | None = Field(default=None, gt=0)
    array_parallelism: int = Field(default=256, ge=1)
    setup: tuple[str, ...] = ()
    additional_parameters: dict[str, str | int | bool] = Field(default={})

    def check(self, folders: Iterable[Path], specs: Collection[AnySpec]) -> None:
        check_installed("submitit", "slurm")
        if self.cluster == "slurm":
            if shutil.which("sbatch") is None:
                raise ValueError(
                    "launch.cluster: wanted a machine from which Slurm takes jobs, got none: no sbatch here"
                )
            check_shared(folders, "slurm")
            return
        check_devices(specs)
        if (num_nodes := max((spec.placement.nodes for spec in specs), default=1)) > 1:
            raise ValueError(f"launch.cluster=local is one machine: wanted placement.nodes=1, got {num_nodes}")

    def threads(self, num_tasks: int) -> int | None:
        return max(1, cpu_count() // num_tasks) if self.cluster == "local" else None

    def start(self, tasks: Sequence[Task], folder: Path, report: Callable[[str], None]) -> Over:
        """A job that an earlier call has submitted, and that is not over, is watched and not submitted again."""
        folder = folder.absolute()
        jobs = {task.name: job for task in tasks if (job := self._submitted(folder, task)) is not None}
        new = [task for task in tasks if task.name not in jobs]
        for num_nodes, group in groupby(sorted(new, key=lambda task: task.num_nodes), lambda task: task.num_nodes):
            executor = self._executor(folder, num_nodes)
            with executor.batch():
                submitted = [(task, executor.submit(Submitted(task))) for task in group]
            for task, job in submitted:
                jobs[task.name] = job
                write_json(_record(folder, task), {"schema": 1, "cluster": self.cluster, "job_id": job.job_id})
        report(
            f"{len(new)} jobs submitted, {len(tasks) - len(new)} that were there already; their output is in {folder}."
            " Ctrl-C ends the watching, not the jobs; the same command watches on"
        )
        watched = [jobs[task.name] for task in tasks]
        return lambda: [f"see {job.paths.stderr}" if self._is_over(job) else None for job in watched]

    def _executor(self, folder: Path, num_nodes: int) -> submitit.AutoExecutor:
        import submitit

        executor = submitit.AutoExecutor(
            folder=folder,
            cluster=self.cluster,
            slurm_max_num_timeout=self.max_num_timeout,
            local_max_num_timeout=self.max_num_timeout,
        )
        of_slurm: dict[str, Any] = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "signal_delay_s": self.signal_delay_s,
            "array_parallelism": self.array_parallelism,
            "additional_parameters": self.additional_parameters or None,
            # The job leads; the other nodes of a run are started by scaling.nodes.
            "srun_args": ["--nodes=1", "--ntasks=1"] if num_nodes > 1 else None,
        }
        executor.update_parameters(
            name="scaling",
            timeout_min=self.timeout_min,
            nodes=num_nodes,
            tasks_per_node=1,
            gpus_per_node=self.gpus_per_node,
            cpus_per_task=self.cpus_per_task,
            mem_gb=self.mem_gb,
            **{f"{self.cluster}_setup": list(self.setup) or None},
            **{f"slurm_{name}": value for name, value in of_slurm.items()},
        )
        return executor

    def _submitted(self, folder: Path, task: Task) -> submitit.Job[None] | None:
        """The job of this task that an earlier call has submitted, unless it is over."""
        from submitit import LocalJob, SlurmJob

        try:
            known = json.loads(_record(folder, task).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        job = (LocalJob if known["cluster"] == "local" else SlurmJob)(folder, known["job_id"])
        return None if self._is_over(job, now=True) else job

    @staticmethod
    def _is_over(job: submitit.Job[None], now: bool = False) -> bool:
        """now: ask Slurm, rather than go by what it said some minutes ago."""
        from submitit import LocalJob

        if isinstance(job, LocalJob) and job._process is None:  # of an earlier call; its id is that of its process
            return job.paths.result_pickle.exists() or not Path("/proc", job.job_id).exists()
        return job.done(force_check=now)


class Submitted:
    """A task in its job. submitit calls `checkpoint` when the job is to end: it is queued again, and goes on."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self) -> None:
        self._task()

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        runs = multiprocessing.active_children()
        for run in runs:
            run.terminate()
        for run in runs:
            run.join()
        return DelayedSubmission(Submitted(self._task))


def _record(folder: Path, task: Task) -> Path:
    return folder / f"{task.name}.json"
