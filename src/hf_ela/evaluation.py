"""What a run reports: metrics with intervals, what ECE is by chance, a table per source.

Pure: arrays in, numbers out. Labels, scores and thresholds are those of `hf_ela.metrics`. What the
data does not define is None, never NaN, so that every result can be written as JSON.
"""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from hf_ela.metrics import (
    METRICS,
    ArtMetrics,
    Counts,
    Floats,
    calibration_errors,
    check,
    confusion,
    expected_calibration_error,
    metrics_of_counts,
)

__all__ = [
    "METRICS",
    "ArtMetrics",
    "Interval",
    "SourceRow",
    "Spread",
    "by_source",
    "chance_calibration_error",
    "confusion",
    "expected_calibration_error",
    "measure",
    "spread",
    "wilson",
]

CELLS = 2**18
"""Images times resamples that are measured at once: 2 MB an array."""
FEWEST = 5
"""Images of a source that a share of right answers is worth a mean and a minimum for."""


class Interval(TypedDict):
    """A value, its 95 % interval, and the number of images that it was measured on.

    ``groups`` is there where whole groups of images were drawn for the interval: how many.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    groups: NotRequired[int]


class Spread(TypedDict):
    """Recall of one class over sources, each counted once; all None without any source."""

    mean: float | None
    minimum: float | None
    worst: str | None
    sources: int


class SourceRow(TypedDict):
    """Results of one source; ``recall`` has only the classes that the source has.

    ``groups``, of its images, is there where groups are known. The intervals disregard them.
    """

    source: str
    n: int
    groups: NotRequired[int]
    fake: int
    real: int
    accuracy: Interval
    recall: dict[str, Interval]
    mean_score: float


def measure(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    groups: Sequence[str | None] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Measure `METRICS`, each with a 95 % percentile bootstrap interval.

    Images are drawn with replacement within each class (stratified bootstrap: Davison and Hinkley,
    "Bootstrap Methods and their Application", 1997, section 3.2), so every resample has as many
    images of each class as the data. Where groups are known, whole groups are drawn, since their
    images are not independent (there, section 3.8): as many of fakes alone, of reals alone and of
    both as the data has, so that no class goes missing. An image without a group is one.

    A resample in which a metric is undefined does not count for it. An interval is stretched to
    include its value where it would not: resampling moves ECE upwards. Where no image is wrong, no
    resample is: accuracy 1 gets the interval 1 to 1. The same seed gives the same intervals.
    Without images every value is None.

    Args:
        labels: 1 for fake, 0 for real, shape (N,).
        scores: Probabilities of fake, shape (N,).
        threshold: Lowest score that is called fake.
        groups: Which images belong together, length N; None where not known.
        resamples: How often to draw.
        seed: Of the draws.

    Raises:
        ValueError: See `hf_ela.metrics.check`.
    """
    y, s = check(labels, scores)
    if not y.size:
        return {name: Interval(value=None, low=None, high=None, n=0) for name in METRICS}
    values = ArtMetrics().compute(references=y, predictions=s, threshold=threshold)
    known = numbered_groups(groups, y.size)
    members = np.arange(y.size) if known is None else known
    fakes, images = np.bincount(members, y), np.bincount(members)
    kinds = [fakes == images, fakes == 0, (fakes > 0) & (fakes < images)]
    strata = [np.flatnonzero(kind) for kind in kinds if kind.any()]
    rng = np.random.default_rng(seed)
    order = np.argsort(s)
    distinct, first = np.unique(s[order], return_index=True)

    def times_drawn() -> Counts:
        drawn = [stratum[rng.integers(stratum.size, size=stratum.size)] for stratum in strata]
        return np.bincount(np.concatenate(drawn), minlength=images.size)

    def resampled(count: int) -> dict[str, Floats]:
        times = np.stack([times_drawn() for _ in range(count)])[:, members[order]]
        fake, real = (np.add.reduceat(times * (y[order] == c), first, 1) for c in (1, 0))
        return metrics_of_counts(distinct, fake, real, threshold)

    parts = [resampled(count) for count in _at_once(resamples, y.size)]
    cells = {
        name: _interval(values[name], np.concatenate([part[name] for part in parts]), y.size)
        for name in METRICS
    }
    if known is not None:
        for cell in cells.values():
            cell["groups"] = images.size
    return cells


def numbered_groups(groups: Sequence[str | None] | None, n: int) -> Counts | None:
    """Return a number from 0 on for the group of each of n images; None where no group is known.

    An image without a group has one of its own.
    """
    if groups is None or not any(groups):
        return None
    if len(groups) != n:
        raise ValueError(
            "`groups` must have one entry per label. "
            f"Received: {len(groups)} groups for {n} labels. Use None where not known."
        )
    keys = [f"group {name}" if name else f"image {index}" for index, name in enumerate(groups)]
    return np.unique(keys, return_inverse=True)[1]


def _at_once(resamples: int, images: int) -> list[int]:
    """Return how many resamples are measured at a time, so that memory stays bounded."""
    most = max(1, CELLS // images)
    return [min(most, resamples - start) for start in range(0, resamples, most)]


def _interval(value: float | None, draws: Floats, n: int) -> Interval:
    if value is None:
        return Interval(value=None, low=None, high=None, n=n)
    defined = draws[~np.isnan(draws)]
    low, high = np.percentile([value, *defined], [2.5, 97.5]).tolist()
    return Interval(value=value, low=min(low, value), high=max(high, value), n=n)


def chance_calibration_error(
    scores: ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Return the ECE that chance gives to calibrated scores: its mean, and where 95 % of it lies.

    Labels are drawn by the scores themselves (consistency resampling: Bröcker and Smith,
    "Increasing the Reliability of Reliability Diagrams", Weather and Forecasting 22, 2007), so that
    all that is left is the chance by which a bin holds more or fewer fakes than its scores say. An
    ECE above this range speaks against the calibration; one inside says little, since on few images
    a small miscalibration stays inside too. Images count as independent: where they come in groups,
    chance gives more. The same seed gives the same values. Without images they are None.

    Args:
        scores: Probabilities of fake, shape (N,).
        resamples: How often to draw labels.
        seed: Of the draws.

    Raises:
        ValueError: See `hf_ela.metrics.check`.
    """
    _, s = check(np.zeros(np.shape(scores), np.int64), scores)
    if not s.size:
        return Interval(value=None, low=None, high=None, n=0)
    rng = np.random.default_rng(seed)
    draws = np.concatenate(
        [
            calibration_errors((rng.random((count, s.size)) < s).astype(np.int64), s)
            for count in _at_once(resamples, s.size)
        ]
    )
    return _interval(float(draws.mean()), draws, s.size)


def by_source(
    sources: Sequence[str | None],
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    groups: Sequence[str | None] | None = None,
) -> list[SourceRow]:
    """Return a row per source, by name, with Wilson 95 % intervals.

    These take images as independent: for a source of few groups they are too narrow.

    Args:
        sources: Where each image comes from, length N; None or empty where not known: left out.
            Any other name will do: of the generator, or of the kind of art.
        labels: 1 for fake, 0 for real, shape (N,).
        scores: Probabilities of fake, shape (N,).
        threshold: Lowest score that is called fake.
        groups: Which images belong together, to be counted, length N; None where not known.
    """
    y, s = check(labels, scores)
    if len(sources) != y.size:
        raise ValueError(
            "`sources` must have one entry per label. "
            f"Received: {len(sources)} sources for {y.size} labels. Use None where not known."
        )
    right = (s >= threshold) == (y == 1)
    # A table's empty cell arrives as NaN, which is not a string.
    names = np.array([name if isinstance(name, str) else "" for name in sources], dtype=object)
    members = numbered_groups(groups, y.size)
    rows = []
    for name in sorted(set(names) - {""}):
        here = names == name
        classes = {"fake": here & (y == 1), "real": here & (y == 0)}
        rows.append(
            SourceRow(
                source=name,
                n=int(here.sum()),
                fake=int(classes["fake"].sum()),
                real=int(classes["real"].sum()),
                accuracy=wilson(right[here]),
                recall={c: wilson(right[mask]) for c, mask in classes.items() if mask.any()},
                mean_score=float(s[here].mean()),
            )
        )
        if members is not None:
            rows[-1]["groups"] = len(np.unique(members[here]))
    return rows


def spread(rows: Sequence[SourceRow]) -> dict[str, Spread]:
    """Return mean and minimum of the recall of each class (of real: specificity) over sources.

    A mean over images would hide a small source of which nothing is found. Sources with fewer
    than `FEWEST` images of the class are left out: their minimum would be chance.
    """
    found = {}
    for label in ("fake", "real"):
        recalls = {
            row["source"]: row["recall"][label]["value"] or 0.0
            for row in rows
            if row[label] >= FEWEST
        }
        worst = min(recalls, key=recalls.__getitem__) if recalls else None
        found[label] = Spread(
            mean=float(np.mean([*recalls.values()])) if recalls else None,
            minimum=recalls[worst] if worst is not None else None,
            worst=worst,
            sources=len(recalls),
        )
    return found


def wilson(right: np.ndarray) -> Interval:
    """Return the share of the true with its Wilson 95 % interval; all None without any."""
    k, n = int(right.sum()), right.size
    if not n:
        return Interval(value=None, low=None, high=None, n=0)
    bounds = binomtest(k, n).proportion_ci(method="wilson")
    return Interval(value=k / n, low=float(bounds.low), high=float(bounds.high), n=n)
