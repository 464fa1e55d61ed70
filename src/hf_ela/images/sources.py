"""Sources of images: paths, bytes, file objects and arrays, and the decoder that knows a file."""

import os
import re
import stat
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from hf_ela.errors import (
    EmptyImageError,
    ImageError,
    ImageNotReadableError,
    ImageTooLargeError,
    NotAnImageError,
    UnsupportedModeError,
    install_command,
)

ImageSource: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | IO[bytes]
    | Image.Image
    | NDArray[np.uint8]
    | Mapping[str, Any]
)

# Opened by class instead of `Image.open`, which applies a process-wide limit (this module has its
# own), tries decoders that start other programs, and refuses a JPEG for a broken MPO index.
_READERS: dict[str, type[ImageFile.ImageFile]] = {
    str(reader.format): reader
    for reader in (
        AvifImageFile,
        BmpImageFile,
        GifImageFile,
        JpegImageFile,
        Jpeg2KImageFile,
        PngImageFile,
        TiffImageFile,
        WebPImageFile,
    )
}

IMAGE_SUFFIXES = frozenset(
    (".mpo", *(suffix for suffix, reader in Image.EXTENSION.items() if reader in _READERS))
)
"""Suffixes of image files, in lower case with the dot."""
UNREAD_SUFFIXES = frozenset(
    (*(".heic", ".heif", ".hif", ".jxl", ".psd"), *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".raf"))
)
"""Suffixes of pictures that this package does not read: they are refused, not passed over."""

PREFIX = 64
"""Bytes of a file that tell its format."""
_HEIC = rb".{4}ftyp(hei|hev|mif1|msf1)"
_OTHER_KINDS = {
    _HEIC: "HEIC",
    rb"\xff\x0a|\0\0\0\x0cJXL ": "JPEG XL",
    rb"8BPS": "a Photoshop document",
    rb"\0\x05\x16\x07": "the companion of a file from a Mac (AppleDouble)",
    rb"\x1f\x8b|PK\x03\x04": "a compressed archive",
    rb"version https://": "the pointer to a file in Git LFS",
    rb"\s*<": "a web page or SVG",
}
_OTHER_IMAGES = ("HEIC", "JPEG XL", "a Photoshop document")
_ADDRESS = re.compile(r"(?i)[a-z][a-z\d+.-]+:/|data:")


def is_one_image(images: object) -> bool:
    """Return whether this is an image rather than several: a path is iterable too."""
    one = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, np.ndarray, Mapping)
    return isinstance(images, one) or hasattr(images, "read") or not isinstance(images, Iterable)


def name_of(source: object) -> str:
    """Return the path of a source, or a stand-in such as ``<bytes>``."""
    if isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        return f"{path[:40]}..." if path.startswith("data:") else path
    if isinstance(source, Mapping):
        return name_of(source.get("path") or b"")
    if isinstance(source, bytes | bytearray | memoryview):
        return "<bytes>"
    given = getattr(source, "filename" if isinstance(source, Image.Image) else "name", None)
    return given if isinstance(given, str) and given else f"<{type(source).__name__}>"


def read_bytes(source: Any, name: str) -> bytes:
    """Return all bytes of a path, a buffer, a file object or a row of a dataset.

    Raises:
        ImageError: The file cannot be read, or is not an image.
        TypeError: The source has another type.
    """
    if isinstance(source, Mapping) and {"bytes", "path"} & source.keys():
        content = source.get("bytes")
        source = source.get("path") if content is None else content
        if source is None:
            raise ImageNotReadableError(name, "the row holds neither bytes nor a path")
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    is_path = isinstance(source, str | os.PathLike)
    if not is_path and not hasattr(source, "read"):
        raise TypeError(
            "`source` must be a path, bytes, a binary file object, a PIL image, a uint8 array or a "
            f'row {{"bytes", "path"}}. Received: {type(source).__name__}.'
        )
    try:
        data = _read_file(source, name) if is_path else source.read()
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageTooLargeError(name, "the file does not fit in memory") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, or a closed file
        if is_path and _ADDRESS.match(name):
            raise ImageNotReadableError(
                name, "is an address, which is not opened: download it, and pass the file or bytes"
            ) from error
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageNotReadableError(name, f"cannot be read: {reason}") from error
    if not isinstance(data, bytes):
        raise TypeError(
            "A file object must return bytes: open it in binary mode. "
            f"Received: {type(data).__name__} from {name}."
        )
    return data


def _read_file(path: str | os.PathLike[str], name: str) -> bytes:
    kind = os.stat(path).st_mode  # noqa: PTH116  (Path() would refuse what os.fspath allows)
    if stat.S_ISDIR(kind):
        raise ImageNotReadableError(name, "is a folder; name an image file")
    # Opening a pipe by name could wait for a writer without end; that of a shell has one.
    of_shell = stat.S_ISFIFO(kind) and name.startswith(("/dev/fd/", "/dev/stdin", "/proc/self/fd/"))
    if not stat.S_ISREG(kind) and not of_shell:
        raise ImageNotReadableError(
            name, "is a pipe, socket or device; pass a file object, or standard input (-), instead"
        )
    with open(path, "rb") as stream:  # noqa: PTH123  (as above)
        start = stream.read(PREFIX)
        reader_of(start, name)  # a video is refused before it fills the memory
        return start + stream.read()


def heif_version() -> str | None:
    """Return the version of the decoder of HEIC, or None without the `heif` extra."""
    return version("pillow-heif") if find_spec("pillow_heif") else None


def is_heic(prefix: bytes) -> bool:
    """Return whether a file of that format begins so; one of AVIF may begin alike."""
    brands = prefix[8 : int.from_bytes(prefix[:4])]
    return re.match(_HEIC, prefix, re.DOTALL) is not None and not re.search(b"avi[fs]", brands)


def reader_of(prefix: bytes, name: str) -> type[ImageFile.ImageFile]:
    """Return the decoder for the first `PREFIX` bytes of a file."""
    if not prefix:
        raise EmptyImageError(name, "is empty (0 bytes)")
    heic = is_heic(prefix)
    if heic and heif_version():
        from pillow_heif import HeifImageFile

        reader: type[ImageFile.ImageFile] = HeifImageFile
        return reader
    for reader_format, known in () if heic else _READERS.items():
        accept = Image.OPEN[reader_format][1]
        answer = accept(prefix) if accept else False
        if isinstance(answer, str):  # a known format that this build of Pillow lacks
            raise NotAnImageError(name, answer)
        if answer:
            return known
    kinds = (kind for start, kind in _OTHER_KINDS.items() if re.match(start, prefix, re.DOTALL))
    kind = next(kinds, "a file of another kind")
    remedy = ". Save it as PNG or JPEG" if kind in _OTHER_IMAGES else ""
    if kind == "HEIC":
        remedy += f", or install the `heif` extra: {install_command('heif')}"
    raise NotAnImageError(
        name, f"must be an image: one of {', '.join(_READERS)}. Received: {kind}{remedy}"
    )


def from_array(array: NDArray[Any], name: str) -> Image.Image:
    """Return an array as an image.

    Raises:
        UnsupportedModeError: The dtype or the shape has no defined conversion to RGB.
    """
    if array.dtype != np.uint8 or not (
        array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    ):
        raise UnsupportedModeError(
            name,
            "an array must be uint8 of shape (H, W, 3), (H, W) or (H, W, 4). "
            f"Received: {array.dtype} of shape {array.shape}",
        )
    return Image.fromarray(array)
