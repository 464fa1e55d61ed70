"""The one place that imports Keras, after choosing a backend that is installed.

Import Keras from here: ``from hf_ela.backend import keras``.
"""

from hf_ela.backend_choice import choose_backend

choose_backend()
import keras  # noqa: E402  (only after the choice)

__all__ = ["has_gpu", "keras"]


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
