"""Several devices that share each batch, with Keras on JAX: every one holds all the weights."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from hf_ela.backend import choose_backend, keras
from hf_ela.errors import BackendError, RunError
from hf_ela.recipes.networks import Transfer
from hf_ela.recipes.schema import Recipe


def check_devices(devices: int, recipe: Recipe) -> None:
    """Refuse what cannot be shared among devices, before any work; Keras is not started.

    Raises:
        BackendError: The backend is not JAX.
        RunError: The recipe's batches cannot be shared evenly, or its backbone is frozen.
    """
    if devices < 1:
        raise RunError(f"`devices` must be at least 1. Received: {devices}.")
    if devices == 1:
        return
    if (backend := choose_backend()) != "jax":
        raise BackendError(
            f"Training on several devices requires Keras on JAX. Received: {backend}. Set "
            "KERAS_BACKEND=jax."
        )
    if recipe.training.batch_size % devices:
        raise RunError(
            "The devices share each batch: training.batch_size must be a multiple of their number. "
            f"Received: training.batch_size={recipe.training.batch_size}, devices={devices}."
        )
    if isinstance(recipe.network, Transfer) and not recipe.network.trainable_blocks:
        raise RunError(
            "What lies behind a frozen backbone is trained on one device, in seconds. Leave out "
            "`devices`, or raise network.trainable_blocks."
        )


def shared_among(devices: int) -> AbstractContextManager[Any]:
    """Return the scope in which Keras makes a model of which each batch is shared among devices.

    Raises:
        RunError: There are fewer.
    """
    if devices == 1:
        return nullcontext()
    there = keras.distribution.list_devices()
    if len(there) < devices:
        raise RunError(
            f"`devices` must be at most the number of devices that JAX has. Received: {devices}; "
            f"there: {', '.join(there)}."
        )
    distribution = keras.distribution.DataParallel(devices=there[:devices])
    return distribution.scope()  # type: ignore[no-any-return]  # Keras has no types
