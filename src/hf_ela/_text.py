"""Figures, intervals and names as people read them, in cards and on terminals."""

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from statistics import NormalDist
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


def shortened(text: str, length: int = 42) -> str:
    """Cut the middle out of a long name: its end distinguishes files."""
    half = length // 2
    return text if len(text) <= length else f"{text[: half - 1]}…{text[-half:]}"


def perturbation_label(name: str) -> str:
    """Return the name of a perturbation as it is written in tables: ``double JPEG``."""
    return name.replace("_", " ").replace("jpeg", "JPEG").replace("webp", "WebP")


FEW = 13
"""A source with fewer images has an interval a quarter wide even without a mistake."""
_Z = NormalDist().inv_cdf(0.975)


def wilson_bounds(right: int, n: int) -> tuple[float, float]:
    """Return the ends of the Wilson 95 % interval of a share of n > 0 (Wilson, JASA 22, 1927)."""
    middle, reach = right + _Z**2 / 2, _Z * sqrt(right * (n - right) / n + _Z**2 / 4)
    low, high = ((middle + end) / (n + _Z**2) for end in (-reach, reach))
    return (low if right else 0.0), (high if right < n else 1.0)


def folded(rows: Sequence[Mapping[str, Any]], noun: str = "sources") -> list[Mapping[str, Any]]:
    """Return rows of sources (`hf_ela.run_record.SourceRow`), those of `FEW` images as one, last.

    Single ones stay, and so do all where none has more. The row of many has the key ``folded``,
    how many they are, and neither groups nor recall.
    """
    few = [row for row in rows if row["n"] < FEW]
    if not 1 < len(few) < len(rows):
        return [*rows]
    n, fake, real = (sum(row[key] for row in few) for key in ("n", "fake", "real"))
    right = sum(round(row["accuracy"]["value"] * row["n"]) for row in few)
    low, high = wilson_bounds(right, n)
    together = {
        "source": f"{len(few)} {noun} with fewer than {FEW} images",
        "folded": len(few),
        "n": n,
        "fake": fake,
        "real": real,
        "accuracy": {"value": right / n, "low": low, "high": high, "n": n},
    }
    return [*(row for row in rows if row["n"] >= FEW), together]
