"""The terminal: progress bars, and what people are shown and spared."""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from hf_ela.errors import HfElaError


@contextmanager
def standard_streams() -> Iterator[None]:
    """Write to the null device in place of a standard stream that is closed, or that fails.

    For commands. Otherwise the next file that is opened takes the place of a closed stream, and
    what its libraries print goes into it.
    """
    with ExitStack() as opened:
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:
                null = opened.enter_context(Path(os.devnull).open(mode, encoding="utf-8"))
                setattr(sys, name, null)
                opened.callback(setattr, sys, name, None)
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except OSError:  # what is in the buffer has no reader: Python must not try it again
                    with suppress(OSError):
                        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def few_bars_in_logs() -> None:
    """Let the bars of `datasets` and the Hub's clients write every ten seconds into a log.

    For commands, before anything imports tqdm, which reads its defaults from the environment once.
    In a terminal they move ten times a second, which leaves thousands of lines in a file.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "10")


Item = TypeVar("Item")


def progress_bar(
    items: Iterable[Item], description: str, total: int | None = None, *, shown: bool = True
) -> Iterable[Item]:
    """Show a bar on standard error while images are drawn; in a log, a line every ten seconds.

    Work of less than ten seconds leaves nothing in a log.
    """
    if not shown or sys.stderr is None:
        return items
    from tqdm.auto import tqdm  # what `datasets` and the client of the Hub show

    terminal = sys.stderr.isatty()
    return tqdm(
        items,
        description,
        total,
        leave=not terminal,
        mininterval=0.1 if terminal else 10,
        delay=0 if terminal else 10,
        unit=" images",
    )


@contextmanager
def native_messages_held_back() -> Iterator[None]:
    """Keep what libraries write to stderr while a backend starts; shown only if that fails.

    TensorFlow's first lines ignore its own log level. They bypass Python, hence descriptors.
    """
    with ExitStack() as opened:
        try:
            if sys.stderr:
                sys.stderr.flush()
            kept, stderr = opened.enter_context(tempfile.TemporaryFile()), os.dup(2)
        except OSError:  # no folder for temporary files, or no standard error
            yield
            return
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except (HfElaError, KeyboardInterrupt):
            raise
        except BaseException:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


@contextmanager
def interrupts_kept() -> Iterator[Callable[[], None]]:
    """Raise a KeyboardInterrupt again that was swallowed in the block, as TensorFlow may do.

    This happens at the end of the block, and whenever the function that is yielded is called.
    """
    seen: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def interrupt(number: int, frame: Any) -> None:
        seen.append(number)
        before(number, frame)

    def raise_again() -> None:
        if seen:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield raise_again
    finally:
        signal.signal(signal.SIGINT, before)
        raise_again()


def printable_error(error: Exception) -> str:
    """Return the message of an error, each of its own lines `printable`."""
    lines = error.args if isinstance(error, HfElaError) else [error]
    return "\n".join(printable(str(line)) for line in lines)


def printable(text: str) -> str:
    """Escape what could break or steer a terminal: line ends, controls, surrogates."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
