"""This machine: the sweep starts the runs itself, `placement.runs_per_device` side by side."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from scaling.child import AnySpec
from scaling.devices import check_devices, seats
from scaling.launchers.launcher import Launcher
from scaling.nodes import find_hosts
from scaling.placement import Placement


class OnThisMachine(Launcher):
    """The sweep's own process starts each run in a process of its own."""

    def check(self, folders: Iterable[Path], specs: Collection[AnySpec]) -> None:
        check_devices(specs)
        for placement in {spec.placement for spec in specs}:
            find_hosts(placement)

    @property
    def most_runs(self) -> int | None:
        """Runs side by side, at most; None: as many as their placement says."""
        return None

    def placed(self, placement: Placement) -> Placement:
        """Where a run of the sweep computes."""
        return placement


class Here(OnThisMachine):
    """As the placement says."""

    kind: Literal["here"] = "here"


class Joblib(OnThisMachine):
    """n_jobs: runs side by side, as joblib counts: -1 for the number of cores that this process has, -2 for one less.

    joblib's own processes would each load torch again; the runs are forks of one that has.
    """

    kind: Literal["joblib"] = "joblib"
    n_jobs: int = -1

    @field_validator("n_jobs")
    @classmethod
    def _is_a_number_of_jobs(cls, n_jobs: int) -> int:
        if n_jobs == 0:
            raise ValueError("launch.n_jobs: wanted a number of jobs, or -1 for all cores, got 0")
        return n_jobs

    @property
    def most_runs(self) -> int:
        import joblib

        return int(joblib.effective_n_jobs(self.n_jobs))

    def placed(self, placement: Placement) -> Placement:
        num_groups = len(seats(placement.model_copy(update={"runs_per_device": 1})))
        return placement.model_copy(update={"runs_per_device": math.ceil(self.most_runs / num_groups)})
