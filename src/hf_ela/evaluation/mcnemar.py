"""McNemar's test: do two detectors err equally often on the same images?"""

from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest


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
