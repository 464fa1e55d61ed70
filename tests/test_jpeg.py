"""The JPEG round trip in tensors against Pillow's, pixel by pixel and without tolerance.

On the backend of this process, operation by operation; `test_exact_backends.py` has the others.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exact_cases import KINDS, QUALITIES, picture, saved
from hf_ela.backend import keras
from hf_ela.ela.tensor_jpeg import Subsampling, round_trip, round_trips

SUBSAMPLINGS = ("4:2:0", "4:4:4")


def after(images: np.ndarray, quality: Any, subsampling: Subsampling = "4:2:0") -> np.ndarray:
    pixels = np.asarray(keras.ops.convert_to_numpy(round_trip(images, quality, subsampling)))
    assert pixels.dtype == np.uint8
    assert pixels.shape == images.shape
    return pixels


@settings(max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(SUBSAMPLINGS),
    seed=st.integers(0, 999),
)
def test_equals_pillow(kind, height, width, quality, subsampling, seed) -> None:
    pixels = picture(kind, height, width, seed)
    expected = saved(pixels, quality, subsampling)
    assert np.array_equal(after(pixels[None], quality, subsampling)[0], expected)


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 16, 17])
def test_narrow_planes_equal_pillow(width, subsampling) -> None:
    """Up to 4 pixels wide, chroma is enlarged by copying; a block may be filled from one column."""
    for height in (1, 2, 9, 16):
        pixels = picture("noise", height, width, width)
        expected = saved(pixels, 95, subsampling)
        assert np.array_equal(after(pixels[None], 95, subsampling)[0], expected), (height, width)


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_every_quality_equals_pillow(subsampling) -> None:
    pixels = np.concatenate([picture(kind, 19, 11) for kind in KINDS], axis=1)
    expected = np.stack([saved(pixels, quality, subsampling) for quality in QUALITIES])
    images = np.broadcast_to(pixels, expected.shape)
    assert np.array_equal(after(images, QUALITIES, subsampling), expected)
    assert len(np.unique(expected, axis=0)) > 90  # the qualities are told apart at all


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_several_qualities_are_those_one_by_one(subsampling) -> None:
    images = np.stack([picture(kind, 21, 34) for kind in KINDS])
    qualities = [95, 1, 50, 95, 100, 49]
    found = round_trips(images, qualities, subsampling)
    assert len(found) == len(qualities)
    for quality, pixels in zip(qualities, found, strict=True):
        expected = np.stack([saved(image, quality, subsampling) for image in images])
        assert np.array_equal(keras.ops.convert_to_numpy(pixels), expected)


def test_colours_equal_pillow() -> None:
    """At quality 100 and 4:4:4 a flat block keeps its colour as the conversions leave it."""
    channel = np.arange(0, 256, 8) + np.arange(32) % 8  # all last bits, 0 and 255
    colours = np.stack(np.meshgrid(channel, channel, channel), axis=-1).astype(np.uint8)
    pixels = colours.reshape(128, 256, 3).repeat(8, 0).repeat(8, 1)
    expected = saved(pixels, 100, "4:4:4")
    blocks = pixels[::8, ::8].reshape(-1, 1, 1, 3)  # one pixel is padded to a flat block
    assert np.array_equal(after(blocks, 100, "4:4:4"), expected[::8, ::8].reshape(-1, 1, 1, 3))


def test_real_images_equal_pillow(pictures) -> None:
    crops = []
    for path in pictures:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        crops.append(pixels[-201:, -203:])  # the crop's own grid, not the file's
    crops = [crop for crop in crops if crop.shape == (201, 203, 3)]
    assert len(crops) >= 6
    images = np.stack(crops)
    qualities = np.linspace(30, 99, len(images)).astype(np.int32)
    for subsampling in SUBSAMPLINGS:
        pairs = zip(images, qualities, strict=True)
        expected = np.stack([saved(image, quality, subsampling) for image, quality in pairs])
        assert np.array_equal(after(images, qualities, subsampling), expected)


@pytest.mark.parametrize("kind", ["int32", "int16"])
def test_a_tensor_of_qualities_is_limited(kind) -> None:
    images = np.stack([picture("grain", 9, 12, seed) for seed in range(6)])
    most = np.iinfo(kind).max
    values = keras.ops.convert_to_tensor([-300, -1, 0, 101, most, 100], kind)
    given = after(images, values)
    assert np.array_equal(given, after(images, [1, 1, 1, 100, 100, 100]))
    assert not np.array_equal(given, after(images, [2, 2, 2, 99, 99, 99]))


def test_an_image_does_not_see_its_neighbours() -> None:
    images = np.stack([picture(kind, 13, 20) for kind in KINDS])
    whole = after(images, 70)
    for i in range(len(images)):
        assert np.array_equal(after(images[i : i + 1], 70)[0], whole[i])


IMAGES = np.zeros((2, 8, 8, 3), np.uint8)
PIXELS, QUALITY = "must be uint8 of shape N x height x width x 3", "integer from 1 to 100"
TENSOR = "an integer, or an integer tensor with one for each image"


@pytest.mark.parametrize(
    ("arguments", "rule", "received"),
    [
        ({"images": IMAGES.astype(np.float32)}, PIXELS, r"float32 of shape \(2, 8, 8, 3\)"),
        ({"images": IMAGES.astype(np.int32)}, PIXELS, "int32"),
        ({"images": IMAGES[0]}, PIXELS, r"shape \(8, 8, 3\)"),
        ({"images": IMAGES[..., :1]}, PIXELS, r"shape \(2, 8, 8, 1\)"),
        ({"images": IMAGES[:0]}, "at least one image", r"\(0, 8, 8, 3\)"),
        ({"images": IMAGES[:, :0]}, "at least one pixel", r"\(2, 0, 8, 3\)"),
        ({"images": IMAGES[:, :, :0]}, "at least one pixel", r"\(2, 8, 0, 3\)"),
        ({"images": keras.KerasTensor((2, None, 8, 3), "uint8")}, "static height", "None"),
        ({"quality": 0}, QUALITY, "quality=0"),
        ({"quality": 101}, QUALITY, "quality=101"),
        ({"quality": np.int64(-1)}, QUALITY, "quality=-1"),
        ({"quality": np.array([90, 101])}, QUALITY, "101"),
        ({"quality": np.array([0, 2**40])}, QUALITY, "0"),
        ({"quality": True}, TENSOR, "bool"),
        ({"quality": 90.0}, TENSOR, "float"),
        ({"quality": np.array([90.0, 80.0], np.float32)}, TENSOR, r"float32 of shape \(2,\)"),
        ({"quality": np.array([[90], [80]])}, TENSOR, r"shape \(2, 1\)"),
        ({"quality": None}, TENSOR, "NoneType"),
        ({"quality": "x"}, TENSOR, "x|string"),
        ({"quality": [90, 10**12]}, QUALITY, "quality=1000000000000"),
        ({"quality": [90, "80"]}, QUALITY, "quality='80'"),
        ({"quality": [[90], [80]]}, QUALITY, r"quality=\[90\]"),
        ({"quality": np.full(3, 90)}, "one value for each image", "3 values for 2 images"),
        ({"images": [IMAGES[0], IMAGES[1, :4]]}, PIXELS, "list, .*not a tensor"),
        ({"images": None}, PIXELS, "NoneType"),
        ({"subsampling": "4:2:2"}, "'4:2:0' or '4:4:4'", "4:2:2"),
        ({"subsampling": None}, "'4:2:0' or '4:4:4'", "None"),
    ],
)
def test_bad_input_says_the_rule_and_what_came(arguments, rule, received) -> None:
    with pytest.raises(ValueError, match=f"(?s){rule}.*Received: .*({received})"):
        round_trip(**{"images": IMAGES, "quality": 90} | arguments)


@pytest.mark.parametrize(
    ("qualities", "message"),
    [
        (90, "list of integers.*Received: int"),
        (np.array([90, 80]), "list of integers.*Received: ndarray"),
        ([90, 10**12], f"{QUALITY}. Received: quality=1000000000000"),
        ([90, 90.5], f"{QUALITY}. Received: quality=90.5"),
        ([], "at least one JPEG quality"),
    ],
)
def test_several_qualities_are_a_list(qualities, message) -> None:
    with pytest.raises(ValueError, match=message):
        round_trips(IMAGES, qualities)


def test_a_list_has_a_quality_for_each_image() -> None:
    images = np.stack([picture("grain", 9, 12, seed) for seed in range(2)])
    assert np.array_equal(after(images, [90, 40]), after(images, np.array([90, 40])))


def test_one_quality_does_not_serve_all_of_a_batch_of_unknown_size() -> None:
    class Saved(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, images: Any, quality: Any) -> Any:
            return round_trip(images, quality)

    inputs = keras.Input((8, 8, 3), dtype="uint8"), keras.Input((), dtype="int32")
    model = keras.Model(inputs, Saved(autocast=False)(*inputs))
    images = np.stack([picture("noise", 8, 8, seed) for seed in range(2)])
    expected = after(images, np.array([90, 40]))
    assert np.array_equal(model.predict_on_batch([images, np.array([90, 40])]), expected)
    with pytest.raises(Exception, match=r"(?i)reshape|values for 2 images"):
        model.predict_on_batch([images, np.array([90])])
