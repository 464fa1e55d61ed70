"""A trained network as ONNX and LiteRT files, compared with Keras before they are kept.

`onnx_files` gives two ONNX files with the same network: one from pixels, with ELA inside, for
browsers and other programs, and one from views, which `hf_ela.models.onnx_runtime` runs.

    from pixels     pixels          uint8    N x side x side x 3, side = `recipe.pixel_side`
    from views      views           uint8    N x `recipe.input_shape`
    output of both  probabilities   float32  N x 2, in the order of `hf_ela.recipes.schema.LABELS`
"""

import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import numpy as np

from hf_ela._files import disk_full, whole_file
from hf_ela._terminal import native_messages_held_back
from hf_ela.backend import keras, litert_interpreter
from hf_ela.ela.views import network_inputs
from hf_ela.errors import ExportError, install_command
from hf_ela.models.networks import with_error_level
from hf_ela.models.onnx_conversion import OPSET, OnnxFiles, network_files
from hf_ela.models.onnx_runtime import OnnxModel
from hf_ela.models.settings import INPUT, OUTPUT, VIEWS
from hf_ela.recipes.schema import Recipe

__all__ = ["OPSET", "TOLERANCE", "OnnxFiles", "export_litert", "export_onnx", "onnx_files"]

TOLERANCE = 1e-4
"""Largest difference from Keras's probabilities: floats are summed in another order."""
Outputs = Callable[[np.ndarray], np.ndarray | tuple[np.ndarray, ...]]
"""From a batch of inputs to one output of an exported model, or several."""


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

    Args:
        network: Network of `build_model`, in float32.
        recipe: Its recipe.

    Raises:
        ExportError: `onnx` is not installed; the network has an operation that has no ONNX here;
            the probabilities differ from those of `network` by more than `TOLERANCE`; or the ELA
            differs from Pillow's by a single bit.
    """
    if find_spec("onnx") is None:
        raise ExportError(
            "ONNX export requires `onnx`, which is not installed. Install it: "
            f"{install_command('train')}"
        )
    files = network_files(network, recipe)
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
        _convert(lambda: model.export(temporary, format="litert", verbose=False))
        _check_litert(temporary, network, recipe)


def _convert(work: Callable[[], object]) -> None:
    """Run TensorFlow's converter without its messages, and raise whatever it raises."""
    try:
        with native_messages_held_back(), redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the converter's own, about its own code
            work()
    except Exception as error:  # a converter raises any kind
        if disk_full(error):
            raise
        raise ExportError(
            f"Keras cannot export this model: {error!r:.1000}. Try another version of TensorFlow."
        ) from error


def _check_place(path: Path) -> None:
    """Refuse a place where no file can be, before the work."""
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "lies in a folder that does not exist"
        raise ExportError(
            f"A model is exported to a file in an existing folder. Received: {path}, which {what}. "
            "Choose another path."
        )


@native_messages_held_back()  # of Keras's first prediction, and of the runtimes
def _check_onnx(files: OnnxFiles, network: keras.Model, recipe: Recipe) -> None:
    pixels = _probes(recipe.pixel_side)
    views = network_inputs(pixels, recipe)
    what = "The ONNX file from pixels"
    inside, received = _run(what, pixels, lambda: _onnx_function(files.from_pixels))
    if different := np.count_nonzero(inside != views):
        raise ExportError(
            f"{what} must have the bits of Pillow's ELA inside. Received: {different:,} other "
            "values. No file is kept. Try another version of Keras or of onnx."
        )
    _check_parity(what, received, network, views)
    what = "The ONNX file from views"
    (received,) = _run(what, views, lambda: OnnxModel(files.from_views, recipe).probabilities)
    _check_parity(what, received, network, views)


@native_messages_held_back()  # as above
def _check_litert(path: Path, network: keras.Model, recipe: Recipe) -> None:
    pixels, what = _probes(recipe.pixel_side), "The LiteRT file"
    (received,) = _run(what, pixels, lambda: _litert_function(path))
    _check_parity(what, received, network, network_inputs(pixels, recipe))


def _run(what: str, inputs: np.ndarray, opened: Callable[[], Outputs]) -> list[np.ndarray]:
    """Return the outputs of an exported model, computed in batches of one and of several."""
    try:
        function = opened()
        batches = [function(part) for part in (inputs[:1], inputs[1:])]
    except Exception as error:  # a runtime raises any kind
        raise ExportError(
            f"{what} does not run: {error!r:.1000}. No file is kept. Try another version of the "
            "exporter."
        ) from error
    outputs = [batch if isinstance(batch, tuple) else (batch,) for batch in batches]
    return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def _check_parity(what: str, received: np.ndarray, network: keras.Model, views: np.ndarray) -> None:
    difference = float(np.abs(np.asarray(network.predict_on_batch(views)) - received).max())
    if not difference <= TOLERANCE:  # NaN too
        raise ExportError(
            f"{what} must give Keras's probabilities within {TOLERANCE:g}. Received: a difference "
            f"of {difference:.3g}. No file is kept. Try another version of Keras or of onnx."
        )


def _onnx_function(data: bytes) -> Outputs:
    """Return a function from pixels to views and probabilities."""
    import onnx
    import onnxruntime

    model = onnx.load_from_string(data)
    views = onnx.helper.make_tensor_value_info(VIEWS, onnx.TensorProto.UINT8, None)
    model.graph.output.append(views)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return lambda pixels: tuple(session.run([VIEWS, OUTPUT], {INPUT: pixels}))


def _litert_function(path: Path) -> Outputs:
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
    """Return noise, a gradient with and without grain, and flat colour."""
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(side), 2 * np.arange(side))[..., None] // np.array([1, 2, 3])
    gradient = (ramp * 255 // max(ramp.max(), 1)).astype(np.uint8)
    grain = np.clip(gradient + rng.normal(0, 5, gradient.shape), 0, 255).astype(np.uint8)
    noise = rng.integers(0, 256, (side, side, 3), np.uint8)
    flat = np.full((side, side, 3), (200, 30, 90), np.uint8)
    return np.stack([noise, gradient, grain, flat])
