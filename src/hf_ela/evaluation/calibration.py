"""Calibration of logits, threshold and uncertain scores. Pure: arrays in, numbers out.

Everything is fitted on validation data, never on the images that are measured.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from hf_ela.evaluation.intervals import wilson
from hf_ela.evaluation.metrics import Floats, check
from hf_ela.models.calibrated import FrequencyRow, sigmoid
from hf_ela.run_record import CoverageRow, Interval, Uncertain

TEMPERATURES = (0.05, 20.0)
"""Beyond these the validation set is too small, or the model is useless."""


def fit_calibration(labels: ArrayLike, logits: ArrayLike) -> tuple[float, float]:
    """Fit temperature and bias: probabilities are the sigmoid of (logits + bias) / temperature.

    Minimises the negative log-likelihood (Platt, Advances in Large Margin Classifiers, 1999; with
    a temperature in place of its inverse) with the temperature within `TEMPERATURES`; fit it on
    validation data. They are 1 and 0 where the data determines neither: one class is missing, or a
    threshold separates the classes, so that a lower temperature would always look better.

    Args:
        labels: 1 for fake, 0 for real, shape (N,).
        logits: Log odds of fake, finite floats, shape (N,).
    """
    x = np.asarray(logits, np.float64)
    if not np.isfinite(x).all():
        raise ValueError(
            "`logits` must be finite. "
            f"Received: {x[~np.isfinite(x)][0]}. Check that training did not diverge."
        )
    y, _ = check(labels, sigmoid(x))
    fake, real = x[y == 1], x[y == 0]
    if not fake.size or not real.size or fake.min() > real.max():
        return 1.0, 0.0
    unit = max(float(np.abs(x).max()), 1.0)  # so that both unknowns are of one size
    towards_class = np.where(y == 1, 1.0, -1.0)

    def loss(unknowns: np.ndarray) -> tuple[float, np.ndarray]:
        margin = towards_class * (unknowns[0] * x / unit + unknowns[1])
        pull = -towards_class * sigmoid(-margin) / x.size
        return np.logaddexp(0, -margin).mean(), np.array([pull @ (x / unit), pull.sum()])

    # Scikit-learn's logistic regression has no bounds, which separable data needs.
    hottest, coldest = unit / TEMPERATURES[1], unit / TEMPERATURES[0]
    start = np.array([np.clip(unit, hottest, coldest), 0.0])
    how: Any = {"jac": True, "bounds": [(hottest, coldest), (None, None)], "method": "L-BFGS-B"}
    best = minimize(loss, start, **how)
    # Misled by what it remembers, it may stop on a slope; begun again there, it goes on.
    while (again := minimize(loss, best.x, **how)).fun < best.fun - 1e-9:
        best = again
    temperature = unit / float(best.x[0])
    return temperature, float(best.x[1]) * temperature


def fit_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the threshold with the highest balanced accuracy; fit it on validation data.

    Candidates lie halfway between neighbouring different scores; ties go to the one nearest to
    0.5. It is 0.5 when a class is missing or all scores are equal.
    """
    y, s = check(labels, scores)
    distinct, position = np.unique(s, return_inverse=True)
    if len(np.unique(y)) < 2 or distinct.size < 2:
        return 0.5
    below = {
        label: np.cumsum(np.bincount(position[y == label], minlength=distinct.size))[:-1]
        for label in (0, 1)
    }
    # In integers, so that equally good candidates compare as equal: recall + specificity, times
    # the sizes of both classes.
    fakes, reals = int(y.sum()), int((1 - y).sum())
    gain = (fakes - below[1]) * reals + below[0] * fakes
    # Halfway between two neighbouring floats may round down to the lower one.
    candidates = np.maximum((distinct[:-1] + distinct[1:]) / 2, np.nextafter(distinct[:-1], 1))
    best = candidates[gain == gain.max()]
    return float(best[np.abs(best - 0.5).argmin()])


FALSE_ALARMS = (0.05, 0.02, 0.01)
"""Shares of real images called fake for which a threshold is kept beside the model's own."""


def fit_false_alarms(labels: ArrayLike, scores: ArrayLike, share: float) -> float:
    """Return the lowest threshold at which at most a share of the real images is called fake.

    Args:
        labels: 1 for fake, 0 for real, shape (N,).
        scores: Probabilities of fake, shape (N,).
        share: From 0 to 1.
    """
    y, s = check(labels, scores)
    real = np.sort(s[y == 0])[::-1]
    if not real.size:
        return 1.0  # no image says what a lower one would do
    allowed = int(share * real.size)
    return float(np.nextafter(real[allowed], 2)) if allowed < real.size else 0.0


def measure_false_alarms(
    labels: ArrayLike, scores: ArrayLike, thresholds: Mapping[str, float]
) -> dict[str, dict[str, Interval]]:
    """Measure ``recall`` and ``false_alarms`` at each threshold, with Wilson intervals.

    Args:
        labels: 1 for fake, 0 for real, shape (N,).
        scores: Probabilities of fake, shape (N,).
        thresholds: By share of false alarms that each was fitted for (`Calibrated.false_alarms`).
    """
    y, s = check(labels, scores)
    return {
        share: {
            "recall": wilson(s[y == 1] >= threshold),
            "false_alarms": wilson(s[y == 0] >= threshold),
        }
        for share, threshold in thresholds.items()
    }


FEWEST_IN_ROW = 50
"""Scores of a row of frequencies; 25 images have as many, and their share of fakes an error of at
most .1."""


def fit_frequencies(labels: ArrayLike, scores: ArrayLike) -> list[FrequencyRow]:
    """Return how often images are fake by score, in rows of tenths; few images share a row.

    Args:
        labels: 1 for fake, 0 for real, shape (N,); of images that the model has not seen.
        scores: Probabilities of fake, shape (N,).

    Returns:
        Rows of at least `FEWEST_IN_ROW` images, if there are as many; none if a class is missing.
    """
    y, s = check(labels, scores)
    if len(np.unique(y)) < 2:
        return []
    rows, inside = [], np.zeros(2)
    tenths = np.ceil(s * 10).clip(1)
    for tenth in range(1, 11):
        inside = inside + np.bincount(y[tenths == tenth], minlength=2)
        if inside.sum() >= FEWEST_IN_ROW:
            rows.append((tenth, inside))
            inside = np.zeros(2)
    _, last = rows.pop() if rows else (0, 0)  # goes up to 1, with what is left over
    rows.append((10, last + inside))
    sizes = np.bincount(y)
    shares = [(tenth, found / sizes, found) for tenth, found in rows]
    return [
        FrequencyRow(up_to=tenth / 10, fake=float(share[1] / share.sum()), n=int(found.sum()))
        for tenth, share, found in shares
    ]


MOST_UNCERTAIN = 0.5
"""Largest share of the validation images with uncertain scores: a model that abstains from most
images needs better training."""


class _Step(NamedTuple):
    inside: int
    right_outside: int
    uncertain: Uncertain | None


def certainty(scores: ArrayLike, threshold: float) -> Floats:
    """Return how far scores are from the threshold: 0 at it, 1 at the probabilities 0 and 1.

    Below the threshold, the share of the way to 0; above, that to 1. The colours of
    `hf_ela.models.explain.overlay` show the same.
    """
    s = np.asarray(scores, np.float64)
    below, above = max(threshold, 1e-9), max(1 - threshold, 1e-9)
    return np.where(s < threshold, (threshold - s) / below, (s - threshold) / above)


def fit_uncertain(
    labels: ArrayLike, scores: ArrayLike, threshold: float, certain: float
) -> Uncertain | None:
    """Return the fewest uncertain scores that leave a high accuracy; fit them on validation data.

    Among the intervals around the threshold that hold at most `MOST_UNCERTAIN` of the images, it is
    the one with the fewest images that leaves an accuracy of at least `certain` among the others.
    Where none does, the one that leaves the highest accuracy. None, so that no image is uncertain,
    where all images reach the accuracy, where no interval raises it, and without images.

    Args:
        labels: 1 for fake, 0 for real, shape (N,).
        scores: Calibrated probabilities of fake, shape (N,).
        threshold: Lowest score that is called fake.
        certain: Accuracy among the images with a certain score, from 0 to 1.
    """
    n = np.size(scores)
    best, best_accuracy = None, -1.0
    for inside, right, uncertain in _steps(labels, scores, threshold):
        if not n or inside > MOST_UNCERTAIN * n:
            break
        accuracy = right / (n - inside)
        if accuracy > best_accuracy:
            best, best_accuracy = uncertain, accuracy
        if accuracy >= certain:
            break
    return best


def is_certain(scores: ArrayLike, uncertain: Uncertain | None) -> np.ndarray:
    """Return which scores lie outside the uncertain ones: bool, in the shape of `scores`."""
    s = np.asarray(scores, np.float64)
    if uncertain is None:
        return np.ones(s.shape, bool)
    return (s < uncertain[0]) | (s > uncertain[1])


def measure_coverage(
    labels: ArrayLike, scores: ArrayLike, threshold: float, uncertain: Uncertain | None
) -> dict[str, Interval]:
    """Measure ``coverage``, and ``accuracy`` among certain scores, with Wilson intervals.

    Coverage is the share of images with a certain score; its ``n`` counts all images, that of the
    accuracy the certain ones.
    """
    y, s = check(labels, scores)
    certain = is_certain(s, uncertain)
    right = (s >= threshold) == (y == 1)
    return {"coverage": wilson(certain), "accuracy": wilson(right[certain])}


def coverage_curve(
    labels: ArrayLike, scores: ArrayLike, threshold: float, points: int = 10
) -> list[CoverageRow]:
    """Return accuracy against coverage, from all images down to about one in `points`.

    Row i has the most uncertain scores that leave at least ``1 - i / points`` of the images. Those
    of equal certainty go together, so that two rows can be the same. Empty without images.
    """
    n = np.size(scores)
    steps = list(_steps(labels, scores, threshold))
    rows = []
    for i in range(points if n else 0):
        # In integers: seven tenths of ten images are seven of them.
        inside, right, uncertain = [step for step in steps if step.inside * points <= i * n][-1]
        left = n - inside
        rows.append(CoverageRow(coverage=left / n, accuracy=right / left, uncertain=uncertain))
    return rows


def _steps(labels: ArrayLike, scores: ArrayLike, threshold: float) -> Iterator[_Step]:
    """Yield all choices of uncertain scores from none up, with images inside, correct ones outside.

    Its ends are scores, or the threshold, so that no rounding moves an image over one.
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
        uncertain = float(low[last]), float(high[last])
        yield _Step(int(last) + 1, int(right_outside[last]), uncertain)
