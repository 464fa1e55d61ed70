"""ELA and Pillow's resize as Keras layers, with the bits of `error_level` and Pillow.

The layers have no weights and work on TensorFlow, JAX and torch, eager or compiled.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_ela._checks import Gain, check_settings
from hf_ela.backend import keras
from hf_ela.ela.cosine_transform import Tensor, shifted
from hf_ela.ela.error_level import Color
from hf_ela.ela.tensor_jpeg import (
    Subsampling,
    check_subsampling,
    image_tensor,
    round_trips,
)

__all__ = ["ErrorLevel", "PillowResize", "register"]

ops = keras.ops
register = keras.saving.register_keras_serializable("hf_ela")

# Pillow's ConvertYCbCr.c: the weights of ITU-T T.871, times 64, rounded as C rounds `x + 0.5`.
_WEIGHTS = np.array(
    [[0.29900, 0.58700, 0.11400], [-0.16874, -0.33126, 0.5], [0.5, -0.41869, -0.08131]]
)
_YCBCR = np.trunc(np.arange(256)[:, None, None] * _WEIGHTS * 64 + 0.5).astype(np.int32)


@register
class ErrorLevel(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Error levels of RGB images: `hf_ela.error_level` as a layer.

    Input: uint8, N x height x width x 3, height and width static. Output: N x height x width x
    (3 * number of qualities), the qualities in the given order; uint8, or int16 when `signed`
    without `gain`. Integer arithmetic passes no gradients.

    Args:
        quality: JPEG quality from 1 to 100, or several.
        signed: Keep the sign (re-encoded minus original) instead of the absolute difference.
        color: Colour space of the difference, ``RGB`` or ``YCbCr``.
        gain: How the difference becomes 8-bit values; see `hf_ela.error_level`.
        subsampling: Chroma subsampling of the re-encoding, ``4:2:0`` or ``4:4:4``.

    Raises:
        ValueError: A setting is out of range; or, when called, the images have another type or
            shape.
    """

    def __init__(
        self,
        quality: int | Sequence[int] = 90,
        *,
        signed: bool = False,
        color: Color = "RGB",
        gain: Gain | None = None,
        subsampling: Subsampling = "4:2:0",
        **kwargs: Any,
    ) -> None:
        """Check the settings; see the class."""
        # A dtype policy is about floats: inputs and outputs here are integers.
        super().__init__(**{**kwargs, "autocast": False, "trainable": False})
        qualities = list(quality) if isinstance(quality, Sequence) else [quality]
        check_settings(qualities, signed=signed, color=color, gain=gain)
        check_subsampling(subsampling)
        # Python numbers instead of NumPy's, since settings are saved as JSON.
        self.quality = [int(one) for one in qualities]
        self.signed = signed
        self.color = color
        self.gain = gain if gain is None or gain == "max" else float(gain)
        self.subsampling = subsampling

    def call(self, images: Tensor) -> Tensor:
        """Return the error levels."""
        encoded = round_trips(images, self.quality, self.subsampling)
        levels = [self._difference(images, one) for one in encoded]
        return levels[0] if len(levels) == 1 else ops.concatenate(levels, axis=-1)

    def compute_output_spec(self, images: Tensor) -> keras.KerasTensor:
        """Return shape and type of the error levels."""
        shape = image_tensor(images).shape
        return keras.KerasTensor((*shape[:3], 3 * len(self.quality)), self._kind)

    @property
    def _kind(self) -> str:
        return "int16" if self.signed and self.gain is None else "uint8"

    def _difference(self, images: Tensor, encoded: Tensor) -> Tensor:
        if self.color == "YCbCr":
            encoded, images = _ycbcr(encoded), _ycbcr(images)
        difference = ops.cast(encoded, "int32") - ops.cast(images, "int32")
        if not self.signed:
            difference = ops.absolute(difference)
        values = _scaled(difference, self.gain, zero=128 if self.signed else 0)
        return ops.cast(values, self._kind)

    def get_config(self) -> dict[str, Any]:
        """Return the settings."""
        names = ("quality", "signed", "color", "gain", "subsampling")
        return dict(super().get_config()) | {name: getattr(self, name) for name in names}


def _ycbcr(images: Tensor) -> Tensor:
    """Pillow's YCbCr, without the 128 of Cb and Cr: differences do not have it."""
    channels = ops.unstack(ops.cast(images, "int32"), 3, axis=-1)
    tables = [ops.convert_to_tensor(_YCBCR[:, :, channel], "int32") for channel in range(3)]
    red, green, blue = (ops.take(t, c, axis=0) for t, c in zip(tables, channels, strict=True))
    return shifted(red + green + blue, 6)


def _scaled(difference: Tensor, gain: Gain | None, zero: int) -> Tensor:
    if gain is None:
        return difference
    if gain == "max":
        # Pillow's Blend.c: a float32 factor, the product truncated.
        factors = (255 / np.maximum(np.arange(256), 1)).astype(np.float32)
        largest = ops.max(difference, axis=(-3, -2, -1), keepdims=True)
        return ops.cast(ops.cast(difference, "float32") * _looked_up(factors, largest), "int32")
    if float(gain).is_integer():  # the same values without a table; beyond 256 all are clipped
        return ops.clip(difference * int(min(gain, 256)) + zero, 0, 255)
    table = np.clip(np.rint(np.arange(-255, 256) * gain) + zero, 0, 255)
    return _looked_up(table.astype(np.int32), difference + 255)


def _looked_up(table: np.ndarray, places: Tensor) -> Tensor:
    # A table of one column: every backend can export a look-up of rows.
    return ops.take(ops.convert_to_tensor(table[:, np.newaxis]), places, axis=0)[..., 0]


@register
class PillowResize(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Resize to a square like Pillow's ``image.resize((size, size))``: bicubic, in 8 bits.

    Input: uint8, N x side x side x channels, the side static. Only squares are taken, since Pillow
    12 and 13 can resize the axes of others in another order. Output: uint8, N x size x size x
    channels.

    Raises:
        ValueError: `size` is not an integer of at least 1; or, when called, the images have another
            type or shape.
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        """See the class."""
        super().__init__(**{**kwargs, "autocast": False, "trainable": False})
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise ValueError(
                f"`size` must be an integer of at least 1 pixel. Received: size={size!r:.100}."
            )
        self.size = int(size)

    def compute_output_spec(self, images: Tensor) -> keras.KerasTensor:
        """Return shape and type of the resized images."""
        shape, dtype = tuple(images.shape), keras.backend.standardize_dtype(images.dtype)
        if dtype != "uint8" or len(shape) != 4 or shape[1] is None or shape[1] != shape[2]:
            raise ValueError(
                "`images` must be uint8 of shape N x side x side x channels, with a static side. "
                f"Received: {dtype} of shape {shape}."
            )
        return keras.KerasTensor((shape[0], self.size, self.size, shape[3]), "uint8")

    def call(self, images: Tensor) -> Tensor:
        """Return the resized images."""
        self.compute_output_spec(images)
        for axis in (2, 1):  # across, rounded to 8 bits, then down
            if images.shape[axis] != self.size:
                images = _resampled(images, axis, self.size)
        return images

    def get_config(self) -> dict[str, Any]:
        """Return the settings."""
        return dict(super().get_config()) | {"size": self.size}


def _resampled(images: Tensor, axis: int, size: int) -> Tensor:
    images = ops.moveaxis(ops.cast(images, "int32"), axis, 0)
    length, other, channels = (int(images.shape[k]) for k in (0, 2, 3))  # a tracer may wrap them
    lines = ops.reshape(images, (length, -1))
    total = 1 << (_PRECISION - 1)
    for place, weight in zip(*_bicubic(length, size), strict=True):
        pixels = ops.take(lines, ops.convert_to_tensor(place, "int32"), axis=0)
        total = total + pixels * ops.convert_to_tensor(weight[:, np.newaxis], "int32")
    limited = ops.clip(total, 0, (256 << _PRECISION) - 1)
    resized = ops.reshape(shifted(limited, _PRECISION), (size, -1, other, channels))
    return ops.cast(ops.moveaxis(resized, 0, axis), "uint8")


_PRECISION = 22  # bits after the point, of Pillow's Resample.c


def _bicubic(before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where each new pixel looks and with which weights (Resample.c): taps x `after`."""
    scale = before / after
    stretch = max(scale, 1.0)
    support = 2.0 * stretch
    centers = (np.arange(after) + 0.5) * scale
    first = np.maximum((centers - support + 0.5).astype(int), 0)
    last = np.minimum((centers + support + 0.5).astype(int), before)
    places = first + np.arange((last - first).max())[:, np.newaxis]
    x = np.abs((places - centers + 0.5) / stretch)
    a = -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0)) * (places < last)
    weights = weights / weights.sum(axis=0)
    fixed = np.trunc(weights * (1 << _PRECISION) + np.copysign(0.5, weights)).astype(np.int32)
    return np.minimum(places, before - 1), fixed
