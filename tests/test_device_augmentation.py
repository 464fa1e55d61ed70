"""ELA and augmentation on the device: the same pixels as on the CPU, and batches of them."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from PIL import Image

from conftest import TINY
from exact_cases import OTHER_BACKENDS
from hf_ela.backend import keras
from hf_ela.data.loading import DataOptions
from hf_ela.data.preparation import Prepared, held_view_set, prepare, training_view_set
from hf_ela.ela.device_augmentation import DRAWS, DeviceAugmentation, draw, no_draws
from hf_ela.ela.error_level import error_level
from hf_ela.images.jpeg import reencode
from hf_ela.models.networks import build_model, with_error_level
from hf_ela.recipes.loading import load_recipe
from hf_ela.training.fit import Batches, fit, on_device

ON_DEVICE = [*TINY, "training.ela=on_device", "augmentation.jpeg=0.5", "training.epochs=1"]
DEVICE = load_recipe("scratch", ON_DEVICE)
IN_BATCHES = load_recipe("scratch", [*ON_DEVICE, "training.ela=in_batches"])


def pixels(images: int, side: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (images, side, side, 3), np.uint8)


def by_pillow(image: np.ndarray, drawn: np.ndarray, size: int) -> np.ndarray:
    """The same augmentation on the CPU, without rescaling."""
    how = dict(zip(DRAWS, drawn.tolist(), strict=True))
    picture = Image.fromarray(image)
    for quality in (how["first"], how["second"]):
        picture = reencode(picture, quality) if quality else picture
    crop = picture.crop((how["x"], how["y"], how["x"] + size, how["y"] + size))
    array = np.asarray(crop)
    return array[:, :: -1 if how["mirrored"] else 1]


def test_history_and_ela_equal_the_cpu_to_the_bit() -> None:
    recipe = load_recipe("scratch", [*ON_DEVICE, "ela.qualities=[75, 95]"])
    sources = pixels(12, recipe.source_side)
    draws = draw(np.random.default_rng(0), 12, recipe)
    crops = keras.ops.convert_to_numpy(DeviceAugmentation(32, rescales=False)(sources, draws))
    ela = with_error_level(build_model(recipe), recipe).layers[1]
    levels = keras.ops.convert_to_numpy(ela(crops))
    for source, drawn, crop, level in zip(sources, draws, crops, levels, strict=True):
        expected = by_pillow(source, drawn, 32)
        assert np.array_equal(crop, expected)
        assert np.array_equal(level, error_level(expected, [75, 95], **recipe.ela.settings))


def test_draws_are_of_the_recipe() -> None:
    recipe = load_recipe("scratch", [*ON_DEVICE, "augmentation.rescale=[0.5, 2.0]"])
    columns = dict(zip(DRAWS, draw(np.random.default_rng(0), 4000, recipe).T, strict=True))
    assert (columns["first"].min(), columns["first"].max()) == (75, 95)
    second = columns["second"][columns["second"] > 0]
    assert (second.min(), second.max()) == tuple(recipe.augmentation.jpeg_quality)
    assert 0.45 < len(second) / 4000 < 0.55
    assert 0.5 * 65536 <= columns["scale"].min() < 0.52 * 65536
    assert 1.97 * 65536 < columns["scale"].max() <= 2 * 65536
    room = recipe.source_side - recipe.pixel_side
    for name in ("y", "x"):
        assert (columns[name].min(), columns[name].max()) == (8, room - 8)
        assert set(columns[name] % 8) == set(range(8))  # every phase of the JPEG grid
    assert 0.45 < columns["mirrored"].mean() < 0.55


def test_rescaling_is_about_the_centre() -> None:
    side = 65
    ramp = np.add.outer(np.arange(side), np.arange(side)).astype(np.uint8)
    image = np.repeat(ramp[None, ..., None], 3, axis=-1)
    draws = no_draws(1)
    draws[0, DRAWS.index("scale")] = 2 << 16
    layer = DeviceAugmentation(side, rescales=True)
    assert np.array_equal(keras.ops.convert_to_numpy(layer(image, no_draws(1))), image)
    twice = keras.ops.convert_to_numpy(layer(image, draws))[0, ..., 0].astype(int)
    center = side // 2
    assert twice[center, center] == ramp[center, center]
    inner = twice[center - 20 : center + 21, center]
    assert np.abs(np.diff(inner, 2)).max() <= 1  # half the slope, rounded
    assert inner[-1] - inner[0] == 20


@pytest.fixture(scope="module")
def split(tiny, tmp_path_factory) -> Callable[[bool], Prepared]:
    """The data of a recipe, from a cache of this module."""
    folder = str(tmp_path_factory.mktemp("cache"))
    options = DataOptions(str(tiny), num_proc=1, cache_dir=folder)
    return cache(lambda on_device: prepare(options, DEVICE if on_device else IN_BATCHES))


def test_both_ways_hold_the_same_views(split) -> None:
    """What validation sees after every epoch: from the cache, and from pixels on the device."""
    whole = on_device(build_model(DEVICE), DEVICE)
    inside = whole.layers[-1]
    of_pixels = keras.Model(inside.inputs, inside.layers[-2].output)
    network_inputs = keras.Model(whole.inputs, of_pixels(whole.layers[2].output))
    held = Batches(split(True).validation, held_view_set(DEVICE), DEVICE, seed=None)
    expected = Batches(split(False).validation, held_view_set(IN_BATCHES), IN_BATCHES, seed=None)
    assert len(held) == len(expected) > 0
    for (given, labels), (views, same) in zip(held, expected, strict=True):
        assert np.array_equal(labels, same)
        assert np.array_equal(np.asarray(network_inputs(given)), views)


def test_batches_are_drawn_by_seed_and_epoch(split) -> None:
    train = split(True).train
    batches = [Batches(train, training_view_set(DEVICE), DEVICE, seed=3) for _ in range(2)]
    first, second = (batch[0][0] for batch in batches)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    batches[1].draw(1)
    assert not np.array_equal(first["draws"], batches[1][0][0]["draws"])


@pytest.mark.second_lane
def test_a_training_on_the_device(split, tmp_path) -> None:
    data = split(True)
    network, checkpoint = fit(DEVICE, data.train, data.validation, tmp_path / "checkpoint")
    assert checkpoint.epochs == 1
    assert network.input_shape[1:] == DEVICE.input_shape


@pytest.mark.second_lane
@pytest.mark.parametrize("backend", OTHER_BACKENDS)
def test_other_backends_equal_the_cpu_too(backend, python) -> None:
    tests = [test_history_and_ela_equal_the_cpu_to_the_bit, test_rescaling_is_about_the_centre]
    names = [f"tests/test_device_augmentation.py::{test.__name__}" for test in tests]
    done = python(["-m", "pytest", "-q", "-p", "no:cacheprovider", *names], KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
