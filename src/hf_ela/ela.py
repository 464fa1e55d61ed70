"""Error Level Analysis: an image against its own JPEG re-encoding, exact to Pillow."""

import os
from collections.abc import Sequence
from io import BytesIO
from numbers import Real
from typing import IO, Literal

import numpy as np
import PIL
from PIL import Image, ImageChops, ImageEnhance, features

from hf_ela.images import ImageSource, load_image
from hf_ela.jpeg_tables import checked_quality

ELA_VERSION = 1
"""Raised whenever the pixels that `error_level` returns change; part of every cache key."""

Color = Literal["RGB", "YCbCr"]
Gain = Literal["max"] | float


def codec_versions() -> dict[str, str]:
    """Return what the exact pixels depend on: Pillow, its JPEG library, and `ELA_VERSION`."""
    return {
        "ela": str(ELA_VERSION),
        "pillow": PIL.__version__,
        "libjpeg": features.version("libjpeg_turbo") or features.version("jpg") or "unknown",
    }


def error_level(
    image: ImageSource,
    quality: int | Sequence[int] = 90,
    *,
    signed: bool = False,
    color: Color = "RGB",
    gain: Gain | None = None,
) -> np.ndarray:
    """Return the difference between an image and its JPEG re-encoding.

    The re-encoding is Pillow's: baseline, 4:2:0 chroma subsampling, standard quantisation tables.

    Args:
        image: Anything that `load_image` takes, of H x W pixels.
        quality: JPEG quality from 1 to 100, or several; their results are stacked along the
            channels in the order given.
        signed: Keep the sign (re-encoded minus original) instead of the absolute difference.
        color: Colour space of the difference. YCbCr is that of JPEG (ITU-T T.871).
        gain: How the difference becomes 8-bit values. ``None`` leaves it as it is; ``"max"``
            scales each quality so that its largest value becomes 255, as in the published
            recipe (absolute differences only); a number multiplies, rounds and clips, with
            128 standing for zero when `signed`.

    Returns:
        H x W x (3 * number of qualities) array. ``gain=None``: uint8, or int16 when `signed`;
        otherwise uint8.

    Raises:
        ValueError: A setting is out of range.
        ImageError: The image is refused.
    """
    qualities = list(quality) if isinstance(quality, Sequence) else [quality]
    check_settings(qualities, signed=signed, color=color, gain=gain)
    pixels = load_image(image).pixels
    layers = [_difference(pixels, q, signed, color, gain) for q in qualities]
    return layers[0] if len(layers) == 1 else np.concatenate(layers, axis=2)


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


def reencode(image: Image.Image, quality: int) -> Image.Image:
    """Return the RGB image after JPEG encoding and decoding, without touching the disk."""
    with _memory_file() as file:
        image.save(file, "JPEG", quality=quality)
        file.seek(0)
        with Image.open(file, formats=["JPEG"]) as encoded:
            encoded.load()
            return encoded


def _memory_file() -> IO[bytes]:
    # Pillow's encoder releases the GIL when it writes to a file descriptor, and holds it when it
    # writes to a BytesIO; Linux has descriptors without a disk.
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("hf_ela"), "w+b")
    return BytesIO()


def _difference(
    image: Image.Image, quality: int, signed: bool, color: Color, gain: Gain | None
) -> np.ndarray:
    encoded = reencode(image, quality)
    if color == "YCbCr":
        image, encoded = image.convert("YCbCr"), encoded.convert("YCbCr")
    if not signed:
        absolute = ImageChops.difference(image, encoded)
        if gain == "max":
            absolute = _stretch(absolute)
        values = np.asarray(absolute)
        return values if gain is None or gain == "max" else _scaled(values, gain, zero=0)
    values = np.asarray(encoded, np.int16) - np.asarray(image, np.int16)
    return values if gain is None or gain == "max" else _scaled(values, gain, zero=128)


def _stretch(absolute: Image.Image) -> Image.Image:
    # Pillow's own arithmetic, as the published recipe used it: truncated, not rounded.
    largest = int(np.asarray(absolute).max())
    return ImageEnhance.Brightness(absolute).enhance(255.0 / max(largest, 1))


def _scaled(values: np.ndarray, gain: float, zero: int) -> np.ndarray:
    # An 8-bit difference has 511 values: a table is faster than arithmetic on every pixel.
    table = np.clip(np.rint(np.arange(-255, 256) * float(gain)) + zero, 0, 255).astype(np.uint8)
    return np.take(table, values.astype(np.int16) + 255)
