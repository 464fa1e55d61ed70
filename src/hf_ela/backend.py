"""The one place that imports Keras, after choosing a backend that is installed.

Keras takes TensorFlow when ``KERAS_BACKEND`` is unset and fails where it is missing, so the
choice is made here first. Import Keras from here: ``from hf_ela.backend import keras``.
"""

import os
import sys
from importlib.util import find_spec

from hf_ela.errors import BackendError

BACKENDS = ("tensorflow", "jax", "torch")


def choose_backend() -> str:
    """Return the Keras backend to use, and set ``KERAS_BACKEND`` when it is unset.

    Raises:
        BackendError: None of tensorflow, jax and torch is installed.
    """
    if "KERAS_BACKEND" not in os.environ and "keras" not in sys.modules:
        installed = next((name for name in BACKENDS if find_spec(name)), None)
        if installed is None:
            raise BackendError(
                "Keras needs one of its backends: tensorflow, jax or torch. None is installed. "
                'Install one, for example: pip install "hf-ela[jax]"'
            )
        os.environ["KERAS_BACKEND"] = installed
    return os.environ.get("KERAS_BACKEND", "tensorflow")


choose_backend()
import keras  # noqa: E402  (only after the choice)

__all__ = ["BACKENDS", "choose_backend", "has_gpu", "keras"]


def has_gpu() -> bool:
    """Return whether the backend computes on a GPU; Keras asks alike only on some of them."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow

            return bool(tensorflow.config.list_physical_devices("GPU"))
        case "jax":
            import jax

            return bool(jax.default_backend() == "gpu")
        case _:
            import torch

            return bool(torch.cuda.is_available())
