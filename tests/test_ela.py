"""ELA against Pillow's own arithmetic, written out the long way."""

import os
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops

import exact_cases
import hf_ela
from exact_cases import picture
from hf_ela.ela.error_level import error_level

DESCRIPTORS = Path("/proc/self/fd")


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(picture("noise", height, width, seed))


def saved(image: Image.Image, quality: int) -> Image.Image:
    return Image.fromarray(exact_cases.saved(np.asarray(image), quality))


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 100), st.integers(0, 9))
def test_absolute_difference_equals_pillow(height, width, quality, seed) -> None:
    image = noise(height, width, seed)
    level = error_level(image, quality)
    expected = np.asarray(ImageChops.difference(image, saved(image, quality)))
    assert level.dtype == np.uint8
    assert np.array_equal(level, expected)


@given(size=st.integers(1, 50), quality=st.integers(1, 100))
def test_signed_luma_chroma_equals_pillow(size, quality) -> None:
    image = noise(size, 33)
    level = error_level(image, quality, signed=True, color="YCbCr")
    after = np.asarray(saved(image, quality).convert("YCbCr"), int)
    assert level.dtype == np.int16
    assert np.array_equal(level, after - np.asarray(image.convert("YCbCr"), int))


def test_black_image_has_no_error_and_no_division_by_zero() -> None:
    assert error_level(Image.new("RGB", (16, 16)), gain="max").max() == 0


def test_fixed_gain_rounds_clips_and_puts_zero_at_128() -> None:
    image = noise(32, 32)
    plain = error_level(image, 75, signed=True).astype(float)
    level = error_level(image, 75, signed=True, gain=2.5)
    assert np.array_equal(level, np.clip(np.rint(plain * 2.5) + 128, 0, 255))
    absolute = error_level(image, 75, gain=3)
    assert np.array_equal(absolute, np.clip(np.abs(plain) * 3, 0, 255))


@pytest.mark.parametrize("gain", [np.float32(3), np.float64(3), np.int64(3), Fraction(3), 3])
@pytest.mark.parametrize("signed", [False, True])
def test_a_gain_is_any_real_number(gain, signed) -> None:
    image = noise(32, 32)
    expected = error_level(image, 75, signed=signed, gain=3.0)
    assert not np.array_equal(expected, error_level(image, 75, signed=signed, gain=1.0))
    assert np.array_equal(error_level(image, 75, signed=signed, gain=gain), expected)


def test_several_qualities_are_stacked_in_order() -> None:
    image = noise(24, 20)
    level = error_level(image, [95, 50], gain=1.0)
    assert level.shape == (24, 20, 6)
    assert np.array_equal(level[..., :3], error_level(image, 95))
    assert np.array_equal(level[..., 3:], error_level(image, 50))


def test_takes_what_load_image_takes(tmp_path) -> None:
    image = noise(16, 16)
    image.save(tmp_path / "a.png")
    assert np.array_equal(error_level(tmp_path / "a.png"), error_level(image))
    assert np.array_equal(hf_ela.error_level(np.asarray(image)), error_level(image))


@pytest.mark.parametrize("name", ["BytesIO", "memory file"])
def test_descriptor_and_buffer_give_the_same_pixels(name, monkeypatch) -> None:
    image = noise(64, 48)
    expected = np.asarray(ImageChops.difference(image, saved(image, 85)))
    if name == "BytesIO":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("this system has no files in memory")
    assert np.array_equal(error_level(image, 85), expected)


def test_threads_do_not_disturb_each_other() -> None:
    images = [noise(64, 64, seed) for seed in range(8)]
    expected = [error_level(image, 80) for image in images]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda image: error_level(image, 80), images * 10))
    assert np.array_equal(found, expected * 10)


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="needs /proc")
def test_no_descriptor_is_left_open() -> None:
    image = noise(16, 16)
    error_level(image)
    before = len(list(DESCRIPTORS.iterdir()))
    for _ in range(20):
        error_level(image, [70, 80])
    assert len(list(DESCRIPTORS.iterdir())) == before


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"quality": 0}, "integer from 1 to 100"),
        ({"quality": 101}, "integer from 1 to 100"),
        ({"quality": True}, "integer from 1 to 100"),
        ({"quality": [90, 9.5]}, "integer from 1 to 100"),
        ({"quality": []}, "at least one"),
        ({"color": "LAB"}, "'RGB' or 'YCbCr'"),
        ({"gain": 0}, "above 0"),
        ({"gain": -2.0}, "above 0"),
        ({"gain": "most"}, "above 0"),
        ({"gain": float("nan")}, "above 0"),
        ({"gain": True}, "above 0"),
        ({"gain": [2.0]}, "above 0"),
        ({"gain": np.array([2.0, 3.0])}, "above 0"),
        ({"gain": 1j}, "above 0"),
        ({"gain": 10**400}, "above 0"),
        ({"quality": np.array([90, 80])}, "integer from 1 to 100"),
        ({"quality": "90"}, "integer from 1 to 100. Received: quality='9'"),
        ({"gain": "max", "signed": True}, "absolute differences only"),
    ],
)
def test_settings_out_of_range_say_the_rule(arguments, rule) -> None:
    with pytest.raises(ValueError, match=rule):
        error_level(noise(8, 8), **arguments)
