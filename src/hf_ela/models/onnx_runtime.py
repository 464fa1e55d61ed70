"""A model as an ONNX file, run by ONNX Runtime: views in, probabilities out; no Keras.

The file goes from RGB pixels to probabilities. Here it is entered behind its ELA, which Pillow
computes: the same bits in a fifth of the time.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from hf_ela._threads import cores
from hf_ela.errors import ModelError
from hf_ela.models.guards import check_onnx, from_views
from hf_ela.models.settings import OUTPUT, VIEWS
from hf_ela.recipes.schema import LABELS, Recipe

__all__ = ["OnnxModel"]

MEMORY = 2**32
"""Bytes that all models of this process may work in: a file can ask for more than there is."""
PIXELS = 2**18
"""Of one step. Measured: a larger one is no faster, and takes more memory."""


class OnnxModel:
    """Gives the probabilities of views."""

    def __init__(self, data: bytes, recipe: Recipe) -> None:
        """Make a session of the contents of a file.

        Args:
            data: The file, as `hf_ela.models.export.export_onnx` wrote it.
            recipe: What it must have been made of.

        Raises:
            ModelError: ONNX Runtime cannot read it, or it is of another recipe, or reaches out of
                itself.
        """
        check_onnx(data, recipe)
        self._shape = recipe.input_shape
        self._step = max(1, PIXELS // recipe.input.size**2)
        network = from_views(data, recipe)
        expected = f"{OUTPUT}: tensor(float) {_product([len(LABELS)])}"
        try:
            self._session = _session(network)
            received = _described(self._session.get_outputs())
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise ModelError(
                f"An ONNX file must be one that ONNX Runtime can load. It says: {_short(error)}. "
                "It is damaged, or newer than this onnxruntime: copy or download the folder again, "
                "or pip install -U onnxruntime"
            ) from error
        if received != expected:
            raise ModelError(
                f"The ONNX file of this recipe gives {expected}. Received: {received:.300}. "
                "It is of another model: copy or download the folder again."
            )

    def probabilities(self, views: np.ndarray) -> np.ndarray:
        """Return the probabilities of views.

        Args:
            views: uint8, N x the recipe's `input_shape`; see `hf_ela.ela.views.evaluation_views`.

        Returns:
            float32 array, N x 2, in the order of `LABELS`.

        Raises:
            ValueError: The views are of another type or shape, or there are none.
            ModelError: The graph cannot be computed.
        """
        if views.dtype != np.uint8 or views.shape[1:] != self._shape or not len(views):
            raise ValueError(
                f"`views` must be uint8 of shape {_product(self._shape)}, N at least 1. "
                f"Received: {views.dtype} of shape {views.shape}."
            )
        steps = [self._run(views[at : at + self._step]) for at in range(0, len(views), self._step)]
        return np.concatenate(steps)

    def _run(self, views: np.ndarray) -> np.ndarray:
        try:
            (probabilities,) = self._session.run([OUTPUT], {VIEWS: views})
        except Exception as error:  # as above
            raise ModelError(
                "The graph of an ONNX file must run, in at most "
                f"{MEMORY:,} bytes of memory. ONNX Runtime says: {_short(error)}. It is damaged or "
                "made to do harm: do not use it."
            ) from error
        if probabilities.shape != (len(views), len(LABELS)):
            raise ModelError(
                f"{OUTPUT} of an ONNX file must have the shape {(len(views), len(LABELS))}. "
                f"Received: {probabilities.shape}. It is damaged or made to do harm: do not use it."
            )
        return np.asarray(probabilities)


def _session(data: bytes) -> Any:
    import onnxruntime

    _share_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    options.log_severity_level = 4  # only what is fatal: errors come as exceptions
    for key, value in {
        "session.intra_op.allow_spinning": "0",  # threads that wait take no processor time
        "session.load_model_format": "ONNX",  # and not a layout of its own that we do not check
        "session.use_env_allocators": "1",
    }.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(
        data, options, providers=["CPUExecutionProvider"], enable_fallback=False
    )


@cache
def _share_memory() -> None:
    """Make the memory that sessions of this process share, and that ends at `MEMORY`."""
    import onnxruntime

    kind, place = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, place)
    exact = {"max_mem": MEMORY, "arena_extend_strategy": 1}  # by as much as is asked for
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(exact))


def _described(outputs: Sequence[Any]) -> str:
    return "; ".join(
        f"{end.name}: {end.type} {_product(end.shape[1:])}"
        if end.shape and not isinstance(end.shape[0], int)
        else f"{end.name}: {end.type} {end.shape}"
        for end in outputs
    )


def _product(shape: Sequence[int]) -> str:
    return " x ".join(map(str, ["N", *shape]))


def _short(error: Exception) -> str:
    return str(error)[:300]
