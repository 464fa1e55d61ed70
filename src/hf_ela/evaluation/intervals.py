"""Intervals of metrics and shares, calibration error by chance, and McNemar's test.

Pure: arrays in, numbers out. Labels, scores and thresholds are those of
`hf_ela.evaluation.metrics`. What the data does not define is None, never NaN, so that every result
can be written as JSON.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from hf_ela._text import wilson_bounds
from hf_ela.evaluation.metrics import (
    METRICS,
    Counts,
    Floats,
    calibration_errors,
    check,
    compute_metrics,
    metrics_of_counts,
)
from hf_ela.run_record import Interval

RESAMPLES = 1000
"""Draws of a bootstrap: the ends of a 95 % interval then hardly depend on the seed."""
CELLS = 2**18
"""Images times resamples that are measured at once: 2 MB an array."""


def measure(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    groups: Sequence[str | None] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Measure `METRICS`, each with a 95 % percentile bootstrap interval.

    Images are drawn with replacement within each class (stratified bootstrap: Davison and Hinkley,
    "Bootstrap Methods and their Application", 1997, section 3.2), so every resample has as many
    images of each class as the data. Where groups are known, whole groups are drawn, since their
    images are not independent (section 3.8 there): as many groups of fakes alone, of reals alone
    and of both as the data has, so that no class goes missing. An image without a group forms one.

    A resample in which a metric is undefined does not count for that metric. An interval is
    stretched to include its value: resampling moves ECE upwards. Where every image is answered
    correctly, so is every resample: accuracy 1 has the interval 1 to 1. The same seed gives the
    same intervals. Without images every value is None.

    Args:
        labels: 1 for fake, 0 for real, shape (N,).
        scores: Probabilities of fake, shape (N,).
        threshold: Lowest score that is called fake.
        groups: The group of each image, length N; None where not known.
        resamples: Number of draws.
        seed: Seed of the draws.

    Raises:
        ValueError: See `hf_ela.evaluation.metrics.check`.
    """
    y, s = check(labels, scores)
    if not y.size:
        return {name: Interval(value=None, low=None, high=None, n=0) for name in METRICS}
    values = compute_metrics(y, s, threshold)
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
    """Number the groups of n images from 0; None where no group is known.

    An image without a group forms one.
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
    """Split the resamples into batches, so that memory stays bounded."""
    most = max(1, CELLS // images)
    return [min(most, resamples - start) for start in range(0, resamples, most)]


def _interval(value: float | None, draws: Floats, n: int) -> Interval:
    if value is None:
        return Interval(value=None, low=None, high=None, n=n)
    defined = draws[~np.isnan(draws)]
    low, high = np.percentile([value, *defined], [2.5, 97.5]).tolist()
    return Interval(value=value, low=min(low, value), high=max(high, value), n=n)


def chance_calibration_error(
    scores: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
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
        resamples: Number of draws.
        seed: Seed of the draws.

    Raises:
        ValueError: See `hf_ela.evaluation.metrics.check`.
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


def wilson(right: np.ndarray) -> Interval:
    """Return the share of true values with its Wilson 95 % interval; all None without values."""
    k, n = int(right.sum()), right.size
    if not n:
        return Interval(value=None, low=None, high=None, n=0)
    low, high = wilson_bounds(k, n)
    return Interval(value=k / n, low=low, high=high, n=n)


class McNemar(TypedDict):
    """Images that only one of two classifiers answers correctly, and the p-value of the test."""

    only_a: int
    only_b: int
    p: float


def mcnemar(right_a: ArrayLike, right_b: ArrayLike) -> McNemar:
    """Test whether two classifiers err equally often, by the images that they differ on.

    The exact conditional test, two-sided: under the null hypothesis either classifier is equally
    likely to be the correct one on each such image (McNemar, Psychometrika 12, 1947). It is
    conservative (Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91, 2013). It
    takes images as independent: where they come in groups, of one artist or one prompt, p is too
    small. And it compares these two trained classifiers; another training of either may differ by
    more.

    Args:
        right_a: Whether the first is correct about each image, bool, shape (N,).
        right_b: The same for the second, on the same images in the same order.

    Returns:
        Images that only the first is correct about, those that only the second is, and the
        p-value: 1 where they never differ.

    Raises:
        ValueError: The arrays are not bool, or not of one shape (N,).
    """
    a, b = np.asarray(right_a), np.asarray(right_b)
    if a.ndim != 1 or a.shape != b.shape or a.dtype.kind + b.dtype.kind != "bb":
        raise ValueError(
            "`right_a` and `right_b` must be bool, of one shape (N,). "
            f"Received: {a.dtype} {a.shape} and {b.dtype} {b.shape}."
        )
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    differing = only_a + only_b
    p = float(binomtest(only_a, differing).pvalue) if differing else 1.0
    return McNemar(only_a=only_a, only_b=only_b, p=p)
