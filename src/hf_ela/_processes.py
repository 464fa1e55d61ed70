"""Worker processes: they leave with their parent, and do not run the caller's script."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from threading import Thread
from time import sleep
from types import ModuleType
from typing import Any, TypeVar

from hf_ela.errors import DataError

Result = TypeVar("Result")

KILLED = "A worker process was killed, most likely because memory ran out. Lower `num_proc`."
"""What is said of one that died."""


class Workers(ProcessPoolExecutor):
    """An executor of so many processes; the block it is used in ends without what is not begun.

    They are spawned, not forked: a fork of a process that runs threads (a stream's, a backend's)
    may hang. The caller's script need not guard itself from being imported by them.
    """

    def __init__(self, number: int) -> None:
        """Start none yet."""
        super().__init__(number, get_context("spawn"), stay_with, (os.getpid(),))

    def submit(
        self, function: Callable[..., Result], /, *arguments: Any, **named: Any
    ) -> Future[Result]:
        """Have a worker call a function, of a module; a further worker is started if needed."""
        with _without_main():
            return super().submit(function, *arguments, **named)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        """Let the workers end what they have begun.

        Raises:
            DataError: One of them was killed.
        """
        self.shutdown(cancel_futures=True)
        if isinstance(error, BrokenExecutor):
            raise DataError(KILLED) from error


@contextmanager
def _without_main() -> Iterator[None]:
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def stay_with(parent: int) -> None:
    """Leave Ctrl-C to the parent, and do not outlive it, even if it was killed before this call."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        sleep(1)
    os._exit(1)
