"""What happens to an image on its way to a detector: the suite of the robustness table.

Each perturbation takes an RGB image and returns a new one, on one thread, always the same for the
same pixels: what is random is drawn from a generator that the image's own pixels seed. None knows
the label. The parameters are fixed, so that tables of different models can be compared.
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
"""From a camera's best to where blocks are plain to see; 4:2:0, as everywhere in this package."""
FACTORS = (0.5, 0.75, 1.25, 1.5)
"""Halved, a thumbnail of a gallery; 1.25 and 1.5, the zoom of a screen. Never 1, where a resize
does nothing. Lanczos, what image servers take."""
BLUR = 1.0
"""Standard deviation in pixels: the finest octave is gone, a person hardly sees it."""
NOISE = 5.0
"""Standard deviation in levels of 255, each channel its own: the grain of a camera at ISO 800 or
so, seen in smooth areas only, and above the 1 to 4 of the training augmentation."""
WEBP_QUALITY = 75
"""What `cwebp` takes when it is not told: https://developers.google.com/speed/webp/docs/cwebp"""
CROP = 0.8
"""Share of width and height that is kept, in the middle; of the shorter side, by a square crop."""
DOUBLE = (75, 90)
"""First a site's own compression (75 is Pillow's and libjpeg's default), then a careful save: the
second, finer, leaves the traces of the first in place, on the same grid."""
SCREEN_FACTOR = 0.83
"""A picture seldom fills a window by a round factor."""
SCREEN_CUT = (3, 5)
"""Pixels that a selection by hand misses, left and right of the picture, above and below: both
odd, so that no grid of an earlier JPEG falls on that of the next."""
SCREEN_GAMMA = 1.05
"""Slightly darker: a colour profile that got lost."""
SCREEN_QUALITY = 85
"""The screenshot is a PNG, which changes nothing; a messenger then makes it such a JPEG."""


def noise(image: Image.Image) -> Image.Image:
    """Add Gaussian noise of `NOISE` levels, seeded by the pixels."""
    return add_noise(image, NOISE, np.random.default_rng([*sha256(image.tobytes()).digest()]))


def crop(image: Image.Image) -> Image.Image:
    """Keep the middle, of the same shape."""
    return _middle(image, *(max(1, round(length * CROP)) for length in image.size))


def square_crop(image: Image.Image) -> Image.Image:
    """Keep a square in the middle: where one class is square, what is lost beside `crop` is shape.

    On a square image it does what `crop` does.
    """
    side = max(1, round(min(image.size) * CROP))
    return _middle(image, side, side)


def _middle(image: Image.Image, width: int, height: int) -> Image.Image:
    """Begin four pixels off the 8 x 8 grid, where there is room for it.

    On the grid, blocks of an earlier JPEG would stay where they were.
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
    """Show at an odd size, cut out by hand, darken and sharpen slightly, send as JPEG.

    Bilinear, as graphics cards scale; sharpened by the least that a viewer's filter does.
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
