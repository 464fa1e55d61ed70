"""A model as one file: RGB pixels in, probabilities out, ELA inside.

`export_onnx` writes a file for ONNX Runtime, in Python and in browsers, `export_litert` one for
LiteRT. Both must give Keras's probabilities before they are kept.

    input   pixels          uint8    N x side x side x 3, side = `recipe.pixel_side`
    output  probabilities   float32  N x 2, in the order of `hf_ela.recipes.schema.LABELS`
"""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from hf_ela._files import whole_file
from hf_ela._text import native_messages_held_back
from hf_ela._version import __version__
from hf_ela.backend import exporting_backends, keras, litert_interpreter
from hf_ela.ela.views import network_inputs
from hf_ela.errors import ExportError
from hf_ela.models.networks import build_model, with_error_level, with_views
from hf_ela.models.onnx_runtime import OnnxModel
from hf_ela.models.settings import INPUT, OUTPUT, VIEWS
from hf_ela.recipes.loading import parse_recipe
from hf_ela.recipes.schema import LABELS, Recipe

__all__ = ["TOLERANCE", "export_litert", "export_onnx", "write_onnx"]

OPSET = 18
"""Of ONNX (December 2022): the newest that tf2onnx writes."""
TOLERANCE = 1e-4
"""By how much a probability may differ from Keras's: floats are summed in another order."""


def export_onnx(network: keras.Model, recipe: Recipe, path: Path) -> None:
    """Write a network, with ELA before it, as an ONNX file of any batch size.

    With a backend that has no way to ONNX (JAX), another one that is installed does it, in a
    process of its own.

    Args:
        network: Network of `build_model`, in float32.
        recipe: Its recipe.
        path: Where to.

    Raises:
        ExportError: What is needed is not installed, no file can be at `path`, or the file does
            not give the probabilities of `network` within `TOLERANCE`; nothing is written then.
    """
    _check_place(path)
    backend, usable = keras.backend.backend(), exporting_backends()
    if not usable:
        raise ExportError(
            "An export to ONNX needs `onnx`, and tensorflow with tf2onnx or torch with onnxscript. "
            'Received: an installation without them. Install them: pip install "hf-ela[train]"'
        )
    with whole_file(path) as temporary:
        if backend in usable:
            write_onnx(with_views(network, recipe), temporary)
        else:
            _write_elsewhere(network, recipe, temporary, usable[0])
        _quietly(lambda: _name(temporary, recipe))
        _check_parity(network, recipe, lambda: _onnx_function(temporary), path)
        _check_views(recipe, temporary)


def export_litert(network: keras.Model, recipe: Recipe, path: Path) -> None:
    """Write a network, with ELA before it, as a LiteRT file of any batch size.

    Args:
        network: Network of `build_model`, in float32.
        recipe: Its recipe.
        path: Where to; must end with ``.tflite``.

    Raises:
        ExportError: The backend is not TensorFlow, no file can be at `path`, or the file does not
            give the probabilities of `network` within `TOLERANCE`; nothing is written then.
    """
    _check_place(path)
    if (backend := keras.backend.backend()) != "tensorflow":
        raise ExportError(
            f"An export to LiteRT needs the TensorFlow backend. Received: {backend}. Set "
            "KERAS_BACKEND=tensorflow: weights load on every backend."
        )
    model = with_error_level(network, recipe)
    with whole_file(path) as temporary:
        _quietly(lambda: model.export(temporary, format="litert", verbose=False))
        _check_parity(network, recipe, lambda: _litert_function(temporary), path)


def _check_place(path: Path) -> None:
    """Refuse a place where no file can be, before the work."""
    if path.is_dir() or not path.parent.is_dir():
        what = "a folder" if path.is_dir() else "a name in a folder that is not there"
        raise ExportError(
            f"A model is exported to a file in a folder that exists. Received: {path}, {what}. "
            "Name a file."
        )


def write_onnx(model: keras.Model, path: Path) -> None:
    """Write any model of Keras as ONNX, its inputs under their names, without a comparison.

    Raises:
        ExportError: The converter of this backend cannot do it.
    """
    specs = [keras.InputSpec(shape=i.shape, dtype=i.dtype, name=i.name) for i in model.inputs]
    signature = [specs] if len(specs) > 1 else specs
    _quietly(
        lambda: model.export(
            path, format="onnx", verbose=False, input_signature=signature, opset_version=OPSET
        )
    )


def _write_elsewhere(network: keras.Model, recipe: Recipe, path: Path, backend: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "recipe.json").write_text(json.dumps(recipe.model_dump()), "utf-8")
        network.save_weights(Path(folder) / "network.weights.h5")
        done = subprocess.run(  # noqa: S603  (this very module)
            [sys.executable, "-m", "hf_ela.models.export", folder, path],
            env=os.environ | {"KERAS_BACKEND": backend},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise ExportError(
            f"The export to ONNX, by Keras on {backend}, must succeed. Received: "
            f"{done.stderr.strip()[-2000:]}"
        )


def _here(folder: Path, path: Path) -> None:
    """Do the part of `_write_elsewhere` in the other process."""
    values = json.loads((folder / "recipe.json").read_text("utf-8"))
    recipe = parse_recipe(values, source="recipe.json")
    network = build_model(recipe)
    network.load_weights(folder / "network.weights.h5")
    write_onnx(with_views(network, recipe), path)


def _quietly(export: Callable[[], None]) -> None:
    # Else tf2onnx copies the whole graph before each of its steps, to undo one that fails: most of
    # the time. A step that fails ends the export.
    before = os.environ.get("TF2ONNX_CATCH_ERRORS")
    os.environ["TF2ONNX_CATCH_ERRORS"] = "FALSE"
    try:
        with native_messages_held_back(), redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the converters' own, about their own code
            export()
    except Exception as error:  # of whatever kind a converter raises
        raise ExportError(
            f"A model must be one that Keras can export. Received: {error!r:.1000}. Take another "
            "backend (KERAS_BACKEND) or version of the exporter."
        ) from error
    finally:
        if before is None:
            del os.environ["TF2ONNX_CATCH_ERRORS"]
        else:
            os.environ["TF2ONNX_CATCH_ERRORS"] = before


def _name(path: Path, recipe: Recipe) -> None:
    """Name the input, the views, the output and the batch dimension, and say what it is."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    (given,) = graph.input
    (answer,) = (end for end in graph.output if _type(end) == onnx.TensorProto.FLOAT)
    (views,) = (end for end in graph.output if _type(end) == onnx.TensorProto.UINT8)
    graph.output.remove(views)
    _mark(graph, views.name)
    names = {given.name: INPUT, answer.name: OUTPUT}
    for value in (given, answer):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    model.producer_name, model.producer_version = "hf_ela", __version__
    model.doc_string = (
        f"RGB pixels to the probabilities of {' and '.join(LABELS)}, Error Level Analysis "
        f"included; recipe {recipe.name}."
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _type(end: Any) -> int:
    return int(end.type.tensor_type.elem_type)


def _mark(graph: Any, views: str) -> None:
    """Make what an output gave the one tensor by which the network is entered: `VIEWS`."""
    from onnx import helper

    nodes = list(graph.node)
    copies = {node.output[0]: node for node in nodes if node.op_type == "Identity"}
    while views in copies:  # an output is a copy of what the network takes
        copy = copies.pop(views)
        views = copy.input[0]
        nodes.remove(copy)
    for node in nodes:
        node.input[:] = [VIEWS if name == views else name for name in node.input]
    after = next((i + 1 for i, node in enumerate(nodes) if views in node.output), 0)
    nodes.insert(after, helper.make_node("Identity", [views], [VIEWS]))
    del graph.node[:]
    graph.node.extend(nodes)


def _onnx_function(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda pixels: np.asarray(session.run([OUTPUT], {INPUT: pixels})[0])


def _litert_function(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    interpreter = litert_interpreter(path)

    def run(pixels: np.ndarray) -> np.ndarray:
        (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.resize_tensor_input(given["index"], pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], pixels)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(answer["index"]))

    return run


@native_messages_held_back()  # of Keras's first prediction, and of the runtime
def _check_parity(
    network: keras.Model,
    recipe: Recipe,
    opened: Callable[[], Callable[[np.ndarray], np.ndarray]],
    path: Path,
) -> None:
    """Compare with Keras on noise, gradients and flat colour, in batches of one and of several."""
    model, pixels = with_error_level(network, recipe), _probes(recipe.pixel_side)
    expected = np.asarray(model.predict_on_batch(pixels))
    try:
        exported = opened()
        received = np.concatenate([exported(pixels[:1]), exported(pixels[1:])])
    except Exception as error:  # of whatever kind the runtime raises
        raise ExportError(
            f"An exported model must run, on one image and on several. Received: {path.name}, with "
            f"{error!r:.1000}. It is not kept; take another version of the exporter."
        ) from error
    difference = float(np.abs(expected - received).max())
    if not difference <= TOLERANCE:  # NaN too
        raise ExportError(
            f"An exported model must give Keras's probabilities within {TOLERANCE:g}. Received: "
            f"{path.name}, up to {difference:.3g} away. It is not kept; take another version of "
            "the exporter."
        )


def _check_views(recipe: Recipe, path: Path) -> None:
    """Compare the ELA in a file with Pillow's, and the file entered at pixels and behind ELA."""
    import onnx
    import onnxruntime

    model, pixels = onnx.load(path), _probes(recipe.pixel_side)
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(VIEWS, onnx.TensorProto.UINT8, None)
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    inside, expected = session.run([VIEWS, OUTPUT], {INPUT: pixels})
    views = network_inputs(pixels, recipe)
    if not np.array_equal(inside, views):
        raise ExportError(
            "The ELA in an exported model must be Pillow's to the last bit. Received: "
            f"{np.count_nonzero(inside != views):,} other values. It is not kept; take another "
            "version of the exporter."
        )
    received = OnnxModel(path.read_bytes(), recipe).probabilities(views)
    difference = float(np.abs(received - expected).max())
    if not difference <= TOLERANCE:  # NaN too
        raise ExportError(
            "An exported model must give the same, entered at pixels and behind its ELA, within "
            f"{TOLERANCE:g}. Received: up to {difference:.3g} away. It is not kept; take another "
            "version of the exporter."
        )


def _probes(side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(side), 2 * np.arange(side))[..., None] // np.array([1, 2, 3])
    gradient = (ramp * 255 // max(ramp.max(), 1)).astype(np.uint8)
    grain = np.clip(gradient + rng.normal(0, 5, gradient.shape), 0, 255).astype(np.uint8)
    noise = rng.integers(0, 256, (side, side, 3), np.uint8)
    flat = np.full((side, side, 3), (200, 30, 90), np.uint8)
    return np.stack([noise, gradient, grain, flat])


if __name__ == "__main__":
    _here(Path(sys.argv[1]), Path(sys.argv[2]))
