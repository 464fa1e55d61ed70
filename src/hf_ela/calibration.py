"""From logits to scores that mean probabilities, and to a threshold. Pure: arrays in, numbers out.

All is fitted on validation data, never on what is measured.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit

from hf_ela.metrics import Floats, check

__all__ = ["TEMPERATURES", "fit_calibration", "fit_threshold", "sigmoid"]

# Past these a temperature says that the validation set is too small or the model is useless.
TEMPERATURES = (0.05, 20.0)


def sigmoid(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Return the probability of fake of logits (log odds of fake), divided by the temperature."""
    return np.asarray(expit(np.asarray(logits, np.float64) / temperature))


def fit_calibration(labels: ArrayLike, logits: ArrayLike) -> tuple[float, float]:
    """Return temperature and bias that make ``sigmoid(logits + bias, temperature)`` most likely.

    Minimises the negative log-likelihood (Platt, Advances in Large Margin Classifiers, 1999; with
    a temperature in place of its inverse) with the temperature within `TEMPERATURES`; fit it on
    validation data. Where the data sets none they are 1 and 0: one class is missing, or a threshold
    tells all logits of one class from those of the other, so that a lower temperature would always
    look better.

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
    y, _ = check(labels, expit(x))
    fake, real = x[y == 1], x[y == 0]
    if not fake.size or not real.size or fake.min() > real.max():
        return 1.0, 0.0
    unit = max(float(np.abs(x).max()), 1.0)  # so that both unknowns are of one size
    towards_class = np.where(y == 1, 1.0, -1.0)

    def loss(unknowns: np.ndarray) -> tuple[float, np.ndarray]:
        margin = towards_class * (unknowns[0] * x / unit + unknowns[1])
        pull = -towards_class * expit(-margin) / x.size
        return np.logaddexp(0, -margin).mean(), np.array([pull @ (x / unit), pull.sum()])

    # Scikit-learn's logistic regression has no bounds, which data that is told apart needs.
    hottest, coldest = unit / TEMPERATURES[1], unit / TEMPERATURES[0]
    start = np.array([np.clip(unit, hottest, coldest), 0.0])
    bounds = [(hottest, coldest), (None, None)]
    best = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B")
    temperature = unit / float(best.x[0])
    return temperature, float(best.x[1]) * temperature


def fit_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the threshold with the highest balanced accuracy; fit it on validation data.

    Candidates lie halfway between neighbouring different scores; of equally good ones, the
    nearest to 0.5 is taken. It is 0.5 when a class is missing or all scores are equal.
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
