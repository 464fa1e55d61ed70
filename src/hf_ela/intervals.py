"""Intervals in words, for terminals and cards. Cards are made without the extra `train` too."""

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["in_words", "no_width"]


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
        return "An interval of no width is no certainty: no draw of these images gives another."
    return None
