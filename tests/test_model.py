"""The networks: parameters, outputs, and the same weights on every backend."""

import numpy as np
import pytest

from conftest import TINY
from exact_cases import OTHER_BACKENDS
from hf_ela.backend import keras
from hf_ela.models.networks import add_bias, build_model, describe
from hf_ela.recipes.loading import load_recipe
from networks import CROPS, network_of

PREDICT = """
import sys
import numpy as np
from hf_ela.backend import has_gpu, keras
from hf_ela.models.networks import build_model
from hf_ela.recipes.loading import load_recipe

weights, views, out, *overrides = sys.argv[1:]
model = build_model(load_recipe("scratch", overrides))
model.load_weights(weights)
np.save(out, np.asarray(model.predict_on_batch(np.load(views))))
assert has_gpu() in (True, False)
print(keras.backend.backend(), model.count_params())
"""


def test_reference_has_the_published_parameters() -> None:
    recipe = load_recipe("reference")
    model = build_model(recipe)
    counts = [layer.count_params() for layer in model.layers if layer.count_params()]
    assert counts == [2_432, 25_632, 29_491_456, 514]
    described = describe(model, recipe)
    assert (described["parameters"], described["network"]) == (29_520_034, "reference")
    assert described["input_shape"] == [128, 128, 3]
    assert [layer["parameters"] for layer in described["layers"] if layer["parameters"]] == counts


def test_default_is_small_and_gives_probabilities() -> None:
    recipe = load_recipe("scratch")
    model = build_model(recipe)
    assert model.count_params() < 1_500_000
    views = np.random.default_rng(0).integers(0, 256, (3, *recipe.input_shape), np.uint8)
    probabilities = np.asarray(model.predict_on_batch(views))
    assert (probabilities.shape, probabilities.dtype) == ((3, 2), np.float32)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_a_bias_is_added_to_the_log_odds_of_fake() -> None:
    network = build_model(CROPS)
    views = np.random.default_rng(0).integers(0, 256, (3, *CROPS.input_shape), np.uint8)
    fake, real = np.asarray(network.predict_on_batch(views)).T
    add_bias(network, 0.7)
    more_fake, less_real = np.asarray(network.predict_on_batch(views)).T
    assert np.log(more_fake / less_real) == pytest.approx(np.log(fake / real) + 0.7, abs=1e-5)


@pytest.mark.parametrize(("means", "same"), [("removed", True), ("kept", False)])
def test_the_brightness_of_a_block_counts_where_its_mean_is_kept(means, same) -> None:
    recipe = load_recipe("scratch", [*TINY, f"network.block_means={means}"])
    model = network_of(recipe)
    rng = np.random.default_rng(0)
    views = rng.integers(100, 156, (2, *recipe.input_shape), np.uint8)
    blocks = rng.integers(-90, 90, (2, 4, 4, recipe.channels))
    shifted = (views + np.kron(blocks, np.ones((1, 8, 8, 1), np.int64))).astype(np.uint8)
    before, after = model.predict_on_batch(views), model.predict_on_batch(shifted)
    assert np.allclose(before, after, atol=1e-5) == same


@pytest.mark.second_lane
@pytest.mark.parametrize("backend", OTHER_BACKENDS)
def test_backends_load_each_others_weights(backend, tmp_path, python) -> None:
    keras.utils.set_random_seed(1)
    recipe = load_recipe("scratch", TINY)
    model = build_model(recipe)
    model.save_weights(tmp_path / "a.weights.h5")
    views = np.random.default_rng(0).integers(100, 156, (5, *recipe.input_shape), np.uint8)
    np.save(tmp_path / "views.npy", views)
    files = [tmp_path / "a.weights.h5", tmp_path / "views.npy", tmp_path / "out.npy"]
    done = python(["-c", PREDICT, *files, *TINY], KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [backend, str(model.count_params())]
    expected = np.asarray(model.predict_on_batch(views))
    assert np.abs(np.load(tmp_path / "out.npy") - expected).max() < 1e-5
    assert np.ptp(expected[:, 0]) > 1e-4  # the views are told apart at all
