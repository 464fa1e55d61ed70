"""Words: what a terminal is shown and spared, and figures as people read them."""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import mean
from typing import Any, TypeVar

from hf_ela.errors import HfElaError

SYNTHETIC_NOTICE = (
    "This model was trained on synthetic sample pictures: its answers say nothing about art."
)
"""Shown wherever such a model answers: the table, JSON, the pages, the endpoint."""

LABEL_WORDS = {"fake": "AI-generated", "real": "human-made"}
"""The labels as pages and cards write them."""


def synthetic_notice(data: Mapping[str, Any] | None) -> str | None:
    """Return `SYNTHETIC_NOTICE` for a model whose record of its training `data` says so."""
    return SYNTHETIC_NOTICE if (data or {}).get("synthetic") else None


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
    if not shown:
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
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as kept:
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


def printable_error(error: Exception) -> str:
    """Return the message of an error, each of its own lines `printable`."""
    lines = error.args if isinstance(error, HfElaError) else [error]
    return "\n".join(printable(str(line)) for line in lines)


def printable(text: str) -> str:
    """Escape what could break or steer a terminal: line ends, controls, surrogates."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def in_words(interval: Mapping[str, Any], dash: str = "-") -> str:
    """Return a value with its interval, as in ``0.850 (0.810-0.890)``."""
    if interval["value"] is None:
        return "undefined"
    return f"{interval['value']:.3f} ({interval['low']:.3f}{dash}{interval['high']:.3f})"


def no_width(measured: Iterable[Mapping[str, Any]]) -> str | None:
    """Return a warning where an interval has no width; None where all have.

    Args:
        measured: For each protocol or change, what was measured by name, intervals and others.
    """
    intervals = (
        cell
        for cells in measured
        for cell in cells.values()
        if isinstance(cell, Mapping) and cell.get("value") is not None
    )
    if any(cell["low"] == cell["high"] for cell in intervals):
        return "Zero-width interval: every bootstrap resample agrees; this is not certainty."
    return None


def over_seeds(values: Sequence[float], dash: str = "-") -> str:
    """Return the mean, with the lowest and the highest where they differ as written."""
    low, high = f"{min(values):.3f}", f"{max(values):.3f}"
    return low if low == high else f"{mean(values):.3f} ({low}{dash}{high})"


def more_right(tests: Sequence[Mapping[str, Any]]) -> str:
    """Return what McNemar's test (`evaluation.mcnemar`) of each seed says, lowest to highest.

    First how many more images the second detector is right about, then p.
    """
    net = [test["only_b"] - test["only_a"] for test in tests]
    return f"{_span(net, '+d')}, p = {_span([test['p'] for test in tests], '.1g')}"


def _span(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def perturbation_label(name: str) -> str:
    """Return the name of a perturbation as it is written in tables: ``double JPEG``."""
    return name.replace("_", " ").replace("jpeg", "JPEG").replace("webp", "WebP")
