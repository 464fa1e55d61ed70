"""Pictures of every kind of content, and what Pillow makes of them as JPEG."""

from importlib.util import find_spec
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

KINDS = ("noise", "extremes", "gradient", "grain", "flat", "blocks", "stripes")
OTHER_BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(not find_spec(name), reason="not installed"))
    for name in ("jax", "torch")
]
QUALITIES = np.arange(1, 101, dtype=np.int32)


def picture(kind: str, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return uint8 RGB pixels of a kind of content."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    y, x = np.arange(height)[:, None, None], np.arange(width)[:, None]
    down, across = rng.uniform(-12, 12, (2, 3))
    slope = rng.integers(0, 256, 3) + down * y + across * x
    match kind:
        case "noise":
            pixels = noise
        case "extremes":
            pixels = noise // 128 * 255
        case "gradient":
            pixels = slope
        case "grain":
            pixels = slope + rng.integers(-3, 4, noise.shape)
        case "flat":
            pixels = np.broadcast_to(noise[:1, :1], noise.shape)
        case "blocks":  # saturated, with edges off the grid of 8
            pixels = (noise // 128 * 255)[: -(-height // 5), : -(-width // 5)]
            pixels = pixels.repeat(5, 0).repeat(5, 1)[:height, :width]
        case "stripes":
            pixels = np.where((y + x) // 2 % 2, noise[0, 0], noise[-1, -1])
    return np.clip(pixels, 0, 255).astype(np.uint8)


def pictures(count: int, height: int, width: int) -> np.ndarray:
    """Return images of all kinds in turn."""
    return np.stack([picture(KINDS[i % len(KINDS)], height, width, i) for i in range(count)])


def saved(pixels: np.ndarray, quality: int, subsampling: str = "4:2:0") -> np.ndarray:
    """Return RGB pixels after Pillow saved them as JPEG and opened that."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(quality), subsampling=subsampling)
    return np.asarray(Image.open(file))
