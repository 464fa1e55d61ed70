"""What only the pixels tell: nothing to see, one colour, two tones, noise, scaling up, a JPEG."""

from dataclasses import replace
from functools import cache

import numpy as np

from hf_ela.images.contents import has_two_tones, is_monochrome, is_smooth
from hf_ela.images.info import ImageInfo
from hf_ela.images.jpeg import quantisation_tables
from hf_ela.images.loading import LoadedImage

SIDE = 512
"""Longest side in pixels of the part in the middle that is looked at."""


def traced(loaded: LoadedImage) -> ImageInfo:
    """Return the facts of an image, with those that only its pixels tell."""
    pixels, info = loaded.pixels, loaded.info
    width, height = (min(side, SIDE) for side in pixels.size)
    left, top = ((side - min(side, SIDE)) // 2 // 8 * 8 for side in pixels.size)
    middle = pixels.crop((left, top, left + width, top + height))
    luma = np.asarray(middle.convert("L"), np.float32)
    least, most = fine_detail(luma)
    return replace(
        info,
        smooth=is_smooth(pixels),
        monochrome=is_monochrome(pixels),
        two_tones=has_two_tones(pixels),
        noise=least > NOISE,
        scaled_up=most < LEAST_DETAIL,
        earlier_quality=earlier_quality(luma, info.jpeg_quality),
    )


FINE, COARSE = (0.3, 0.5), (0.08, 0.16)
"""Cycles per pixel of the finest detail, and of coarser detail that scaling up leaves."""
LEAST_DETAIL, NOISE = 10**-1.6, 10**-0.6
"""Power of the finest detail as a share of that of the coarser one: below the one it is missing, as
after scaling up by 1.5 or more, or a blur; above the other it is as strong as in noise."""
FEWEST_SIDE = 64
"""Pixels of a side below which no trace can be told."""


def fine_detail(luma: np.ndarray) -> tuple[float, float]:
    """Return the power of the finest detail, as a share of that of coarser detail.

    Args:
        luma: float32, height x width.

    Returns:
        The lower and the higher of the shares along rows and columns; about 0.1 for most pictures,
        and for those too small to tell.
    """
    if min(luma.shape) < FEWEST_SIDE:
        return 0.1, 0.1
    shares = []
    for lines in (luma[::4], luma.T[::4]):
        length = lines.shape[1]
        centred = lines - lines.mean(axis=1, keepdims=True)
        power = np.square(np.abs(np.fft.rfft(centred * np.hanning(length)))).mean(axis=0)
        cycles = np.arange(len(power)) / length
        fine, coarse = (
            float(power[(cycles >= low) & (cycles <= high)].mean()) for low, high in (FINE, COARSE)
        )
        shares.append(fine / coarse if coarse else 0.1)
    return min(shares), max(shares)


LOW = 4
"""Waves of low frequency along each side of a block; those of both sides together less than five
and more than none are looked at."""
_WAVES = np.array([(x, y) for x in range(LOW) for y in range(LOW) if 0 < x + y < LOW + 1])
_FOUND, _PLACES = _WAVES @ [LOW, 1], _WAVES @ [8, 1]
_LARGEST, _WIDEST = 512, 80
"""Coefficients above, and steps above, are not told apart."""
_QUALITIES = range(30, 99)
AGREEING, FEWEST, FEWEST_SIZES = 0.3, 300, 100
"""Mean agreement, from -1 to 1, of at least so many coefficients with the steps of a quality; and
different sizes among all."""
NEAR = 0.08
"""Agreements as near as this to the best are as good: steps of half the size agree with all that
whole ones do, so that the coarsest quality counts."""


def earlier_quality(luma: np.ndarray, jpeg_quality: int | None) -> int | None:
    """Estimate the quality of a JPEG that the picture was before it was saved as what it is.

    Coefficients of an earlier JPEG lie near multiples of its steps (Fan and de Queiroz,
    "Identification of bitmap compression history", IEEE Transactions on Image Processing 12, 2003).
    They do so only while the picture has its old grid: not after it was cropped or scaled.

    Args:
        luma: float32, height x width, from a corner of the grid.
        jpeg_quality: Of the file itself, whose own steps are passed over; None unless a JPEG.

    Returns:
        From 30 to 98, by libjpeg's tables; None where nothing tells of such a file.
    """
    if min(luma.shape) < FEWEST_SIDE:
        return None
    height, width = (side // 8 * 8 for side in luma.shape)
    waves, cosines, far = _tables()
    rows = np.tensordot(waves, luma[:height, :width].reshape(-1, 8, width), axes=(1, 1))
    found = (rows.reshape(-1, 8) @ waves.T).reshape(LOW, -1, LOW).swapaxes(0, 1).reshape(-1, LOW**2)
    sizes = np.minimum(np.rint(np.abs(found[:, _FOUND])), _LARGEST - 1).astype(np.int64)
    place = np.arange(len(_PLACES))
    counts = np.bincount((sizes + place * _LARGEST).ravel(), minlength=len(place) * _LARGEST)
    counts = counts.reshape(len(place), _LARGEST)
    if np.count_nonzero(counts[:, 1:]) < FEWEST_SIZES:  # a gradient or a pattern
        return None
    agreement, number = counts @ cosines, counts @ far
    tables = quantisation_tables()[:, 0, _PLACES]
    least = np.maximum(3, np.rint(1.5 * tables[jpeg_quality - 1])) if jpeg_quality else 3
    by_quality = {}
    for quality in _QUALITIES:
        steps = tables[quality - 1]
        told = (steps >= least) & (steps <= _WIDEST)
        n = number[place[told], steps[told]].sum()
        if n >= FEWEST and told.sum() >= 4:
            by_quality[quality] = agreement[place[told], steps[told]].sum() / n
    best = max(by_quality.values(), default=0)
    if best < AGREEING:
        return None
    return next(quality for quality, agrees in by_quality.items() if agrees > best - NEAR)


@cache
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the waves of the transform, and by size and step: cosine, and whether it counts.

    Sizes of less than half a step agree with every step.
    """
    number, place = np.mgrid[:LOW, :8]
    waves = np.cos((2 * place + 1) * number * np.pi / 16) / 2
    waves[0] = np.sqrt(1 / 8)
    size, step = np.mgrid[:_LARGEST, : _WIDEST + 1]
    far = size > step / 2
    cosines = np.where(far, np.cos(2 * np.pi * size / np.maximum(step, 1)), 0)
    return waves.astype(np.float32), cosines, far.astype(np.float64)
