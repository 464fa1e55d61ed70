"""Hand-made statistics of an image's error levels, for classifiers that are no network.

Signed YCbCr residuals at three JPEG qualities of a square in the middle of the image, at its own
resolution. The square begins off the image's 8 x 8 grid, so that content answers; a second one,
on the grid, adds what a JPEG's own quantisation leaves, its history.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hf_ela.ela.error_level import error_level
from hf_ela.ela.views import align
from hf_ela.images.jpeg import reencode
from hf_ela.images.loading import ImageSource, load_image

__all__ = ["FEATURES", "QUALITIES", "SIDE", "features"]

QUALITIES = (75, 85, 95)
MCU = 16
"""Side of a JPEG's unit of 4:2:0 in pixels: luma repeats every 8, chroma every 16. A square that
began at a multiple of 8 would tell an image's size by which half of its chroma blocks it met."""
SIDE = 240
"""Longest side of the square in pixels, a multiple of `MCU`: what bounds the cost."""
SMALLEST = 72
"""Smaller images are mirrored up to this: room for a few blocks off the grid."""
QUANTILES = (0.01, 0.05, 0.25, 0.75, 0.95, 0.99)
LAGS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (0, 8), (8, 0))  # rows, columns

Floats = NDArray[np.float32]
Channels = [f"{quality}_{plane}" for quality in QUALITIES for plane in ("Y", "Cb", "Cr")]


def features(image: ImageSource) -> Floats:
    """Return the statistics of an image.

    Args:
        image: Anything that `load_image` takes, of any size.

    Returns:
        float32 array of shape (len(FEATURES),), finite, in the order of `FEATURES`.

    Raises:
        ImageError: The image is refused.
    """
    off_grid, on_grid = _residuals(load_image(image).pixels)
    return np.array(list(_statistics(off_grid, on_grid).values()), np.float32)


def _residuals(image: Image.Image) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return the residuals of the square off the grid and on it, each channels x rows x columns."""
    pixels = np.asarray(image)
    room = [(0, max(SMALLEST - length, 0)) for length in pixels.shape[:2]]
    pixels = np.pad(pixels, (*room, (0, 0)), mode="symmetric")
    sides = [min(SIDE, (length - 4) // MCU * MCU) for length in pixels.shape[:2]]
    starts = [
        (length - 4 - side) // 2 // MCU * MCU
        for length, side in zip(pixels.shape, sides, strict=False)
    ]
    found = []
    for phase in (4, 0):
        rows, columns = (
            slice(start + phase, start + phase + side)
            for start, side in zip(starts, sides, strict=True)
        )
        square = Image.fromarray(pixels[rows, columns])
        levels = error_level(square, QUALITIES, signed=True, color="YCbCr")
        found.append(np.ascontiguousarray(np.moveaxis(levels, 2, 0)))
    return found[0], found[1]


def _statistics(
    off_grid: NDArray[np.int16], on_grid: NDArray[np.int16]
) -> dict[str, float | np.floating]:
    size = np.abs(off_grid).astype(np.float32)
    level = size.mean(axis=(1, 2))
    by_channel = {
        "mean_abs": level,
        **_distribution(off_grid),
        **_grid_phase(size, level),
        "on_grid_mean_abs": (on_level := np.abs(on_grid).mean(axis=(1, 2))),
        "on_grid_zeros": (on_grid == 0).mean(axis=(1, 2)),
        "on_grid_ratio": _log_ratio(on_level, level),
    }
    standard = _standardised(off_grid)
    by_channel |= {f"lag_{rows}_{columns}": _lag(standard, rows, columns) for rows, columns in LAGS}
    return {
        **{
            f"{channel}_{name}": values[number]
            for name, values in by_channel.items()
            for number, channel in enumerate(Channels)
        },
        **_between_channels(standard, level),
    }


def _distribution(residual: NDArray[np.int16]) -> Mapping[str, NDArray[np.floating]]:
    """Moments and quantiles of each channel, from its histogram: an 8-bit difference has 511."""
    values = np.arange(-255, 256)
    counts = np.stack([np.bincount(plane.ravel() + 255, minlength=511) for plane in residual])
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    deviation = values - mean[:, np.newaxis]
    variance = (share * deviation**2).sum(axis=1)
    fourth = (share * deviation**4).sum(axis=1)
    cumulated = np.cumsum(share, axis=1)
    quantiles = {
        f"quantile_{q:g}": (cumulated < q).sum(axis=1).astype(np.float64) - 255 for q in QUANTILES
    }
    return {
        "mean": mean,
        "std": np.sqrt(variance),
        "kurtosis": fourth / np.maximum(variance, 1e-6) ** 2,
        "zeros": share[:, 255],
        **quantiles,
    }


def _grid_phase(size: Floats, level: Floats) -> Mapping[str, Floats]:
    """How absolute residuals differ by place in the 8 x 8 block, and from block to block."""
    channels, height, width = size.shape
    blocks = size.reshape(channels, height // 8, 8, width // 8, 8)
    scale = np.maximum(level, 1e-3)[:, np.newaxis, np.newaxis]
    phase = blocks.mean(axis=(1, 3)) / scale
    energy = (blocks.mean(axis=(2, 4)) / scale).reshape(channels, -1)
    rim = np.ones((8, 8), bool)
    rim[1:7, 1:7] = False
    low, high = np.quantile(energy, (0.1, 0.9), axis=1)
    return {
        "phase_std": phase.std(axis=(1, 2)),
        "phase_rim": phase[:, rim].mean(axis=1),
        "phase_middle": phase[:, 3:5, 3:5].mean(axis=(1, 2)),
        "phase_odd_rows": phase[:, 1::2].mean(axis=(1, 2)),
        "phase_odd_columns": phase[:, :, 1::2].mean(axis=(1, 2)),
        "blocks_std": energy.std(axis=1),
        "blocks_low": low,
        "blocks_high": high,
    }


def _standardised(residual: NDArray[np.int16]) -> Floats:
    """Each channel with mean 0 and variance 1; a constant one is 0."""
    values = residual.astype(np.float32)
    values -= values.mean(axis=(1, 2), keepdims=True)
    scale = np.sqrt((values**2).mean(axis=(1, 2), keepdims=True))
    values /= np.maximum(scale, 1e-3)
    return values


def _lag(standard: Floats, rows: int, columns: int) -> Floats:
    """Correlation of each channel with itself, so many rows and columns further."""
    height, width = standard.shape[1:]
    here = standard[:, : height - rows, : width - columns]
    products = np.einsum("chw,chw->c", here, standard[:, rows:, columns:])
    mean: Floats = products / (here.shape[1] * here.shape[2])
    return mean


def _between_channels(standard: Floats, level: Floats) -> dict[str, np.floating]:
    """Correlations and ratios: of the planes at each quality, of the qualities in each plane."""
    flat = standard.reshape(len(standard), -1)
    correlation = flat @ flat.T / flat.shape[1]
    found = {}
    for first, a in enumerate(Channels):
        for second, b in enumerate(Channels[:first]):
            if first // 3 == second // 3 or first % 3 == second % 3:
                found[f"{a}_{b}_correlation"] = correlation[first, second]
                found[f"{a}_{b}_ratio"] = _log_ratio(level[first], level[second])
    return found


def _log_ratio(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    # A hundredth of a grey level keeps a silent channel finite.
    return np.log((a + 0.01) / (b + 0.01))


FEATURES = tuple(_statistics(*_residuals(Image.new("RGB", (1, 1)))))
"""The names of what `features` returns: ``<quality>_<plane>_<statistic>``, or two channels."""

Condition = Literal["as_is", "aligned", "jpeg_95", "resized"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
RESIZED = (256, 256)
"""Width and height to which the published recipe squashes an image before ELA."""


def in_condition(image: Image.Image, condition: Condition, key: str) -> Image.Image:
    """Return an RGB image as it came, aligned, saved as JPEG 95, or resized.

    After ``jpeg_95`` all images have one last save in common, as when everything is PNG made from
    JPEG 95; ``resized`` gives them one size.

    Args:
        image: RGB, of any size.
        condition: One of `CONDITIONS`.
        key: Identity of the image; the draws of ``aligned`` depend on it alone.
    """
    match condition:
        case "as_is":
            return image
        case "aligned":
            return align(image, key)
        case "jpeg_95":
            return reencode(image, 95)
        case "resized":
            return image.resize(RESIZED)


def features_by_condition(image: Image.Image, key: str) -> np.ndarray:
    """Return `features` under each condition: float32, (len(CONDITIONS), len(FEATURES))."""
    return np.stack([features(in_condition(image, condition, key)) for condition in CONDITIONS])
