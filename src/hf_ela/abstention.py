"""When a model had better not decide: the band of scores around the threshold that is uncertain.

Pure: arrays in, numbers out. Labels, scores and thresholds are those of `hf_ela.metrics`. Bands are
closed, contain the threshold and grow from it in both directions alike, by `certainty`: an image
is left undecided when its certainty is too low (the reject option: Chow, "On Optimum Recognition
Error and Reject Tradeoff", IEEE Transactions on Information Theory, 1970).
"""

from collections.abc import Iterator
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from hf_ela.evaluation import Interval, wilson
from hf_ela.metrics import Floats, check

__all__ = [
    "Band",
    "CoverageRow",
    "certainty",
    "coverage_curve",
    "decided",
    "fit_uncertain",
    "measure_decided",
]

Band = tuple[float, float]
"""Lowest and highest score that is uncertain, both included."""
MOST_UNCERTAIN = 0.5
"""Largest share of the validation images in a band: a model that says nothing about most images
should be trained better, not asked less."""


class CoverageRow(TypedDict):
    """Share of the images outside of a band, and of the right ones among them; None is no band."""

    coverage: float
    accuracy: float
    uncertain: Band | None


class _Step(NamedTuple):
    inside: int
    right_outside: int
    band: Band | None


def certainty(scores: ArrayLike, threshold: float) -> Floats:
    """Return how far scores are from the threshold: 0 at it, 1 at the probabilities 0 and 1.

    What the colours of `hf_ela.explain.overlay` show. Below the threshold, the share of the way to
    0; above, that to 1.
    """
    s = np.asarray(scores, np.float64)
    below, above = max(threshold, 1e-9), max(1 - threshold, 1e-9)
    return np.where(s < threshold, (threshold - s) / below, (s - threshold) / above)


def fit_uncertain(
    labels: ArrayLike, scores: ArrayLike, threshold: float, certain: float
) -> Band | None:
    """Return the narrowest band outside of which enough images are right; fit on validation data.

    Of all bands around the threshold with at most `MOST_UNCERTAIN` of the images, the one with the
    fewest images that leaves an accuracy of at least `certain` among the others. Where none does,
    the one that leaves the highest accuracy. None, so that no image is uncertain, where that many
    are right without a band, where no band raises the accuracy, and without images.

    Args:
        labels: 1 for fake, 0 for real, shape (N,).
        scores: Calibrated probabilities of fake, shape (N,).
        threshold: Lowest score that is called fake.
        certain: Accuracy among the images outside of the band, from 0 to 1.
    """
    n = np.size(scores)
    best, best_accuracy = None, -1.0
    for inside, right, band in _steps(labels, scores, threshold):
        if not n or inside > MOST_UNCERTAIN * n:
            break
        accuracy = right / (n - inside)
        if accuracy > best_accuracy:
            best, best_accuracy = band, accuracy
        if accuracy >= certain:
            break
    return best


def decided(scores: ArrayLike, band: Band | None) -> np.ndarray:
    """Return which scores are outside of a band: booleans in the shape of `scores`."""
    s = np.asarray(scores, np.float64)
    return np.ones(s.shape, bool) if band is None else (s < band[0]) | (s > band[1])


def measure_decided(
    labels: ArrayLike, scores: ArrayLike, threshold: float, band: Band | None
) -> dict[str, Interval]:
    """Measure the ``coverage`` of a band, and the ``accuracy`` outside, with Wilson intervals.

    Coverage is the share of images outside of the band; its ``n`` counts all images, that of the
    accuracy those outside.
    """
    y, s = check(labels, scores)
    outside = decided(s, band)
    right = (s >= threshold) == (y == 1)
    return {"coverage": wilson(outside), "accuracy": wilson(right[outside])}


def coverage_curve(
    labels: ArrayLike, scores: ArrayLike, threshold: float, points: int = 10
) -> list[CoverageRow]:
    """Return accuracy against coverage, from all images down to about one in `points`.

    Row i has the widest band that leaves at least ``1 - i / points`` of the images outside. Images
    of equal certainty go together, so that two rows can be the same. Empty without images.
    """
    n = np.size(scores)
    steps = list(_steps(labels, scores, threshold))
    rows = []
    for i in range(points if n else 0):
        # In integers: seven tenths of ten images are seven of them.
        inside, right, band = [step for step in steps if step.inside * points <= i * n][-1]
        outside = n - inside
        rows.append(CoverageRow(coverage=outside / n, accuracy=right / outside, uncertain=band))
    return rows


def _steps(labels: ArrayLike, scores: ArrayLike, threshold: float) -> Iterator[_Step]:
    """Yield every band from none up, with the images inside and the right ones outside.

    The edges of a band are scores, or the threshold, so that no rounding moves an image over one.
    """
    y, s = check(labels, scores)
    right = (s >= threshold) == (y == 1)
    order = np.argsort(certainty(s, threshold), kind="stable")
    levels = certainty(s, threshold)[order]
    low = np.minimum.accumulate(np.minimum(s[order], threshold))
    high = np.maximum.accumulate(np.maximum(s[order], threshold))
    right_outside = right.sum() - np.cumsum(right[order])
    yield _Step(0, int(right.sum()), None)
    for last in np.flatnonzero(np.append(levels[1:] != levels[:-1], True)[: y.size]):
        band = float(low[last]), float(high[last])
        yield _Step(int(last) + 1, int(right_outside[last]), band)
