"""The JPEG round trip as integer tensor operations, equal to Pillow's to the last bit.

Entropy coding is lossless, so an encoder and a decoder change pixels like this: RGB to YCbCr,
chroma averaged over 2 x 2 pixels (4:2:0), 8 x 8 cosine transform, division by the quantisation
table and rounding; then the same backwards. Libjpeg-turbo, which Pillow uses, computes in fixed
point; the same sums and shifts in int32 give the same pixels on TensorFlow, JAX and torch, eager or
compiled. Products reach 2**29, too large for float32.

Sources: ITU-T T.81 (JPEG) and T.871 (its colours); libjpeg-turbo 3 `jccolor.c`, `jcsample.c`,
`jcdctmgr.c`, `jdsample.c`, `jdcolor.c`; `hf_ela.ela.cosine_transform` names those of the transform.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from hf_ela._checks import checked_quality
from hf_ela.backend import keras
from hf_ela.ela.cosine_transform import Tensor, forward, inverse, shifted
from hf_ela.images.jpeg import quantisation_tables

ops = keras.ops
Subsampling = Literal["4:2:0", "4:4:4"]


def round_trip(images: Tensor, quality: Any, subsampling: Subsampling = "4:2:0") -> Tensor:
    """Return RGB images after JPEG encoding and decoding.

    Args:
        images: uint8, N x height x width x 3; height and width static, of any size.
        quality: From 1 to 100: an integer, or one for each image as a list or an integer tensor of
            shape (N,). The values of a backend's tensor are clipped to that range, not checked.
        subsampling: Chroma subsampling: ``4:2:0``, Pillow's default, or ``4:4:4``, none.

    Returns:
        uint8, the shape of `images`: the pixels of Pillow's ``save(quality=...)`` and ``open``.

    Raises:
        ValueError: An argument has another type, shape or range.
    """
    images = image_tensor(images)
    if isinstance(quality, int | np.integer) and not isinstance(quality, bool):
        return round_trips(images, [int(quality)], subsampling)[0]
    rule = "`quality` must be an integer, or an integer tensor with one for each image."
    integers = isinstance(quality, np.ndarray) and quality.dtype.kind in "iu" and quality.ndim == 1
    if integers or isinstance(quality, list | tuple):
        quality = np.array([checked_quality(one) for one in quality], np.int32)
    values = _tensor(quality, rule)
    dtype = keras.backend.standardize_dtype(values.dtype)
    if len(values.shape) != 1 or "int" not in dtype:
        raise ValueError(f"{rule} Received: {dtype} of shape {tuple(values.shape)}.")
    if None not in (lengths := (images.shape[0], values.shape[0])) and lengths[0] != lengths[1]:
        raise ValueError(
            f"`quality` must have one value for each image. Received: {lengths[1]} values for "
            f"{lengths[0]} images."
        )
    check_subsampling(subsampling)
    rows = ops.take(quantisation_tables(), ops.cast(ops.clip(values, 1, 100), "int32") - 1, axis=0)
    # Reshaped by the number of images: otherwise one quality would be broadcast to all of them
    # where neither number is static.
    number = ops.shape(images)[0]
    tables = ops.reshape(ops.transpose(rows, (1, 2, 0)), (2, 8, 8, number, 1))
    return _decoded(_encoded(images, subsampling), [tables], images.shape, subsampling)


def round_trips(
    images: Tensor, qualities: Sequence[int], subsampling: Subsampling = "4:2:0"
) -> list[Tensor]:
    """Return RGB images after a JPEG round trip at each of several qualities.

    They share the colour conversion and the forward transform.

    Returns:
        The result of `round_trip` for each quality.

    Raises:
        ValueError: As for `round_trip`.
    """
    images = image_tensor(images)
    check_subsampling(subsampling)
    if not isinstance(qualities, Sequence):
        raise ValueError(
            "`qualities` must be a list of integers from 1 to 100. "
            f"Received: {type(qualities).__name__}, {qualities!r:.100}."
        )
    if not qualities:
        raise ValueError("`qualities` must name at least one JPEG quality. The list is empty.")
    rows = [checked_quality(quality) - 1 for quality in qualities]
    tables = [quantisation_tables()[row].reshape(2, 8, 8, 1, 1) for row in rows]
    decoded = _decoded(_encoded(images, subsampling), tables, images.shape, subsampling)
    by_quality = ops.reshape(decoded, (len(qualities), -1, *images.shape[1:]))
    return list(ops.unstack(by_quality, len(qualities)))


def image_tensor(images: Tensor) -> Tensor:
    """Return images as a tensor after checking them; see `round_trip`."""
    rule = "`images` must be uint8 of shape N x height x width x 3."
    images = _tensor(images, rule)
    shape, dtype = tuple(images.shape), keras.backend.standardize_dtype(images.dtype)
    if dtype != "uint8" or len(shape) != 4 or shape[3] != 3:
        raise ValueError(
            f"{rule} Received: {dtype} of shape {shape}. Convert to 8-bit RGB, and pass "
            "images[None] for a single image."
        )
    if None in shape[1:] or 0 in shape:
        raise ValueError(
            "`images` must hold at least one image of at least one pixel, with static height and "
            f"width. Received: shape {shape}."
        )
    return images


def _tensor(values: Any, rule: str) -> Tensor:
    if isinstance(values, keras.KerasTensor):
        return values
    try:
        return ops.convert_to_tensor(values)
    except Exception as error:  # of whatever kind the backend raises
        received = f"{type(values).__name__}, {values!r:.100}"
        raise ValueError(f"{rule} Received: {received}, which is not a tensor.") from error


def check_subsampling(subsampling: str) -> None:
    """Refuse a chroma subsampling that `round_trip` does not know."""
    if subsampling not in ("4:2:0", "4:4:4"):
        raise ValueError(
            f"`subsampling` must be '4:2:0' or '4:4:4'. Received: subsampling={subsampling!r}."
        )


def _encoded(images: Tensor, subsampling: str) -> tuple[Tensor, Tensor]:
    """Return the coefficients of luma and of chroma, 8 times as large as the standard's.

    int32, 8 x 8 x N x (blocks and planes): vertical and horizontal frequency first.
    """
    planes = _ycc(images)
    luma, chroma = planes[..., :1], planes[..., 1:]
    if subsampling == "4:2:0":
        chroma = _halved(chroma)
    return forward(_blocks(luma)), forward(_blocks(chroma))


def _decoded(
    coefficients: tuple[Tensor, Tensor],
    tables: Sequence[Any],
    shape: Sequence[int],
    subsampling: str,
) -> Tensor:
    """Return RGB, (qualities * N) x height x width x 3.

    A table is luma and chroma x 8 x 8 x (N or 1) x 1.
    """
    height, width = shape[1:3]
    small = ((height + 1) // 2, (width + 1) // 2) if subsampling == "4:2:0" else (height, width)
    luma, chroma = (
        _pixels(inverse(_quantised(coefficients[kind], [t[kind] for t in tables])), *layout)
        for kind, layout in enumerate([((height, width), 1), (small, 2)])
    )
    if subsampling == "4:2:0":
        chroma = _doubled(chroma)[:, :height, :width]
    return _rgb(luma[..., 0], chroma[..., 0], chroma[..., 1])


def _quantised(coefficients: Tensor, tables: Sequence[Any]) -> Tensor:
    """Divide by each table and round half away from zero (jcdctmgr.c), and multiply again.

    What comes out is 8 x 8 x (tables * N) x (blocks and planes).
    """
    sign, size = ops.sign(coefficients), ops.absolute(coefficients)
    tables = [ops.convert_to_tensor(table, "int32") for table in tables]
    # Division of a positive number: the formats of exported models round others towards zero.
    levels = [(size + 4 * table) // (8 * table) * table * sign for table in tables]
    return levels[0] if len(levels) == 1 else ops.concatenate(levels, axis=2)


def _ycc(images: Tensor) -> Tensor:
    """RGB to YCbCr (jccolor.c): 16 bits after the point, Cb and Cr rounded a little down."""
    r, g, b = ops.unstack(ops.cast(images, "int32"), 3, axis=-1)
    half, center = 1 << 15, (128 << 16) + (1 << 15) - 1
    y = shifted(19595 * r + 38470 * g + 7471 * b + half, 16)
    cb = shifted(-11059 * r - 21709 * g + 32768 * b + center, 16)
    cr = shifted(32768 * r - 27439 * g - 5329 * b + center, 16)
    return ops.stack([y, cb, cr], axis=-1)


def _rgb(y: Tensor, cb: Tensor, cr: Tensor) -> Tensor:
    """YCbCr to RGB (jdcolor.c)."""
    half, cb, cr = 1 << 15, cb - 128, cr - 128
    r = y + shifted(91881 * cr + half, 16)
    g = y + shifted(-22554 * cb - 46802 * cr + half, 16)
    b = y + shifted(116130 * cb + half, 16)
    return ops.cast(ops.clip(ops.stack([r, g, b], axis=-1), 0, 255), "uint8")


def _halved(planes: Tensor) -> Tensor:
    """Average 2 x 2 pixels (jcsample.c), up to the edge of the last block to the right.

    Half a unit is rounded up in every other column, so that nothing drifts.
    """
    height, width = planes.shape[1:3]
    planes = _extended(planes, height % 2, -width % 16)
    rows = planes[:, 0::2] + planes[:, 1::2]
    sums = rows[:, :, 0::2] + rows[:, :, 1::2]
    bias = np.tile([1, 2], sums.shape[2] // 2)[:, np.newaxis]
    # In this order: Keras on TensorFlow takes a second term of this shape for a bias of channels,
    # and adds it to the rows of a square.
    return shifted(ops.add(ops.convert_to_tensor(bias, "int32"), sums), 2)


def _doubled(planes: Tensor) -> Tensor:
    """Enlarge by triangle weights 3/4 and 1/4 each way (jdsample.c); by copying where narrow."""
    height, width, channels = planes.shape[1:]
    if width <= 2:
        return ops.repeat(ops.repeat(planes, 2, axis=1), 2, axis=2)
    above = ops.concatenate([planes[:, :1], planes[:, :-1]], axis=1)
    below = ops.concatenate([planes[:, 1:], planes[:, -1:]], axis=1)
    rows = ops.stack([3 * planes + above, 3 * planes + below], axis=2)
    rows = ops.reshape(rows, (-1, 2 * height, width, channels))
    left = ops.concatenate([rows[:, :, :1], rows[:, :, :-1]], axis=2)
    right = ops.concatenate([rows[:, :, 1:], rows[:, :, -1:]], axis=2)
    pair = [shifted(3 * rows + left + 8, 4), shifted(3 * rows + right + 7, 4)]
    return ops.reshape(ops.stack(pair, axis=3), (-1, 2 * height, 2 * width, channels))


def _extended(planes: Tensor, down: int, right: int) -> Tensor:
    """Repeat the last row and the last column."""
    if down:
        planes = ops.concatenate([planes, *[planes[:, -1:]] * down], axis=1)
    if right:
        planes = ops.concatenate([planes, *[planes[:, :, -1:]] * right], axis=2)
    return planes


def _blocks(planes: Tensor) -> Tensor:
    """N x height x width x planes to 8 x 8 x N x (blocks and planes)."""
    height, width, channels = planes.shape[1:]
    planes = _extended(planes, -height % 8, -width % 8)
    down, across = -(-height // 8), -(-width // 8)
    blocks = ops.reshape(planes, (-1, down, 8, across, 8, channels))
    blocks = ops.transpose(blocks, (2, 4, 0, 1, 3, 5))
    return ops.reshape(blocks, (8, 8, -1, down * across * channels))


def _pixels(blocks: Tensor, size: tuple[int, int], channels: int) -> Tensor:
    """Invert `_blocks`: to N x height x width x planes."""
    height, width = size
    down, across = -(-height // 8), -(-width // 8)
    planes = ops.reshape(blocks, (8, 8, -1, down, across, channels))
    planes = ops.transpose(planes, (2, 3, 0, 4, 1, 5))
    planes = ops.reshape(planes, (-1, down * 8, across * 8, channels))
    return planes[:, :height, :width]
