"""What surrounds the pixels of a file: left out where a decoder stumbles over it, bounded in time.

Real files never meet the bounds here; a hostile one could keep a decoder busy for minutes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from PIL import TiffImagePlugin as Tiff

from hf_ela.errors import (
    EmptyImageError,
    ImageTooLargeError,
    RunError,
    UnsupportedModeError,
)
from hf_ela.images.jpeg_segments import segments
from hf_ela.images.png import png_chunks, without_text

MAX_PIXELS = 2**30 // 4 // 3
"""Default limit of width × height, 89,478,485: a quarter of a GiB of RGB, where Pillow warns."""
MAX_SIDE = 65_500
"""Longest side: ELA saves an image as JPEG, and libjpeg writes no longer one."""
MAX_PIXELS_VARIABLE = "HF_ELA_MAX_PIXELS"
"""Environment variable with another limit, which reaches every command, worker and server."""
MOST_SCANS = 100
"""Scans of a JPEG. An encoder writes about ten."""
MOST_SEGMENTS = 1000
"""Segments of a JPEG, each with up to 64 KiB of metadata."""
MOST_CHUNKS = 50_000
"""Chunks of a PNG; encoders fill those of pixels with 8 KiB or more."""
MOST_BLOCKS = 200_000
"""Blocks, of up to 255 bytes, and extensions of a GIF before its first frame."""
MOST_ITEMS = 1000
"""Items of an AVIF or HEIC: the tiles of a grid, and metadata."""
MOST_FILL = 2**16
"""Bytes of a JPEG that fill the space between segments."""

_LEAST_BODY = {0xE0: 12, 0xE2: 14, 0xED: 2**16, 0xEE: 12}
"""Length of JFIF, of a part of a profile, of Photoshop's (never read), and of Adobe's."""
_UNREAD_FRAMES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF})


def default_max_pixels() -> int:
    """Return the limit of width × height: HF_ELA_MAX_PIXELS, or ``MAX_PIXELS``.

    Raises:
        RunError: The variable is not a positive whole number.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE) or str(MAX_PIXELS)
    if not text.isdecimal() or not int(text):
        raise RunError(
            f"{MAX_PIXELS_VARIABLE} must be a positive whole number, such as 200000000. "
            f"Received: {text!r}. Correct or unset it."
        )
    return int(text)


@contextmanager
def memory_errors(name: str) -> Iterator[None]:
    """Turn a lack of memory into the refusal of the image that is worked on."""
    try:
        yield
    except MemoryError as error:
        raise ImageTooLargeError(name, "does not fit in memory") from error


def check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    """Refuse an image without pixels, with too many, or with too long a side.

    Raises:
        EmptyImageError: A side has zero pixels.
        ImageTooLargeError: It has more than `max_pixels`, or a side of more than `MAX_SIDE`.
    """
    if not width or not height:
        raise EmptyImageError(name, f"must have pixels. Received: {width} × {height}")
    if width * height > max_pixels:
        raise ImageTooLargeError(
            name,
            f"must have at most {max_pixels:,} pixels. Received: {width} × {height} = "
            f"{width * height:,}. Set {MAX_PIXELS_VARIABLE}={width * height} if it is trusted",
        )
    if max(width, height) > MAX_SIDE:
        raise ImageTooLargeError(
            name,
            f"must have sides of at most {MAX_SIDE:,} pixels, the most of a JPEG. "
            f"Received: {width} × {height}. Crop it",
        )


def webp_size(data: bytes) -> tuple[int, int] | None:
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


def prepared(data: bytes, image_format: str, name: str) -> bytes:
    """Return the bytes of a file for its decoder.

    Raises:
        ImageTooLargeError: Its parts are so many that decoding could take minutes.
        UnsupportedModeError: It is a lossless or hierarchical JPEG.
    """
    match image_format:
        case "PNG":
            chunks = sum(1 for _ in islice(png_chunks(data), MOST_CHUNKS + 1))
            _check_number("chunks", chunks, MOST_CHUNKS, name)
            return without_text(data, name)
        case "JPEG":
            return _without_broken_parts(data, name)
        case "GIF":
            _check_gif(data, name)
        case "AVIF" | "HEIF":
            _check_number("items", data.count(b"infe"), MOST_ITEMS, name)
    return data


def _check_number(parts: str, number: int, most: int, name: str) -> None:
    if number > most:
        reason = f"has more than {most:,} {parts}, which would take too long: save it again"
        raise ImageTooLargeError(name, reason)


def _without_broken_parts(data: bytes, name: str) -> bytes:
    """Return a JPEG without Photoshop's segments, and those too short to say what they begin."""
    kept, at = [], 0
    scans = fill = 0
    for number, segment in enumerate(segments(data)):
        if segment.marker in _UNREAD_FRAMES:
            raise UnsupportedModeError(
                name, "is a lossless or hierarchical JPEG, which is not read: save it as PNG"
            )
        scans += segment.marker == 0xDA
        fill += segment.fill
        _check_number("scans", scans, MOST_SCANS, name)
        _check_number("segments", number, MOST_SEGMENTS, name)
        _check_number("bytes between its segments", fill, MOST_FILL, name)
        if not scans and len(segment.body) < _LEAST_BODY.get(segment.marker, 0):
            kept.append(data[at : segment.start])
            at = segment.end
    return b"".join([*kept, data[at:]])


def _check_gif(data: bytes, name: str) -> None:
    """Count the blocks before the first frame, which the decoder reads one by one."""
    flags = data[10] if len(data) > 10 else 0
    at, blocks = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0), 0
    while data[at : at + 1] == b"!":
        at += 2
        while (length := int.from_bytes(data[at : at + 1])) and blocks <= MOST_BLOCKS:
            at += 1 + length
            blocks += 1
        at += 1
        blocks += 1
        _check_number("blocks", blocks, MOST_BLOCKS, name)


def check_layout(image: Tiff.TiffImageFile, name: str) -> None:
    """Refuse a TIFF whose pixels the decoder does not read, or reads as others than they are.

    Raises:
        UnsupportedModeError: Its first page is a thumbnail, or has a layout that is not read.
        ImageTooLargeError: It has more strips and tiles than its size could need.
    """
    get = image.tag_v2.get
    bits, photometric = {*get(Tiff.BITSPERSAMPLE, (1,))}, get(Tiff.PHOTOMETRIC_INTERPRETATION, 0)
    plain = bits == {8} and photometric in (1, 2, 5) and get(Tiff.FILLORDER, 1) == 1
    swapped = image.tag_v2.prefix == Tiff.MM and image.info["compression"] != "raw"
    wrong = {
        "a thumbnail in place of the picture": get(254, 0) & 1,  # NewSubfileType
        "its channels in planes": get(Tiff.PLANAR_CONFIGURATION, 1) == 2
        and not (plain and image.mode in ("L", "RGB", "CMYK")),
        "12 bits": 12 in bits,
        "white as 0 of 16 bits": photometric == 0 and 16 in bits,
        "signed numbers": 2 in get(Tiff.SAMPLEFORMAT, (1,)) and (bits != {32} or swapped),
        "subsampled colour": image.mode == "YCbCr" and get(Tiff.YCBCRSUBSAMPLING) != (1, 1),
    }
    if reasons := [reason for reason, found in wrong.items() if found]:
        raise UnsupportedModeError(
            name, f"is a TIFF with {reasons[0]}, which is not read: save it as 8-bit RGB first"
        )
    most = 4 * image.height + image.width * image.height // 256
    _check_number("strips and tiles", len(image.tile), most, name)
