"""Being asked to stop: by SIGTERM, by SIGUSR1 or 2, which schedulers send ahead of time, or by Ctrl-C."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
EXIT_CODE = 128 + signal.SIGTERM


class PreemptedError(SystemExit):
    """This process stops because it was asked to.

    A SystemExit, so that nothing which handles errors swallows it, and a process that it ends has its code.
    """

    def __init__(self, message: str = "asked to stop; the same command goes on") -> None:
        super().__init__(message)
        self.code = EXIT_CODE


class Stop:
    """Remembers that this process was asked to stop, for the loop that asks `is_requested` where it can.

    raises: a signal also raises PreemptedError, there and then: while nothing would be lost by it.
    passes_on: a signal is passed on to the processes that this one has started.
    is_interrupted: it was Ctrl-C that asked.
    A fork keeps what was heard, and goes on listening.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self.raises = True
        self.passes_on = False
        self.is_interrupted = False

    def listen(self) -> None:
        """From now on hear the signals, also those that came while nobody did."""
        for number in SIGNALS:
            signal.signal(number, self._hear)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def listen_to_ctrl_c(self) -> None:
        """From now on Ctrl-C asks to stop; the second, or any while `raises`, raises KeyboardInterrupt."""
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in a background job of a shell
            signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.raises or self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = self.is_interrupted = True

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.is_requested = True
        if self.passes_on:
            for child in multiprocessing.active_children():
                child.terminate()
        if self.raises:
            self.raises = False
            raise PreemptedError


@contextlib.contextmanager
def deaf_children(*also: signal.Signals) -> Iterator[None]:
    """Processes started inside do not hear the signals, which a scheduler sends to every process of a job.

    For servers that others need to the end. What they fork stays deaf until it listens, and then hears what it missed.
    also: further signals that they shall not hear.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*SIGNALS, *also})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
