"""Error levels for the eye: brightened, and beside their image at several qualities."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hf_ela._checks import Gain
from hf_ela.ela.error_level import Color, error_level
from hf_ela.images.loading import ImageSource, load_image

PANEL = 512
"""Longest side of a panel in pixels. Panels are scaled down after ELA."""
CAPTION = 28
MARGIN = 4


def ela_picture(
    source: ImageSource,
    qualities: Sequence[int],
    *,
    signed: bool = False,
    color: Color = "RGB",
    gain: Gain = "max",
) -> Image.Image:
    """Return an image and its error levels in a row, each with a caption.

    Signed differences show zero as mid-grey, in YCbCr too; absolute differences in YCbCr are shown
    as red, green and blue. The arguments are those of `error_level`.

    Raises:
        ValueError: A setting is out of range.
        ImageError: The image is refused.
    """
    image = load_image(source).pixels
    panels = [(f"{image.width} x {image.height}", image.copy())]
    # With zero at 128, a difference in YCbCr is an image in YCbCr: grey where nothing changed.
    mode = color if signed else "RGB"
    for quality in qualities:
        levels = error_level(image, quality, signed=signed, color=color, gain=gain)
        if gain == "max":
            factor = 255 / max(error_level(image, quality, color=color).max(), 1)
        else:
            factor = gain
        panel = Image.frombytes(mode, image.size, levels.tobytes()).convert("RGB")
        panels.append((f"quality {quality}, x {factor:.3g}", panel))
    for _, panel in panels:
        panel.thumbnail((PANEL, PANEL), Image.Resampling.LANCZOS)
    return _row(panels)


def brightened(levels: np.ndarray) -> np.ndarray:
    """Return absolute error levels multiplied until one value in 200 is 255, for the eye.

    The largest level is no measure: a single pixel could keep all others in the dark.

    Args:
        levels: uint8 array of any shape, from `error_level` without gain.
    """
    up_to = np.cumsum(np.bincount(levels.ravel(), minlength=256))
    bright = max(int(np.searchsorted(up_to, 0.995 * levels.size)), 1)
    table = np.minimum(np.rint(np.arange(256) * (255 / bright)), 255).astype(np.uint8)
    return np.asarray(table[levels])


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
