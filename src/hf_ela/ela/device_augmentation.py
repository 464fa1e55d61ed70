"""Augmentation on the accelerator: each epoch gives each training crop a new file history.

The draws are made on the CPU and depend on seed, epoch and batch alone, so that a training can be
repeated and resumed exactly on every backend; the pixels are computed where the network is.
"""

from typing import Any

import numpy as np

from hf_ela.backend import keras
from hf_ela.ela.cosine_transform import Tensor
from hf_ela.ela.layers import register
from hf_ela.ela.tensor_jpeg import round_trip
from hf_ela.ela.views import ALIGNED_QUALITY
from hf_ela.recipes.schema import BORDER, Preprocessing

ops = keras.ops

DRAWS = ("first", "scale", "second", "y", "x", "mirrored")
"""What is drawn for each image: JPEG qualities (0 for none) before and after rescaling, the factor
of rescaling in 65,536ths, the corner of the crop, and whether left and right are exchanged."""
_UNIT = 1 << 16


def draw(rng: np.random.Generator, images: int, recipe: Preprocessing) -> np.ndarray:
    """Return draws for a batch: int32, images x `DRAWS`."""
    how = recipe.augmentation
    if how is None:
        raise ValueError("`draw` requires a recipe with an `augmentation` section.")
    none = np.zeros(images, np.int64)
    low, high = ALIGNED_QUALITY if recipe.input.training == "aligned" else (0, 0)
    first = rng.integers(low, high, images, endpoint=True)
    scale = np.rint(rng.uniform(how.rescale[0], how.rescale[1], images) * _UNIT)
    low, high = how.jpeg_quality
    second = rng.integers(low, high, images, endpoint=True)
    second = np.where(rng.random(images) < how.jpeg, second, none)
    room = recipe.source_side - recipe.pixel_side
    y, x = (rng.integers(BORDER // 2, room - BORDER // 2, images, endpoint=True) for _ in range(2))
    mirrored = rng.integers(2, size=images) if how.flips else none
    return np.stack([first, scale, second, y, x, mirrored], axis=1).astype(np.int32)


def no_draws(images: int) -> np.ndarray:
    """Return the draws that leave pixels unchanged and crop the upper left corner."""
    row = [_UNIT if name == "scale" else 0 for name in DRAWS]
    return np.tile(np.array(row, np.int32), (images, 1))


@register
class DeviceAugmentation(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """JPEG, rescaling about the centre (bilinear), JPEG again, crop and flip, as drawn.

    Input: pixels, uint8, N x side x side x 3; draws, int32, N x `DRAWS`. Output: uint8,
    N x size x size x 3. JPEG and the crop are exact; a factor of 1 leaves pixels unchanged.

    Args:
        size: Side of the crops in pixels.
        rescales: Whether any factor differs from 1; otherwise rescaling is skipped.
    """

    def __init__(self, size: int, rescales: bool, **kwargs: Any) -> None:
        """See the class."""
        super().__init__(**{**kwargs, "autocast": False, "trainable": False})
        self.size = size
        self.rescales = rescales

    def call(self, pixels: Tensor, draws: Tensor) -> Tensor:
        """Return the crops."""
        first, scale, second, y, x, mirrored = ops.unstack(draws, len(DRAWS), axis=1)
        pixels = _saved(pixels, first)
        if self.rescales:
            pixels = _rescaled(pixels, scale)
        return _cropped(_saved(pixels, second), self.size, y, x, mirrored)

    def get_config(self) -> dict[str, Any]:
        """Return the settings."""
        return dict(super().get_config()) | {"size": self.size, "rescales": self.rescales}


def _saved(pixels: Tensor, quality: Tensor) -> Tensor:
    """Save and open as JPEG where the quality is not 0."""
    return ops.where(_each(quality) > 0, round_trip(pixels, quality), pixels)


def _rescaled(pixels: Tensor, scale: Tensor) -> Tensor:
    height, width = pixels.shape[1:3]
    step = _UNIT / ops.cast(scale, "float32")
    zero = ops.zeros_like(step)
    down, across = (1 - step) * (height - 1) / 2, (1 - step) * (width - 1) / 2
    transforms = ops.stack([step, zero, across, zero, step, down, zero, zero], axis=1)
    values = ops.cast(pixels, "float32")
    enlarged = ops.image.affine_transform(values, transforms, "bilinear", fill_mode="reflect")
    rounded = ops.cast(ops.clip(ops.round(enlarged), 0, 255), "uint8")
    return ops.where(_each(scale) != _UNIT, rounded, pixels)


def _cropped(pixels: Tensor, size: int, y: Tensor, x: Tensor, mirrored: Tensor) -> Tensor:
    """Crop a square from each image and flip it, in one look-up."""
    height, width = pixels.shape[1:3]
    steps = ops.arange(size, dtype="int32")[None]
    y, x, mirrored = y[:, None], x[:, None], mirrored[:, None]
    rows = y + steps
    columns = x + mirrored * (size - 1) + (1 - 2 * mirrored) * steps
    image = ops.cumsum(ops.ones_like(y[:, 0])) - 1
    flat = (image[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
    return ops.take(ops.reshape(pixels, (-1, 3)), flat, axis=0)


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]
