"""Traces of what happened to a picture before it was saved."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bad_files import encode
from conftest import REPOSITORY
from hf_ela.images.loading import ImageInfo, load_image
from hf_ela.images.operations import blur, in_grey, rescale
from hf_ela.images.traces import traced

PICTURES = sorted((REPOSITORY / "tests" / "data").glob("*.[jw]*"))


@pytest.fixture(params=PICTURES, ids=lambda path: path.stem)
def clean(request) -> Image.Image:
    """A real picture without the history of its file: scaled down."""
    picture = load_image(request.param).pixels
    return rescale(picture, 400 / max(picture.size))


def facts(picture: Image.Image, kind: str = "PNG", **options: int) -> ImageInfo:
    return traced(load_image(encode(picture, kind, **options)))


def reencoded(picture: Image.Image, quality: int) -> Image.Image:
    return Image.open(BytesIO(encode(picture, "JPEG", quality=quality))).convert("RGB")


def test_a_picture_without_a_history(clean) -> None:
    for found in (facts(clean), facts(clean, "JPEG", quality=90)):
        assert (found.grey, found.scaled_up, found.earlier_quality) == (False, False, None)


def test_an_earlier_jpeg_is_found_with_its_quality(clean) -> None:
    for quality in (60, 80):
        before = reencoded(clean, quality)
        assert facts(before).earlier_quality == pytest.approx(quality, abs=2)
        assert facts(before, "JPEG", quality=95).earlier_quality == pytest.approx(quality, abs=2)
        # Its grid is lost.
        moved = before.crop((3, 5, before.width - 1, before.height - 2))
        assert facts(moved).earlier_quality is None


def test_scaling_up_and_blur_remove_detail(clean) -> None:
    for factor in (1.5, 2, 3):
        assert facts(rescale(clean, factor, Image.Resampling.BICUBIC)).scaled_up
    assert facts(blur(clean, 2)).scaled_up
    assert not facts(rescale(clean, 0.7)).scaled_up


def test_grey_in_any_form(clean) -> None:
    assert facts(in_grey(clean, np.ones(3)), "JPEG", quality=85).grey
    assert traced(load_image(encode(clean.convert("L"), "PNG"))).grey
    assert not facts(in_grey(clean, np.array([1, 0.9, 0.7]))).grey


@pytest.mark.parametrize("size", [(1, 1), (7, 900), (300, 8), (63, 63), (65, 64)])
def test_small_and_flat_pictures_tell_nothing(size) -> None:
    ramp = Image.linear_gradient("L").resize(size)
    for picture in (ramp, Image.new("RGB", size, "white")):
        found = traced(load_image(picture))
        assert (found.scaled_up, found.earlier_quality) == (False, None)
        assert found.grey


def test_traces_are_part_of_the_answer(saved_crops, command) -> None:
    path = Path(PICTURES[-1])
    out = command("predict", path, "--model", saved_crops, "--json").out
    assert '"grey": false, "scaled_up": false, "earlier_quality": ' in out
