"""Jobs give the same whoever does them: this process, forked ones, or this one after all."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.page import processes
from analysis.page.part import svg_and_png

HERE = os.getpid()
CAN_FORK = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")


class Deadly(Figure):
    """Ends any process that draws it but the one of the tests."""

    def savefig(self, *arguments: Any, **options: Any) -> None:
        if os.getpid() != HERE:
            os._exit(1)
        super().savefig(*arguments, **options)


class Wrong(Figure):
    """Cannot be drawn."""

    def savefig(self, *arguments: Any, **options: Any) -> None:
        raise ValueError("drawn by", os.getpid())


def drawings(kind: type[Figure] = Figure) -> list[Figure]:
    figures = [kind(figsize=(2, 2), layout="constrained") for _ in range(3)]
    for k, figure in enumerate(figures):
        figure.add_subplot().plot([0, 1], [k, 1], label=f"line {k}")
    return figures


def saved(figures: list[Figure], num_processes: int | None = None) -> list[tuple[bytes, bytes]]:
    return processes.side_by_side([partial(svg_and_png, figure) for figure in figures], num_processes)


def were_drawn_here(figures: list[Figure]) -> bool:
    """Saving a figure ends its layout; a forked process ends that of its own copy."""
    (is_here,) = {not isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine) for figure in figures}
    return is_here


@CAN_FORK
def test_forked_processes_give_the_same_bytes_in_the_same_order() -> None:
    here, forked = drawings(), drawings()
    assert saved(forked, 2) == saved(here, 1)
    assert were_drawn_here(here)
    assert not were_drawn_here(forked)


@CAN_FORK
def test_what_a_process_that_dies_leaves_is_drawn_here() -> None:
    figures = drawings(Deadly)
    assert saved(figures, 2) == saved(drawings(), 1)
    assert were_drawn_here(figures)


@CAN_FORK
def test_an_error_of_a_forked_process_is_raised_here() -> None:
    with pytest.raises(ValueError, match="drawn by") as error:
        saved(drawings(Wrong), 2)
    assert error.value.args[1] != HERE


def test_nothing_is_forked_beside_a_thread_that_may_hold_a_lock() -> None:
    figures, done = drawings(), threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        saved(figures)
    finally:
        done.set()
        thread.join()
    assert were_drawn_here(figures)


def test_nothing_is_forked_where_that_is_not_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    figures = drawings()
    saved(figures)
    assert were_drawn_here(figures)


@CAN_FORK
def test_processes_end_with_the_one_that_forked_them() -> None:
    code = """
import os, time
from analysis.page.processes import side_by_side
side_by_side([lambda: (os.write(1, b"%d\\n" % os.getpid()), time.sleep(60))] * 2, 2)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as forking:
        assert forking.stdout is not None
        forked = [int(forking.stdout.readline()) for _ in range(2)]
        forking.kill()
    end = time.monotonic() + 10
    while any(is_running(process) for process in forked):
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
