"""Shares of images with their intervals, and rows of few images as one. Pure."""

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import NormalDist
from typing import Any

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
