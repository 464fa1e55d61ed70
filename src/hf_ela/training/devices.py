"""Several devices that share each batch, with Keras on JAX: every one holds all the weights."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from hf_ela.backend import choose_backend, devices_of_processes, process_count
from hf_ela.errors import BackendError, RunError
from hf_ela.recipes.networks import Transfer
from hf_ela.recipes.schema import Recipe
from hf_ela.training.processes import Processes


def check_devices(devices: int, recipe: Recipe, processes: Processes | None = None) -> None:
    """Refuse what cannot be shared among devices, before any work; Keras is not started.

    Raises:
        BackendError: The backend is not JAX.
        RunError: The recipe's batches cannot be shared evenly, or its backbone is frozen.
    """
    if devices < 1:
        raise RunError(f"`devices` must be at least 1. Received: {devices}.")
    if processes:
        processes.check()
        devices *= processes.number
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
            "`devices`, or choose a recipe that trains its whole network, such as scratch."
        )


def shared_among(devices: int) -> AbstractContextManager[Any]:
    """Return the scope in which Keras makes models of which each batch is shared among devices.

    Args:
        devices: How many of each process that has joined.

    Raises:
        RunError: There are fewer.
    """
    from hf_ela.backend import keras  # starts it

    if devices == process_count() == 1:
        return nullcontext()
    there = devices_of_processes(devices)
    if any(len(names) < devices for names in there):
        raise RunError(
            "`devices` must be at most the number of devices that JAX has. Received: "
            f"{devices}; there: {'; '.join(map(', '.join, there))}."
        )
    names = [name for found in there for name in found]
    # Each process makes its own part of a batch.
    distribution = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
    return distribution.scope()  # type: ignore[no-any-return]  # Keras has no types


@contextmanager
def not_shared() -> Iterator[None]:
    """Make no variables in the block that all processes would have to make at once.

    To find what is saved, Keras makes an optimizer, once in a process.
    """
    from hf_ela.backend import keras

    shared = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(shared)
