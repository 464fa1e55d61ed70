"""Map a function over many items by threads, in order, drawing no more items than needed."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, islice, pairwise
from math import ceil
from pathlib import Path
from threading import Condition, Thread
from typing import Any, TypeVar

import numpy as np

Result = TypeVar("Result")

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Where Linux says how much processor time a container may take: its share, and of what period."""
_STATELESS = (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray, dict)
"""Types that several threads can read at once, unlike a file object or PIL image listed twice."""


def cores() -> int:
    """Return the number of processor cores that this process, and its container, may use."""
    if hasattr(os, "sched_getaffinity"):
        found = len(os.sched_getaffinity(0))
    else:
        found = os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no container, or one without a limit: "max 100000"
        share, period = map(int, CPU_LIMIT.read_text().split())
        found = min(found, ceil(share / period))
    return found


def thread_count(asked: int | None = None) -> int:
    """Return how many threads work: as many as asked for, as OMP_NUM_THREADS says, or as `cores`.

    Raises:
        ValueError: Fewer than one were asked for.
    """
    if asked is None:
        outermost = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
        return int(outermost) if outermost.isdecimal() and int(outermost) else cores()
    if not isinstance(asked, int) or asked < 1:
        raise ValueError(f"`threads` must be an integer of at least 1. Received: {asked!r:.100}.")
    return asked


def within(seconds: float, function: Callable[..., Result], *arguments: Any) -> Result:
    """Return what a function returns, if it does so in time.

    A decoder cannot be stopped: after the limit it goes on alone, and its result is dropped.

    Raises:
        TimeoutError: It takes longer.
    """
    result: Future[Result] = Future()

    def work() -> None:
        try:
            result.set_result(function(*arguments))
        except BaseException as error:
            result.set_exception(error)

    Thread(target=work, name="hf_ela", daemon=True).start()
    return result.result(seconds)


class Shared:
    """An amount that threads share: each waits until there is room for what it asks for."""

    def __init__(self, amount: int) -> None:
        """Start with all of it free."""
        self._amount = self._free = amount
        self._changed = Condition()

    @contextmanager
    def room(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that takes a part, in place of one taken before; its end gives it back.

        Who asks for more than there is gets all of it.
        """
        held = 0

        def take(part: int) -> None:
            nonlocal held
            with self._changed:
                self._free, held = self._free + held, 0
                self._changed.notify_all()
                part = min(part, self._amount)
                self._changed.wait_for(lambda: self._free >= part)
                self._free, held = self._free - part, part

        try:
            yield take
        finally:
            take(0)


@contextmanager
def in_threads(
    function: Callable[[Any], Result],
    items: Iterable[Any],
    size: int,
    threads: int | None = None,
) -> Iterator[Iterator[list[Callable[[], Result]]]]:
    """Yield an iterator over lists of `size` calls, which return the results for the items.

    Threads (see `thread_count`) start on a list as soon as it is drawn, and for a sequence on the
    next list too: looking ahead in a sequence is free, whereas the next item of a stream may not
    exist yet. Items that two threads must not read at once are computed by the call itself. On exit
    all threads end, and items that were not started are dropped.

    Raises:
        ValueError: `size` or `threads` is below 1.
    """
    pool = ThreadPoolExecutor(thread_count(threads), "hf_ela")

    def begun(item: Any) -> Callable[[], Result]:
        if isinstance(item, _STATELESS):
            return pool.submit(function, item).result
        return partial(function, item)

    lists = ([begun(item) for item in batch] for batch in batched(items, size))
    try:
        if isinstance(items, Sequence):
            yield (first for first, _ in pairwise(chain(lists, [[]])))
        else:
            yield lists
    finally:
        pool.shutdown(cancel_futures=True)


T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one perhaps shorter, drawn as they are requested.

    Raises:
        ValueError: `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={size}.")
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, size)), [])
