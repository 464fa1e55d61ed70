"""What the header of a JPEG tells about its encoder: quality and chroma subsampling."""

from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal

import numpy as np


def checked_quality(quality: Any) -> int:
    """Return a JPEG quality, which may be an integer of NumPy, as an int.

    Raises:
        ValueError: It is no integer from 1 to 100.
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
    """Refuse settings of `error_level` that are out of range or cannot work together.

    Raises:
        ValueError: With the rule and what was received.
    """
    if not qualities:
        raise ValueError("`quality` must name at least one JPEG quality. Received: none.")
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
                "Give a number as gain, or take signed=False."
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
