"""ELA and Pillow's resize as layers: the bits of `error_level` and Pillow, whatever surrounds them.

On the backend of this process, operation by operation; `test_exact_backends.py` has the others.
"""

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from conftest import TINY
from exact_cases import KINDS, picture, pictures, saved
from hf_ela.backend import keras
from hf_ela.ela import layers
from hf_ela.ela.error_level import error_level
from hf_ela.ela.layers import ErrorLevel, PillowResize
from hf_ela.ela.views import network_inputs
from hf_ela.models.networks import with_error_level
from hf_ela.recipes.loading import load_recipe
from networks import CROPS, RESIZED, network_of

PIXELS = load_recipe("scratch", [*TINY, "ela=none"])
SETTINGS = [
    {"signed": signed, "color": color, "gain": gain}
    for signed, color, gain in product(
        (False, True), ("RGB", "YCbCr"), (None, "max", 1.0, 2.5, 0.7, 3, 300, 1e9, 1e300)
    )
    if not (signed and gain == "max")
]


def result(layer: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(layer(images)))


def resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """Pillow's resize of each channel."""
    planes = [Image.fromarray(pixels[..., c]).resize((side, side)) for c in range(pixels.shape[-1])]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)


# ---------------------------------------------------------------------------- equal to the function


@pytest.mark.parametrize(
    ("setting", "quality"),
    [*((setting, [75, 10, 100]) for setting in SETTINGS), (SETTINGS[0], 90), (SETTINGS[1], [95])],
    ids=str,
)
def test_error_level_is_that_of_the_function(setting, quality) -> None:
    images = pictures(len(KINDS), 21, 18)
    expected = np.stack([error_level(image, quality, **setting) for image in images])
    assert_equal(result(ErrorLevel(quality, **setting), images), expected)


@given(
    kind=st.sampled_from(KINDS),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    quality=st.lists(st.integers(1, 100), min_size=1, max_size=3),
    setting=st.sampled_from(SETTINGS),
)
def test_error_level_of_any_size(kind, height, width, quality, setting) -> None:
    pixels = picture(kind, height, width, height * width)
    expected = error_level(pixels, quality, **setting)
    assert_equal(result(ErrorLevel(quality, **setting), pixels[None])[0], expected)


def test_error_level_without_subsampling() -> None:
    images = pictures(len(KINDS), 23, 19)
    after = np.stack([saved(image, 60, "4:4:4") for image in images])
    expected = after.astype(np.int16) - images
    assert_equal(result(ErrorLevel(60, signed=True, subsampling="4:4:4"), images), expected)


def test_error_level_of_real_images(pictures) -> None:
    for path in pictures[::2]:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))[-200:, -200:]
        for recipe in ("scratch", "reference"):
            ela = load_recipe(recipe).ela
            expected = error_level(pixels, ela.qualities, **ela.settings)
            found = result(ErrorLevel(ela.qualities, **ela.settings), pixels[None])[0]
            assert_equal(found, expected)


def test_every_colour_turns_to_pillows_luma_and_chroma() -> None:
    green_blue = np.stack(np.mgrid[:256, :256], axis=-1).astype(np.uint8)
    for red in range(0, 256, 16):  # 2**20 colours at once
        reds = np.repeat(np.arange(red, red + 16, dtype=np.uint8), 65536).reshape(-1, 256, 1)
        pixels = np.concatenate([reds, np.tile(green_blue, (16, 1, 1))], axis=-1)
        expected = np.asarray(Image.fromarray(pixels).convert("YCbCr")) - np.array([0, 128, 128])
        found = keras.ops.convert_to_numpy(layers._ycbcr(keras.ops.convert_to_tensor(pixels)))
        assert np.array_equal(found, expected)


def test_every_difference_is_stretched_as_pillow_does() -> None:
    """To the maximum of an image: each difference up to each largest one."""
    values = np.minimum(np.arange(256), np.arange(256)[:, None]).astype(np.uint8)
    images = np.repeat(values[:, None, :, None], 3, axis=-1)  # row i: 0, 1, .., i, i, ..
    brightness = [ImageEnhance.Brightness(Image.fromarray(image)) for image in images]
    factors = [255 / max(largest, 1) for largest in range(256)]
    expected = np.stack([b.enhance(f) for b, f in zip(brightness, factors, strict=True)])
    tensor = keras.ops.cast(keras.ops.convert_to_tensor(images), "int32")
    found = keras.ops.convert_to_numpy(layers._scaled(tensor, "max", zero=0))
    assert np.array_equal(found, expected)


# ------------------------------------------------------------------------------------------ resize


@pytest.mark.parametrize("kind", ["noise", "extremes", "grain"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (1, 1), (1, 9), (2, 1), (7, 7), (9, 8), (8, 9), (17, 5), (5, 17), (64, 32), (50, 3),
        (256, 128),
    ],
)  # fmt: skip
def test_resize_is_pillows(before, after, kind) -> None:
    images = np.stack([picture(kind, before, before, seed) for seed in range(3)])
    expected = np.stack([np.asarray(Image.fromarray(i).resize((after, after))) for i in images])
    assert_equal(result(PillowResize(after), images), expected)


def test_resize_takes_any_number_of_channels() -> None:
    images = np.concatenate([pictures(2, 20, 20), pictures(4, 20, 20)[2:]], axis=-1)[..., :5]
    expected = np.stack([resized(image, 13) for image in images])
    assert_equal(result(PillowResize(13), images), expected)


# ----------------------------------------------------------------------------------- in a network


@pytest.fixture
def bfloat16() -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def test_mixed_precision_leaves_the_bits_alone(bfloat16) -> None:
    images = pictures(4, 32, 32)
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    levels = ErrorLevel([90, 70], gain="max")(inputs)
    small = PillowResize(20)(levels)
    features = keras.layers.Conv2D(4, 3)(small)
    assert keras.backend.standardize_dtype(features.dtype) == "bfloat16"
    found = keras.Model(inputs, [levels, small])(images)
    expected = np.stack([error_level(image, [90, 70], gain="max") for image in images])
    assert_equal(np.asarray(keras.ops.convert_to_numpy(found[0])), expected)
    channels = np.stack([resized(levels, 20) for levels in expected])
    assert_equal(np.asarray(keras.ops.convert_to_numpy(found[1])), channels)


@pytest.mark.parametrize("recipe", [CROPS, RESIZED, PIXELS], ids=["crops", "resized", "pixels"])
def test_a_model_with_ela_inside_is_the_network_on_the_functions_views(recipe) -> None:
    network = network_of(recipe)
    model = with_error_level(network, recipe)
    images = pictures(5, recipe.pixel_side, recipe.pixel_side)
    expected = np.asarray(network(network_inputs(images, recipe)))
    assert np.array_equal(np.asarray(model(images)), expected)
    assert np.ptp(expected[:, 0]) > 1e-4  # the images are told apart at all


@pytest.mark.parametrize("shape", [(32, 32), (24, 40)], ids=["square", "odd blocks"])
def test_the_layer_taken_apart_into_operations_of_keras_has_its_bits(shape) -> None:
    inputs = keras.Input((*shape, 3), dtype="uint8")
    apart = keras.Model(inputs, ErrorLevel([90, 70]).call(inputs))
    images = pictures(3, *shape)
    expected = np.stack([error_level(image, [90, 70]) for image in images])
    assert_equal(np.asarray(keras.ops.convert_to_numpy(apart(images))), expected)


def test_a_model_with_ela_inside_is_saved_and_loaded(tmp_path) -> None:
    recipe = RESIZED
    model = with_error_level(network_of(recipe), recipe)
    names = {type(layer).__name__ for layer in model._flatten_layers()}
    assert "ErrorLevel" in names
    assert "Lambda" not in names
    model.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras", compile=False, safe_mode=True)
    images = pictures(5, recipe.pixel_side, recipe.pixel_side)
    assert np.array_equal(np.asarray(again(images)), np.asarray(model(images)))


@pytest.mark.parametrize(
    "layer",
    [
        ErrorLevel(),
        ErrorLevel((75, 85), signed=True, color="YCbCr", gain=2.5, subsampling="4:4:4", name="e"),
        ErrorLevel([np.int64(60)], gain=np.float32(2.5)),
        PillowResize(np.int64(9), name="r"),
    ],
    ids=["defaults", "settings", "NumPy's numbers", "resize"],
)
def test_a_layer_comes_back_from_its_settings(layer) -> None:
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config() == json.loads(json.dumps(layer.get_config()))
    images = pictures(3, 16, 16)
    assert_equal(result(again, images), result(layer, images))
    assert not again.weights
    assert not again.trainable


# --------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quality": [90, 75.5]}, "integer from 1 to 100. Received: quality=75.5"),
        ({"gain": "max", "signed": True}, "absolute differences only. Received: signed=True"),
        ({"subsampling": "4:2:2"}, "'4:2:0' or '4:4:4'. Received: subsampling='4:2:2'"),
    ],
)
def test_settings_are_refused_when_a_layer_is_made(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        ErrorLevel(**arguments)


def test_bad_images_say_the_rule_and_what_came() -> None:
    with pytest.raises(ValueError, match=r"must be uint8.*Received: float32"):
        ErrorLevel()(np.zeros((2, 8, 8, 3), np.float32))
    with pytest.raises(ValueError, match="static height"):
        ErrorLevel()(keras.Input((None, 8, 3), dtype="uint8"))


@pytest.mark.parametrize(
    ("images", "received"),
    [
        (np.zeros((1, 8, 8, 3), np.float32), "float32"),
        (np.zeros((8, 8, 3), np.uint8), r"\(8, 8, 3\)"),
        (np.zeros((1, 8, 9, 3), np.uint8), r"\(1, 8, 9, 3\)"),
        (keras.KerasTensor((None, None, None, 3), "uint8"), "None"),
    ],
)
def test_what_cannot_be_resized_is_refused(images, received) -> None:
    with pytest.raises(ValueError, match=rf"(?s)uint8 of shape N x side.*Received: .*{received}"):
        PillowResize(4)(images)


@pytest.mark.parametrize("size", [0, -1, "4", 4.5, True, None])
def test_a_size_is_a_whole_number(size) -> None:
    rule = f"integer of at least 1 pixel. Received: size={size!r}"
    with pytest.raises(ValueError, match=rule):
        PillowResize(size)
