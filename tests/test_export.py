"""Exported models: their names and shapes, the bits of ELA inside, Keras's probabilities."""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from conftest import TINY
from exact_cases import OTHER_BACKENDS, pictures
from hf_ela import ElaClassifier
from hf_ela.backend import keras
from hf_ela.ela.views import network_inputs
from hf_ela.errors import ExportError
from hf_ela.hub.locate import packaged_model
from hf_ela.models.export import (
    OPSET,
    TOLERANCE,
    _litert_function,
    export_litert,
    export_onnx,
    onnx_files,
)
from hf_ela.models.networks import build_model
from hf_ela.models.onnx_runtime import OnnxModel
from hf_ela.recipes.loading import load_recipe
from hf_ela.recipes.schema import Recipe
from networks import network_of

PIXELS = load_recipe("scratch", [*TINY, "ela=none"])
"""Without ELA: what is quick to export."""

WAYS: dict[str, Callable[..., None]] = {"onnx": export_onnx, "tflite": export_litert}


@pytest.fixture(params=["crops", "resized"])
def saved(request) -> Path:
    """A folder with both ONNX files, of a recipe with crops or with a resized image."""
    return request.getfixturevalue(f"saved_{request.param}")


def test_the_files_have_one_input_and_one_output_of_any_batch_size(saved) -> None:
    recipe = ElaClassifier.from_pretrained(saved).recipe
    side = recipe.pixel_side
    for name, start, shape in (
        ("model.onnx", "pixels", (side, side, 3)),
        ("network.onnx", "views", recipe.input_shape),
    ):
        session = onnxruntime.InferenceSession(saved / name)
        (given,), (answer,) = session.get_inputs(), session.get_outputs()
        assert (given.name, given.type, given.shape) == (start, "tensor(uint8)", ["N", *shape])
        assert (answer.name, answer.type) == ("probabilities", "tensor(float)")
        assert answer.shape == ["N", 2]
        model = onnx.load(saved / name)
        onnx.checker.check_model(model, full_check=True)
        assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
        assert [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] == [OPSET]
        assert model.producer_name == "hf_ela"
        assert f"fake and real; recipe {recipe.name}" in model.doc_string
        assert ("Error Level Analysis included" in model.doc_string) == (start == "pixels")


@pytest.mark.parametrize("count", [1, 3, 14])
def test_both_files_give_keras_probabilities(saved, count) -> None:
    detector = ElaClassifier.from_pretrained(saved)
    images = pictures(14, detector.recipe.pixel_side, detector.recipe.pixel_side)[:count]
    views = network_inputs(images, detector.recipe)
    expected = np.asarray(detector.model.predict_on_batch(views))
    session = onnxruntime.InferenceSession(saved / "model.onnx")
    (from_pixels,) = session.run(["probabilities"], {"pixels": images})
    network = OnnxModel((saved / "network.onnx").read_bytes(), detector.recipe)
    from_views = network.probabilities(views)
    for found in (from_pixels, from_views):
        assert (found.dtype, found.shape) == (np.float32, (count, 2))
        assert np.abs(found - expected).max() < TOLERANCE
    assert from_pixels == pytest.approx(from_views, abs=1e-6)
    if count > 3:
        assert np.ptp(expected[:, 0]) > 0.1  # the images are told apart at all


@pytest.mark.parametrize("source", ["saved_crops", "saved_resized", "packaged"])
def test_ela_inside_onnx_has_the_bits_of_pillow(source, request) -> None:
    """Gains that are a table, that of an image's maximum, and one that is an addition."""
    folder = packaged_model() if source == "packaged" else request.getfixturevalue(source)
    recipe = ElaClassifier.from_pretrained(folder).recipe
    model = onnx.load(folder / "model.onnx")  # what the network in it is given comes out too
    views = onnx.helper.make_tensor_value_info("views", onnx.TensorProto.UINT8, None)
    model.graph.output.append(views)
    images = pictures(14, recipe.pixel_side, recipe.pixel_side)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(["views"], {"pixels": images})
    assert found.dtype == np.uint8
    assert np.array_equal(found, network_inputs(images, recipe))


def test_without_ela_both_files_take_pixels() -> None:
    files = onnx_files(network_of(PIXELS), PIXELS)
    images = pictures(5, 32, 32)
    (expected,) = onnxruntime.InferenceSession(files.from_pixels).run(None, {"pixels": images})
    found = OnnxModel(files.from_views, PIXELS).probabilities(images)
    assert found == pytest.approx(expected, abs=1e-6)


def test_an_ela_that_is_not_pillows_is_not_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        "hf_ela.models.export.network_inputs", lambda *given: network_inputs(*given) ^ 1
    )
    with pytest.raises(ExportError, match=r"bits of Pillow's ELA inside\. Received: .* other"):
        export_onnx(network_of(PIXELS), PIXELS, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_an_operator_unknown_to_onnx_is_refused(tmp_path) -> None:
    inputs = keras.Input(PIXELS.input_shape, dtype="uint8")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Dropout(0.5)(x, training=True)  # chance, in prediction too
    network = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    (tmp_path / "model.onnx").write_bytes(b"an older file")
    with pytest.raises(ExportError, match=r"Dropout \(.*\) has no ONNX here: .*in training"):
        export_onnx(network, PIXELS, tmp_path / "model.onnx")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"an older file"]


def test_without_onnx_the_extra_is_named(tmp_path, monkeypatch) -> None:
    for module in [m for m in sys.modules if m == "onnx" or m.startswith("onnx.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "onnx", None)  # as Python marks what cannot be imported
    with pytest.raises(ExportError, match=r"requires `onnx`.*not installed.*\[train\]"):
        export_onnx(build_model(PIXELS), PIXELS, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_ela_inside_litert_has_the_bits_of_pillow(tmp_path) -> None:
    recipe = load_recipe("scratch", [*TINY, "input.size=16", "network.patch=4"])
    inputs = keras.Input(recipe.input_shape, dtype="uint8")
    views = keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs))  # what a network would see
    export_litert(views, recipe, tmp_path / "views.tflite")
    images = pictures(14, 16, 16)
    found = _litert_function(tmp_path / "views.tflite")(images)
    assert found.dtype == np.float32
    assert np.array_equal(found, network_inputs(images, recipe))


def test_litert_gives_keras_probabilities(tmp_path) -> None:
    network, images = network_of(PIXELS), pictures(14, 32, 32)
    export_litert(network, PIXELS, tmp_path / "model.tflite")
    assert [file.name for file in tmp_path.iterdir()] == ["model.tflite"]
    run = _litert_function(tmp_path / "model.tflite")
    expected = np.asarray(network.predict_on_batch(images))
    for count in (1, 3, 14):
        assert np.abs(run(images[:count]) - expected[:count]).max() < TOLERANCE


def without_numbers(recipe: Recipe) -> Any:
    network = build_model(recipe)
    network.set_weights([np.full(weight.shape, np.nan) for weight in network.get_weights()])
    return network


class OtherAtEachTrace(keras.layers.Layer):
    """Multiplies by the number of graphs that were made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.traces = itertools.count(1)

    def call(self, x: Any) -> Any:
        return x * next(self.traces)


def other_at_each_trace(recipe: Recipe) -> Any:
    inputs = keras.Input(recipe.input_shape, dtype="uint8")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    start = keras.initializers.GlorotUniform(seed=1)
    x = OtherAtEachTrace()(keras.layers.Dense(2, kernel_initializer=start)(x))
    return keras.Model(inputs, keras.layers.Softmax()(x))


@pytest.mark.parametrize("kind", list(WAYS))
@pytest.mark.parametrize(
    ("make", "older"), [(without_numbers, None), (other_at_each_trace, b"an older file")]
)
def test_other_probabilities_than_kerass_are_refused(make, kind, older, tmp_path) -> None:
    path = tmp_path / f"model.{kind}"
    if older:
        path.write_bytes(older)
    rule = r"Keras's probabilities within 0.0001\. Received: a difference of"
    with pytest.raises(ExportError, match=rule):
        WAYS[kind](make(PIXELS), PIXELS, path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [older] * bool(older)


@pytest.mark.parametrize("kind", list(WAYS))
@pytest.mark.parametrize(("place", "what"), [("folder.x", "is a folder"), ("a/b", "not exist")])
def test_a_place_for_no_file_is_refused_before_the_work(place, what, kind, tmp_path) -> None:
    (tmp_path / "folder.x").mkdir()
    with pytest.raises(ExportError, match=f"file in an existing folder.*Received: .*{what}"):
        WAYS[kind](None, None, tmp_path / place)  # nothing is looked at before


ELSEWHERE = """
import sys
from pathlib import Path
from hf_ela import ElaClassifier
from hf_ela.errors import ExportError
from hf_ela.models.export import export_litert

source, out = map(Path, sys.argv[1:])
classifier = ElaClassifier.from_pretrained(source, runtime="keras")
classifier.save_pretrained(out)
try:
    export_litert(classifier.model, classifier.recipe, out.with_suffix(".tflite"))
except ExportError as error:
    print(error)
"""


@pytest.mark.second_lane
@pytest.mark.parametrize("backend", OTHER_BACKENDS)
def test_another_backend_exports_the_same(backend, saved_crops, tmp_path, python) -> None:
    done = python(["-c", ELSEWHERE, saved_crops, tmp_path / "out"], KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stderr
    assert f"LiteRT export requires the TensorFlow backend. Received: {backend}" in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    images = pictures(14, 32, 32)
    for name, start in (("model.onnx", "pixels"), ("network.onnx", "views")):
        given = images
        if start == "views":
            given = network_inputs(images, ElaClassifier.from_pretrained(saved_crops).recipe)
        sessions = [
            onnxruntime.InferenceSession(folder / name)
            for folder in (tmp_path / "out", saved_crops)
        ]
        for count in (1, 3, 14):
            found, expected = (one.run(None, {start: given[:count]})[0] for one in sessions)
            assert np.abs(found - expected).max() < TOLERANCE
