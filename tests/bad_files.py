"""Odd and hostile files, written by the tests themselves, and what a reader must answer to each."""

import io
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from PIL import ExifTags, Image, features

from hf_ela.errors import (
    EmptyImageError,
    ImageError,
    ImageNotReadableError,
    ImageTooLargeError,
    NotAnImageError,
    TruncatedImageError,
    UnsupportedModeError,
)


class BadFile(NamedTuple):
    """A path, and either ``"ok"`` (pixels) or the class of the refusal."""

    path: Path
    expected: str | type[ImageError]


def picture(width: int = 61, height: int = 47, seed: int = 0) -> Image.Image:
    """An RGB gradient with grain: no two corners alike, and it does not compress to nothing."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    ramp = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], -1)
    noise = rng.integers(0, 50, ramp.shape)
    grain = sum(np.roll(noise, shift, (0, 1)) for shift in np.ndindex(2, 2)) / 4
    return Image.fromarray((ramp * 0.8 + grain).astype(np.uint8))


def encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """The bytes of a file of that format."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def damaged(content: bytes, data: Any) -> bytes:
    """The content with up to 8 bytes replaced by up to 8 others, drawn by hypothesis."""
    first = data.draw(st.integers(0, len(content) - 1))
    rest = content[first + data.draw(st.integers(0, 8)) :]
    return content[:first] + data.draw(st.binary(max_size=8)) + rest


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_bomb(width: int, height: int) -> bytes:
    """A whole PNG of one declared size and almost no data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body


def with_jpeg_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The same JPEG with another size in its start-of-frame segment."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def tiff(pixels: np.ndarray, photometric: int, more: dict[int, int] | None = None) -> bytes:
    """An uncompressed little-endian TIFF of H x W x channels unsigned numbers, tag by tag."""
    height, width, channels = pixels.shape
    bits = 8 * pixels.itemsize
    values = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 277: channels}
    values |= {273: 0, 278: height, 279: 0} | (more or {})
    parts = np.moveaxis(pixels, 2, 0) if values.get(284) == 2 else pixels[np.newaxis]
    arrays = {258: [bits] * channels, 279: [part.nbytes for part in parts]}
    end = 8 + 2 + 12 * len(values) + 4
    first = end + 4 * (channels + 2 * len(parts))
    arrays[273] = [first + number * parts[0].nbytes for number in range(len(parts))]
    entries, stored = b"", b""
    for tag, value in sorted(values.items()):
        numbers = [value] if tag in (more or {}) else arrays.get(tag, [value])
        encoded = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            encoded, stored = struct.pack("<I", end + len(stored)), stored + encoded
        entries += struct.pack("<HHI", tag, 4, len(numbers)) + encoded
    head = b"II*\0" + struct.pack("<IH", 8, len(values)) + entries + bytes(4)
    return (head + stored).ljust(first, b"\0") + b"".join(part.tobytes() for part in parts)


def plain_files(image: Image.Image | None = None) -> dict[str, bytes]:
    """One good file per format that this Pillow can write."""
    image = image or picture()
    files = {
        "jpg": encode(image, "JPEG", quality=80),
        "progressive.jpg": encode(image, "JPEG", quality=80, progressive=True),
        "png": encode(image, "PNG"),
        "gif": encode(image, "GIF"),
        "bmp": encode(image, "BMP"),
        "tif": encode(image, "TIFF"),
        "lzw.tif": encode(image, "TIFF", compression="tiff_lzw"),
    }
    for suffix, name, feature in [("webp",) * 3, ("avif",) * 3, ("jp2", "JPEG2000", "jpg_2000")]:
        if features.check(feature):
            files[suffix] = encode(image, name)
    return files


def slow_files() -> dict[str, bytes]:
    """Files that would keep a decoder busy for minutes; each key is what there is too much of."""
    plain = plain_files()
    jpeg, progressive, gif = plain["jpg"], plain["progressive.jpg"], plain["gif"]
    scan = progressive[progressive.rindex(b"\xff\xda") :][:10]
    table = 13 + (3 << (gif[10] & 7) + 1)
    files = {
        "scans": progressive[:-2] + scan * 101 + b"\xff\xd9",
        "bytes between its segments": jpeg[:2] + b"\xff" * 70_000 + jpeg[2:],
        "segments": jpeg[:2] + b"\xff\xe5\0\2" * 1001 + jpeg[2:],
        "chunks": plain["png"][:33] + png_chunk(b"prVt", b"") * 50_001 + plain["png"][33:],
        "blocks": gif[:table] + b"!\xfe\1a\0" * 100_001 + gif[table:],
        "strips and tiles": tiff(np.asarray(picture()), 2, {278: 1}).replace(
            struct.pack("<HHI", 273, 4, 1), struct.pack("<HHI", 273, 4, 300)
        ),
    }
    if "avif" in plain:
        files["items"] = plain["avif"] + b"infe" * 1001
    return files


def _truncated() -> Iterator[tuple[str, bytes, type[ImageError]]]:
    for suffix, data in plain_files().items():
        for percent in (15, 35, 60, 85):
            cut = data[: len(data) * percent // 100]
            yield f"cut at {percent} percent.{suffix}", cut, TruncatedImageError
        yield f"cut at 20 bytes.{suffix}", data[:20], TruncatedImageError
        known = suffix in ("jpg", "progressive.jpg", "bmp")
        refusal = TruncatedImageError if known else NotAnImageError
        yield f"cut at 3 bytes.{suffix}", data[:3], refusal


def _not_images() -> Iterator[tuple[str, bytes, type[ImageError]]]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("inside.png", encode(picture(), "PNG"))
    yield "zero bytes.jpg", b"", EmptyImageError
    yield "zero bytes without suffix", b"", EmptyImageError
    yield "one byte.png", b"\x00", NotAnImageError
    yield "only zeros.png", bytes(5000), NotAnImageError
    yield "text.jpg", b"This is no picture, whatever its name says.\n", NotAnImageError
    yield "page.jpg", b"<!doctype html><html><body>404 Not Found</body></html>", NotAnImageError
    yield "drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>', NotAnImageError
    yield "drawing.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", NotAnImageError
    yield "paper.jpg", b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n", NotAnImageError
    yield "archive.png", archive.getvalue(), NotAnImageError
    yield "film.jpg", b"\x00\x00\x00\x18ftypmp42" + bytes(1000), NotAnImageError
    yield "pointer.jpg", b"version https://git-lfs.github.com/spec/v1\n", NotAnImageError
    yield "noise.webp", np.random.default_rng(1).bytes(3000), NotAnImageError
    yield "only a signature.png", b"\x89PNG\r\n\x1a\n" + bytes(16), TruncatedImageError
    yield "only a signature.jpg", b"\xff\xd8\xff\xe0" + bytes(40), TruncatedImageError
    yield "text behind a signature.gif", b"GIF89a is a format of 1989.", TruncatedImageError
    yield "starts like a bitmap.bmp", b"BMW is no bitmap, it only starts so.", TruncatedImageError


def _large() -> Iterator[tuple[str, bytes, type[ImageError]]]:
    plain = plain_files()
    gif, bmp = bytearray(plain["gif"]), bytearray(plain["bmp"])
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    bmp[18:26] = struct.pack("<ii", 60000, 60000)
    tags = [(256, 4, 1, 60000), (257, 4, 1, 60000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 60000), (279, 4, 1, 100)]
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    tiff = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(100)
    yield "declares 60000x60000.png", png_bomb(60000, 60000), ImageTooLargeError
    yield "declares 2000000000x1.png", png_bomb(2_000_000_000, 1), ImageTooLargeError
    yield "declares 65500x65500.jpg", with_jpeg_size(plain["jpg"], 65500, 65500), ImageTooLargeError
    yield "declares 65535x65535.gif", bytes(gif), ImageTooLargeError
    yield "declares 60000x60000.bmp", bytes(bmp), ImageTooLargeError
    yield "declares 60000x60000.tif", tiff, ImageTooLargeError
    really = encode(Image.new("1", (10000, 10000)), "PNG")
    yield "really 10000x10000.png", really, ImageTooLargeError
    if "jp2" in plain:
        at = plain["jp2"].index(b"ihdr") + 4
        jp2 = plain["jp2"][:at] + struct.pack(">II", 60000, 60000) + plain["jp2"][at + 8 :]
        yield "declares 60000x60000.jp2", jp2, ImageTooLargeError
    if "webp" in plain:
        canvas = (0xFFFF).to_bytes(3, "little") * 2
        webp = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4)
        yield "declares 65536x65536.webp", webp + canvas, ImageTooLargeError


def _broken_exif() -> Iterator[tuple[str, bytes]]:
    image = picture()
    garbage = b"Exif\0\0" + np.random.default_rng(2).bytes(80)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "a name long enough to be stored away from its tag"
    yield "EXIF of noise.jpg", encode(image, "JPEG", exif=garbage)
    yield "EXIF of nothing.jpg", encode(image, "JPEG", exif=b"Exif\0\0")
    yield "EXIF cut short.jpg", encode(image, "JPEG", exif=exif.tobytes()[:40])
    yield "EXIF of noise.png", encode(image, "PNG", exif=garbage)
    if features.check("webp"):
        yield "EXIF of noise.webp", encode(image, "WEBP", exif=garbage)


def _readable() -> Iterator[tuple[str, bytes]]:
    image, plain = picture(), plain_files()
    frames = [picture(seed=seed) for seed in (1, 2)]
    palette = image.quantize(16)
    grey16 = Image.fromarray(np.arange(61 * 47, dtype=np.uint16).reshape(47, 61) * 20)
    yield from ((f"plain.{suffix}", data) for suffix, data in plain.items())
    yield "CMYK.jpg", encode(image.convert("CMYK"), "JPEG")
    yield "CMYK.tif", encode(image.convert("CMYK"), "TIFF")
    yield "16 bit.png", encode(grey16, "PNG")
    yield "16 bit.tif", encode(grey16, "TIFF")
    yield "32 bit integers.tif", encode(Image.new("I", (5, 5), 40000), "TIFF")
    yield "1 bit.png", encode(image.convert("1"), "PNG")
    yield "grey.jpg", encode(image.convert("L"), "JPEG")
    yield "grey and alpha.png", encode(image.convert("LA"), "PNG")
    yield "colour and alpha.png", encode(image.convert("RGBA"), "PNG")
    yield "palette.png", encode(palette, "PNG")
    yield "palette, one colour clear.png", encode(palette, "PNG", transparency=3)
    alphas = bytes(range(0, 256, 16))
    yield "palette, each its alpha.png", encode(palette, "PNG", transparency=alphas)
    yield "colour, one clear.png", encode(image, "PNG", transparency=(1, 2, 3))
    yield "1x1.png", encode(image.crop((0, 0, 1, 1)), "PNG")
    yield "1x1.jpg", encode(image.crop((0, 0, 1, 1)), "JPEG")
    yield "1x5000.png", encode(image.resize((1, 5000)), "PNG")
    yield "5000x1.jpg", encode(image.resize((5000, 1)), "JPEG")
    yield "animated.gif", encode(image, "GIF", save_all=True, append_images=frames)
    yield "animated.png", encode(image, "PNG", save_all=True, append_images=frames)
    yield "two pages.tif", encode(image, "TIFF", save_all=True, append_images=frames)
    yield "a PNG by content.jpg", plain["png"]
    yield "a JPEG by content.webp", plain["jpg"]
    yield "an image by content.txt", plain["gif"]
    yield "no suffix", plain["png"]
    yield "garbage after the end.jpg", plain["jpg"] + b"\0garbage" * 500
    yield "garbage after the end.png", plain["png"] + b"\0garbage" * 500
    yield "ünïcødé 画像 🖼.png", plain["png"]
    yield "new\nline and  spaces .png", plain["png"]
    yield "-starts-with-a-dash.png", plain["png"]
    yield "[brackets] & $HOME; 'quotes' %s {0}.png", plain["png"]
    if "webp" in plain:
        yield "animated.webp", encode(image, "WEBP", save_all=True, append_images=frames)
        yield "lossless with alpha.webp", encode(image.convert("RGBA"), "WEBP", lossless=True)


def _damaged() -> Iterator[tuple[str, bytes, type[ImageError]]]:
    header = bytearray(plain_files()["png"])
    header[29] ^= 0xFF
    yield "wrong checksum of the header.png", bytes(header), TruncatedImageError
    floats = Image.fromarray(np.linspace(0, 1, 25, dtype=np.float32).reshape(5, 5))
    yield "float.tif", encode(floats, "TIFF"), UnsupportedModeError
    yield "negative.tif", encode(Image.new("I", (5, 5), -7), "TIFF"), UnsupportedModeError


def _special(folder: Path) -> Iterator[BadFile]:
    """What is no regular file, or not for us; each only where the system can make it."""
    (folder / "a folder.png").mkdir()
    yield BadFile(folder / "a folder.png", ImageNotReadableError)
    yield BadFile(folder / "missing.png", ImageNotReadableError)
    yield BadFile(folder / "missing folder" / "missing.png", ImageNotReadableError)
    yield BadFile(folder / "plain.png" / "below a file.png", ImageNotReadableError)
    yield BadFile(folder / ("long" * 100 + ".png"), ImageNotReadableError)
    locked = folder / "no permission.png"
    locked.write_bytes(plain_files()["png"])
    locked.chmod(0)
    # The superuser reads it all the same, and Windows knows no such bit.
    yield BadFile(locked, "ok" if os.access(locked, os.R_OK) else ImageNotReadableError)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")
        yield BadFile(folder / "pipe.png", ImageNotReadableError)
    if sys.platform == "win32":
        return
    (folder / "broken link.png").symlink_to("gone.png")
    (folder / "link to itself.png").symlink_to("link to itself.png")
    (folder / "link.png").symlink_to("plain.png")
    yield BadFile(folder / "broken link.png", ImageNotReadableError)
    yield BadFile(folder / "link to itself.png", ImageNotReadableError)
    yield BadFile(folder / "link.png", "ok")
    if sys.platform == "linux":  # the name is not UTF-8: it cannot be printed as it is
        undecodable = folder / os.fsdecode(b"not \xff utf-8.png")
        undecodable.write_bytes(plain_files()["png"])
        yield BadFile(undecodable, "ok")


def write_bad_files(folder: Path) -> list[BadFile]:
    """Write them all into an existing, empty folder; some paths are missing on purpose."""
    files: list[tuple[str, bytes, str | type[ImageError]]] = [
        *((name, data, "ok") for name, data in _readable()),
        *((name, data, "ok") for name, data in _broken_exif()),
        *_truncated(),
        *_not_images(),
        *_large(),
        *_damaged(),
    ]
    written = []
    for name, data, expected in files:
        path = folder / name
        assert not path.exists(), name
        path.write_bytes(data)
        written.append(BadFile(path, expected))
    return [*written, *_special(folder)]
