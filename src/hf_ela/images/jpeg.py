"""JPEG: the quality and chroma subsampling of a file, and Pillow's round trip."""

import os
from io import BytesIO
from typing import IO

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

# ITU-T T.81 (1992), Annex K.1, tables K.1 (luminance) and K.2 (chrominance), in natural order,
# which is Pillow's order too.
ANNEX_K = np.array(
    [
        [
            [16, 11, 10, 16, 24, 40, 51, 61],
            [12, 12, 14, 19, 26, 58, 60, 55],
            [14, 13, 16, 24, 40, 57, 69, 56],
            [14, 17, 22, 29, 51, 87, 80, 62],
            [18, 22, 37, 56, 68, 109, 103, 77],
            [24, 35, 55, 64, 81, 104, 113, 92],
            [49, 64, 78, 87, 103, 121, 120, 101],
            [72, 92, 95, 98, 112, 100, 103, 99],
        ],
        [
            [17, 18, 24, 47, 99, 99, 99, 99],
            [18, 21, 26, 66, 99, 99, 99, 99],
            [24, 26, 56, 99, 99, 99, 99, 99],
            [47, 66, 99, 99, 99, 99, 99, 99],
            [99, 99, 99, 99, 99, 99, 99, 99],
            [99, 99, 99, 99, 99, 99, 99, 99],
            [99, 99, 99, 99, 99, 99, 99, 99],
            [99, 99, 99, 99, 99, 99, 99, 99],
        ],
    ]
).reshape(2, 1, 64)
# N. Robidoux, "JPEG quantization tables", ImageMagick forum, 2012: the default of mozjpeg, for luma
# and chroma alike.
ROBIDOUX = np.array(
    [
        [16, 16, 16, 18, 25, 37, 56, 85],
        [16, 17, 20, 27, 34, 40, 53, 75],
        [16, 20, 24, 31, 43, 62, 91, 135],
        [18, 27, 31, 40, 53, 74, 106, 156],
        [25, 34, 43, 53, 69, 94, 131, 189],
        [37, 40, 62, 74, 94, 124, 169, 238],
        [56, 53, 91, 106, 131, 169, 226, 311],
        [85, 75, 135, 156, 189, 238, 311, 418],
    ]
).reshape(1, 64)
_QUALITY = np.arange(1, 101)[:, None]
# The scaling of libjpeg's `jpeg_quality_scaling` and `jpeg_add_quant_table`, baseline forced.
_SCALE = np.where(_QUALITY < 50, 5000 // _QUALITY, 200 - 2 * _QUALITY)
_TABLES = np.clip((ANNEX_K * _SCALE + 50) // 100, 1, 255)  # (luma/chroma, quality - 1, 64)
_MOZJPEG = np.clip((ROBIDOUX * _SCALE + 50) // 100, 1, 255)  # (quality - 1, 64)


def quantisation_tables() -> np.ndarray:
    """Return libjpeg's tables by quality - 1, luma or chroma: int32, shape (100, 2, 64)."""
    return np.ascontiguousarray(_TABLES.transpose(1, 0, 2), np.int32)


def estimate_quality(image: Image.Image) -> tuple[int, bool] | tuple[None, None]:
    """Estimate the quality of a JPEG: libjpeg's quality with the nearest quantisation tables.

    Args:
        image: An image as Pillow opened it.

    Returns:
        The quality from 1 to 100 with the smallest sum of absolute differences of the luma table,
        and of the chroma table where the file has one (the lower of two equally near), and whether
        that sum is zero. None and None if the image is not a JPEG.
    """
    tables = _used(image)
    if tables is None:
        return None, None
    distances = np.abs(_TABLES[: len(tables)] - tables[:, None]).sum(axis=(0, 2))
    best = int(distances.argmin())
    return best + 1, bool(distances[best] == 0)


def tables_of(image: Image.Image) -> str | None:
    """Return whose quantisation tables a JPEG has, to the last step, or None unless a JPEG.

    ``libjpeg`` for those of Annex K, which most programs scale; ``mozjpeg`` for the default of that
    encoder, which many sites use; ``other`` for all else, such as Photoshop and cameras.
    """
    tables, (_, exact) = _used(image), estimate_quality(image)
    if tables is None:
        return None
    if exact:
        return "libjpeg"
    return "mozjpeg" if (tables[:, None] == _MOZJPEG).all(axis=(0, 2)).any() else "other"


def _used(image: Image.Image) -> np.ndarray | None:
    """Return the tables of luma and, where the second component has its own, of chroma."""
    if not isinstance(image, JpegImageFile):
        return None
    used = dict.fromkeys(component[3] for component in image.layer[:2])
    if not image.quantization.keys() >= used.keys():  # defined between two scans, after the header
        return None
    return np.array([image.quantization[table] for table in used])


def chroma_subsampling(image: Image.Image) -> str | None:
    """Return ``4:4:4``, ``4:2:2``, ``4:2:0`` or ``other``; None unless a JPEG of 3 components."""
    if not isinstance(image, JpegImageFile) or image.layers != 3:
        return None
    return {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}.get(get_sampling(image), "other")


def reencode(image: Image.Image, quality: int) -> Image.Image:
    """Return the RGB image after JPEG encoding and decoding, without touching the disk."""
    with _memory_file() as file:
        image.save(file, "JPEG", quality=quality)
        file.seek(0)
        with Image.open(file, formats=["JPEG"]) as encoded:
            encoded.load()
            return encoded


def _memory_file() -> IO[bytes]:
    # Pillow's encoder releases the GIL when it writes to a file descriptor, but not for a BytesIO;
    # Linux has descriptors in memory.
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("hf_ela"), "w+b")
    return BytesIO()
