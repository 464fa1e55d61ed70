"""What happens to pictures on their way: rescaling, blur, noise, WebP; see `jpeg.reencode` too.

Training augmentation and the robustness suite both use these, each with its own parameters.
"""

from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter


def rescale(
    image: Image.Image, factor: float, kernel: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """Return the image with both sides multiplied by a factor, at least one pixel each."""
    width, height = image.size
    return image.resize((max(1, round(width * factor)), max(1, round(height * factor))), kernel)


def blur(image: Image.Image, sigma: float) -> Image.Image:
    """Return the image after Pillow's Gaussian blur with a standard deviation in pixels."""
    return image.filter(ImageFilter.GaussianBlur(sigma))


def add_noise(image: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    """Return the image with Gaussian noise, independent in each pixel and channel.

    Args:
        image: RGB image.
        sigma: Standard deviation in levels of 255.
        rng: Source of the noise.
    """
    pixels = np.asarray(image)
    noisy = pixels + rng.normal(0, sigma, pixels.shape)
    return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def in_grey(image: Image.Image, tint: np.ndarray) -> Image.Image:
    """Return the image in shades of one colour.

    Args:
        image: RGB image.
        tint: The lightest shade: red, green and blue from 0 to 1; grey for three times 1.
    """
    luma = np.asarray(image.convert("L"), np.float32)[..., np.newaxis]
    return Image.fromarray(np.rint(luma * tint).astype(np.uint8))


def few_colors(image: Image.Image, colors: int) -> Image.Image:
    """Return the RGB image with at most so many colours, as in a file with a palette."""
    return image.quantize(colors, method=Image.Quantize.FASTOCTREE).convert("RGB")


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
    grey = image.convert("L").reduce(max(1, max(image.size) // 1024))
    inside = (1, 1, grey.width - 1, grey.height - 1)
    return grey.filter(_NEIGHBOURS).crop(inside) if min(grey.size) >= 3 else None


def reencode_webp(image: Image.Image, quality: int, method: int = 4) -> Image.Image:
    """Return the RGB image after lossy WebP encoding and decoding.

    Args:
        image: RGB image.
        quality: From 0 to 100.
        method: Effort of the encoder, from 0 (fast) to 6; Pillow's default is 4.
    """
    file = BytesIO()
    image.save(file, "WEBP", quality=quality, method=method)
    with Image.open(file, formats=["WEBP"]) as encoded:
        return encoded.convert("RGB")
