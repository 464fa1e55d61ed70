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
