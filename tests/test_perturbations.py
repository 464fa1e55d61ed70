"""The suite of the robustness table: what each perturbation does, always the same."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import picture
from hf_ela._text import perturbation_label
from hf_ela.evaluation.perturbations import CROP, JPEG_QUALITIES, NOISE, SUITE, WEBP_QUALITY, crop

IMAGE = picture(3, fake=True, side=96)


def saved(image: Image.Image, image_format: str, quality: int) -> np.ndarray:
    file = BytesIO()
    image.save(file, image_format, quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def test_the_suite_is_what_tables_of_other_models_were_made_with() -> None:
    assert list(SUITE) == [
        *(f"jpeg_{quality}" for quality in (100, 95, 90, 80, 70, 60, 50, 40, 30)),
        "rescale_0.5", "rescale_0.75", "rescale_1.25", "rescale_1.5",
        "blur", "noise", "webp", "crop", "square_crop", "double_jpeg", "screenshot",
    ]  # fmt: skip
    assert [perturbation_label(name) for name in ("jpeg_50", "double_jpeg", "webp")] == [
        "JPEG 50", "double JPEG", "WebP",
    ]  # fmt: skip


@pytest.mark.parametrize("name", SUITE)
def test_a_perturbation_gives_a_changed_image_always_the_same(name) -> None:
    before = IMAGE.tobytes()
    once, again = SUITE[name](IMAGE), SUITE[name](Image.fromarray(np.array(IMAGE)))
    assert once.mode == "RGB"
    assert (once.size, once.tobytes()) == (again.size, again.tobytes())
    assert once.tobytes() != before
    assert IMAGE.tobytes() == before


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(sorted(SUITE)))
def test_no_image_is_too_small(width, height, name) -> None:
    changed = SUITE[name](Image.new("RGB", (width, height), (10, 200, 90)))
    assert min(changed.size) >= 1


@pytest.mark.parametrize("quality", JPEG_QUALITIES)
def test_jpeg_is_what_pillow_gives_at_that_quality(quality) -> None:
    assert (np.asarray(SUITE[f"jpeg_{quality}"](IMAGE)) == saved(IMAGE, "JPEG", quality)).all()


def test_webp_and_double_jpeg_are_what_pillow_gives() -> None:
    assert (np.asarray(SUITE["webp"](IMAGE)) == saved(IMAGE, "WEBP", WEBP_QUALITY)).all()
    once = Image.fromarray(saved(IMAGE, "JPEG", 75))
    assert (np.asarray(SUITE["double_jpeg"](IMAGE)) == saved(once, "JPEG", 90)).all()


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.25, 1.5])
def test_rescale_multiplies_both_sides(factor) -> None:
    wide = Image.new("RGB", (200, 120))
    assert SUITE[f"rescale_{factor:g}"](wide).size == (200 * factor, 120 * factor)


def test_crop_is_the_middle_off_the_jpeg_grid() -> None:
    y, x = np.mgrid[:200, :240].astype(np.uint8)
    kept = np.asarray(crop(Image.fromarray(np.dstack([x, y, x]))))
    left, top = (int(value) for value in kept[0, 0, :2])
    assert kept.shape[:2] == (200 * CROP, 240 * CROP)
    assert (left % 8, top % 8) == (4, 4)
    assert abs(left - 24) <= 8
    assert abs(top - 20) <= 8


def test_a_square_crop_leaves_no_shape_and_is_the_crop_of_a_square() -> None:
    assert (np.asarray(SUITE["square_crop"](IMAGE)) == np.asarray(crop(IMAGE))).all()
    y, x = np.mgrid[:100, :240].astype(np.uint8)
    kept = np.asarray(SUITE["square_crop"](Image.fromarray(np.dstack([x, y, x]))))
    assert kept.shape[:2] == (80, 80)
    left, top = (int(value) for value in kept[0, 0, :2])
    assert (left, top) == (84, 12)  # 80 and 10 would be in the middle, on the grid


def test_noise_has_its_strength_and_is_another_for_another_image() -> None:
    grey, brighter = (Image.new("RGB", (200, 200), (level,) * 3) for level in (128, 129))
    added = np.asarray(SUITE["noise"](grey), float) - 128
    assert added.std() == pytest.approx(NOISE, rel=0.03)
    assert abs(added.mean()) < 0.1
    other = np.asarray(SUITE["noise"](brighter), float) - 129
    assert abs(np.corrcoef(added.ravel(), other.ravel())[0, 1]) < 0.05


def test_screenshot_is_smaller_by_an_odd_factor_and_cut() -> None:
    assert SUITE["screenshot"](Image.new("RGB", (400, 300))).size == (332 - 6, 249 - 10)
