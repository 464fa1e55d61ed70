"""The segments of a JPEG, and whether a JPEG that lacks its last bytes has all of its pixels."""

import re
from collections.abc import Iterator
from io import BytesIO
from math import ceil
from typing import NamedTuple

from PIL.JpegImagePlugin import JpegImageFile

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_BITS = (b"", b"\0", b"\xca\x35", b"\x35\xca", b"\x6a\x95", b"\xaa")
"""What a JPEG is tried with at its end: with other bits there, missing pixels would be others."""
_UNWRITTEN = bytes(16)
"""Zeros, which a download that was interrupted leaves in place of data; a decoder takes them."""


class Segment(NamedTuple):
    """A marker with what belongs to it."""

    marker: int
    body: bytes
    fill: int  # bytes before it that say nothing
    start: int
    end: int


def segments(data: bytes) -> Iterator[Segment]:
    """Yield the segments of a JPEG up to the end of its first image, and the fill at its end."""
    at, in_scan = 2, False
    while found := _MARKER.search(data, at):
        gap = data[at : found.start()]
        body = found.end() + 2
        at = found.end() + int.from_bytes(data[found.end() : body])
        fill = gap.count(b"\xff\xff") * 2 if in_scan else len(gap)
        yield Segment(found[0][1], data[body:at], fill, found.start(), at)
        if found[0] == b"\xff\xd9":
            return
        in_scan = in_scan or found[0] == b"\xff\xda"
    yield Segment(0, b"", data.count(b"\xff\xff", at) * 2, at, at)


def lacks_its_end(data: bytes) -> bool:
    """Return whether a JPEG is without the marker of its end."""
    *_, last = segments(data)
    return last.marker == 0


def without_its_end(data: bytes) -> JpegImageFile | None:
    """Return a JPEG that lacks its last bytes, loaded, if none of its pixels is missing."""
    data = data.rstrip(b"\xff")
    if data.endswith(_UNWRITTEN):
        data = data.rstrip(b"\0\xff")
    image, *others = (JpegImageFile(BytesIO(data + bits * 500 + b"\xff\xd9"), "") for bits in _BITS)
    ended: dict[int, set[int]] = {}  # coefficients whose last bit is there, by component
    interval, missing = 0, 0
    for marker, body, _, _, end in segments(data):
        if marker == 0xDD:
            interval = int.from_bytes(body[:2])
        if marker != 0xDA or len(body) < 4:
            continue
        components = body[1 : 1 + 2 * body[0] : 2]
        first, last, bits = body[-3:]
        for component in components if bits & 15 == 0 else b"":
            ended.setdefault(component, set()).update(range(first, last + 1))
        # Where a restart is missing, so is what follows it, and other bits do not get there.
        restarts = (_units(image, components) - 1) // interval if interval else 0
        missing = restarts and restarts - len(_RESTART.findall(data, end))
    whole = [len(coefficients) == 64 for coefficients in ended.values()]
    if missing or whole != [True] * image.layers:
        return None
    pixels = image.tobytes()
    return image if all(other.tobytes() == pixels for other in others) else None


def _units(image: JpegImageFile, components: bytes) -> int:
    """Return the number of coded units of a scan: the blocks of a component alone (T.81, A.2)."""
    factors = {layer[0]: layer[1:3] for layer in image.layer}
    units = 1
    for axis, side in enumerate(image.size):
        most = max(factor[axis] for factor in factors.values())
        own = factors[components[0]][axis] if len(components) == 1 else 1
        units *= ceil(ceil(side * own / most) / 8)
    return units
