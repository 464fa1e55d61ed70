"""Any source of an image to upright 8-bit RGB pixels and the facts of its file, or a typed refusal.

The first frame or page of a file is read. The EXIF (or XMP) orientation is applied. A corrupt EXIF
block is ignored, since it does not concern the pixels (except for AVIF, whose decoder checks how
the block begins). Pixels become RGB by the rules of `hf_ela.images.rgb`.
"""

import re
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from hf_ela.errors import (
    ImageError,
    ImageNotReadableError,
    ImageTooLargeError,
    TruncatedImageError,
    UnsupportedModeError,
)
from hf_ela.images.claims import read_claims
from hf_ela.images.containers import (
    check_layout,
    check_size,
    default_max_pixels,
    prepared,
    webp_size,
)
from hf_ela.images.info import ImageInfo
from hf_ela.images.jpeg import chroma_subsampling, estimate_quality, tables_of
from hf_ela.images.jpeg_segments import lacks_its_end, without_its_end
from hf_ela.images.rgb import RGB_MODES, to_rgb
from hf_ela.images.sources import (
    PREFIX,
    ImageSource,
    from_array,
    name_of,
    read_bytes,
    reader_of,
)

__all__ = ["ImageSource", "LoadedImage", "load_image"]

_quiet = threading.Lock()
_UNSUPPORTED = re.compile("(?i)unknown pixel mode|cannot handle|unsupported|not yet supported")
"""In the messages of Pillow's decoders for whole files."""


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An upright RGB image in memory, without metadata, and the facts of its source."""

    pixels: Image.Image
    info: ImageInfo


def load_image(
    source: ImageSource,
    *,
    name: str | None = None,
    max_pixels: int | None = None,
    before_decoding: Callable[[int], object] | None = None,
) -> LoadedImage:
    """Read an image from any source and convert it to RGB by the rules of this module.

    Pillow's process-wide settings do not change, and several threads may call this at once.

    Args:
        source: A path; the bytes of a file; a binary file object, read from its position to its
            end and left open; a PIL image (its current frame); a uint8 array of shape
            (H, W, 3), (H, W) or (H, W, 4); or a row ``{"bytes", "path"}`` of `datasets`.
        name: Name of the image in errors and in its info; its path by default.
        max_pixels: Largest width × height, checked before pixels are decoded; by default that of
            `default_max_pixels`. For TIFF, GIF and, from Pillow 13 on, WebP, Pillow's own limit
            (twice ``PIL.Image.MAX_IMAGE_PIXELS``) applies too.
        before_decoding: Called with the number of pixels before they are decoded.

    Returns:
        The RGB pixels, upright and without metadata, and an ``ImageInfo``.

    Raises:
        ImageNotReadableError: The file is missing, a folder or a pipe, or reading it failed.
        EmptyImageError: The source has zero bytes, or a side of zero pixels.
        NotAnImageError: The first bytes do not belong to a known format.
        TruncatedImageError: The bytes begin as an image but cannot be decoded to the end.
        ImageTooLargeError: The image has more than ``max_pixels`` or a side of more than
            ``MAX_SIDE``, takes too long to decode, or does not fit in memory.
        UnsupportedModeError: The mode, dtype or shape has no defined conversion to RGB, such as
            floating point.
        TypeError: ``source`` has another type.
    """
    name = name if name is not None else name_of(source)
    limit = default_max_pixels() if max_pixels is None else max_pixels
    if isinstance(source, np.ndarray):
        source = from_array(source, name)
    elif not isinstance(source, Image.Image):
        source = read_bytes(source, name)
    job = partial(_decode, source, name, limit, before_decoding)
    try:
        return job()
    except Warning:
        # The caller turns warnings into errors, and Pillow warned of an oddity. The filters belong
        # to the whole process, and so are changed only in this case.
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return job()


def _decode(
    source: bytes | Image.Image,
    name: str,
    max_pixels: int,
    before_decoding: Callable[[int], object] | None,
) -> LoadedImage:
    """Decode a file's bytes, or use an image unchanged, and convert it."""
    opened: Image.Image
    size_bytes, file = None, source if isinstance(source, bytes) else b""
    try:
        if isinstance(source, bytes):
            reader, size_bytes = reader_of(source[:PREFIX], name), len(source)
            if reader is WebPImageFile and (size := webp_size(source)):
                # The decoder allocates the canvas when it is created.
                check_size(*size, name, max_pixels)
            source = prepared(source, str(reader.format), name)
            opened = reader(BytesIO(source), "")
        else:
            opened = source
        width, height = opened.size
        check_size(width, height, name, max_pixels)
        mode = opened.mode
        if mode not in RGB_MODES:
            raise UnsupportedModeError(
                name, f"mode {mode!r} has no defined range; convert the image to 8-bit RGB first"
            )
        if isinstance(opened, TiffImageFile):
            check_layout(opened, name)
        if before_decoding:
            before_decoding(width * height)
        opened = _loaded(opened, source)
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
            exif=bool(opened.info.get("exif")) or "Raw profile type exif" in opened.info,
            icc=bool(opened.info.get("icc_profile")),
            alpha=alpha,
            jpeg_quality=quality,
            jpeg_quality_exact=exact,
            subsampling=chroma_subsampling(opened),
            jpeg_tables=tables_of(opened),
            claims=read_claims(opened, file) if file else (),
        )
    except (ImageError, Warning):
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(
            name, f"Pillow refuses it: {error} Save it as PNG if it is trusted"
        ) from error
    except MemoryError as error:
        raise ImageTooLargeError(name, "does not fit in memory") from error
    except Exception as error:  # decoders raise nearly any kind for corrupt bytes
        cause = str(error) or repr(error)
        if "out of memory" in cause:
            raise ImageTooLargeError(name, "does not fit in memory") from error
        if _UNSUPPORTED.search(cause):
            raise UnsupportedModeError(
                name, f"has pixels that are not read ({cause}): save it as 8-bit RGB first"
            ) from error
        closed = "closed" in cause or getattr(source, "fp", source) is None
        if closed and isinstance(source, Image.Image):
            raise ImageNotReadableError(
                name, "is a PIL image that was closed: call its load() while its file is open"
            ) from error
        raise TruncatedImageError(name, f"is truncated or corrupt; decoding: {cause}") from error
    return LoadedImage(pixels, info)


def _loaded(image: Image.Image, source: bytes | Image.Image) -> Image.Image:
    """Return the image with its pixels; a JPEG may lack its last bytes if it lacks no pixel."""
    if isinstance(source, bytes) and isinstance(image, JpegImageFile) and lacks_its_end(source):
        if whole := without_its_end(source):
            return whole
        raise ValueError("pixels at its end are missing")
    image.load()
    return image


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Warning:
        raise
    except Exception:  # corrupt EXIF raises nearly any kind, and does not concern the pixels
        return 1
    return int(value) if value in range(2, 9) else 1
