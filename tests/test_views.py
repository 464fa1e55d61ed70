"""Views: the published recipe step by step, crops, alignment, augmentation."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageEnhance

from exact_cases import picture
from hf_ela.ela.augmentation import training_views
from hf_ela.ela.error_level import error_level
from hf_ela.ela.views import (
    ALIGNED_QUALITY,
    ALIGNED_SIDE,
    align,
    evaluation_pixels,
    evaluation_views,
    pixel_versions,
    view_boxes,
)
from hf_ela.images.jpeg import reencode
from hf_ela.images.loading import load_image
from hf_ela.recipes.loading import load_recipe

REFERENCE = load_recipe("reference")
CROPS = ["ela.qualities=[75, 85, 95]", "ela.with_pixels=false", "input.size=128"]
CROPS += ["input.longest_side=none"]
DEFAULT = load_recipe("scratch", [*CROPS, "augmentation.views=6"])
AS_IS = load_recipe("scratch", [*CROPS, "augmentation.views=6", "input.training=as_is"])


QUIET = load_recipe(
    "scratch", [*CROPS, *(f"augmentation.{step}=0" for step in ("blur", "noise", "jpeg", "webp"))]
)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(picture("noise", height, width, seed))


def test_reference_view_is_the_published_recipe_step_by_step() -> None:
    image = noise(300, 200)
    small = image.resize((256, 256))
    difference = ImageChops.difference(small, reencode(small, 90))
    largest = max(high for _, high in difference.getextrema())
    expected = ImageEnhance.Brightness(difference).enhance(255.0 / largest).resize((128, 128))
    views = evaluation_views(image, REFERENCE, "as_is", key="")
    assert views.shape == (1, 128, 128, 3)
    assert np.array_equal(views[0], np.asarray(expected))


@pytest.mark.parametrize("recipe", ["scratch", "reference"])
def test_the_network_sees_pixels_behind_the_error_levels(recipe) -> None:
    image = noise(300, 200)
    recipes = [
        load_recipe(recipe, [override])
        for override in ("ela.with_pixels=false", "ela.with_pixels=true", "ela=none")
    ]
    levels, both, pixels = (evaluation_views(image, one, "aligned", "a") for one in recipes)
    assert np.array_equal(both, np.concatenate([levels, pixels], axis=-1))
    if recipes[0].augmentation:
        levels, both, pixels = (training_views(image, one, "a") for one in recipes)
        assert np.array_equal(both, np.concatenate([levels, pixels], axis=-1))


def test_without_ela_the_network_sees_pixels() -> None:
    image = noise(300, 200)
    squashed = load_recipe("reference", ["ela=none"])
    expected = image.resize((256, 256)).resize((128, 128))
    assert np.array_equal(
        evaluation_views(image, squashed, "as_is", key=""), [np.asarray(expected)]
    )
    crops = load_recipe("scratch", ["ela=none"])
    views = evaluation_views(image, crops, "aligned", key="a")
    assert views.shape[1:] == crops.input_shape
    assert np.array_equal(views, evaluation_pixels(image, crops, "aligned", key="a"))
    assert training_views(image, crops, key="a").shape == (12, *crops.input_shape)


FITTED = load_recipe("scratch", [*CROPS, "input.longest_side=400", "input.training=as_is"])


def test_a_large_image_is_made_smaller_before_it_is_cropped() -> None:
    image = noise(1000, 600)
    small = image.resize((400, 240), Image.Resampling.BICUBIC)
    views = evaluation_pixels(image, FITTED, "as_is", key="")
    assert np.array_equal(views, evaluation_pixels(small, AS_IS, "as_is", key=""))
    parts = [
        view_boxes(size, recipe) for size, recipe in ((image.size, FITTED), (small.size, AS_IS))
    ]
    for whole, shrunk in zip(*parts, strict=True):
        assert whole == tuple(2.5 * length for length in shrunk)


@pytest.mark.parametrize("protocol", ["as_is", "aligned"])
def test_an_image_up_to_the_longest_side_is_left_as_it_is(protocol) -> None:
    image = noise(400, 300)
    assert np.array_equal(
        evaluation_pixels(image, FITTED, protocol, key="a"),
        evaluation_pixels(image, AS_IS, protocol, key="a"),
    )


PLAIN = [f"augmentation.{step}=0" for step in ("blur", "noise", "webp", "jpeg")]
WHOLE = load_recipe(
    "scratch",
    [*CROPS, "input.shortest_side=144", "augmentation.views=6", "augmentation.rescale=[0.9, 1.1]"],
)


@pytest.mark.parametrize(
    ("size", "brought_to"),
    [
        ((1000, 600), (240, 144)),
        ((50, 100), (144, 288)),
        ((144, 200), (144, 200)),
        ((4000, 500), (576, 72)),  # wider than 4 to 1
    ],
)
def test_every_image_is_brought_to_the_shortest_side(size, brought_to) -> None:
    image = noise(*size)
    expected = image.resize(brought_to, Image.Resampling.BICUBIC)
    views = evaluation_pixels(image, WHOLE, "as_is", key="")
    assert np.array_equal(views, evaluation_pixels(expected, AS_IS, "as_is", key=""))


@pytest.mark.parametrize("side", [100, 1600])
def test_training_shows_the_whole_of_an_image_brought_to_one_size(side) -> None:
    """Four quarters of one colour each: every crop has a corner in each of them."""
    red, green, blue, yellow = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
    quarters = np.array([[red, green], [blue, yellow]], np.uint8)
    image = Image.fromarray(quarters).resize((side, side), Image.Resampling.NEAREST)
    recipe = load_recipe(
        "scratch", [*CROPS, *PLAIN, "input.shortest_side=144", "augmentation.views=6", "ela=none"]
    )
    views = training_views(image, recipe, key="")
    corners = views[:, ::127, ::127].reshape(-1, 4, 3)
    assert np.abs(corners - quarters.reshape(4, 3).astype(int)).max() < 20


def test_a_blank_view_is_one_colour_of_each_class_alike() -> None:
    recipe = load_recipe("scratch", [*CROPS, *PLAIN, "ela=none", "augmentation.blank=1"])
    views = training_views(noise(300, 280), recipe, key="")
    assert (np.ptp(views, axis=(1, 2)) <= 1).all()
    assert len(np.unique(views[:, 0, 0], axis=0)) > 6


def test_a_shrunk_view_lacks_fine_grain() -> None:
    def grain(shrink: int) -> float:
        settings = ["ela=none", "input.shortest_side=144", f"augmentation.shrink={shrink}"]
        recipe = load_recipe("scratch", [*CROPS, *PLAIN, *settings])
        views = training_views(noise(150, 150), recipe, key="")
        assert views.shape[1:] == (128, 128, 3)
        return float(np.abs(np.diff(views.astype(int), axis=1)).mean())

    assert grain(1) < grain(0) * 0.9


@given(st.integers(1, 2000), st.integers(1, 2000), st.sampled_from([FITTED, WHOLE]))
@example(68, 1, WHOLE)
def test_parts_lie_within_the_image(width, height, recipe) -> None:
    for box in view_boxes((width, height), recipe):
        assert box.x >= 0 <= box.y
        assert box.width > 0 < box.height
        assert box.x + box.width <= width
        assert box.y + box.height <= height


def test_training_sees_a_large_image_made_smaller() -> None:
    """Fine grain, of which the smaller size averages most away."""
    grain = noise(1600, 1600).point(lambda value: value // 32)
    fitted, native = (
        training_views(grain, QUIET.model_copy(update={"input": recipe.input}), key="")
        for recipe in (FITTED, AS_IS)
    )
    assert fitted.std() < native.std() / 2


@pytest.mark.parametrize(
    ("size", "corners"),
    [
        ((301, 203), [(4, 4), (172, 4), (4, 68), (172, 68)]),
        ((512, 256), [(4, 4), (380, 4), (4, 124), (380, 124)]),  # sides that are multiples of 8
        ((400, 1024), [(4, 4), (268, 4), (4, 892), (268, 892)]),
        ((132, 132), [(4, 4)] * 4),  # no more room
    ],
)
def test_crops_are_native_pixels_off_the_jpeg_grid(size, corners) -> None:
    image = noise(*size)
    views = evaluation_views(image, DEFAULT, "as_is", key="")
    assert views.shape == (4, 128, 128, 9)
    for view, (x, y) in zip(views, corners, strict=True):
        crop = image.crop((x, y, x + 128, y + 128))
        expected = error_level(crop, [75, 85, 95], signed=True, color="YCbCr", gain=1.0)
        assert np.array_equal(view, expected)


@given(st.integers(5, 2000), st.integers(5, 2000))
def test_no_crop_of_any_image_begins_on_the_jpeg_grid(width, height) -> None:
    for box in view_boxes((width, height), AS_IS):
        assert box.x % 8 == box.y % 8 == 4


@given(
    width=st.integers(1, 200),
    height=st.integers(1, 200),
    protocol=st.sampled_from(["as_is", "aligned"]),
)
def test_any_size_gives_views_of_the_fixed_shape(width, height, protocol) -> None:
    image = noise(width, height)
    for recipe in (REFERENCE, DEFAULT, WHOLE):
        views = evaluation_views(image, recipe, protocol, key="k")
        assert views.shape == (recipe.evaluation_views, *recipe.input_shape)
        assert views.dtype == np.uint8


@pytest.mark.parametrize("recipe", [DEFAULT, AS_IS, WHOLE])
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (127, 129), (900, 40)])
def test_augmentation_takes_any_size(recipe, size) -> None:
    assert training_views(noise(*size), recipe, "k").shape == (6, 128, 128, 9)


def test_draws_depend_on_the_key_alone() -> None:
    image = noise(300, 280)
    first = training_views(image, DEFAULT, "a")
    assert np.array_equal(first, training_views(image, DEFAULT, "a"))
    assert not np.array_equal(first, training_views(image, DEFAULT, "b"))
    assert len({view.tobytes() for view in first}) == len(first)
    aligned = evaluation_views(image, DEFAULT, "aligned", key="a")
    assert np.array_equal(aligned, evaluation_views(image, DEFAULT, "aligned", key="a"))
    assert not np.array_equal(aligned, evaluation_views(image, DEFAULT, "aligned", key="b"))


def test_alignment_equalises_size_and_jpeg_history() -> None:
    images = [noise(1200, 700), noise(260, 300), reencode(noise(500, 500), 40)]
    sides, qualities = set(), set()
    for i in range(24):
        aligned = align(images[i % 3], key=str(i))
        sides.add(max(aligned.size))
        # Of all qualities, the one that an image went through last changes it least.
        changes = [error_level(aligned, q).mean() for q in range(74, 98)]
        qualities.add(74 + int(np.argmin(changes)))
    assert min(sides) >= ALIGNED_SIDE[0]
    assert max(sides) <= ALIGNED_SIDE[1]
    assert len(sides) > 12
    assert min(qualities) >= ALIGNED_QUALITY[0] - 1
    assert len(qualities) > 8


def test_alignment_keeps_the_aspect() -> None:
    width, height = align(noise(800, 400), key="k").size
    assert abs(width - 2 * height) <= 1


def test_versions_name_what_decides_the_pixels() -> None:
    assert {"ela", "views", "pillow", "libjpeg", "webp"} <= set(pixel_versions())


def test_real_images_give_views_that_tell_something(pictures) -> None:
    for path in pictures:
        image = load_image(path).pixels
        for protocol in ("as_is", "aligned"):
            assert evaluation_views(image, DEFAULT, protocol, path.name).std() > 0
