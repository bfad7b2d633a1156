"""Figures and tables to bytes: a third of the time of a large report, shared by processes where they can be forked."""

from __future__ import annotations

import gc
import io
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar

import matplotlib
from matplotlib.figure import Figure

from analysis.page.figures import STYLE

MAX_PROCESSES = 4
"""More would wait for the largest figure, a quarter of the work."""

Made = TypeVar("Made")
Saved = tuple[bytes, bytes]
"""A figure as SVG and as PNG."""

_inherited: list[Callable[[], Any]] = []
"""In a forked process, the jobs of the one that forked it: what they hold cannot be sent."""


def save_all(figures: Sequence[Figure], num_processes: int | None = None) -> list[Saved]:
    """Each figure as SVG and PNG."""
    return side_by_side([partial(save, figure) for figure in figures], num_processes)


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


def save(figure: Figure) -> Saved:
    """The figure as SVG and PNG, without dates or versions: the same figure gives the same bytes."""
    svg, png = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.set_layout_engine("none")  # laid out once: that is most of the time of a figure
        figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
    return svg.getvalue(), png.getvalue()


def _processors() -> int:
    """How many processes may draw. A thread of the caller's may hold a lock that a forked process would wait for."""
    if sys.platform != "linux" or threading.active_count() > 1:
        return 1
    return min(MAX_PROCESSES, len(os.sched_getaffinity(0)))


def _inherit(jobs: Sequence[Callable[[], Any]]) -> None:
    gc.freeze()  # what came with the fork stays shared: nothing looks through it
    _inherited[:] = jobs


def _do_inherited(k: int) -> Any:
    return _inherited[k]()
