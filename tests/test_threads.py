import gc
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import pytest

from conftest import ctrl_c_is_heard
from hf_ela._threads import Shared, cores, in_threads, thread_count


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("hf_ela")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    assert ours() == []
    yield
    if ours():
        gc.collect()
    assert ours() == []


def names(number: int) -> list[str]:
    return [str(i) for i in range(number)]


def test_cores_are_those_of_this_process() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("limit", "most"),
    [
        ("max 100000\n", None),
        ("100000 100000\n", 1),
        ("5000 100000\n", 1),
        ("150000 100000\n", 2),
        ("9900000 100000\n", None),
        ("", None),
    ],
)
def test_a_container_may_have_a_part_of_the_cores(limit, most, monkeypatch, tmp_path) -> None:
    here = cores()
    (tmp_path / "cpu.max").write_text(limit)
    monkeypatch.setattr("hf_ela._threads.CPU_LIMIT", tmp_path / "cpu.max")
    assert cores() == min(most or here, here)


@pytest.mark.parametrize(
    ("variable", "asked", "expected"),
    [("3", None, 3), ("5,2", None, 5), ("3", 7, 7), ("", None, cores()), ("many", None, cores())],
)
def test_a_number_of_threads(variable, asked, expected, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert thread_count(asked) == expected


@pytest.mark.parametrize("threads", [1, 3])
def test_as_many_threads_work_as_asked_for(threads) -> None:
    working, most = 0, 0
    lock = threading.Lock()

    def work(_: str) -> None:
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
        time.sleep(0.01)
        with lock:
            working -= 1

    with in_threads(work, names(12), 12, threads) as lists:
        for call in next(lists):
            call()
    assert most == threads


@pytest.mark.parametrize("size", [1, 2, 3, 50])
@pytest.mark.parametrize("stream", [False, True])
def test_results_come_in_order_and_in_lists(size, stream) -> None:
    def slowly(item: str) -> int:
        time.sleep(0.002 * (int(item) % 3 == 0))  # the later ones overtake
        return int(item)

    items = iter(names(20)) if stream else names(20)
    with in_threads(slowly, items, size) as lists:
        found = [[call() for call in calls] for calls in lists]
    assert list(chain(*found)) == list(range(20))
    assert {len(one) for one in found[:-1]} <= {size}


def test_what_threads_share_is_never_exceeded() -> None:
    shared, held, most = Shared(10), 0, 0
    lock = threading.Lock()

    def work(part: int) -> None:
        nonlocal held, most
        with shared.room() as take:
            take(1)
            take(part)  # in place of the first
            with lock:
                held += min(part, 10)
                most = max(most, held)
            time.sleep(0.001)
            with lock:
                held -= min(part, 10)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, [3, 10, 4, 99, 1] * 8))
    assert (held, most) == (0, 10)


def test_several_threads_work_while_the_caller_does_not_ask() -> None:
    together = threading.Barrier(2, timeout=20)  # neither call ends without the other
    if cores() < 2:
        pytest.skip("one core has one thread")
    with in_threads(lambda item: together.wait(), ["a", "b"], 2) as lists:
        assert sorted(call() for call in next(lists)) == [0, 1]


def test_of_a_sequence_the_next_list_is_begun() -> None:
    begun = threading.Event()

    def note(item: str) -> str:
        if item == "3":
            begun.set()
        return item

    with in_threads(note, names(9), 3) as lists:
        first = next(lists)  # holds 0 to 2, and not one of them has been asked for
        assert begun.wait(20)
        assert [call() for call in first] == names(3)


def test_a_stream_is_drawn_only_as_far_as_asked() -> None:
    drawn = []

    def stream() -> Iterator[str]:
        for name in names(99):
            drawn.append(name)
            yield name

    with in_threads(str, stream(), 3) as lists:
        assert drawn == []
        for number in (1, 2):
            assert [call() for call in next(lists)] == names(99)[3 * number - 3 : 3 * number]
            assert len(drawn) == 3 * number


def test_what_two_threads_must_not_share_is_left_to_the_caller() -> None:
    file = io.BytesIO(b"twice in a list")
    where = []

    def read(item: object) -> bytes:
        where.append(threading.current_thread() is threading.main_thread())
        return item.read() if hasattr(item, "read") else bytes(item)

    with in_threads(read, [file, b"bytes", np.zeros(2, np.uint8), file], 4) as lists:
        found = [call() for call in next(lists)]
    assert found == [b"twice in a list", b"bytes", b"\0\0", b""]
    assert sorted(where) == [False, False, True, True]


def test_an_error_comes_in_its_place() -> None:
    with in_threads(int, ["1", "x", "3"], 3) as lists:
        first, second, third = next(lists)
        assert (first(), third()) == (1, 3)
        with pytest.raises(ValueError, match="'x'"):
            second()


def test_what_was_not_begun_is_not_done() -> None:
    done = []
    go = threading.Event()

    def wait(item: str) -> None:
        done.append(item)
        go.wait(20)

    with in_threads(wait, names(500), 500) as lists:
        next(lists)
        go.set()
    assert len(done) < 500


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="`batch_size`"), in_threads(str, ["a"], 0):
        pass


INTERRUPTED = """
import sys, threading, time
from hf_ela._threads import in_threads

def work(item):
    time.sleep(0.2)

try:
    with in_threads(work, ["a"] * 10_000, 100) as lists:
        for calls in lists:
            print("waiting", flush=True)
            for call in calls:
                call()
except KeyboardInterrupt:
    print("interrupted", threading.active_count(), flush=True)
"""


def test_ctrl_c_ends_the_threads() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=ctrl_c_is_heard,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert out.splitlines()[-1] == "interrupted 1"
    assert process.returncode == 0
