"""What every launcher does: check that it can, and start tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from scaling.child import AnySpec
from scaling.part import Part

OF_ONE_MACHINE = ("/tmp", "/var/tmp", "/dev/shm")


class Task(ABC):
    """Something to do in a job, by a process that may be of another machine.

    name: the same whenever the same is asked for. num_nodes: machines that it needs.
    """

    name: str
    num_nodes: int = 1

    @abstractmethod
    def __call__(self) -> None: ...


Over = Callable[[], list[str | None]]
"""Asks for each task: None while it is under way or waits, then a line that says where its output is."""


class Launcher(Part):
    """A place to start runs."""

    def check(self, folders: Iterable[Path], specs: Collection[AnySpec]) -> None:
        """ValueError, before anything is prepared, if this machine or a setting does not let runs start.

        folders: where they read and write. specs: the runs to start.
        """


class Elsewhere(Launcher):
    """Hands tasks to something that finds machines for them."""

    def threads(self, num_tasks: int) -> int | None:
        """CPU threads for each rank of so many tasks; None: as many as a task finds cores."""
        return None

    @abstractmethod
    def start(self, tasks: Sequence[Task], folder: Path, report: Callable[[str], None]) -> Over:
        """Start tasks. folder: for what the launcher leaves. report: prints a line."""


def check_installed(library: str, extra: str) -> None:
    if find_spec(library) is None:
        raise ValueError(f"launch={extra} needs {library}: pip install 'data-scaling[{extra}]'")


def check_shared(folders: Iterable[Path], kind: str) -> None:
    """ValueError if a folder is one that other machines cannot see."""
    for folder in folders:
        if any(folder.resolve().is_relative_to(root) for root in OF_ONE_MACHINE):
            raise ValueError(
                f"launch={kind} needs folders that every machine sees, got {folder}, which is of this machine alone:"
                " set runs=DIR and the environment variable SCALING_CACHE"
            )
