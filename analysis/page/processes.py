"""Jobs shared by processes where they can be forked: the parts of a report are half of its time."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

MAX_PROCESSES = 4
"""More would wait for the largest part."""

Made = TypeVar("Made")
_inherited: list[Callable[[], Any]] = []
"""In a forked process, the jobs of the one that forked it: what they hold cannot be sent."""


def side_by_side(jobs: Sequence[Callable[[], Made]], num_processes: int | None = None) -> list[Made]:
    """What each job makes, however many processes share them.

    num_processes: by default one per processor, but this one alone where forking is not safe.
    """
    num_processes = min(len(jobs), _processors() if num_processes is None else num_processes)
    if num_processes > 1:
        try:
            with ProcessPoolExecutor(num_processes, get_context("fork"), _inherit, (jobs,)) as pool:
                return list(pool.map(_do_inherited, range(len(jobs))))
        except (BrokenProcessPool, OSError):  # no memory for a process, no semaphores: then here
            pass
    return [job() for job in jobs]


def _processors() -> int:
    """How many processes may share. A thread of the caller's may hold a lock that a forked process would wait for."""
    if sys.platform != "linux" or threading.active_count() > 1:
        return 1
    return min(MAX_PROCESSES, len(os.sched_getaffinity(0)))


def _inherit(jobs: Sequence[Callable[[], Any]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.freeze()  # what came with the fork stays shared: nothing looks through it
    _inherited[:] = jobs


def _end_with_parent() -> None:
    """Whoever kills the process that forked this one has no use for it."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do_inherited(k: int) -> Any:
    return _inherited[k]()
