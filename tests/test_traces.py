"""Traces of what happened to a picture before it was saved."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from bad_files import encode
from conftest import REPOSITORY
from hf_ela import ElaClassifier
from hf_ela.images.info import ImageInfo
from hf_ela.images.loading import load_image
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
        assert (found.monochrome, found.scaled_up, found.earlier_quality) == (False, False, None)


def test_an_earlier_jpeg_is_found_with_its_quality(clean) -> None:
    for quality in (60, 80):
        before = reencoded(clean, quality)
        assert facts(before).earlier_quality == pytest.approx(quality, abs=2)
        assert facts(before, "JPEG", quality=95).earlier_quality == pytest.approx(quality, abs=2)
        # Its grid is lost.
        moved = before.crop((3, 5, before.width - 1, before.height - 2))
        assert facts(moved).earlier_quality is None


@pytest.mark.parametrize("size", [(640, 360), (360, 640), (1400, 250), (528, 300)])
def test_only_the_picture_is_looked_at_whatever_its_shape(size) -> None:
    large = load_image(PICTURES[0]).pixels.resize((200, 120)).resize(size)
    assert facts(large).scaled_up
    noise = np.random.default_rng(0).normal((200, 120, 90), 12, (*size[::-1], 3))
    found = facts(Image.fromarray(noise.clip(0, 255).astype(np.uint8)))
    assert (found.noise, found.scaled_up) == (True, False)


def test_scaling_up_and_blur_remove_detail(clean) -> None:
    for factor in (1.5, 2, 3):
        assert facts(rescale(clean, factor, Image.Resampling.BICUBIC)).scaled_up
    assert facts(blur(clean, 2)).scaled_up
    assert not facts(rescale(clean, 0.7)).scaled_up


def test_shades_of_one_colour(clean) -> None:
    assert facts(in_grey(clean, np.ones(3)), "JPEG", quality=60).monochrome
    assert facts(in_grey(clean, np.array([1, 0.8, 0.5]))).monochrome
    assert traced(load_image(encode(clean.convert("L"), "PNG"))).monochrome
    print_on_paper = ImageOps.colorize(clean.convert("L"), "#201408", "#f4e8cf")
    assert facts(print_on_paper, "JPEG", quality=95).monochrome
    assert not facts(clean).monochrome


@pytest.mark.parametrize("size", [(1, 1), (7, 900), (300, 8), (63, 63), (65, 64)])
def test_small_and_flat_pictures_tell_nothing(size) -> None:
    ramp = Image.linear_gradient("L").resize(size)
    for picture in (ramp, Image.new("RGB", size, "white")):
        found = traced(load_image(picture))
        assert (found.scaled_up, found.earlier_quality) == (False, None)
        assert found.monochrome


def test_traces_are_part_of_the_answer(saved_crops, command) -> None:
    path = Path(PICTURES[-1])
    out = command("predict", path, "--model", saved_crops, "--json").out
    found = json.loads(out)["facts"]
    assert {
        name: found[name] for name in ("monochrome", "two_tones", "noise", "scaled_up")
    } == dict.fromkeys(("monochrome", "two_tones", "noise", "scaled_up"), False)


def text_page() -> Image.Image:
    page = Image.new("RGB", (600, 800), "white")
    for row in range(40, 760, 20):
        ImageDraw.Draw(page).text(
            (40, row), "the rain fell softly upon the old roofs " * 2, "black"
        )
    return page


def with_grain(image: Image.Image) -> Image.Image:
    grain = np.random.default_rng(1).normal(0, 2, (*image.size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


NOISE = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (Image.new("RGB", (300, 300), "white"), "nothing to see"),
        (Image.linear_gradient("L").convert("RGB"), "nothing to see"),
        (with_grain(Image.linear_gradient("L").convert("RGB")), "nothing to see"),
        (Image.fromarray(NOISE), "noise"),
        (text_page(), "hardly more than two tones"),
        (Image.fromarray(NOISE).resize((64, 64)), "too small"),
        (Image.new("RGB", (1, 1)), "too small"),
        (load_image(PICTURES[-1]).pixels.convert("L"), "one colour"),
    ],
)
def test_no_certain_verdict_about_what_the_model_is_wrong_about(picture, reason) -> None:
    classifier = ElaClassifier.from_pretrained()
    for data in (encode(picture, "PNG"), encode(picture, "JPEG", quality=80)):
        (score,) = classifier.scores([data])
        assert score.doubt.startswith(reason)
        assert classifier.is_uncertain(score)
        answer = classifier.predict(data, abstain=True)
        assert (answer[0]["label"], answer[0]["reason"]) == ("uncertain", score.doubt)
        assert classifier.frequency(score) == ""


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_pictures_in_colour_have_no_doubt(path) -> None:
    (score,) = ElaClassifier.from_pretrained().scores([path])
    assert score.doubt == ""
