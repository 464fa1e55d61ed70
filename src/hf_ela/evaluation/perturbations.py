"""What happens to images on their way to a detector: the perturbations of the robustness table.

Each perturbation takes an RGB image and returns a new one, on one thread, always the same for the
same pixels: random draws are seeded by the pixels. None knows the label. The parameters are fixed,
so that tables of different models can be compared.
"""

from collections.abc import Callable
from functools import partial
from hashlib import sha256

import numpy as np
from PIL import Image, ImageFilter

from hf_ela.images.jpeg import reencode
from hf_ela.images.operations import add_noise, blur, reencode_webp, rescale

__all__ = ["JPEG_QUALITIES", "SUITE", "Perturbation"]

Perturbation = Callable[[Image.Image], Image.Image]

JPEG_QUALITIES = (100, 95, 90, 80, 70, 60, 50, 40, 30)
"""From a camera's best to clearly visible blocks; 4:2:0, as everywhere in this package."""
FACTORS = (0.5, 0.75, 1.25, 1.5)
"""Half size, as in a gallery's thumbnails; 1.25 and 1.5, as a screen zooms. Not 1, where a resize
does nothing. Lanczos, as image servers use."""
BLUR = 1.0
"""Standard deviation in pixels: removes the finest octave, hardly visible to a person."""
NOISE = 5.0
"""Standard deviation in levels of 255, independent per channel: the grain of a camera at about ISO
800, visible in smooth areas only, and above the 1 to 4 of the training augmentation."""
WEBP_QUALITY = 75
"""The default of `cwebp`: https://developers.google.com/speed/webp/docs/cwebp"""
CROP = 0.8
"""Share of width and height that is kept, in the middle; a square crop: of the shorter side."""
DOUBLE = (75, 90)
"""First a site's own compression (75 is the default of Pillow and libjpeg), then a careful save,
whose finer steps keep the traces of the first, on the same grid."""
SCREEN_FACTOR = 0.83
"""A picture seldom fits a window by a round factor."""
SCREEN_CUT = (3, 5)
"""Pixels that a manual selection misses, left and right of the picture, above and below: both odd,
so that the grid of an earlier JPEG never matches the next."""
SCREEN_GAMMA = 1.05
"""Slightly darker, as without its colour profile."""
SCREEN_QUALITY = 85
"""The screenshot itself is a PNG, without loss; a messenger then saves it as such a JPEG."""


def noise(image: Image.Image) -> Image.Image:
    """Add Gaussian noise of `NOISE` levels, seeded by the pixels."""
    return add_noise(image, NOISE, np.random.default_rng([*sha256(image.tobytes()).digest()]))


def crop(image: Image.Image) -> Image.Image:
    """Keep the middle, of the same shape."""
    return _middle(image, *(max(1, round(length * CROP)) for length in image.size))


def square_crop(image: Image.Image) -> Image.Image:
    """Keep a square in the middle, whatever the shape: in some datasets one class is square.

    On a square image it equals `crop`.
    """
    side = max(1, round(min(image.size) * CROP))
    return _middle(image, side, side)


def _middle(image: Image.Image, width: int, height: int) -> Image.Image:
    """Start four pixels off the 8 x 8 grid, if there is room.

    On the grid, blocks of an earlier JPEG would stay in place.
    """
    rooms = image.width - width, image.height - height
    x, y = (min(room // 2 // 8 * 8 + 4, room) for room in rooms)
    return image.crop((x, y, x + width, y + height))


def double_jpeg(image: Image.Image) -> Image.Image:
    """Save as JPEG twice, by the qualities of `DOUBLE`."""
    for quality in DOUBLE:
        image = reencode(image, quality)
    return image


def screenshot(image: Image.Image) -> Image.Image:
    """Scale to an odd size, cut out by hand, darken and sharpen slightly, send as JPEG.

    Bilinear, as graphics cards scale; sharpened as weakly as a viewer's filter can.
    """
    shown = [max(1, round(length * SCREEN_FACTOR)) for length in image.size]
    image = image.resize((shown[0], shown[1]), Image.Resampling.BILINEAR)
    x, y = (min(cut, (length - 1) // 2) for cut, length in zip(SCREEN_CUT, shown, strict=True))
    image = image.crop((x, y, shown[0] - x, shown[1] - y))
    levels = np.rint(255 * (np.arange(256) / 255) ** SCREEN_GAMMA).astype(int).tolist()
    image = image.point(levels * 3)
    image = image.filter(ImageFilter.UnsharpMask(radius=1, percent=30, threshold=0))
    return reencode(image, SCREEN_QUALITY)


SUITE: dict[str, Perturbation] = {
    **{f"jpeg_{quality}": partial(reencode, quality=quality) for quality in JPEG_QUALITIES},
    **{f"rescale_{factor:g}": partial(rescale, factor=factor) for factor in FACTORS},
    "blur": partial(blur, sigma=BLUR),
    "noise": noise,
    "webp": partial(reencode_webp, quality=WEBP_QUALITY),
    "crop": crop,
    "square_crop": square_crop,
    "double_jpeg": double_jpeg,
    "screenshot": screenshot,
}
"""The perturbations by name, in the order of the table."""
