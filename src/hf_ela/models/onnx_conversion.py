"""The conversion of Keras models to ONNX: the network alone, ELA alone, and both in one graph.

Run as a script, it converts on another backend than the one of the process that started it.
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

from hf_ela._files import disk_full, named_if_full
from hf_ela._terminal import native_messages_held_back
from hf_ela._version import __version__
from hf_ela.backend import keras
from hf_ela.errors import ExportError
from hf_ela.models.half_precision import halve_onnx
from hf_ela.models.networks import build_model, preprocessing_model
from hf_ela.models.settings import INPUT, OUTPUT, VIEWS
from hf_ela.recipes.loading import parse_recipe
from hf_ela.recipes.schema import LABELS, Preprocessing, Recipe

OPSET = 18
"""Version of ONNX's operators (December 2022): the newest that tf2onnx writes."""

Result = TypeVar("Result")


class OnnxFiles(NamedTuple):
    """The contents of two ONNX files of one network: from pixels, and from views."""

    from_pixels: bytes
    from_views: bytes


def write_onnx(model: keras.Model, path: Path) -> None:
    """Write any Keras model as ONNX, its inputs under their names, without a comparison.

    Raises:
        ExportError: The converter of this backend cannot do it.
    """
    specs = [keras.InputSpec(shape=i.shape, dtype=i.dtype, name=i.name) for i in model.inputs]
    signature = [specs] if len(specs) > 1 else specs
    quietly(
        lambda: model.export(
            path, format="onnx", verbose=False, input_signature=signature, opset_version=OPSET
        )
    )


def converted(model: keras.Model) -> bytes:
    """Return a Keras model as ONNX; raises as `write_onnx` does."""
    with tempfile.TemporaryDirectory() as folder, named_if_full(Path(folder)):
        write_onnx(model, path := Path(folder) / "model.onnx")
        return path.read_bytes()


def preprocessing(recipe: Recipe) -> bytes:
    """Return the graph from pixels to views."""
    relevant = recipe.preprocessing.model_copy(update={"augmentation": None})
    return _remembered_preprocessing(relevant.model_dump_json())


@lru_cache(maxsize=4)
def _remembered_preprocessing(preprocessing: str) -> bytes:
    # Remembered: it holds no weights, and takes ten times as long as the network.
    from onnx import TensorProto, helper

    recipe = Preprocessing.model_validate_json(preprocessing)
    if recipe.ela or recipe.input.kind == "resize":
        return converted(preprocessing_model(recipe))
    shape = ["N", *recipe.input_shape]
    ends = [helper.make_tensor_value_info(x, TensorProto.UINT8, shape) for x in (INPUT, VIEWS)]
    node = helper.make_node("Identity", [INPUT], [VIEWS])
    graph = helper.make_graph([node], "pixels", ends[:1], ends[1:])
    return bytes(helper.make_model(graph).SerializeToString())


def converted_elsewhere(network: keras.Model, recipe: Recipe, backend: str) -> tuple[bytes, bytes]:
    """Return what `converted` and `preprocessing` do, computed by another backend."""
    with tempfile.TemporaryDirectory() as name, named_if_full(Path(name)):
        folder = Path(name)
        (folder / "recipe.json").write_text(recipe.model_dump_json(), "utf-8")
        network.save_weights(folder / "network.weights.h5")
        done = subprocess.run(  # noqa: S603  (this very module)
            [sys.executable, "-m", "hf_ela.models.onnx_conversion", folder],
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


def _export_here(folder: Path) -> None:
    """Do the part of `converted_elsewhere` in the other process."""
    values = json.loads((folder / "recipe.json").read_text("utf-8"))
    recipe = parse_recipe(values, source="recipe.json")
    network = build_model(recipe)
    network.load_weights(folder / "network.weights.h5")
    (folder / "network.onnx").write_bytes(converted(network))
    (folder / "ela.onnx").write_bytes(preprocessing(recipe))


def quietly(work: Callable[[], Result]) -> Result:
    """Run a converter without its messages, and raise whatever it raises as `ExportError`."""
    # Otherwise tf2onnx copies the whole graph before each of its steps, to undo a step that fails,
    # which takes most of the time. Here a step that fails ends the export.
    before = os.environ.get("TF2ONNX_CATCH_ERRORS")
    os.environ["TF2ONNX_CATCH_ERRORS"] = "FALSE"
    try:
        with native_messages_held_back(), redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the converters' own, about their own code
            return work()
    except Exception as error:  # a converter raises any kind
        if disk_full(error):
            raise
        raise ExportError(
            f"Keras cannot export this model: {error!r:.1000}. Try another backend "
            "(KERAS_BACKEND), or another version of the exporter."
        ) from error
    finally:
        if before is None:
            del os.environ["TF2ONNX_CATCH_ERRORS"]
        else:
            os.environ["TF2ONNX_CATCH_ERRORS"] = before


def joined(network: bytes, preprocessing: bytes, recipe: Recipe) -> OnnxFiles:
    """Name the ends of both graphs, put one before the other, and say what they are."""
    import onnx

    # The names of both come from one converter, and clash.
    before = onnx.compose.add_prefix(onnx.load_from_string(preprocessing), "ela/")
    after = onnx.load_from_string(network)
    _name_ends(before.graph, INPUT, VIEWS)
    _name_ends(after.graph, VIEWS, OUTPUT)
    halve_onnx(after)
    # The exporters write one version; the identity above has that of the installed `onnx`.
    before.ir_version = after.ir_version
    del before.opset_import[:]
    before.opset_import.extend(after.opset_import)
    whole = onnx.compose.merge_models(before, after, io_map=[(VIEWS, VIEWS)])
    del whole.opset_import[:]  # it has those of both
    whole.opset_import.extend(after.opset_import)
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


if __name__ == "__main__":
    _export_here(Path(sys.argv[1]))
