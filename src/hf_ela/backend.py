"""The one place that imports Keras, after choosing an installed backend.

Import Keras from here: ``from hf_ela.backend import keras``. Importing this module alone does not
start a backend, which takes seconds, so that problems can be reported before.
"""

import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_ela.errors import BackendError, install_command

if TYPE_CHECKING:
    import keras as keras  # exported

BACKENDS = ("tensorflow", "jax", "torch")


def __getattr__(name: str) -> Any:
    if name != "keras":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    choose_backend()
    import keras

    # The user's keras.json may say otherwise; this package computes in this way alone.
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    return keras


def choose_backend() -> str:
    """Return the Keras backend to use, and set ``KERAS_BACKEND`` when it is unset.

    With ``KERAS_BACKEND`` unset, Keras would choose TensorFlow and fail where it is missing; this
    chooses the first of `BACKENDS` that is installed.

    Raises:
        BackendError: Keras or every backend is missing, or ``KERAS_BACKEND`` names a missing one.
    """
    named = os.environ.get("KERAS_BACKEND")
    if sys.modules.get("keras"):
        return named or "tensorflow"
    if find_spec("keras") is None:
        raise BackendError(
            "The Keras runtime requires Keras and one of its backends: tensorflow, jax or torch. "
            f"Keras is not installed. Install both, for example: {install_command('jax')}"
        )
    installed = [name for name in BACKENDS if find_spec(name)]
    if named and named not in installed:
        raise BackendError(
            f"KERAS_BACKEND must name an installed backend. Received: {named}; installed: "
            f"{', '.join(installed) or 'none'}. Unset it, or install that backend."
        )
    if not installed:
        raise BackendError(
            "Keras requires one of its backends: tensorflow, jax or torch. None is installed. "
            f"Install one, for example: {install_command('jax')}"
        )
    return os.environ.setdefault("KERAS_BACKEND", installed[0])


def has_gpu() -> bool:
    """Return whether the backend computes on a GPU; Keras has no one call for all backends."""
    import keras

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


def detected_processes() -> tuple[str, int, int] | None:
    """Return where rank 0 listens, how many processes there are and the rank of this one.

    They are what JAX finds in the environment, such as that of Slurm; else None, also where a
    version of JAX looks otherwise: what `jax.distributed.initialize()` asks is not public.
    """
    try:
        from jax._src.clusters import ClusterEnv

        found = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, [], None, 300)
    except (ImportError, TypeError):
        return None
    return None if None in found else found[:3]


def join_processes(coordinator: str, processes: int, rank: int) -> None:
    """Let JAX see the devices of all processes; nothing of JAX may have been used before."""
    import jax

    jax.distributed.initialize(coordinator, processes, rank, shutdown_timeout_seconds=60)


def process_count() -> int:
    """Return the number of processes whose devices the backend sees."""
    if choose_backend() != "jax":
        return 1
    import jax

    return int(jax.process_count())


def leave_processes() -> None:
    """Leave the other processes, when they leave too; this one's devices can still be used."""
    import jax

    jax.distributed.shutdown()


def wait_for_processes() -> None:
    """Wait until all processes are here."""
    from jax.experimental.multihost_utils import sync_global_devices

    sync_global_devices("hf_ela")


def devices_of_processes(each: int) -> list[list[str]]:
    """Return Keras's names of JAX's devices, so many of each process or fewer, by rank."""
    import jax

    names: list[list[str]] = [[] for _ in range(jax.process_count())]
    for device in jax.devices():
        names[device.process_index].append(f"{device.platform}:{device.id}")
    return [found[:each] for found in names]


def litert_interpreter(path: Path) -> Any:
    """Return TensorFlow's interpreter of a LiteRT file."""
    import tensorflow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a new name for it in a later release
        return tensorflow.lite.Interpreter(str(path))
