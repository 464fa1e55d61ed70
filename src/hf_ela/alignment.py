"""The aligned protocol: every image of one range of sizes, and saved as JPEG once more.

Longest side and quality are drawn from one distribution for both classes, so that file history
tells less. The shape stays: where one class is square and the other is not, it remains so.
"""

from hashlib import sha256

import numpy as np
from PIL import Image

from hf_ela.ela import reencode

__all__ = [
    "ALIGNED_QUALITY",
    "ALIGNED_SIDE",
    "align",
    "rescale_and_reencode",
    "draw_alignment",
    "drawn_by",
    "rescaled",
]

ALIGNED_SIDE = (256, 384)
"""Longest side of an aligned image in pixels, drawn uniformly: below most images of the art
datasets, so that alignment rarely enlarges."""
ALIGNED_QUALITY = (75, 95)
"""JPEG quality of an aligned image, drawn uniformly; chroma subsampling is 4:2:0."""


def align(image: Image.Image, key: str) -> Image.Image:
    """Return the image as the aligned protocol sees it; the draws depend on `key` alone."""
    side, quality = draw_alignment(drawn_by(f"align {key}"))
    return rescale_and_reencode(image, side / max(image.size), quality)


def draw_alignment(rng: np.random.Generator) -> tuple[int, int]:
    """Return a longest side in pixels and a JPEG quality."""
    side = rng.integers(*ALIGNED_SIDE, endpoint=True)
    return int(side), int(rng.integers(*ALIGNED_QUALITY, endpoint=True))


def rescale_and_reencode(image: Image.Image, factor: float, quality: int) -> Image.Image:
    """Return the image rescaled and saved as JPEG."""
    return reencode(rescaled(image, factor, Image.Resampling.LANCZOS), quality)


def drawn_by(key: str) -> np.random.Generator:
    """Return a generator whose draws depend on a text alone."""
    return np.random.default_rng(int.from_bytes(sha256(key.encode()).digest()[:8]))


def rescaled(image: Image.Image, factor: float, kernel: Image.Resampling) -> Image.Image:
    """Return the image with both sides multiplied by a factor."""
    width, height = image.size
    return image.resize((max(1, round(width * factor)), max(1, round(height * factor))), kernel)
