"""The chunks of a PNG, and a PNG without those that are no part of the picture."""

import struct
import zlib
from collections.abc import Iterator

from PIL.PngImagePlugin import MAX_TEXT_CHUNK

from hf_ela.errors import UnsupportedModeError

_PIXEL_CHUNKS = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})
_ORIENTATION_TEXTS = frozenset({b"exif", b"Raw profile type exif", b"XML:com.adobe.xmp"})


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk of a PNG, up to its end, and where it begins and ends."""
    at, kind = 8, b""
    while at + 12 <= len(data) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data) or not kind.isalpha():
            return
        yield kind, at, end
        at = end


def without_text(data: bytes, name: str) -> bytes:
    """Return a PNG without what concerns neither its pixels nor an `ImageInfo`.

    The decoder refuses text and profiles that are long or whose checksum is wrong.

    Raises:
        UnsupportedModeError: It has a transparent colour that the decoder reads wrongly.
    """
    kept, end, images_ended = [data[:8]], 8, False
    for kind, start, end in png_chunks(data):
        if kind == b"IDAT" and images_ended:
            return data  # the decoder stops at the gap
        if kind == b"tRNS" and (data[24], data[25]) in ((2, 0), (4, 0), (16, 2)):
            raise UnsupportedModeError(
                name, "has a transparent colour that is not read: save it as 8-bit RGBA first"
            )
        if kind[:1].isupper() or kind in _PIXEL_CHUNKS:
            kept.append(data[start:end])
        else:
            images_ended = images_ended or kept[-1][4:8] == b"IDAT"
            if (body := _fact(kind, data[start + 8 : end - 4])) is not None:
                checksum = zlib.crc32(kind + body)
                kept.append(struct.pack(">I4s", len(body), kind) + body)
                kept.append(struct.pack(">I", checksum))
    return b"".join([*kept, data[end:]])


def _fact(kind: bytes, body: bytes) -> bytes | None:
    """Return what is kept of a chunk beside the pixels: its orientation, or that it is there."""
    if kind == b"eXIf":
        return body
    key, _, value = body.partition(b"\0")
    if kind == b"iCCP":
        return b"\0\0" + value[1:1000]  # too short to inflate beyond the limit
    if key not in _ORIENTATION_TEXTS:
        return None
    if kind == b"zTXt":
        return body if value[:1] == b"\0" and _is_short(value[1:]) else None
    if kind == b"iTXt" and value[:1] != b"\0":
        return body if _is_short(value[2:].split(b"\0", 2)[-1]) else None
    return body if kind in (b"tEXt", b"iTXt") else None


def _is_short(compressed: bytes) -> bool:
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(compressed, MAX_TEXT_CHUNK)
    except zlib.error:
        return False
    return not inflater.unconsumed_tail
