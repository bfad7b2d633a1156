"""What a user sees while a sweep runs: a bar on a terminal, a line per finished run elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from scaling.child import AnySpec
from scaling.spec import RunSpec
from scaling.status import LOG_WIDTH, Status, duration, outcome, short
from scaling.train.preemption import Stop

STDERR = 2


class StudyConsole(Console):
    """Where a study prints. Once nobody reads that any more it asks the study to stop, and is silent.

    So Ctrl-C under `| tee`, which ends tee as well, does not end the runs before they have written a checkpoint.
    """

    def __init__(self, stop: Stop) -> None:
        is_terminal = sys.stdout is not None and sys.stdout.isatty()
        super().__init__(width=None if is_terminal else LOG_WIDTH)
        self._stop = stop

    def on_broken_pipe(self) -> None:
        self.quiet = self._stop.is_requested = True
        pipe, nowhere = self.file.fileno(), os.open(os.devnull, os.O_WRONLY)
        for out in (STDERR, pipe):  # with 2>&1 both are; Python writes what is left as it ends
            with contextlib.suppress(OSError):  # not open
                if os.path.sameopenfile(out, pipe):
                    os.dup2(nowhere, out)
        os.close(nowhere)


class SweepProgress:
    """Run k of n, tokens, tokens/s and time left; used as a context manager."""

    def __init__(self, console: Console, num_runs: int, num_tokens: int) -> None:
        """num_tokens: what the sweep has yet to train, without what runs take over from trunks; 0: runs are counted."""
        self._console, self._num_runs, self._num_tokens = console, num_runs, num_tokens
        self._started = time.monotonic()
        self._num_ended = 0
        self._bar = Progress(
            TextColumn("run {task.fields[run]} of {task.fields[runs]}"),
            BarColumn(bar_width=28 if console.width >= 110 else 8),
            *([TextColumn("{task.fields[tokens]} tokens, {task.fields[pace]} tokens/s,")] if num_tokens else []),
            TextColumn("{task.fields[left]} left"),
            *([TextColumn("[dim]{task.fields[active]}")] if console.width >= 140 else []),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(
            "", total=num_tokens or num_runs, run=1, runs=num_runs, tokens="0", pace="-", left="-:--:--", active=""
        )

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, num_tokens: int, active: dict[str, Status]) -> None:
        """num_tokens: trained by this sweep so far. active: the runs under way, by name."""
        pace = sum(status.tokens_per_second or 0 for status in active.values())
        elapsed = time.monotonic() - self._started
        done, total = (num_tokens, self._num_tokens) if self._num_tokens else (self._num_ended, self._num_runs)
        rate = done / elapsed if done else 0  # evaluation and start-up included
        self._bar.update(
            self._task,
            completed=done,
            run=min(self._num_runs, self._num_ended + max(1, len(active))),
            tokens=f"{short(num_tokens)} of {short(self._num_tokens)}",
            pace=short(pace) if pace else "-",
            left=duration((total - done) / rate) if rate else "-:--:--",
            active=", ".join(active),
        )

    def ended(self, name: str, spec: AnySpec, status: Status, warnings: list[str]) -> None:
        """A run has ended: print its line, and what it warned of."""
        self._num_ended += 1
        found = outcome(spec, status) if status.state == "complete" else ""
        found = f"  {'loss ' if isinstance(spec, RunSpec) else ''}{found}" if found else ""
        error = f"  {status.error}" if status.error else ""
        place = f"{self._num_ended:>{len(str(self._num_runs))}}/{self._num_runs}"
        line = f"{place} {status.state:<11} {name}{found}  {duration(status.seconds)}{error}"
        for text in (line, *(f"  warning: {warning}" for warning in warnings)):
            self._bar.console.print(text, highlight=False, markup=False)
