"""Figures to bytes: a quarter of the time of a large report, so several processes draw where they can be forked."""

from __future__ import annotations

import gc
import io
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import matplotlib
from matplotlib.figure import Figure

from analysis.page.figures import STYLE

MAX_PROCESSES = 4
"""More would wait for the largest figure, a quarter of the work."""

Saved = tuple[bytes, bytes]
"""A figure as SVG and as PNG."""

_inherited: list[Figure] = []
"""In a forked process, the figures of the one that forked it: they cannot be sent."""


def save_all(figures: Sequence[Figure], num_processes: int | None = None) -> list[Saved]:
    """Each figure as SVG and PNG: the same bytes, however many processes draw.

    num_processes: by default one per processor, but this one alone where forking is not safe.
    """
    num_processes = min(len(figures), _processors() if num_processes is None else num_processes)
    if num_processes > 1:
        try:
            with ProcessPoolExecutor(num_processes, get_context("fork"), _inherit, (figures,)) as pool:
                return list(pool.map(_save_inherited, range(len(figures))))
        except (BrokenProcessPool, OSError):  # no memory for a process, no semaphores: then here
            pass
    return [save(figure) for figure in figures]


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


def _inherit(figures: Sequence[Figure]) -> None:
    gc.freeze()  # what came with the fork stays shared: nothing looks through it
    _inherited[:] = figures


def _save_inherited(k: int) -> Saved:
    return save(_inherited[k])
