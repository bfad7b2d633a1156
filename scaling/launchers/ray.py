"""Ray: one task of Ray's per task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from scaling.child import AnySpec
from scaling.launchers.launcher import Elsewhere, Over, Task, check_installed, check_shared


class Ray(Elsewhere):
    """address: of a Ray cluster, or auto; None: one on this machine, for as long as the sweep. The rest: per task."""

    kind: Literal["ray"] = "ray"
    address: str | None = None
    num_cpus: float = Field(default=1, ge=0)
    num_gpus: float = Field(default=0, ge=0)

    def check(self, folders: Iterable[Path], specs: Collection[AnySpec]) -> None:
        check_installed("ray", "ray")
        if self.address is not None:
            check_shared(folders, "ray")
        for spec in specs:
            if (num_nodes := spec.placement.nodes) > 1:
                raise ValueError(f"launch=ray puts a run on one machine, got placement.nodes={num_nodes}")

    def start(self, tasks: Sequence[Task], folder: Path, report: Callable[[str], None]) -> Over:
        """The tasks end with this process. What they print is in Ray's own logs."""
        import ray

        session: Any = ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
        # A worker of its own per task, since the server that forks runs keeps the GPUs that it began with.
        remote = ray.remote(num_cpus=self.num_cpus, num_gpus=self.num_gpus, max_calls=1, max_retries=0)(_do)
        started = [remote.remote(task) for task in tasks]

        def over() -> list[str | None]:
            ready, _ = ray.wait(started, num_returns=len(started), timeout=0)
            return [
                f"see {session.address_info.get('session_dir')}/logs" if each in ready else None for each in started
            ]

        return over


def _do(task: Task) -> None:
    task()
