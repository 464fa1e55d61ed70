"""Any source of an image to upright 8-bit RGB pixels and the facts of its file, or a typed refusal.

The first frame or page of a file is read. The EXIF (or XMP) orientation is applied. A corrupt EXIF
block is ignored, since it does not concern the pixels (except for AVIF, whose decoder checks how
the block begins).

Every pixel layout with a defined range is converted to 8-bit RGB:

- Alpha, premultiplied alpha and transparent colours are composited on mid-grey (``MID_GREY``):
  black or white would draw an edge around every cut-out, and thereby a bright rim in its ELA.
- 16-bit grey is divided by 257 and rounded, since 65,535 / 257 = 255. 32-bit integers from 0 to
  65,535 are treated as 16-bit values. Pillow reduces 16-bit colour to the upper byte.
- CMYK is converted without a colour profile; Pillow reads the inverted values that Adobe stores in
  a JPEG. Profiles of RGB images are not applied either: ELA works on stored values.
- Floating point, and every other mode outside of ``RGB_MODES``, has no defined conversion.
"""

import threading
import warnings
from dataclasses import dataclass
from functools import partial
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.WebPImagePlugin import WebPImageFile

from hf_ela.errors import (
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    TruncatedImageError,
    UnsupportedModeError,
)
from hf_ela.images.jpeg import chroma_subsampling, estimate_quality
from hf_ela.images.sources import ImageSource, from_array, name_of, read_bytes, reader_of

__all__ = ["MAX_PIXELS", "ImageInfo", "ImageSource", "LoadedImage", "load_image"]

MAX_PIXELS = 2**30 // 4 // 3
"""Default limit of width × height, 89,478,485: a quarter of a GiB of RGB, where Pillow warns."""

MID_GREY = 128

_DEEP_GREY = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
RGB_MODES = _DEEP_GREY | {
    *("1", "L", "LA"),
    *("P", "PA"),
    *("RGB", "RGBX", "RGBA", "RGBa"),
    *("CMYK", "YCbCr", "LAB", "HSV"),
}
"""Pillow's modes that ``to_rgb`` converts."""

_quiet = threading.Lock()


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Facts of the source, before its conversion to RGB.

    Attributes:
        name: The path as given, or a stand-in such as ``<bytes>``.
        format: ``JPEG``, ``PNG``, ``WEBP`` ...; None for an array or an image made in memory.
        mode: Pillow's name of the pixel layout before conversion, such as ``RGB`` or ``CMYK``.
        width: Pixels per row, as stored before orientation (TIFF: after).
        height: Rows, as stored before orientation (TIFF: after).
        size_bytes: Length of the encoded file; None for an array or a PIL image.
        frames: Number of frames or pages; 1 for an array or a PIL image, or if unknown.
        exif: Whether the file carries an EXIF block, readable or not.
        icc: Whether the file carries a colour profile.
        alpha: Whether transparency was composited on mid-grey.
        jpeg_quality: The quality of `hf_ela.images.jpeg.estimate_quality`, from 1 to 100; None
            unless the source is a JPEG.
        jpeg_quality_exact: Whether the quantisation tables are exactly those of that quality; False
            for encoders with their own tables, such as Photoshop; None unless a JPEG.
        subsampling: Chroma subsampling ``4:4:4``, ``4:2:2``, ``4:2:0`` or ``other``; None unless
            the source is a JPEG of three components.
    """

    name: str
    format: str | None
    mode: str
    width: int
    height: int
    size_bytes: int | None
    frames: int
    exif: bool
    icc: bool
    alpha: bool
    jpeg_quality: int | None
    jpeg_quality_exact: bool | None
    subsampling: str | None


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An upright RGB image in memory, without metadata, and the facts of its source."""

    pixels: Image.Image
    info: ImageInfo


def load_image(
    source: ImageSource, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> LoadedImage:
    """Read an image from any source and convert it to RGB by the rules of this module.

    Pillow's process-wide settings do not change, and several threads may call this at once.

    Args:
        source: A path; the bytes of a file; a binary file object, read from its position to its
            end and left open; a PIL image (its current frame); or a uint8 array of shape
            (H, W, 3), (H, W) or (H, W, 4).
        name: Name of the image in errors and in its info; its path by default.
        max_pixels: Largest width × height, checked before pixels are decoded. For TIFF, GIF and,
            from Pillow 13 on, WebP, Pillow's own limit (twice ``PIL.Image.MAX_IMAGE_PIXELS``)
            applies too.

    Returns:
        The RGB pixels, upright and without metadata, and an ``ImageInfo``.

    Raises:
        ImageNotReadableError: The file is missing, a folder or a pipe, or reading it failed.
        EmptyImageError: The source has zero bytes, or a side of zero pixels.
        NotAnImageError: The first bytes do not belong to a known format.
        TruncatedImageError: The bytes begin as an image but cannot be decoded to the end.
        ImageTooLargeError: The image has more than ``max_pixels``, or does not fit in memory.
        UnsupportedModeError: The mode, dtype or shape has no defined conversion to RGB, such as
            floating point.
        TypeError: ``source`` has another type.
    """
    name = name if name is not None else name_of(source)
    if isinstance(source, np.ndarray):
        source = from_array(source, name)
    elif not isinstance(source, Image.Image):
        source = read_bytes(source, name)
    job = partial(_decode, source, name, max_pixels)
    try:
        return job()
    except Warning:
        # The caller turns warnings into errors, and Pillow warned of an oddity. The filters belong
        # to the whole process, and so are changed only in this case.
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return job()


def _decode(source: bytes | Image.Image, name: str, max_pixels: int) -> LoadedImage:
    """Decode a file's bytes, or use an image unchanged, and convert it."""
    opened: Image.Image
    try:
        if isinstance(source, bytes):
            reader = reader_of(source[:16], name)
            if reader is WebPImageFile and (size := _webp_size(source)):
                # The decoder allocates the canvas when it is created.
                _check_size(*size, name, max_pixels)
            opened = reader(BytesIO(source), "")
            size_bytes = len(source)
        else:
            opened = source
            size_bytes = None
        width, height = opened.size
        _check_size(width, height, name, max_pixels)
        mode = opened.mode
        if mode not in RGB_MODES:
            raise UnsupportedModeError(
                name, f"mode {mode!r} has no defined range; convert the image to 8-bit RGB first"
            )
        opened.load()
        pixels, alpha = to_rgb(opened, name)
        if (orientation := _orientation(opened)) > 1:
            pixels.getexif()[ExifTags.Base.Orientation] = orientation
            ImageOps.exif_transpose(pixels, in_place=True)
        quality, exact = estimate_quality(opened)
        info = ImageInfo(
            name=name,
            format=opened.format,
            mode=mode,
            width=width,
            height=height,
            size_bytes=size_bytes,
            frames=1 if size_bytes is None else _frames(opened),
            exif="exif" in opened.info or "Raw profile type exif" in opened.info,
            icc=bool(opened.info.get("icc_profile")),
            alpha=alpha,
            jpeg_quality=quality,
            jpeg_quality_exact=exact,
            subsampling=chroma_subsampling(opened),
        )
    except (ImageError, Warning):
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(name, f"Pillow refuses it: {error}") from error
    except MemoryError as error:
        raise ImageTooLargeError(name, "does not fit in memory") from error
    except Exception as error:  # decoders raise nearly any kind for corrupt bytes
        cause = str(error) or repr(error)
        raise TruncatedImageError(name, f"is truncated or corrupt; decoding: {cause}") from error
    return LoadedImage(pixels, info)


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if not width or not height:
        raise EmptyImageError(name, f"must have pixels. Received: {width} × {height}")
    if width * height > max_pixels:
        raise ImageTooLargeError(
            name,
            f"must have at most {max_pixels:,} pixels. Received: {width} × {height} = "
            f"{width * height:,}. Raise `max_pixels` if the file is trusted",
        )


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Return the canvas size in a WebP header (RFC 9649), or None if it is not there."""
    if data[12:16] == b"VP8X" and len(data) >= 30:
        side = [int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27)]
    elif data[12:16] == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        side = [(bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1]
    elif data[12:16] == b"VP8 " and len(data) >= 30:
        side = [int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28)]
    else:
        return None
    return side[0], side[1]


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Warning:
        raise
    except Exception:  # corrupt EXIF raises nearly any kind, and does not concern the pixels
        return 1
    return int(value) if value in range(2, 9) else 1


def _frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Warning:
        raise
    except Exception:  # corrupt later frames raise nearly any kind, and are not used
        return 1


def to_rgb(image: Image.Image, name: str) -> tuple[Image.Image, bool]:
    """Convert a loaded image of a mode in ``RGB_MODES``.

    Args:
        image: The image; it does not change.
        name: Name of the image in an error.

    Returns:
        RGB pixels without metadata, and whether transparency was composited.

    Raises:
        UnsupportedModeError: Integer pixels outside 0..65535.
    """
    if image.mode in _DEEP_GREY:
        image = _to_eight_bits(image, name)
    if alpha := image.has_transparency_data:
        layer = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, (MID_GREY, MID_GREY, MID_GREY))
        rgb.paste(layer, mask=layer)
    else:
        rgb = image.convert("RGB")
        rgb.info.clear()  # the next reader would apply a remaining orientation again
    return rgb, alpha


def _to_eight_bits(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UnsupportedModeError(
            name,
            "integer pixels must lie in 0..65535. "
            f"Received: {values.min()}..{values.max()}; scale the image to 8 bits first",
        )
    grey = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey
