"""Figures, intervals and names as people read them, in cards and on terminals."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

SYNTHETIC_NOTICE = (
    "This model was trained on synthetic sample pictures: its answers say nothing about art."
)
"""Shown wherever such a model answers: the table, JSON, the pages, the endpoint."""


LABEL_WORDS = {"fake": "AI-generated", "real": "human-made"}
"""The labels as pages and cards write them."""


def synthetic_notice(data: Mapping[str, Any] | None) -> str | None:
    """Return `SYNTHETIC_NOTICE` for a model whose record of its training `data` says so."""
    return SYNTHETIC_NOTICE if (data or {}).get("synthetic") else None


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
    """Return what McNemar's test (`evaluation.intervals`) of each seed says, lowest to highest.

    First how many more images the second detector is right about, then p.
    """
    net = [test["only_b"] - test["only_a"] for test in tests]
    return f"{_span(net, '+d')}, p = {_span([test['p'] for test in tests], '.1g')}"


def _span(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def of_hundred(interval: Mapping[str, Any]) -> str:
    """Return a share with its interval as people say it: ``87 of 100 (82 to 91)``.

    100 means all and 0 means none: nothing is rounded to them.
    """
    if interval["value"] is None:
        return "an undefined number"
    value, low, high = (
        min(max(round(100 * share), int(share > 0)), 100 - int(share < 1))
        for share in (interval["value"], interval["low"], interval["high"])
    )
    return f"{value} of 100 ({low} to {high})"


def protocol_label(name: str) -> str:
    """Return the name of a protocol as it is written: ``as-is``."""
    return name.replace("_", "-")


def perturbation_label(name: str) -> str:
    """Return the name of a perturbation as it is written in tables: ``double JPEG``."""
    return name.replace("_", " ").replace("jpeg", "JPEG").replace("webp", "WebP")
