import contextlib
import io
import os
import struct
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, JpegImagePlugin, features

from bad_files import (
    BadFile,
    encode,
    picture,
    plain_files,
    png_bomb,
    png_chunk,
    slow_files,
    tiff,
    write_bad_files,
)
from hf_ela import error_level
from hf_ela.errors import (
    EmptyImageError,
    ImageError,
    ImageNotReadableError,
    ImageTooLargeError,
    NotAnImageError,
    RunError,
    TruncatedImageError,
    UnsupportedModeError,
)
from hf_ela.images.containers import MAX_PIXELS
from hf_ela.images.info import ImageInfo
from hf_ela.images.jpeg import ROBIDOUX
from hf_ela.images.loading import load_image
from hf_ela.images.rgb import RGB_MODES
from hf_ela.images.sources import IMAGE_SUFFIXES

PLAIN = plain_files()
SUBSAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}


def same(left: Image.Image, right: Image.Image) -> bool:
    return left.mode == right.mode and left.size == right.size and left.tobytes() == right.tobytes()


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Software] = "a name too long to be stored in its tag"
    return exif.tobytes()


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory) -> list[BadFile]:
    return write_bad_files(tmp_path_factory.mktemp("bad"))


class TestBadFiles:
    def test_each_gives_pixels_or_its_refusal(self, bad_files) -> None:
        wrong = []
        for path, expected in bad_files:
            try:
                image = load_image(path)
            except ImageError as error:
                # The message is for a person: it has the whole name, and then says why.
                said_why = str(error) == f"{path}: {error.reason}" and len(error.reason) > 8
                got: object = type(error) if said_why else str(error)
            else:
                right_size = {*image.pixels.size} == {image.info.width, image.info.height}
                got = "ok" if right_size and image.pixels.mode == "RGB" else image
            if got != expected:
                wrong.append((path.name, expected, got))
        assert not wrong
        assert len(bad_files) >= 100

    def test_the_reason_is_told(self, bad_files) -> None:
        reasons = {
            "a folder.png": "is a folder",
            "pipe.png": "is a pipe, socket or device",
            "missing.png": "cannot be read: No such file",
            "zero bytes.jpg": "is empty",
            "page.jpg": r"one of AVIF, BMP, .*, WEBP\. Received: a web page or SVG",
            "cut at 60 percent.png": "is truncated or corrupt; .*truncated",
            "declares 60000x60000.png": r"at most 89,478,485 .* 60000 × 60000 = 3,600,000,000",
            "float.tif": "mode 'F' has no defined range",
        }
        for path, expected in bad_files:
            if path.name in reasons:
                with pytest.raises(expected, match=reasons.pop(path.name)):
                    load_image(path)
        assert reasons.keys() <= {"pipe.png"}  # not every system has pipes

    def test_bytes_are_judged_like_the_path(self, bad_files) -> None:
        for path, expected in bad_files:
            if expected is ImageNotReadableError:
                continue
            if expected == "ok":
                assert same(load_image(path.read_bytes()).pixels, load_image(path).pixels)
            else:
                with pytest.raises(expected, match=r"^<bytes>: "):
                    load_image(path.read_bytes())

    @pytest.mark.parametrize("suffix", PLAIN)
    def test_a_cut_anywhere_is_refused_unless_no_pixel_is_missing(self, suffix) -> None:
        data = PLAIN[suffix]
        whole = load_image(data).pixels
        refused = 0
        for end in {*range(0, len(data), len(data) // 150), *range(len(data) - 40, len(data))}:
            try:
                cut = load_image(data[:end]).pixels
            except ImageError:
                refused += 1
            else:
                assert same(cut, whole), end
        assert refused > 150

    def test_several_threads_with_warnings_as_errors(self, bad_files) -> None:
        filters = list(warnings.filters)

        def judge(file: BadFile) -> object:
            try:
                return load_image(file.path).pixels.tobytes()
            except ImageError as error:
                return str(error)

        alone = [judge(file) for file in bad_files]
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(judge, bad_files * 3)) == alone * 3
        assert warnings.filters == filters

    def test_threads_that_meet_warnings_together_leave_the_filters_alone(self) -> None:
        filters = list(warnings.filters)
        together = threading.Barrier(4)

        class Odd(Image.Image):
            asked = 0

            def getexif(self) -> Image.Exif:
                self.asked += 1
                if self.asked == 1:
                    together.wait(10)
                    raise UserWarning("odd")  # as `warnings.warn` does in all four at once
                time.sleep(0.01)
                return super().getexif()

        def load_odd(seed: int) -> Image.Image:
            image = picture(seed=seed)
            image.__class__ = Odd
            return load_image(image).pixels

        with ThreadPoolExecutor(4) as threads:
            loaded = list(threads.map(load_odd, range(4)))
        assert all(same(image, picture(seed=seed)) for seed, image in enumerate(loaded))
        assert warnings.filters == filters


class TestHostileBytes:
    @settings(max_examples=300)
    @given(
        start=st.sampled_from([b"", *(data[:24] for data in PLAIN.values())]),
        rest=st.binary(max_size=300),
    )
    def test_random_bytes(self, start, rest) -> None:
        with pytest.raises(ImageError):
            load_image(start + rest)

    @settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
    @given(data=st.data())
    def test_mutated_files(self, data) -> None:
        mutant = bytearray(PLAIN[data.draw(st.sampled_from(sorted(PLAIN)))])
        for _ in range(data.draw(st.integers(1, 6))):
            near_the_start = data.draw(st.booleans())
            at = data.draw(st.integers(0, 200 if near_the_start else len(mutant) - 1))
            mutant[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        try:
            mode = load_image(bytes(mutant), max_pixels=1_000_000).pixels.mode
        except ImageError:
            mode = "RGB"  # refused: nothing else may be raised
        assert mode == "RGB"


IFD = b"Exif\0\0MM\0*\0\0\0\x08"
DAMAGED_EXIF = {
    "garbage": b"Exif\0\0" + b"garbage" * 9,
    "endless": IFD + b"\xff\xff" + b"\xff" * 40,
    "cut": oriented(1)[:30],
    "orientation 0": oriented(0),
    "orientation 99": oriented(99),
    "orientation in words": IFD + b"\0\x01" + struct.pack(">HHI4sI", 274, 2, 4, b"up\0\0", 0),
}


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "tif", "lzw.tif"])
    def test_equals_pillow(self, suffix, orientation) -> None:
        if suffix not in PLAIN:
            pytest.skip(f"this Pillow writes no {suffix}")
        image_format = {"jpg": "JPEG", "tif": "TIFF", "lzw.tif": "TIFF"}.get(suffix, suffix)
        options = {"compression": "tiff_lzw"} if suffix == "lzw.tif" else {}
        data = encode(picture(), image_format, exif=oriented(orientation), **options)
        with Image.open(io.BytesIO(data)) as opened:
            expected = ImageOps.exif_transpose(opened)
        loaded = load_image(data)
        assert same(loaded.pixels, expected)
        assert loaded.pixels.size == ((47, 61) if orientation > 4 else (61, 47))
        if "tif" not in suffix:
            assert (loaded.info.width, loaded.info.height) == (61, 47)
        # The pixels are upright now, and nothing in them says otherwise.
        assert same(load_image(loaded.pixels).pixels, expected)

    def test_of_a_pil_image_is_applied(self) -> None:
        data = encode(picture(), "JPEG", exif=oriented(6))
        with Image.open(io.BytesIO(data)) as opened:
            assert same(load_image(opened).pixels, load_image(data).pixels)

    @pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize("name", DAMAGED_EXIF)
    def test_damaged_exif_is_no_reason_to_refuse(self, image_format, name) -> None:
        loaded = load_image(encode(picture(), image_format, exif=DAMAGED_EXIF[name]))
        assert same(loaded.pixels, load_image(encode(picture(), image_format)).pixels)
        assert loaded.info.exif

    def test_survives_damage_elsewhere_in_the_exif(self) -> None:
        damaged = oriented(6)[:-20]  # the orientation is whole, the name behind it is not
        assert load_image(encode(picture(), "JPEG", exif=damaged)).pixels.size == (47, 61)


class TestModes:
    def test_transparency_lies_on_mid_grey(self) -> None:
        image = Image.new("RGBA", (3, 1), (200, 100, 0, 0))
        image.putpixel((1, 0), (200, 100, 0, 255))
        image.putpixel((2, 0), (228, 128, 28, 128))
        loaded = load_image(encode(image, "PNG"))
        assert loaded.pixels.getpixel((0, 0)) == (128, 128, 128)
        assert loaded.pixels.getpixel((1, 0)) == (200, 100, 0)
        assert loaded.pixels.getpixel((2, 0)) == (178, 128, 78)
        assert loaded.info.alpha
        assert loaded.info.mode == "RGBA"
        assert not load_image(picture()).info.alpha

    @pytest.mark.parametrize("transparency", [3, bytes([255, 255, 255, 0])], ids=["index", "bytes"])
    def test_palette(self, transparency) -> None:
        image = picture().quantize(16)
        index = np.asarray(image)
        opaque = np.asarray(image.convert("RGB"))
        assert np.array_equal(load_image(encode(image, "PNG")).pixels, opaque)
        loaded = load_image(encode(image, "PNG", transparency=transparency))
        expected = np.where((index == 3)[..., None], 128, opaque)
        assert np.array_equal(loaded.pixels, expected)
        assert (index == 3).any()
        assert (loaded.info.mode, loaded.info.alpha) == ("P", True)

    @pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
    def test_one_transparent_colour(self, mode) -> None:
        clear = {"L": 77, "RGB": (1, 2, 3), "I;16": 77 * 257}[mode]
        image = Image.new(mode, (2, 1), {"L": 78, "RGB": (1, 2, 4), "I;16": 77 * 257 + 1}[mode])
        image.putpixel((0, 0), clear)
        loaded = load_image(encode(image, "PNG", transparency=clear))
        assert loaded.pixels.getpixel((0, 0)) == (128, 128, 128)
        assert loaded.pixels.getpixel((1, 0)) != (128, 128, 128)

    @pytest.mark.parametrize("mode", ["LA", "PA"])
    def test_grey_or_palette_and_alpha(self, mode) -> None:
        image = Image.new("RGBA", (2, 1), (204, 204, 204, 0))  # a colour that a palette has
        image.putpixel((1, 0), (204, 204, 204, 255))
        pixels = load_image(image.convert(mode)).pixels
        assert [pixels.getpixel((x, 0)) for x in (0, 1)] == [(128,) * 3, (204,) * 3]

    def test_16_bit_grey_is_divided_by_257(self) -> None:
        values = np.array([[0, 128, 129, 257, 32896, 33024, 33025, 65406, 65407, 65535]])
        image = Image.fromarray(values.astype(np.uint16))
        big = Image.frombytes("I;16B", image.size, values.astype(">u2").tobytes())
        integers = Image.fromarray(values.astype(np.int32))
        sources = {
            "I;16": [encode(image, "PNG"), encode(image, "TIFF")],
            "I;16B": [encode(big, "TIFF")],
            "I": [encode(integers, "TIFF")],
            "I;16L": [Image.frombytes("I;16L", image.size, values.astype("<u2").tobytes())],
        }
        for mode, kinds in sources.items():
            for loaded in map(load_image, kinds):
                assert loaded.info.mode == mode
                found = np.asarray(loaded.pixels)[0, :, 0].tolist()
                assert found == [0, 0, 1, 1, 128, 128, 129, 254, 255, 255]

    def test_16_bit_colour_keeps_the_upper_byte(self) -> None:
        row = struct.pack(">BHHH", 0, 0x12FF, 0x8000, 0xFFFF)
        header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row)), (b"IEND", b""))
        png = b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)
        assert load_image(png).pixels.getpixel((0, 0)) == (0x12, 0x80, 0xFF)

    @pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
    def test_cmyk_keeps_its_colours(self, image_format) -> None:
        # Pillow writes the JPEG inverted and with Adobe's marker, the TIFF as it is.
        colours = [(250, 30, 20), (20, 200, 60), (10, 20, 240), (240, 240, 240)]
        for colour in colours:
            image = Image.new("RGB", (16, 16), colour).convert("CMYK")
            loaded = load_image(encode(image, image_format))
            assert loaded.info.mode == "CMYK"
            assert np.abs(np.subtract(loaded.pixels.getpixel((8, 8)), colour)).max() <= 3

    @pytest.mark.parametrize("mode", ["1", "L", "RGBX", "CMYK", "YCbCr", "HSV", "RGBA", "RGBa"])
    def test_other_modes_are_pillows_conversion(self, mode) -> None:
        image = picture().convert("RGBA").convert(mode)
        expected = image.convert("RGBA").convert("RGB") if mode == "RGBa" else image.convert("RGB")
        loaded = load_image(image)
        assert same(loaded.pixels, expected)
        assert loaded.info.mode == mode
        assert image.mode == mode

    @pytest.mark.skipif(not features.check("littlecms2"), reason="this Pillow has no LittleCMS")
    def test_lab(self) -> None:
        image = Image.new("RGB", (4, 4), (200, 90, 30))
        lab = load_image(image.convert("LAB")).pixels.getpixel((0, 0))
        assert np.abs(np.subtract(lab, (200, 90, 30))).max() <= 3

    @pytest.mark.parametrize("mode", ["F", "La"])
    def test_without_a_defined_range(self, mode) -> None:
        assert mode not in RGB_MODES
        with pytest.raises(UnsupportedModeError, match=f"<Image>: mode '{mode}' has no defined"):
            load_image(Image.new(mode, (2, 2)))

    def test_of_a_tiff_is_proved_or_refused(self) -> None:
        image = picture().convert("RGBA")
        pixels = {channels: np.asarray(image)[..., :channels] for channels in (1, 3, 4)}
        deep = {channels: values.astype("<u2") * 257 for channels, values in pixels.items()}
        right = [
            *((tiff(values[3], 2), 3) for values in (pixels, deep)),
            *((tiff(values[1], 1), 1) for values in (pixels, deep)),
            (tiff(pixels[3], 2, {284: 2}), 3),
            (tiff(pixels[1], 1, {284: 2}), 1),
            (tiff(255 - pixels[1], 0), 1),
        ]
        for data, channels in right:
            found = np.asarray(load_image(data).pixels)[..., :channels]
            assert np.array_equal(found, pixels[channels])
        refused = {
            "its channels in planes": [
                *(tiff(deep[channels], 2, {284: 2}) for channels in (3, 4)),
                tiff(deep[4], 5, {284: 2}),
                tiff(pixels[3], 2, {284: 2, 266: 2}),
            ],
            "white as 0 of 16 bits": [tiff(deep[1], 0)],
            "signed numbers": [tiff(values[1], 1, {339: 2}) for values in (pixels, deep)],
            "subsampled colour": [tiff(pixels[3], 6)],
            "a thumbnail": [tiff(pixels[3], 2, {254: 1})],
        }
        for why, files in refused.items():
            for data in files:
                with pytest.raises(UnsupportedModeError, match=f"is a TIFF with {why}"):
                    load_image(data)
        floats = tiff(np.zeros((2, 2, 3), np.float32), 2, {339: 3})
        twelve = tiff(np.zeros((2, 2, 1), np.uint8), 1, {258: 12})
        for data in (floats, twelve):
            with pytest.raises(UnsupportedModeError, match="save it as 8-bit RGB first"):
                load_image(data)

    def test_of_a_jpeg_that_is_not_read(self) -> None:
        frame = PLAIN["jpg"].index(b"\xff\xc0")
        for at, value in ((frame + 4, 12), (frame + 1, 0xC3), (frame + 1, 0xC7)):
            jpeg = bytearray(PLAIN["jpg"])
            jpeg[at] = value
            with pytest.raises(UnsupportedModeError, match="not read"):
                load_image(bytes(jpeg))

    @pytest.mark.parametrize("value", [-1, 65536])
    def test_integers_beyond_16_bits(self, value) -> None:
        with pytest.raises(UnsupportedModeError, match=rf"0\.\.65535\. Received: {value}"):
            load_image(Image.new("I", (2, 2), value))

    @pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif", "avif"])
    def test_of_several_frames_the_first(self, suffix) -> None:
        if suffix not in PLAIN:
            pytest.skip(f"this Pillow writes no {suffix}")
        colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
        first, *others = (Image.new("RGB", (32, 32), colour) for colour in colours)
        image_format = "TIFF" if suffix == "tif" else suffix
        loaded = load_image(encode(first, image_format, save_all=True, append_images=others))
        assert np.abs(np.subtract(loaded.pixels.getpixel((9, 9)), colours[0])).max() <= 6

    def test_a_damaged_later_frame_is_not_used(self) -> None:
        gif = encode(picture(), "GIF", save_all=True, append_images=[picture(seed=1)])
        assert same(load_image(gif[:-500]).pixels, load_image(gif).pixels)
        tiff = bytearray(encode(picture(), "TIFF", save_all=True, append_images=[picture(seed=1)]))
        second = tiff.rindex(struct.pack("<HHI", 259, 3, 1)) + 8  # where its compression is told
        tiff[second : second + 2] = b"\xff\xff"
        assert same(load_image(bytes(tiff)).pixels, picture())


class TestSources:
    def test_every_kind_gives_the_same(self, tmp_path) -> None:
        data = PLAIN["jpg"]
        path = tmp_path / "a.jpg"
        path.write_bytes(data)
        with Image.open(path) as opened:
            expected = opened.convert("RGB")
            sources = [(source, str(path)) for source in (str(path), path, opened)]
            sources += [(kind(data), "<bytes>") for kind in (bytes, bytearray, memoryview)]
            for source, name in [*sources, (io.BytesIO(data), "<BytesIO>")]:
                loaded = load_image(source)
                assert same(loaded.pixels, expected)
                assert loaded.info.name == name
                assert loaded.info.size_bytes == (None if source is opened else len(data))
        assert load_image(data, name="mine").info.name == "mine"
        with pytest.raises(ImageError, match=r"^mine: "):
            load_image(data[:99], name="mine")

    def test_a_file_object_is_read_from_where_it_stands_and_left_open(self, tmp_path) -> None:
        path = tmp_path / "two.bin"
        path.write_bytes(b"header" + PLAIN["png"])
        with path.open("rb") as stream:
            stream.read(6)
            loaded = load_image(stream)
            assert not stream.closed
            assert stream.read() == b""
        assert same(loaded.pixels, picture())
        assert loaded.info.name == str(path)
        with pytest.raises(ImageNotReadableError, match="closed file"):
            load_image(stream)

    def test_arrays(self) -> None:
        array = np.asarray(picture())
        alpha = np.dstack([array, np.zeros_like(array[..., 0])])
        assert np.array_equal(load_image(array).pixels, array)
        assert np.array_equal(load_image(array[::-1, ::2]).pixels, array[::-1, ::2])
        assert np.array_equal(load_image(array[..., 0]).pixels, array[..., :1].repeat(3, axis=2))
        assert np.array_equal(load_image(alpha).pixels, np.full_like(array, 128))
        info = load_image(array).info
        assert (info.name, info.format, info.width, info.height) == ("<ndarray>", None, 61, 47)

    @pytest.mark.parametrize(
        ("dtype", "shape"),
        [
            ("float32", (4, 4, 3)),
            *((kind, (4, 4)) for kind in ("int64", "bool")),
            *(("uint8", shape) for shape in ((4,), (4, 4, 1), (4, 4, 2), (3, 4, 4, 3), ())),
        ],
    )
    def test_other_arrays_are_refused(self, dtype, shape) -> None:
        with pytest.raises(UnsupportedModeError) as caught:
            load_image(np.zeros(shape, dtype), name="my array")
        assert str(caught.value).startswith("my array: an array must be uint8 of shape (H, W, 3)")
        assert f"Received: {dtype} of shape {shape}" in str(caught.value)

    @pytest.mark.parametrize(
        "source",
        [np.zeros((0, 4, 3), np.uint8), Image.new("RGB", (0, 3)), b"", io.BytesIO()],
        ids=["array", "image", "bytes", "stream"],
    )
    def test_nothing_at_all(self, source) -> None:
        with pytest.raises(EmptyImageError):
            load_image(source)

    @pytest.mark.parametrize(
        "address", ["https://a.b/c.jpg", "s3://a/b.png", "file:///c.jpg", "data:image/png;base64,i"]
    )
    def test_an_address_is_called_one(self, address) -> None:
        for source in (address, Path(address), {"bytes": None, "path": address}):
            with pytest.raises(ImageNotReadableError, match="is an address, which is not opened"):
                load_image(source)

    def test_a_row_of_a_dataset(self, tmp_path) -> None:
        path = tmp_path / "a.jpg"
        path.write_bytes(PLAIN["jpg"])
        rows = [{"bytes": PLAIN["jpg"], "path": "x.jpg"}, {"bytes": None, "path": str(path)}]
        for row in (*rows, {"bytes": PLAIN["jpg"], "path": None}, {"path": str(path)}):
            assert same(load_image(row).pixels, load_image(path).pixels)
        assert load_image(rows[0]).info.name == "x.jpg"
        with pytest.raises(ImageNotReadableError, match="neither bytes nor a path"):
            load_image({"bytes": None, "path": None})
        with pytest.raises(TypeError, match="Received: dict"):
            load_image({"image": 1})

    @pytest.mark.parametrize("suffix", PLAIN)
    def test_a_closed_pil_image_is_not_called_damaged(self, suffix) -> None:
        with Image.open(io.BytesIO(PLAIN[suffix])) as unread:
            pass
        loaded = Image.open(io.BytesIO(PLAIN[suffix]))
        loaded.load()
        loaded.close()
        decoders_that_keep_the_file = ("webp", "avif")
        for image in (loaded,) if suffix in decoders_that_keep_the_file else (unread, loaded):
            with pytest.raises(ImageNotReadableError, match="is a PIL image that was closed"):
                load_image(image)

    @pytest.mark.parametrize(
        ("start", "kind"),
        [
            (b"\xff\x0a", "JPEG XL"),
            (b"\0\5\x16\7\0\2\0\0Mac OS X", "AppleDouble"),
            (b"\x1f\x8b\x08", "archive"),
        ],
    )
    def test_another_format_is_named(self, start, kind) -> None:
        with pytest.raises(NotAnImageError, match=kind):
            load_image(start + bytes(50))

    @pytest.mark.parametrize("size", [(90, 70), (91, 71), (1, 1)])
    def test_heic_with_its_extra(self, size) -> None:
        heif = pytest.importorskip("pillow_heif")
        plain = picture(90, 70).resize(size)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        exif[ExifTags.Base.Software] = "Midjourney"
        file = io.BytesIO()
        heif.from_pillow(plain).save(file, quality=-1, chroma=444, exif=exif.tobytes())
        found = load_image(file.getvalue())
        assert (found.info.format, found.info.exif) == ("HEIF", True)
        assert [claim.tool for claim in found.info.claims] == ["Midjourney"]
        upright = plain.transpose(Image.Transpose.ROTATE_270)
        assert found.pixels.size == upright.size
        difference = np.asarray(found.pixels, int) - np.asarray(upright)
        assert np.abs(difference).max() <= 3  # from YCbCr
        with pytest.raises(TruncatedImageError):
            load_image(file.getvalue()[:-20])
        with pytest.raises(ImageTooLargeError):
            load_image(file.getvalue(), max_pixels=size[0] * size[1] - 1)

    def test_heic_without_its_extra(self, monkeypatch) -> None:
        monkeypatch.setattr("hf_ela.images.sources.heif_version", lambda: None)
        for start in (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
            b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
        ):
            with pytest.raises(NotAnImageError, match=r"Received: HEIC.*install the `heif` extra"):
                load_image(start + bytes(50))

    @pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no pipes with names")
    def test_the_pipe_of_a_shell(self) -> None:
        reading, writing = os.pipe()
        with os.fdopen(writing, "wb") as stream:
            stream.write(PLAIN["jpg"])
        assert same(load_image(f"/dev/fd/{reading}").pixels, load_image(PLAIN["jpg"]).pixels)
        os.close(reading)

    @pytest.mark.parametrize("source", [None, 7, ["a.png"], io.StringIO("text")])
    def test_no_source(self, source) -> None:
        with pytest.raises(TypeError, match="Received: "):
            load_image(source)

    def test_a_name_with_a_nul(self) -> None:
        with pytest.raises(ImageNotReadableError, match="null"):
            load_image("a\0b.png")

    def test_an_unread_pil_image_of_a_cut_file(self) -> None:
        with (
            Image.open(io.BytesIO(PLAIN["png"][:3000])) as opened,
            pytest.raises(TruncatedImageError, match="truncated"),
        ):
            load_image(opened)


class TestLimit:
    def test_is_inclusive(self) -> None:
        assert load_image(PLAIN["png"], max_pixels=61 * 47).info.width == 61
        for source in (PLAIN["png"], picture(), np.asarray(picture())):
            with pytest.raises(ImageTooLargeError, match=r"at most 2,866 .* 61 × 47 = 2,867"):
                load_image(source, max_pixels=61 * 47 - 1)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "avif", "jp2"])
    def test_is_ours_and_not_pillows(self, suffix, monkeypatch) -> None:
        if suffix not in PLAIN:
            pytest.skip(f"this Pillow writes no {suffix}")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        assert load_image(PLAIN[suffix]).pixels.size == (61, 47)

    @pytest.mark.parametrize("lossless", [True, False])
    @pytest.mark.parametrize("extended", [True, False])
    def test_of_webp_comes_before_its_decoder(self, lossless, extended) -> None:
        exif = oriented(1) if extended else b""  # an extra chunk needs the extended header
        data = encode(picture(), "WEBP", lossless=lossless, exif=exif)
        assert (data[12:16] == b"VP8X") == extended
        assert load_image(data, max_pixels=61 * 47).pixels.size == (61, 47)
        # The header alone, which no decoder takes: the limit is what refuses it.
        with pytest.raises(ImageTooLargeError, match=r"at most 2,866 .* 61 × 47 = 2,867"):
            load_image(data[:30], max_pixels=61 * 47 - 1)

    @pytest.mark.parametrize("suffix", ["webp", "tif"])
    def test_where_pillow_insists_its_error_is_ours(self, suffix, monkeypatch) -> None:
        if suffix == "webp" and PIL.__version__ < "13":
            pytest.skip("Pillow 12 leaves it to us")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(ImageTooLargeError, match="Pillow refuses it"):
            load_image(PLAIN[suffix])
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # only a warning, an error here
        assert load_image(PLAIN[suffix]).pixels.size == (61, 47)

    def test_pillows_settings_are_left_alone(self, bad_files) -> None:
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, warnings.filters[:]
        for path, _ in bad_files:
            with contextlib.suppress(ImageError):
                load_image(path)
        after = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, warnings.filters[:]
        assert before == after
        assert before[1] is False
        assert MAX_PIXELS == 89_478_485

    def test_of_the_environment_reaches_every_caller(self, monkeypatch) -> None:
        monkeypatch.setenv("HF_ELA_MAX_PIXELS", "2866")
        with pytest.raises(ImageTooLargeError, match="Set HF_ELA_MAX_PIXELS=2867 if it is trusted"):
            error_level(PLAIN["png"])
        monkeypatch.setenv("HF_ELA_MAX_PIXELS", "2867")
        assert error_level(PLAIN["png"]).shape == (47, 61, 3)
        monkeypatch.setenv("HF_ELA_MAX_PIXELS", "many")
        with pytest.raises(RunError, match=r"whole number, .* Received: 'many'"):
            load_image(PLAIN["png"])

    @pytest.mark.parametrize("size", [(1, 65_501), (65_501, 1), (1, 89_000_000)])
    def test_of_a_side_is_that_of_a_jpeg(self, size) -> None:
        for source in (png_bomb(*size), Image.new("1", size)):
            with pytest.raises(ImageTooLargeError, match="sides of at most 65,500 pixels"):
                load_image(source)
        assert error_level(Image.new("L", (65_500, 1))).shape == (1, 65_500, 3)

    def test_of_time_is_met_by_no_real_file(self) -> None:
        for what, data in slow_files().items():
            with pytest.raises(ImageTooLargeError, match=f"has more than [0-9,]+ {what}"):
                load_image(data)
        jpeg = PLAIN["jpg"]
        padded = jpeg[:2] + b"\xff" * 60_000 + jpeg[2:] + b"\xff\xda" * 9999
        assert same(load_image(padded).pixels, load_image(jpeg).pixels)

    def test_pages_are_not_counted(self) -> None:
        page = bytearray(tiff(np.zeros((1, 1, 1), np.uint8), 1))
        at = struct.unpack_from("<I", page, 4)[0]
        link = at + 2 + 12 * struct.unpack_from("<H", page, at)[0]
        size = link + 4 - at
        pages = b"".join(
            page[at:link] + struct.pack("<I", at + size * (number + 1)) for number in range(50_000)
        )
        assert load_image(bytes(page[:at]) + pages).pixels.size == (1, 1)


class TestPartsThatAreNoPixels:
    def with_chunks(self, *chunks: bytes) -> Image.Image:
        return load_image(PLAIN["png"][:33] + b"".join(chunks) + PLAIN["png"][33:]).pixels

    @pytest.mark.parametrize("place", [33, -12])
    def test_long_text_and_profiles_of_a_png(self, place) -> None:
        long = zlib.compress(bytes(3_000_000))
        for chunk in (
            png_chunk(b"zTXt", b"workflow\0\0" + long),
            png_chunk(b"iTXt", b"workflow\0\1\0\0\0" + long),
            png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + long),
            png_chunk(b"tEXt", b"parameters\0" + b"a" * 70_000_000),
            png_chunk(b"iCCP", b"profile\0\0" + long),
        ):
            loaded = load_image(PLAIN["png"][:place] + chunk + PLAIN["png"][place:])
            assert same(loaded.pixels, picture())
            assert loaded.info.icc == (chunk[4:8] == b"iCCP")

    @pytest.mark.parametrize(
        "kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"pHYs", b"caBX"]
    )
    def test_a_damaged_chunk_that_is_no_part_of_the_pixels(self, kind) -> None:
        chunk = png_chunk(kind, b"key\0\1damaged")
        for damaged_chunk in (chunk, chunk[:-1] + b"?"):
            assert same(self.with_chunks(damaged_chunk), picture())
        with pytest.raises(TruncatedImageError):
            self.with_chunks(png_chunk(b"PLTE", b"123")[:-1] + b"?")

    @pytest.mark.parametrize(
        ("marker", "body"),
        [
            (b"\xe0", b"JFIF"),
            (b"\xe1", b"Exif\0\0\xff\xff"),
            (b"\xe2", b"ICC_PROFILE\0"),
            (b"\xed", b"Photoshop 3.0\x008BIM\0\0"),
            (b"\xee", b"Adobe"),
        ],
    )
    def test_a_damaged_segment_that_is_no_part_of_the_pixels(self, marker, body) -> None:
        segment = b"\xff" + marker + struct.pack(">H", 2 + len(body)) + body
        for place in (2, 20):
            jpeg = PLAIN["jpg"][:place] + segment + PLAIN["jpg"][place:]
            assert same(load_image(jpeg).pixels, load_image(PLAIN["jpg"]).pixels)

    @pytest.mark.parametrize(("bits", "colour"), [(2, 0), (4, 0), (16, 2)])
    def test_a_transparent_colour_that_is_read_wrongly_is_refused(self, bits, colour) -> None:
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, bits, colour, 0, 0, 0))
        clear = png_chunk(b"tRNS", b"\0\2" * (3 if colour else 1))
        with pytest.raises(UnsupportedModeError, match="save it as 8-bit RGBA first"):
            load_image(b"\x89PNG\r\n\x1a\n" + header + clear + PLAIN["png"][33:])

    def test_the_orientation_in_a_text_counts(self) -> None:
        xmp = b'<x tiff:Orientation="6"/>'
        for text in (b"\0\0\0\0" + xmp, b"\1\0\0\0" + zlib.compress(xmp)):
            chunk = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0" + text)
            assert self.with_chunks(chunk[:-1] + b"?").size == (47, 61)

    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("restarts", [{}, {"blocks": 1}, {"blocks": 7}, {"rows": 1}])
    @pytest.mark.parametrize("chroma", [0, 2])
    def test_a_jpeg_without_its_last_bytes(self, progressive, restarts, chroma) -> None:
        how = {f"restart_marker_{unit}": number for unit, number in restarts.items()}
        how |= {"quality": 80, "progressive": progressive, "subsampling": chroma}
        data = encode(picture(), "JPEG", **how)
        whole = load_image(data)
        for missing in (1, 2):  # the marker of its end, or a half of it
            assert same(load_image(data[:-missing]).pixels, whole.pixels)
        assert load_image(data[:-2]).info.jpeg_quality == 80
        refused = 0
        for missing in [*range(3, 60), len(data) - data.rindex(b"\xff\xda")]:
            try:
                assert same(load_image(data[:-missing]).pixels, whole.pixels)
            except TruncatedImageError:
                refused += 1
        assert refused > 50
        with pytest.raises(TruncatedImageError):  # as an interrupted download leaves it
            load_image(data[:-10] + bytes(4096))
        assert same(load_image(data[:-2] + bytes(4096)).pixels, whole.pixels)

    def test_a_smooth_jpeg_without_its_last_bytes(self) -> None:
        ramp = np.broadcast_to((np.arange(10, dtype=np.uint8) * 2)[:, np.newaxis], (86, 10, 3))
        data = encode(Image.fromarray(ramp), "JPEG", quality=18, progressive=True, optimize=True)
        assert same(load_image(data[:-2]).pixels, load_image(data).pixels)
        with pytest.raises(TruncatedImageError):  # most bits that could follow show nothing
            load_image(data[:-3])

    def test_a_jpeg_without_its_last_scan(self) -> None:
        data = PLAIN["progressive.jpg"]
        with pytest.raises(TruncatedImageError):
            load_image(data[: data.rindex(b"\xff\xc4")])


class TestInfo:
    @pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
    def test_every_quality_is_found(self, subsampling) -> None:
        image = picture(16, 16)
        for quality in range(1, 101):
            info = load_image(encode(image, "JPEG", quality=quality, subsampling=subsampling)).info
            assert (info.jpeg_quality, info.jpeg_quality_exact) == (quality, True)
            assert info.subsampling == SUBSAMPLINGS[subsampling]

    @pytest.mark.parametrize("mode", ["L", "CMYK"])
    def test_every_quality_of_one_table(self, mode) -> None:
        image = picture(16, 16).convert(mode)
        for quality in range(1, 101):
            info = load_image(encode(image, "JPEG", quality=quality)).info
            assert (info.jpeg_quality, info.jpeg_quality_exact) == (quality, True)
            assert info.subsampling is None

    @pytest.mark.parametrize("quality", [20, 50, 75, 90])
    def test_other_tables_give_the_nearest(self, quality) -> None:
        with Image.open(io.BytesIO(encode(picture(), "JPEG", quality=quality))) as opened:
            assert isinstance(opened, JpegImagePlugin.JpegImageFile)
            luma, chroma = opened.quantization[0], opened.quantization[1]
        luma[5] += 2
        chroma[60] -= 1
        info = load_image(encode(picture(), "JPEG", qtables=[luma, chroma])).info
        assert (info.jpeg_quality, info.jpeg_quality_exact) == (quality, False)
        assert info.jpeg_tables == "other"

    @pytest.mark.parametrize("tables", [1, 2])
    def test_tables_of_mozjpeg(self, tables) -> None:
        half = ((ROBIDOUX[0] * 50 + 50) // 100).tolist()  # those of its quality 75
        assert half[:8] == [8, 8, 8, 9, 13, 19, 28, 43]
        info = load_image(encode(picture(), "JPEG", qtables=[half] * tables)).info
        assert (info.jpeg_tables, info.jpeg_quality_exact) == ("mozjpeg", False)
        assert "tables of mozjpeg" in info.words

    def test_other_subsampling(self) -> None:
        jpeg = bytearray(encode(picture(16, 16), "JPEG", subsampling=1))
        frame = jpeg.index(b"\xff\xc0")
        assert jpeg[frame + 11] == 0x21
        jpeg[frame + 11] = 0x12  # one column, two rows: 4:4:0
        assert load_image(bytes(jpeg)).info.subsampling == "other"

    def test_is_all_that_the_file_tells(self) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        exif = oriented(8)
        data = encode(picture(), "JPEG", quality=83, exif=exif, icc_profile=profile)
        facts = ("<bytes>", "JPEG", "RGB", 61, 47, len(data), True, True, False)
        assert load_image(data).info == ImageInfo(*facts, 83, True, "4:2:0", "libjpeg")
        plain = load_image(PLAIN["png"]).info
        assert (plain.exif, plain.icc) == (False, False)
        assert (plain.jpeg_quality, plain.subsampling) == (None, None)

    def test_pixels_carry_no_metadata(self) -> None:
        data = encode(picture(), "JPEG", exif=oriented(3), dpi=(300, 300), comment=b"mine")
        pixels = load_image(data).pixels
        assert pixels.info == {}
        assert not pixels.getexif()

    def test_a_phone_picture_with_more_behind_it_is_a_jpeg(self) -> None:
        data = encode(picture(), "MPO", save_all=True, append_images=[picture(seed=1)])
        info = load_image(data).info
        assert (info.format, info.jpeg_quality) == ("JPEG", 75)


def test_real_images(pictures) -> None:
    formats = {".jpg": "JPEG", ".webp": "WEBP"}
    for path in pictures:
        loaded = load_image(path)
        info = loaded.info
        assert (info.format, info.mode, info.alpha) == (formats[path.suffix], "RGB", False)
        assert loaded.pixels.size == (info.width, info.height)
        assert info.jpeg_quality == (75 if info.format == "JPEG" else None)
        assert info.size_bytes == path.stat().st_size


def test_the_suffixes_are_those_that_can_be_read() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif"} <= IMAGE_SUFFIXES
    assert not {".eps", ".pdf", ".svg", ".txt", ".mp4", ".psd"} & IMAGE_SUFFIXES
