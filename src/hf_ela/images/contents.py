"""What a picture shows, as far as pixels tell: nothing, noise, two tones, shades of grey."""

import numpy as np
from PIL import Image, ImageChops, ImageFilter

SMOOTH, SMOOTH_SHARE = 6, 0.01
"""Largest difference, times four, between a pixel of a smooth area and the mean of its neighbours;
and the share of pixels with more, below which an image has no detail. Gradients saved as JPEG stay
below it, and so do most blurs of three pixels; pictures reach ten times that share."""
_NEIGHBOURS = ImageFilter.Kernel((3, 3), (0, -1, 0, -1, 4, -1, 0, -1, 0), scale=1, offset=128)
_MEAN = Image.Resampling.BOX


def is_smooth(image: Image.Image) -> bool:
    """Return whether an RGB image has no detail: one colour, a gradient or a blur."""
    if not (detail := _detail(image)):
        return True
    counts = detail.histogram()
    differing = sum(counts) - sum(counts[128 - SMOOTH : 129 + SMOOTH])
    return differing < SMOOTH_SHARE * sum(counts)


def smooth_parts(image: Image.Image, cell: float, size: tuple[int, int]) -> np.ndarray:
    """Return where an RGB image has no detail, as `is_smooth` says of a whole one.

    Args:
        image: RGB image.
        cell: About how many pixels of the image are looked at together, across and down.
        size: Width and height of the result.

    Returns:
        bool array, height x width.
    """
    if not (detail := _detail(image)):
        return np.ones(size[::-1], bool)
    differing = np.abs(np.asarray(detail, np.int16) - 128) > SMOOTH
    width, height = (max(1, round(side / cell)) for side in image.size)
    shares = Image.fromarray(differing.astype(np.float32)).resize((width, height), _MEAN)
    # No cell outvotes its neighbour: the border lies between them, however much one shows.
    capped = Image.fromarray(np.minimum(np.asarray(shares), np.float32(2 * SMOOTH_SHARE)))
    return np.asarray(capped.resize(size, Image.Resampling.BILINEAR)) < SMOOTH_SHARE


def _detail(image: Image.Image) -> Image.Image | None:
    """Return 128 plus how far a pixel is from its neighbours; None for fewer than 3 pixels."""
    grey = _grey(image)
    inside = (1, 1, grey.width - 1, grey.height - 1)
    return grey.filter(_NEIGHBOURS).crop(inside) if min(grey.size) >= 3 else None


def _grey(image: Image.Image) -> Image.Image:
    """Return the grey of an RGB image; a large one is averaged over squares."""
    return image.convert("L").reduce(max(1, max(image.size) // 1024))


GREY = 3
"""Largest difference of the channels of a grey picture, in levels of 255: rounding to YCbCr makes
up to this."""


def is_grey(image: Image.Image) -> bool:
    """Return whether the channels of an RGB image are equal, but for rounding."""
    red, green, blue = image.split()
    pairs = ((red, green), (green, blue))
    return not any(any(ImageChops.difference(*pair).histogram()[GREY + 1 :]) for pair in pairs)


NEAR, TWO_TONES = 8, 0.88
"""Largest difference from a tone, in levels of 255; and the share of pixels near one of the two
commonest tones above which there is hardly anything else. Two pictures of a hundred have more, and
so do pages of text."""


def has_two_tones(image: Image.Image) -> bool:
    """Return whether an RGB image has hardly more than two tones: text, a diagram, ink."""
    counts = np.array(_grey(image).histogram())
    total, window = counts.sum(), np.ones(2 * NEAR + 1, int)
    most = int(np.convolve(counts, window, "same").argmax())
    near = slice(max(0, most - NEAR), most + NEAR + 1)
    first = counts[near].sum()
    counts[near] = 0
    return bool(first + np.convolve(counts, window, "same").max() > TWO_TONES * total)
