"""A small stand-in for the decoder of an image generator, as used by `synthetic`.

Generators end with stages that double the side of a picture. Each leaves traces of its grid:
periodic gain and correlated neighbours (Odena et al., "Deconvolution and Checkerboard Artifacts",
Distill 2016), grain that is lost, and detail that is made up.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from hf_ela.painting import Pixels

__all__ = ["DECODERS", "decode"]

# Drawn for every picture: how much of it is the decoder's, and the gain of the checkerboard.
STRENGTHS = (0.6, 1.0)
RIPPLES = (0.01, 0.04)


def _soften(pixels: Pixels, side: float) -> Pixels:
    """Blur with the kernel (side, 1 - 2 side, side) along both axes."""
    for axis in (0, 1):
        neighbours = np.roll(pixels, 1, axis) + np.roll(pixels, -1, axis)
        pixels = side * neighbours + (1 - 2 * side) * pixels
    return pixels


def _nearest(latent: Pixels) -> Pixels:
    """Nearest-neighbour upsampling, then a 3x3 blur."""
    return _soften(latent.repeat(2, 0).repeat(2, 1), 0.15)


def _subpixel(latent: Pixels) -> Pixels:
    """Pixel shuffle: a position becomes 2x2 pixels, each with weights of its own."""
    right, below = np.roll(latent, -1, 1), np.roll(latent, -1, 0)
    out = latent.repeat(2, 0).repeat(2, 1)
    out[::2, 1::2] = 0.7 * latent + 0.3 * right
    out[1::2, ::2] = 0.75 * latent + 0.25 * below
    out[1::2, 1::2] = 0.5 * latent + 0.25 * (right + below)
    return out


def _transposed(latent: Pixels) -> Pixels:
    """Transposed convolution with kernel 3 and stride 2: its overlaps make a checkerboard."""
    height, width, channels = latent.shape
    out = np.zeros((2 * height, 2 * width, channels), np.float32)
    out[::2, ::2] = latent
    for axis in (0, 1):
        out = 0.5 * (np.roll(out, 1, axis) + np.roll(out, -1, axis)) + out
    return out


DECODERS: dict[str, Callable[[Pixels], Pixels]] = {
    "nearest": _nearest,
    "subpixel": _subpixel,
    "transposed": _transposed,
}
"""Upsampling of a latent (h, w, 3) to pixels (2h, 2w, 3), by the name used as `source`."""


def decode(
    pixels: Pixels, decoder: str, rng: np.random.Generator, encode: Callable[[Pixels], bytes]
) -> bytes:
    """Return the file of `pixels` (H, W, 3) after `decoder`, about as long as `encode(pixels)`.

    The latent (means of 2x2 pixels) loses grain; like a generator, it gets detail of its own where
    the picture is busy: edges are sharpened and noise is added. More detail makes a longer file,
    so a bisection finds how much. Neighbours in the latent differ a little in gain, which is the
    checkerboard of an earlier upsampling stage.
    """
    height, width, _ = pixels.shape
    upsample = DECODERS[decoder]
    pads = (4, 4 + -height % 4), (4, 4 + -width % 4), (0, 0)
    padded = np.pad(pixels, pads, mode="edge")
    latent = padded.reshape(len(padded) // 2, 2, -1, 2, 3).mean((1, 3), dtype=np.float32)
    rows, columns, _ = latent.shape

    lost = Image.fromarray(np.abs(padded - upsample(latent)).mean(2)).reduce(4)
    lost = lost.resize((columns, rows), Image.Resampling.BICUBIC)
    busy = np.clip(np.asarray(lost) - 2, 0, 8)[..., None]
    grey, tint = rng.standard_normal((rows, columns, 1)), rng.standard_normal(latent.shape)
    smooth = _soften(latent, 0.25)
    edges = 0.5 * (latent - smooth)
    detail = edges + (0.5 * busy * (grey + 0.3 * tint)).astype(np.float32)
    checkerboard = 1 - 2 * (np.indices((rows, columns)).sum(0)[..., None] % 2)
    base = smooth * (1 + rng.uniform(*RIPPLES) * checkerboard).astype(np.float32) + edges
    strength = rng.uniform(*STRENGTHS)

    def file(gain: float) -> bytes:
        made = upsample(base + gain * detail)[4 : 4 + height, 4 : 4 + width]
        return encode(pixels + strength * (made - pixels))

    longest, low, high = len(encode(pixels)), 0.0, 4.0
    for _ in range(7):
        gain = (low + high) / 2
        low, high = (gain, high) if len(file(gain)) <= longest else (low, gain)
    return file(low)
