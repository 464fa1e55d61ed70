"""The ten metrics of every result, each defined once, for one dataset or for many resamples.

Everywhere: ``labels`` are integers or booleans of shape (N,), 1 = fake (AI-generated, the positive
class) and 0 = real; ``scores`` are probabilities of fake, floats of shape (N,); an image is called
fake when its score reaches the threshold.
"""

from tempfile import TemporaryDirectory

import datasets
import evaluate
import numpy as np
from numpy.typing import ArrayLike, NDArray

METRICS = (
    "accuracy",
    "precision",
    "recall",
    "f1",
    "specificity",
    "balanced_accuracy",
    "roc_auc",
    "average_precision",
    "brier",
    "ece",
)
# Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, table 1.
ECE_BINS = 15

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def check(labels: ArrayLike, scores: ArrayLike) -> tuple[Counts, Floats]:
    """Return labels as int64 and scores as float64.

    Raises:
        ValueError: The shapes differ, a label is not 0 or 1, or a score is not from 0 to 1.
    """
    y, s = np.asarray(labels), np.asarray(scores, np.float64)
    if y.ndim != 1 or y.shape != s.shape:
        raise ValueError(
            "`labels` and `scores` must be one-dimensional and equally long. "
            f"Received: shapes {y.shape} and {s.shape}. Give one score per label."
        )
    unknown = ~np.isin(y, (0, 1))
    if unknown.any():
        raise ValueError(
            "`labels` must be 1 (fake) or 0 (real). "
            f"Received: {y[unknown][0]}. Map classes to them by name."
        )
    outside = ~((s >= 0) & (s <= 1))
    if outside.any():
        raise ValueError(
            "`scores` must be probabilities from 0 to 1. "
            f"Received: {s[outside][0]}. Pass logits through a sigmoid."
        )
    return y.astype(np.int64), s


class ArtMetrics(evaluate.Metric):  # type: ignore[misc]  # `evaluate` has no type information
    """`compute_metrics` as a metric of Hugging Face ``evaluate``.

    ``ArtMetrics().compute(references=labels, predictions=scores, threshold=0.5)`` returns a
    dictionary; nothing is downloaded and nothing stays on disk.
    """

    def __init__(self) -> None:
        """Make a metric that keeps its inputs in memory."""
        # `evaluate` makes a cache folder even when it is told to keep everything in memory.
        with TemporaryDirectory() as folder:
            super().__init__(keep_in_memory=True, cache_dir=folder, seed=0)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Detection of AI-generated images from probabilities (positive: fake).",
            citation="",
            inputs_description="references: 1 fake, 0 real; predictions: probabilities of fake",
            features=datasets.Features(
                predictions=datasets.Value("float64"), references=datasets.Value("int64")
            ),
        )

    def _compute(
        self, predictions: ArrayLike, references: ArrayLike, threshold: float = 0.5
    ) -> dict[str, float | None]:
        return compute_metrics(references, predictions, threshold)


def compute_metrics(
    labels: ArrayLike, scores: ArrayLike, threshold: float
) -> dict[str, float | None]:
    """Compute `METRICS` for one dataset.

    Undefined, so None, are: precision when nothing is called fake, recall without a fake image,
    specificity without a real one, F1 without either a fake image or one called fake; balanced
    accuracy, ROC AUC and average precision when a class is missing; all of them without images.

    Args:
        labels: 1 for fake, 0 for real, shape (N,).
        scores: Probabilities of fake, shape (N,).
        threshold: Lowest score that is called fake.

    Raises:
        ValueError: See `check`.
    """
    y, s = check(labels, scores)
    distinct, position = np.unique(s, return_inverse=True)
    fake, real = (np.bincount(position[y == label], minlength=distinct.size) for label in (1, 0))
    values = metrics_of_counts(distinct, fake, real, threshold)
    return {name: None if np.isnan(value) else float(value) for name, value in values.items()}


def metrics_of_counts(
    distinct: Floats, fake: Counts, real: Counts, threshold: float
) -> dict[str, Floats]:
    """Compute `METRICS` from how often each score occurs in each class, for many resamples at once.

    Values have the shape (...); NaN stands for the undefined.

    Args:
        distinct: Different scores, ascending, shape (K,).
        fake: Number of fake images with each score, shape (..., K); may be 0.
        real: Number of real images with each score, shape (..., K); may be 0.
        threshold: Lowest score that is called fake.
    """
    first = np.searchsorted(distinct, threshold)
    positives, negatives = fake.sum(-1), real.sum(-1)
    tp, fp = fake[..., first:].sum(-1), real[..., first:].sum(-1)
    n, tn = positives + negatives, negatives - fp
    recall, specificity = _ratio(tp, positives), _ratio(tn, negatives)
    # Mann and Whitney: pairs in the right order, a pair with equal scores counting half.
    ordered = (fake * (np.cumsum(real, -1) - real / 2)).sum(-1)
    # The precision at the score of every fake image, from the highest score down.
    down, images = fake[..., ::-1], fake + real
    precisions = np.cumsum(down, -1) / np.maximum(np.cumsum(images[..., ::-1], -1), 1)
    precise = (down * precisions).sum(-1)
    squares = fake @ (1 - distinct) ** 2 + real @ distinct**2
    return {
        "accuracy": _ratio(tp + tn, n),
        "precision": _ratio(tp, tp + fp),
        "recall": recall,
        "f1": _ratio(2 * tp, positives + tp + fp),
        "specificity": specificity,
        "balanced_accuracy": (recall + specificity) / 2,
        "roc_auc": _ratio(ordered, positives * negatives),
        "average_precision": _ratio(precise, np.where(negatives > 0, positives, 0)),
        "brier": _ratio(squares, n),
        "ece": _ratio(_calibration_gap(distinct, fake, images, ECE_BINS), n),
    }


def confusion(labels: ArrayLike, scores: ArrayLike, threshold: float) -> dict[str, int]:
    """Return the counts ``tp``, ``fn``, ``fp``, ``tn``; positive is fake."""
    y, s = check(labels, scores)
    fake, called = y == 1, s >= threshold
    cells = {"tp": fake & called, "fn": fake & ~called, "fp": ~fake & called, "tn": ~fake & ~called}
    return {name: int(cell.sum()) for name, cell in cells.items()}


def expected_calibration_error(
    labels: ArrayLike, scores: ArrayLike, bins: int = ECE_BINS
) -> float | None:
    """Return how far scores are from the share of fakes among images with such a score.

    The mean over images of abs(share of fakes - mean score) of the image's bin, for the
    probability of the positive class (Naeini et al., "Obtaining Well Calibrated Probabilities
    Using Bayesian Binning", AAAI 2015) in bins of equal width, open below and closed above (Guo et
    al., ICML 2017). None without images.
    """
    y, s = check(labels, scores)
    return float(calibration_errors(y, s, bins)) if y.size else None


def calibration_errors(labels: Counts, scores: Floats, bins: int = ECE_BINS) -> Floats:
    """Return the `expected_calibration_error` of each row of labels, (..., N), for (N,) scores."""
    return _calibration_gap(scores, labels, np.ones_like(labels), bins) / scores.size


def calibration_bins(
    labels: ArrayLike, scores: ArrayLike, bins: int = ECE_BINS
) -> tuple[Floats, Floats, Floats]:
    """Return images, mean score and share of fakes of each bin, each (bins,); NaN in empty bins."""
    y, s = check(labels, scores)
    within = _within(s, bins)
    images = within.sum(0)
    divisor = np.where(images > 0, images, np.nan)
    return images, s @ within / divisor, y @ within / divisor


def _calibration_gap(scores: Floats, fake: Counts, images: Counts, bins: int) -> Floats:
    gaps = np.abs((fake - images * scores) @ _within(scores, bins))
    return np.asarray(gaps.sum(-1))


def _within(scores: Floats, bins: int) -> Floats:
    """Return 1 where a score lies in a bin, else 0: shape (K, bins)."""
    return np.eye(bins)[np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], scores)]


def _ratio(numerator: Counts | Floats, denominator: Counts) -> Floats:
    return numerator / np.where(denominator == 0, np.nan, denominator)
