"""What a picture shows, as far as pixels tell: nothing, two tones, shades of one colour."""

import numpy as np
from PIL import Image

SMOOTH, SMOOTH_SHARE = 6, 0.01
"""Largest difference, times four, between a pixel of a smooth area and the mean of its neighbours;
and the share of pixels with more, below which an image has no detail. Gradients saved as JPEG stay
below it, and so do most blurs of three pixels; pictures reach ten times that share."""
GRAIN, GRAINY = 4, 64
"""Pixels across and down that are averaged to look again below grain, such as that of a scan; and
the largest difference, times four, that counts as grain, and not as a fine pattern."""
_MEAN = Image.Resampling.BOX


def is_smooth(image: Image.Image) -> bool:
    """Return whether an RGB image is one colour, a gradient or a blur, with grain or without."""
    grey = _grey(image)
    if _lacks_detail(grey):
        return True
    if min(grey.size) < 3 * GRAIN or not _lacks_detail(grey.reduce(GRAIN)):
        return False
    return _lacks_detail(grey, GRAINY)


def _lacks_detail(grey: Image.Image, most: int = SMOOTH) -> bool:
    detail = _detail(grey, most)
    return detail is None or bool(np.count_nonzero(detail) < SMOOTH_SHARE * detail.size)


def smooth_parts(image: Image.Image, cell: float, size: tuple[int, int]) -> np.ndarray:
    """Return where an RGB image has no detail, not even grain.

    Args:
        image: RGB image.
        cell: About how many pixels of the image are looked at together, across and down.
        size: Width and height of the result.

    Returns:
        bool array, height x width.
    """
    detail = _detail(_grey(image))
    if detail is None:
        return np.ones(size[::-1], bool)
    width, height = (max(1, round(side / cell)) for side in image.size)
    shares = Image.fromarray(detail.astype(np.float32)).resize((width, height), _MEAN)
    # No cell outvotes its neighbour: the border lies between them, however much one shows.
    capped = Image.fromarray(np.minimum(np.asarray(shares), np.float32(2 * SMOOTH_SHARE)))
    return np.asarray(capped.resize(size, Image.Resampling.BILINEAR)) < SMOOTH_SHARE


def _detail(grey: Image.Image, most: int = SMOOTH) -> np.ndarray | None:
    """Return which pixels differ from their neighbours; None for fewer than 3 pixels of a side."""
    if min(grey.size) < 3:
        return None
    tones = np.asarray(grey, np.int16)
    detail = 4 * tones[1:-1, 1:-1]
    for beside in (tones[:-2, 1:-1], tones[2:, 1:-1], tones[1:-1, :-2], tones[1:-1, 2:]):
        detail -= beside
    return np.abs(detail, out=detail) > most


def _grey(image: Image.Image) -> Image.Image:
    """Return the grey of an RGB image; a large one is averaged over squares."""
    return image.convert("L").reduce(max(1, max(image.size) // 1024))


ONE_COLOUR, STEP = 2.0, 4
"""Standard deviation, in levels of 255, of colour that does not follow from brightness, below which
a picture has shades of one colour: grey, or a light tint. Every fourth pixel across and down is
looked at."""
_LUMA = np.array([0.299, 0.587, 0.114])
_COLOUR = np.array([[1, -1, 0], [0, -1, 1]])
"""Red and blue beside green."""


def is_monochrome(image: Image.Image) -> bool:
    """Return whether an RGB image has shades of one colour: grey, sepia or another tint."""
    pixels = np.asarray(image)[::STEP, ::STEP].reshape(-1, 3)
    covariance = np.cov(pixels.T.astype(np.float64), bias=True)
    bright = _LUMA @ covariance @ _LUMA
    follows = np.square(_COLOUR @ covariance @ _LUMA).sum() / bright if bright > 1e-9 else 0
    left = np.einsum("ij,jk,ik", _COLOUR, covariance, _COLOUR) - follows
    return bool(left < ONE_COLOUR**2)


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
