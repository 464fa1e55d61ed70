"""Exported models: their names and shapes, the bits of ELA inside, Keras's probabilities."""

import itertools
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from conftest import TINY
from exact_cases import KINDS, pictures
from hf_ela.backend import keras
from hf_ela.ela.views import network_inputs
from hf_ela.errors import ExportError
from hf_ela.models.export import OPSET, export_litert, export_onnx
from hf_ela.models.networks import build_model, with_error_level
from hf_ela.recipes.loading import load_recipe
from hf_ela.recipes.schema import Recipe

SQUASHED = ["input.before=40", "input.size=24"]
RECIPES = {
    "crops": load_recipe("default", [*TINY, "ela.qualities=[75, 95]"]),
    "resized": load_recipe("reference", [*SQUASHED, "ela.with_pixels=true"]),
}
FRACTION = ["ela.qualities=[60, 85]", "ela.gain=2.5", "ela.color='RGB'", "ela.signed=false"]
VIEWS = {
    **RECIPES,
    "crops, another gain, no pixels": load_recipe(
        "default", [*TINY, *FRACTION, "ela.with_pixels=false"]
    ),
    "resized, no pixels": load_recipe("reference", SQUASHED),
}
UINT8 = onnx.TensorProto.UINT8
Exported = Callable[[np.ndarray], np.ndarray]

ELSEWHERE = """
import itertools
import sys
from pathlib import Path
from hf_ela.errors import ExportError
from hf_ela.models.export import export_litert, export_onnx
from hf_ela.models.networks import build_model
from hf_ela.recipes.loading import load_recipe
from hf_ela.ela.views import network_inputs

weights, out, *overrides = sys.argv[1:]
recipe = load_recipe("default", overrides)
network = build_model(recipe)
network.load_weights(weights)
export_onnx(network, recipe, Path(out))
try:
    export_litert(network, recipe, Path(out).with_suffix(".tflite"))
except ExportError as error:
    print(error)
"""


def network_of(recipe: Recipe) -> Any:
    """Random weights large enough for probabilities all over the range."""
    network = build_model(recipe)
    rng = np.random.default_rng(1)
    for weight in network.weights:
        if weight.name == "kernel":
            weight.assign(rng.normal(0, 2 * np.prod(weight.shape[:-1]) ** -0.5, weight.shape))
    return network


def views_of(recipe: Recipe) -> Any:
    """No network: what goes into one, as float32."""
    inputs = keras.Input(recipe.input_shape, dtype="uint8")
    return keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs))


def images_of(recipe: Recipe, count: int = 2 * len(KINDS)) -> np.ndarray:
    return pictures(count, recipe.pixel_side, recipe.pixel_side)


def onnx_of(path: Path) -> Exported:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(["probabilities"], {"pixels": images})[0])


def litert_of(path: Path) -> Exported:
    """A runtime of its own for each call, as each resizes its input."""
    import tensorflow

    def run(images: np.ndarray) -> np.ndarray:
        interpreter = tensorflow.lite.Interpreter(str(path))
        (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.resize_tensor_input(given["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        return np.array(interpreter.get_tensor(answer["index"]))

    return run


WAYS: dict[str, tuple[Callable[..., None], Callable[[Path], Exported]]] = {
    "onnx": (export_onnx, onnx_of),
    "tflite": (export_litert, litert_of),
}
LITERT_NAMES_A_SUCCESSOR = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")


@pytest.fixture(scope="module", params=list(RECIPES))
def exported(request, tmp_path_factory) -> tuple[Recipe, Any, Path]:
    """A recipe, a network and a path of which both kinds of file are there."""
    recipe = RECIPES[request.param]
    network = network_of(recipe)
    path = tmp_path_factory.mktemp(request.param) / "model"
    export_onnx(network, recipe, path.with_suffix(".onnx"))
    export_litert(network, recipe, path.with_suffix(".tflite"))
    return recipe, network, path


# ------------------------------------------------------------------------------------ what is there


def test_the_onnx_file_has_one_input_and_one_output_of_any_batch_size(exported) -> None:
    recipe, _, path = exported
    session = onnxruntime.InferenceSession(path.with_suffix(".onnx"))
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    side = recipe.pixel_side
    assert (given.name, given.type, given.shape) == (
        "pixels",
        "tensor(uint8)",
        ["N", side, side, 3],
    )
    assert (answer.name, answer.type) == ("probabilities", "tensor(float)")
    assert answer.shape == ["N", 2]


def test_the_onnx_file_is_of_standard_operators_and_says_what_it_is(exported) -> None:
    recipe, _, path = exported
    model = onnx.load(path.with_suffix(".onnx"))
    onnx.checker.check_model(model, full_check=True)
    domains = {node.domain for node in model.graph.node}
    assert domains <= {"", "ai.onnx"}
    assert [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] == [OPSET]
    assert model.producer_name == "hf_ela"
    assert f"recipe {recipe.name}" in model.doc_string
    assert "fake and real" in model.doc_string


@LITERT_NAMES_A_SUCCESSOR
@pytest.mark.parametrize("kind", list(WAYS))
@pytest.mark.parametrize("count", [1, 3, 14])
def test_probabilities_are_those_of_keras(exported, kind, count) -> None:
    recipe, network, path = exported
    images = images_of(recipe)[:count]
    expected = np.asarray(with_error_level(network, recipe).predict_on_batch(images))
    found = WAYS[kind][1](path.with_suffix(f".{kind}"))(images)
    assert found.dtype == np.float32
    assert found.shape == (count, 2)
    assert np.abs(found - expected).max() < 1e-4
    if count > 3:
        assert np.ptp(expected[:, 0]) > 0.1  # the images are told apart at all


@pytest.mark.parametrize("name", list(VIEWS))
def test_ela_inside_onnx_has_the_bits_of_pillow(name, tmp_path) -> None:
    recipe = VIEWS[name]
    export_onnx(network_of(recipe), recipe, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")  # what the network in it is given comes out too
    model.graph.output.append(onnx.helper.make_tensor_value_info("views", UINT8, None))
    images = images_of(recipe)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(["views"], {"pixels": images})
    assert found.dtype == np.uint8
    assert np.array_equal(found, network_inputs(images, recipe))


@LITERT_NAMES_A_SUCCESSOR
@pytest.mark.parametrize("name", list(RECIPES))
def test_ela_inside_litert_has_the_bits_of_pillow(name, tmp_path) -> None:
    recipe = VIEWS[name]
    export_litert(views_of(recipe), recipe, tmp_path / "views.tflite")
    images = images_of(recipe)
    found = litert_of(tmp_path / "views.tflite")(images)
    assert found.dtype == np.float32
    assert np.array_equal(found, network_inputs(images, recipe))


@pytest.mark.parametrize("name", list(RECIPES))
def test_an_ela_that_is_not_pillows_is_not_kept(name, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        "hf_ela.models.export.network_inputs", lambda *given: network_inputs(*given) ^ 1
    )
    with pytest.raises(ExportError, match=r"to the last bit\. Received: .* other values"):
        export_onnx(network_of(RECIPES[name]), RECIPES[name], tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_only_the_file_is_left(exported) -> None:
    *_, path = exported
    assert {file.name for file in path.parent.iterdir()} == {"model.onnx", "model.tflite"}


# ----------------------------------------------------------------------------------- other backends


@pytest.mark.second_lane
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_exports_the_same(backend, tmp_path, python) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    if backend == "torch" and find_spec("onnxscript") is None:
        pytest.skip("onnxscript, by which torch exports, is not installed")
    overrides = [*TINY, "ela.qualities=[75, 95]"]
    recipe = RECIPES["crops"]
    network = network_of(recipe)
    network.save_weights(tmp_path / "a.weights.h5")
    folder = tmp_path / "out"
    folder.mkdir()
    done = python(
        ["-c", ELSEWHERE, tmp_path / "a.weights.h5", folder / "model.onnx", *overrides],
        KERAS_BACKEND=backend,
    )
    assert done.returncode == 0, done.stderr
    assert f"LiteRT needs the TensorFlow backend. Received: {backend}" in done.stdout
    assert [file.name for file in folder.iterdir()] == ["model.onnx"]
    images = images_of(recipe)
    expected = np.asarray(with_error_level(network, recipe).predict_on_batch(images))
    run = onnx_of(folder / "model.onnx")
    for count in (1, 3, len(images)):
        assert np.abs(run(images[:count]) - expected[:count]).max() < 1e-4


# ------------------------------------------------------------------------------------------ refusal


def without_numbers(recipe: Recipe) -> Any:
    network = build_model(recipe)
    network.set_weights([np.full(weight.shape, np.nan) for weight in network.get_weights()])
    return network


class OtherAtEachTrace(keras.layers.Layer):
    """Divides by the number of graphs that were made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.traces = itertools.count(1)

    def call(self, x: Any) -> Any:
        return x / next(self.traces)


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
    recipe = RECIPES["crops"]
    path = tmp_path / f"model.{kind}"
    if older:
        path.write_bytes(older)
    rule = rf"Keras's probabilities within 0.0001\. Received: model.{kind}, up to .* away"
    with pytest.raises(ExportError, match=rule):
        WAYS[kind][0](make(recipe), recipe, path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [older] * bool(older)


def test_an_operator_unknown_to_onnx_is_refused(tmp_path) -> None:
    recipe = RECIPES["crops"]
    inputs = keras.Input(recipe.input_shape, dtype="uint8")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Dropout(0.5)(x, training=True)  # chance, in prediction too
    network = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    (tmp_path / "model.onnx").write_bytes(b"an older file")
    with pytest.raises(ExportError, match=r"Keras can export\. Received: .*RandomUniform"):
        export_onnx(network, recipe, tmp_path / "model.onnx")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"an older file"]


@pytest.mark.parametrize("kind", list(WAYS))
@pytest.mark.parametrize(("place", "what"), [("folder.x", "a folder"), ("a/b", "not there")])
def test_a_place_for_no_file_is_refused_before_the_work(place, what, kind, tmp_path) -> None:
    (tmp_path / "folder.x").mkdir()
    with pytest.raises(ExportError, match=f"file in a folder that exists.*Received: .*{what}"):
        WAYS[kind][0](None, None, tmp_path / place)  # nothing is looked at before


@pytest.mark.parametrize("missing", [["onnx"], ["tf2onnx", "onnxscript"], ["tf2onnx", "torch"]])
def test_without_an_exporter_it_is_said_what_to_install(missing, tmp_path, monkeypatch) -> None:
    for name in missing:  # as Python marks what cannot be imported
        for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, name, None)
    recipe = RECIPES["crops"]
    with pytest.raises(ExportError, match=r"needs `onnx`.*Received: .*without.*hf-ela\[train\]"):
        export_onnx(build_model(recipe), recipe, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
