"""A trained network as ONNX and LiteRT files, compared with Keras before they are kept.

`onnx_files` gives two ONNX files with the same network: one from pixels, with ELA inside, for
browsers and other programs, and one from views, which `hf_ela.models.onnx_runtime` runs.

    from pixels     pixels          uint8    N x side x side x 3, side = `recipe.pixel_side`
    from views      views           uint8    N x `recipe.input_shape`
    output of both  probabilities   float32  N x 2, in the order of `hf_ela.recipes.schema.LABELS`
"""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from hf_ela._files import whole_file
from hf_ela._text import native_messages_held_back
from hf_ela._version import __version__
from hf_ela.backend import exporting_backends, keras, litert_interpreter
from hf_ela.ela.views import network_inputs
from hf_ela.errors import ExportError, install_command
from hf_ela.models.networks import build_model, preprocessing_model, with_error_level
from hf_ela.models.onnx_runtime import OnnxModel
from hf_ela.models.settings import INPUT, OUTPUT, VIEWS
from hf_ela.recipes.loading import parse_recipe
from hf_ela.recipes.schema import LABELS, Preprocessing, Recipe

__all__ = ["OPSET", "TOLERANCE", "OnnxFiles", "export_litert", "export_onnx", "onnx_files"]

OPSET = 18
"""Version of ONNX's operators (December 2022): the newest that tf2onnx writes."""
TOLERANCE = 1e-4
"""Largest difference from Keras's probabilities: floats are summed in another order."""

Result = TypeVar("Result")


class OnnxFiles(NamedTuple):
    """The contents of two ONNX files of one network: from pixels, and from views."""

    from_pixels: bytes
    from_views: bytes


def export_onnx(network: keras.Model, recipe: Recipe, path: Path) -> None:
    """Write a network, with ELA before it, as an ONNX file of any batch size.

    Args:
        network: Network of `build_model`, in float32.
        recipe: Its recipe.
        path: Where to write the file; an earlier file is replaced.

    Raises:
        ExportError: `path` cannot be a file; or as for `onnx_files`, and nothing is written.
    """
    _check_place(path)
    data = onnx_files(network, recipe).from_pixels
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def onnx_files(network: keras.Model, recipe: Recipe) -> OnnxFiles:
    """Return a network as ONNX, from pixels and from views, for any batch size.

    JAX cannot export to ONNX: another installed backend does it, in a process of its own.

    Args:
        network: Network of `build_model`, in float32.
        recipe: Its recipe.

    Raises:
        ExportError: The exporter is not installed or fails; the probabilities differ from those of
            `network` by more than `TOLERANCE`; or the ELA differs from Pillow's by a single bit.
    """
    backend, usable = keras.backend.backend(), exporting_backends()
    if not usable:
        raise ExportError(
            "ONNX export requires `onnx`, and tensorflow with tf2onnx or torch with onnxscript. "
            f"They are not installed. Install them: {install_command('train')}"
        )
    if backend in usable:
        alone, before = _converted(network), _preprocessing(recipe)
    else:
        alone, before = _converted_elsewhere(network, recipe, usable[0])
    files = _quietly(lambda: _joined(alone, before, recipe))
    _check_onnx(files, network, recipe)
    return files


def export_litert(network: keras.Model, recipe: Recipe, path: Path) -> None:
    """Write a network, with ELA before it, as a LiteRT file of any batch size.

    Args:
        network: Network of `build_model`, in float32.
        recipe: Its recipe.
        path: Where to write the file; must end with ``.tflite``. An earlier file is replaced.

    Raises:
        ExportError: The backend is not TensorFlow, `path` cannot be a file, or the file does not
            give the probabilities of `network` within `TOLERANCE`; nothing is written then.
    """
    _check_place(path)
    if (backend := keras.backend.backend()) != "tensorflow":
        raise ExportError(
            f"LiteRT export requires the TensorFlow backend. Received: {backend}. Set "
            "KERAS_BACKEND=tensorflow, since weights load on every backend; if TensorFlow is "
            f"missing, install it: {install_command('train')}"
        )
    model = with_error_level(network, recipe)
    with whole_file(path) as temporary:
        _quietly(lambda: model.export(temporary, format="litert", verbose=False))
        _check_parity(network, recipe, "The LiteRT file", lambda: _litert_function(temporary))


def _check_place(path: Path) -> None:
    """Refuse a place where no file can be, before the work."""
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "lies in a folder that does not exist"
        raise ExportError(
            f"A model is exported to a file in an existing folder. Received: {path}, which {what}. "
            "Choose another path."
        )


# --------------------------------------------------------------------------------------- conversion


def write_onnx(model: keras.Model, path: Path) -> None:
    """Write any Keras model as ONNX, its inputs under their names, without a comparison.

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


def _converted(model: keras.Model) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(model, path := Path(folder) / "model.onnx")
        return path.read_bytes()


def _preprocessing(recipe: Recipe) -> bytes:
    """Return the graph from pixels to views."""
    relevant = recipe.preprocessing.model_copy(update={"augmentation": None})
    return _converted_preprocessing(relevant.model_dump_json())


@lru_cache(maxsize=4)
def _converted_preprocessing(preprocessing: str) -> bytes:
    # Remembered: it holds no weights, and takes ten times as long as the network.
    from onnx import TensorProto, helper

    recipe = Preprocessing.model_validate_json(preprocessing)
    if recipe.ela or recipe.input.kind == "resize":
        return _converted(preprocessing_model(recipe))
    shape = ["N", *recipe.input_shape]
    ends = [helper.make_tensor_value_info(x, TensorProto.UINT8, shape) for x in (INPUT, VIEWS)]
    node = helper.make_node("Identity", [INPUT], [VIEWS])
    graph = helper.make_graph([node], "pixels", ends[:1], ends[1:])
    return bytes(helper.make_model(graph).SerializeToString())


def _converted_elsewhere(network: keras.Model, recipe: Recipe, backend: str) -> tuple[bytes, bytes]:
    """Return what `_converted` and `_preprocessing` do, computed by another backend."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.json").write_text(recipe.model_dump_json(), "utf-8")
        network.save_weights(folder / "network.weights.h5")
        done = subprocess.run(  # noqa: S603  (this very module)
            [sys.executable, "-m", "hf_ela.models.export", folder],
            env=os.environ | {"KERAS_BACKEND": backend},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ExportError(
                f"The export to ONNX by Keras on {backend} failed: {done.stderr.strip()[-2000:]}"
            )
        return (folder / "network.onnx").read_bytes(), (folder / "ela.onnx").read_bytes()


def _here(folder: Path) -> None:
    """Do the part of `_converted_elsewhere` in the other process."""
    values = json.loads((folder / "recipe.json").read_text("utf-8"))
    recipe = parse_recipe(values, source="recipe.json")
    network = build_model(recipe)
    network.load_weights(folder / "network.weights.h5")
    (folder / "network.onnx").write_bytes(_converted(network))
    (folder / "ela.onnx").write_bytes(_preprocessing(recipe))


def _quietly(work: Callable[[], Result]) -> Result:
    # Otherwise tf2onnx copies the whole graph before each of its steps, to undo a step that fails,
    # which takes most of the time. Here a step that fails ends the export.
    before = os.environ.get("TF2ONNX_CATCH_ERRORS")
    os.environ["TF2ONNX_CATCH_ERRORS"] = "FALSE"
    try:
        with native_messages_held_back(), redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the converters' own, about their own code
            return work()
    except Exception as error:  # a converter raises any kind
        raise ExportError(
            f"Keras cannot export this model: {error!r:.1000}. Try another backend "
            "(KERAS_BACKEND), or another version of the exporter."
        ) from error
    finally:
        if before is None:
            del os.environ["TF2ONNX_CATCH_ERRORS"]
        else:
            os.environ["TF2ONNX_CATCH_ERRORS"] = before


def _joined(network: bytes, preprocessing: bytes, recipe: Recipe) -> OnnxFiles:
    """Name the ends of both graphs, put one before the other, and say what they are."""
    import onnx

    # The names of both come from one converter, and clash.
    before = onnx.compose.add_prefix(onnx.load_from_string(preprocessing), "ela/")
    after = onnx.load_from_string(network)
    _name_ends(before.graph, INPUT, VIEWS)
    _name_ends(after.graph, VIEWS, OUTPUT)
    # The exporters write one version; the identity above has that of the installed `onnx`.
    before.ir_version = after.ir_version
    del before.opset_import[:]
    before.opset_import.extend(after.opset_import)
    whole = onnx.compose.merge_models(before, after, io_map=[(VIEWS, VIEWS)])
    answer = f"the probabilities of {' and '.join(LABELS)}"
    start = {VIEWS: after, "RGB pixels, Error Level Analysis included,": whole}
    for what, model in start.items():
        model.producer_name, model.producer_version = "hf_ela", __version__
        model.doc_string = f"{what} to {answer}; recipe {recipe.name}."
        onnx.checker.check_model(model)
    return OnnxFiles(whole.SerializeToString(), after.SerializeToString())


def _name_ends(graph: Any, given: str, answer: str) -> None:
    """Name input, output and batch dimension of a graph with one of each."""
    (first,), (last,) = graph.input, graph.output
    names = {first.name: given, last.name: answer}
    for end in (first, last):
        end.name = names[end.name]
        end.type.tensor_type.shape.dim[0].dim_param = "N"
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


# --------------------------------------------------------------------------------------- comparison


def _check_onnx(files: OnnxFiles, network: keras.Model, recipe: Recipe) -> None:
    import onnx

    # The views come out too, to be compared.
    model = onnx.load_from_string(files.from_pixels)
    views = onnx.helper.make_tensor_value_info(VIEWS, onnx.TensorProto.UINT8, None)
    model.graph.output.append(views)
    inside: list[np.ndarray] = []

    def opened() -> Callable[[np.ndarray], np.ndarray]:
        import onnxruntime

        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )

        def run(pixels: np.ndarray) -> np.ndarray:
            views, answer = session.run([VIEWS, OUTPUT], {INPUT: pixels})
            inside.append(views)
            return np.asarray(answer)

        return run

    def from_views() -> Callable[[np.ndarray], np.ndarray]:
        model = OnnxModel(files.from_views, recipe)
        return lambda pixels: model.probabilities(network_inputs(pixels, recipe))

    _check_parity(network, recipe, "The ONNX file from pixels", opened)
    expected = network_inputs(_probes(recipe.pixel_side), recipe)
    if different := np.count_nonzero(np.concatenate(inside) != expected):
        raise ExportError(
            f"The ELA in the ONNX file differs from Pillow's in {different:,} values, and must "
            "have the same bits. No file is kept. Try another version of the exporter."
        )
    _check_parity(network, recipe, "The ONNX file from views", from_views)


@native_messages_held_back()  # of Keras's first prediction, and of the runtime
def _check_parity(
    network: keras.Model,
    recipe: Recipe,
    what: str,
    opened: Callable[[], Callable[[np.ndarray], np.ndarray]],
) -> None:
    """Compare with Keras on noise, gradients and flat colour, in batches of one and of several."""
    pixels = _probes(recipe.pixel_side)
    expected = np.asarray(network.predict_on_batch(network_inputs(pixels, recipe)))
    try:
        exported = opened()
        received = np.concatenate([exported(pixels[:1]), exported(pixels[1:])])
    except Exception as error:  # a runtime raises any kind
        raise ExportError(
            f"{what} does not run: {error!r:.1000}. No file is kept. Try another version of the "
            "exporter."
        ) from error
    difference = float(np.abs(expected - received).max())
    if not difference <= TOLERANCE:  # NaN too
        raise ExportError(
            f"{what} must give Keras's probabilities within {TOLERANCE:g}. Received: a difference "
            f"of {difference:.3g}. No file is kept. Try another version of the exporter."
        )


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


def _probes(side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(side), 2 * np.arange(side))[..., None] // np.array([1, 2, 3])
    gradient = (ramp * 255 // max(ramp.max(), 1)).astype(np.uint8)
    grain = np.clip(gradient + rng.normal(0, 5, gradient.shape), 0, 255).astype(np.uint8)
    noise = rng.integers(0, 256, (side, side, 3), np.uint8)
    flat = np.full((side, side, 3), (200, 30, 90), np.uint8)
    return np.stack([noise, gradient, grain, flat])


if __name__ == "__main__":
    _here(Path(sys.argv[1]))
