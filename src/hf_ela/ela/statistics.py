"""Hand-made statistics of an image's error levels, for classifiers other than networks.

They describe signed YCbCr residuals, at three JPEG qualities, of a square in the middle of the
image at its own resolution. The square begins off the image's 8 x 8 grid, so that it shows content;
a second one, on the grid, adds what the image's own JPEG quantisation left, its history.
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

QUALITIES = (75, 85, 95)
MCU = 16
"""Side of the coding unit of a 4:2:0 JPEG in pixels: luma repeats every 8, chroma every 16. A
square at a multiple of 8 would reveal the image's size: it would begin in either half of a chroma
block."""
SQUARE = 240
"""Longest side of the square in pixels, a multiple of `MCU`; it bounds the cost."""
SMALLEST = 72
"""Shortest side in pixels: a smaller image is mirrored, to hold a few blocks off the grid."""
QUANTILES = (0.01, 0.05, 0.25, 0.75, 0.95, 0.99)
LAGS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (0, 8), (8, 0))  # rows, columns

Floats = NDArray[np.float32]
Channels = [f"{quality}_{plane}" for quality in QUALITIES for plane in ("Y", "Cb", "Cr")]


def error_level_statistics(image: ImageSource) -> Floats:
    """Return the statistics of an image.

    Args:
        image: Anything that `load_image` takes, of any size.

    Returns:
        float32 array of shape (len(STATISTICS),), finite, in the order of `STATISTICS`.

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
    sides = [min(SQUARE, (length - 4) // MCU * MCU) for length in pixels.shape[:2]]
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
    """Return moments and quantiles of each channel, from its histogram of 511 values."""
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
    """Return how absolute residuals vary within an 8 x 8 block, and from block to block."""
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
    """Return each channel with mean 0 and variance 1; a constant channel becomes 0."""
    values = residual.astype(np.float32)
    values -= values.mean(axis=(1, 2), keepdims=True)
    scale = np.sqrt((values**2).mean(axis=(1, 2), keepdims=True))
    values /= np.maximum(scale, 1e-3)
    return values


def _lag(standard: Floats, rows: int, columns: int) -> Floats:
    """Return the correlation of each channel with itself, shifted by rows and columns."""
    height, width = standard.shape[1:]
    here = standard[:, : height - rows, : width - columns]
    products = np.einsum("chw,chw->c", here, standard[:, rows:, columns:])
    mean: Floats = products / (here.shape[1] * here.shape[2])
    return mean


def _between_channels(standard: Floats, level: Floats) -> dict[str, np.floating]:
    """Return correlations and ratios of planes at one quality, and of qualities in one plane."""
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


STATISTICS = tuple(_statistics(*_residuals(Image.new("RGB", (1, 1)))))
"""Names of the values of `error_level_statistics`: ``<quality>_<plane>_<statistic>``, or of two
channels ``<quality>_<plane>_<quality>_<plane>_<statistic>``."""

Condition = Literal["as_is", "aligned", "jpeg_95", "resized"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
RESIZED = (256, 256)
"""Width and height to which the published recipe resizes an image before ELA."""


def in_condition(image: Image.Image, condition: Condition, key: str) -> Image.Image:
    """Return an RGB image under a condition: unchanged, aligned, saved as JPEG 95, or resized.

    ``jpeg_95`` gives all images the same last save; ``resized`` gives them one size.

    Args:
        image: RGB image of any size.
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


def statistics_by_condition(image: Image.Image, key: str) -> np.ndarray:
    """Return the statistics under each condition: float32, (len(CONDITIONS), len(STATISTICS))."""
    return np.stack(
        [error_level_statistics(in_condition(image, condition, key)) for condition in CONDITIONS]
    )
