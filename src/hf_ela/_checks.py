"""Checks of the settings of ELA that several rooms share."""

from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal

import numpy as np


def checked_quality(quality: Any) -> int:
    """Return a JPEG quality, perhaps one of NumPy's integers, as an int.

    Raises:
        ValueError: The quality is not an integer from 1 to 100.
    """
    whole = isinstance(quality, int | np.integer) and not isinstance(quality, bool)
    if whole and 1 <= quality <= 100:
        return int(quality)
    raise ValueError(
        f"`quality` must be an integer from 1 to 100. Received: quality={quality!r:.100}."
    )


Gain = Literal["max"] | float


def check_settings(
    qualities: Sequence[int], *, signed: bool, color: str, gain: Gain | None
) -> None:
    """Check settings of `error_level`, each alone and together.

    Raises:
        ValueError: A setting is out of range or does not fit another.
    """
    if not qualities:
        raise ValueError("`quality` must name at least one JPEG quality. The list is empty.")
    for quality in qualities:
        checked_quality(quality)
    if color not in ("RGB", "YCbCr"):
        raise ValueError(f"`color` must be 'RGB' or 'YCbCr'. Received: color={color!r}.")
    if gain is None:
        return
    if isinstance(gain, str) and gain == "max":
        if signed:
            raise ValueError(
                "`gain='max'` scales absolute differences only. Received: signed=True. "
                "Set a number as `gain`, or signed=False."
            )
        return
    if not _is_positive(gain):
        raise ValueError(
            f"`gain` must be None, 'max' or a number above 0. Received: gain={gain!r:.100}."
        )


def _is_positive(gain: object) -> bool:
    if not isinstance(gain, Real) or isinstance(gain, bool):
        return False
    try:
        return 0 < float(gain) < float("inf")
    except OverflowError:  # an integer beyond all floats
        return False
