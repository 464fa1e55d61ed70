"""Error Level Analysis: an image against its own JPEG re-encoding, as numbers and as a picture."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import PIL
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFont
from PIL import features as pillow_features

from hf_ela._checks import Gain, check_settings
from hf_ela.images.jpeg import reencode
from hf_ela.images.loading import ImageSource, load_image

ELA_VERSION = 1
"""Raised whenever the pixels that `error_level` returns change; part of every cache key."""

Color = Literal["RGB", "YCbCr"]

PANEL, LARGE = 512, 1280
"""Longest side in pixels of a panel in a row, and of one alone, which fits a screen. Panels are
scaled down after ELA."""
CAPTION = 28
MARGIN = 4


def codec_versions() -> dict[str, str]:
    """Return what the exact pixels depend on: Pillow, its JPEG library, and `ELA_VERSION`."""
    libjpeg = pillow_features.version("libjpeg_turbo") or pillow_features.version("jpg")
    return {"ela": str(ELA_VERSION), "pillow": PIL.__version__, "libjpeg": libjpeg or "unknown"}


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
        image: Anything that `load_image` takes; H x W pixels.
        quality: JPEG quality from 1 to 100, or several; their results are stacked along the
            channels in the given order.
        signed: Keep the sign (re-encoded minus original) instead of the absolute difference.
        color: Colour space of the difference. ``YCbCr`` is the colour space of JPEG (ITU-T T.871).
        gain: How the difference becomes 8-bit values. ``None`` leaves it unchanged; ``"max"``
            scales each quality so that its largest value becomes 255, as in the published
            recipe (absolute differences only); a number multiplies, rounds and clips, with
            128 for zero when `signed`.

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


def _difference(
    image: Image.Image, quality: int, signed: bool, color: Color, gain: Gain | None
) -> np.ndarray:
    encoded = reencode(image, quality)
    if color == "YCbCr":
        image, encoded = image.convert("YCbCr"), encoded.convert("YCbCr")
    if signed:
        values = np.asarray(encoded, np.int16) - np.asarray(image, np.int16)
    else:
        absolute = ImageChops.difference(image, encoded)
        values = np.asarray(absolute)
        if gain == "max":
            # Pillow's own arithmetic, as the published recipe used it: truncated, not rounded.
            factor = 255.0 / max(int(values.max()), 1)
            values = np.asarray(ImageEnhance.Brightness(absolute).enhance(factor))
    if gain is None or gain == "max":
        return values
    return _scaled(values, gain, zero=128 if signed else 0)


def _scaled(values: np.ndarray, gain: float, zero: int) -> np.ndarray:
    # An 8-bit difference has 511 values: a table is faster than arithmetic on every pixel.
    table = np.clip(np.rint(np.arange(-255, 256) * float(gain)) + zero, 0, 255).astype(np.uint8)
    return np.take(table, values.astype(np.int16) + 255)


def ela_picture(
    source: ImageSource,
    quality: int | Sequence[int],
    *,
    signed: bool = False,
    color: Color = "RGB",
    gain: Gain | None = None,
) -> Image.Image:
    """Return the error levels of an image as one panel, or at several qualities in a row beside it.

    Each panel has a caption with its quality and gain. Signed differences show zero as mid-grey, in
    YCbCr too; absolute differences in YCbCr are shown as red, green and blue.

    Args:
        source: Anything that `load_image` takes.
        quality: JPEG quality from 1 to 100: a panel of `LARGE` pixels. Several: a row of smaller
            ones, the first of the image itself.
        signed: As for `error_level`.
        color: As for `error_level`.
        gain: As for `error_level`; ``None`` chooses a `robust_gain` at each quality.

    Raises:
        ValueError: A setting is out of range.
        ImageError: The image is refused.
    """
    image = load_image(source).pixels
    row = isinstance(quality, Sequence)
    qualities = list(quality) if isinstance(quality, Sequence) else [quality]
    panels = [(f"{image.width} x {image.height}", image.copy())] if row else []
    # With zero at 128, a difference in YCbCr is an image in YCbCr: grey where nothing changed.
    mode = color if signed else "RGB"
    for one in qualities:
        factor = gain or robust_gain(error_level(image, one, color=color))
        levels = error_level(image, one, signed=signed, color=color, gain=factor)
        if factor == "max":
            factor = 255 / max(error_level(image, one, color=color).max(), 1)
        panel = Image.frombytes(mode, image.size, levels.tobytes()).convert("RGB")
        panels.append((f"JPEG quality {one}, x {factor:.3g}", panel))
    side = PANEL if row else LARGE
    for _, panel in panels:
        panel.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _row(panels)


def brightened(levels: np.ndarray) -> np.ndarray:
    """Return absolute error levels times their `robust_gain`, for the eye.

    Args:
        levels: uint8 array of any shape, from `error_level` without gain.
    """
    table = np.minimum(np.rint(np.arange(256) * robust_gain(levels)), 255).astype(np.uint8)
    return np.asarray(table[levels])


def robust_gain(levels: np.ndarray) -> float:
    """Return the factor that makes 255 of one absolute error level in 200.

    The largest level is no measure: a single pixel could keep all others in the dark.
    """
    up_to = np.cumsum(np.bincount(levels.ravel(), minlength=256))
    return 255 / max(int(np.searchsorted(up_to, 0.995 * levels.size)), 1)


def _row(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    # The built-in font has no × sign.
    font = ImageFont.load_default(15)
    width = max(max(panel.width, round(font.getlength(text))) for text, panel in panels)
    width += 2 * MARGIN
    row = Image.new("RGB", (width * len(panels), panels[0][1].height + CAPTION + MARGIN), "white")
    draw = ImageDraw.Draw(row)
    for number, (text, panel) in enumerate(panels):
        left = number * width + MARGIN
        draw.text((left, MARGIN), text, "black", font)
        row.paste(panel, (left, CAPTION))
    return row
