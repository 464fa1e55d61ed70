"""The folder of a saved model: written, and read back, without trusting it.

Keras's own `config.json`, `metadata.json` and `model.weights.h5`, so that Keras alone can load it
too, `model.onnx`, which needs no Keras, and `hf_ela.json` (`Settings`), the only description that
we read: the network is rebuilt from the validated recipe in it, so that nothing from the folder is
unpickled or run. Weights that any backend wrote load in any other.

File names are constants, and weights and ONNX are checked to lie in one file each: nothing that a
folder says leads out of it. Symbolic links are followed: only who owns the folder makes them, as
the cache of the Hub's client does.
"""

import platform
import shutil
import warnings
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from hf_ela._version import __version__
from hf_ela.ela.views import pixel_versions
from hf_ela.errors import ModelError
from hf_ela.models.guards import check_weights, largest_weights
from hf_ela.models.onnx_runtime import OnnxModel
from hf_ela.models.settings import SCHEMA, SETTINGS_FILE, Runtime, Settings, read_settings
from hf_ela.recipes.schema import Recipe

if TYPE_CHECKING:
    from hf_ela.backend import keras

__all__ = ["read_model", "read_network", "saved_files", "write_model"]

WEIGHTS_FILE = "model.weights.h5"
ONNX_FILE = "model.onnx"
_ALWAYS = frozenset({"config.json", "metadata.json", WEIGHTS_FILE, SETTINGS_FILE})


def saved_files(folder: Path) -> list[str]:
    """Return the names of the files of a saved model: `model.onnx` where it was saved with it.

    Raises:
        ModelError: Its settings are not valid.
    """
    path = folder / SETTINGS_FILE
    with_onnx = path.is_file() and read_settings(path).onnx_sha256 is not None
    return sorted({*_ALWAYS, ONNX_FILE} if with_onnx else _ALWAYS)


def read_model(
    folder: Path, runtime: Runtime | None = None
) -> tuple["OnnxModel | keras.Model", Settings]:
    """Return a saved model, or that of a run folder's `weights/`, and its settings.

    Args:
        folder: Its folder.
        runtime: Whether it comes as ONNX, or as a network of Keras; None is for ONNX where it was
            saved with it.

    Raises:
        ModelError: There is no usable model: no folder, no or damaged settings, settings of a
            newer hf-ela, or weights or ONNX that are missing, damaged or of another network.
        BackendError: It is to come from Keras, and it or a backend of it is not installed.
    """
    folder = _saved_folder(folder)
    settings = read_settings(folder / SETTINGS_FILE)
    read = _read_onnx if settings.runtime(runtime) == "onnx" else _read_network
    return read(folder, settings), settings


def read_network(folder: Path) -> "keras.Model":
    """Return the Keras network of a saved model; raises as `read_model` does."""
    return read_model(folder, "keras")[0]


def _read_onnx(folder: Path, settings: Settings) -> OnnxModel:
    path = folder / ONNX_FILE
    if not path.is_file():
        raise ModelError(
            f"{SETTINGS_FILE} names {ONNX_FILE}, which lies beside it. Received: {folder}, without "
            "it. Copy or download the whole folder again, or take runtime='keras'."
        )
    with path.open("rb") as file:  # once, so that what is checked is what is run
        data = file.read(largest_weights(settings.recipe) + 1)
    digest = sha256(data).hexdigest()
    if digest != settings.onnx_sha256:
        raise _other_contents(path, digest, str(settings.onnx_sha256))
    return OnnxModel(data, settings.recipe)


def _read_network(folder: Path, settings: Settings) -> "keras.Model":
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise ModelError(
            f"A saved model has its weights in {WEIGHTS_FILE}. Received: {folder}, without it. "
            "Copy or download the whole folder again."
        )
    digest = _sha256(weights)
    if digest != settings.weights_sha256:
        raise _other_contents(weights, digest, settings.weights_sha256)
    check_weights(weights, settings.recipe)
    network = _full_precision_network(settings.recipe)
    try:
        with warnings.catch_warnings():
            # Keras only warns where it leaves a layer at its random start.
            warnings.simplefilter("error", UserWarning)
            network.load_weights(weights)
    except (ValueError, KeyError, OSError, UserWarning) as error:
        raise ModelError(
            f"The weights must fit the network of the recipe in {SETTINGS_FILE}. "
            f"Received: {weights}, of which Keras says: {error}"
        ) from error
    return network


def write_model(
    folder: Path,
    model: "keras.Model",
    recipe: Recipe,
    *,
    temperature: float,
    threshold: float,
    uncertain: tuple[float, float] | None,
    data: dict[str, Any] | None,
    onnx: bool,
) -> None:
    """Write a saved model, with its ONNX file or without; `ElaClassifier.save_pretrained` says how.

    Raises:
        ModelError: At `folder` is something that is not a saved model.
        ExportError: The ONNX file cannot be made.
    """
    from hf_ela.backend import keras

    folder = folder.resolve()
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}")
    try:
        # A fresh network is neither compiled nor of mixed precision, whatever training was.
        network = _full_precision_network(recipe)
        network.set_weights(model.get_weights())
        network.save(temporary, zipped=False)
        (temporary / "assets").rmdir()  # Keras makes it for every model; built-in layers have none
        if onnx:
            from hf_ela.models.export import export_onnx

            export_onnx(network, recipe, temporary / ONNX_FILE)
        settings = Settings(
            schema=SCHEMA,
            labels=("fake", "real"),
            recipe=recipe,
            temperature=temperature,
            threshold=threshold,
            uncertain=uncertain,
            weights_sha256=_sha256(temporary / WEIGHTS_FILE),
            onnx_sha256=_sha256(temporary / ONNX_FILE) if onnx else None,
            data=data,
            versions={
                "hf_ela": __version__,
                "keras": keras.__version__,
                "backend": keras.config.backend(),
                "numpy": np.__version__,
                "python": platform.python_version(),
                **pixel_versions(),
            },
        )
        text = settings.model_dump_json(by_alias=True, indent=2)
        (temporary / SETTINGS_FILE).write_text(text + "\n", "utf-8")
        previous = temporary.with_name(f"{temporary.name}.old")
        if folder.exists():
            folder.replace(previous)
        temporary.replace(folder)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _full_precision_network(recipe: Recipe) -> "keras.Model":
    # Imported here: what is wrong with a folder is said before a backend takes seconds to start.
    from hf_ela.backend import keras
    from hf_ela.models.networks import build_model

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return build_model(recipe)
    finally:
        keras.config.set_dtype_policy(policy)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _other_contents(path: Path, digest: str, stated: str) -> ModelError:
    return ModelError(
        f"{path.name} must have the checksum that {SETTINGS_FILE} states, {stated}. Received: "
        f"{path} with {digest}. It is damaged or of another model: copy or download the folder "
        "again."
    )


def _saved_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise ModelError(
            "A model must be a folder that `save_pretrained` wrote, or a run folder. "
            f"Received: {folder}, which is no folder. Train a model with train.py, or check the "
            "path."
        )
    for place in (folder, folder / "weights"):
        if (place / SETTINGS_FILE).is_file():
            return place
    raise ModelError(
        f"The folder of a saved model must hold {SETTINGS_FILE}. Received: {folder}, without it. "
        "Give the folder that `save_pretrained` wrote, or that of a run that has ended."
    )


def _refuse_foreign(folder: Path) -> None:
    """Refuse to replace what is not a saved model."""
    if not folder.exists():
        return
    own = {*_ALWAYS, ONNX_FILE}
    foreign = sorted({path.name for path in folder.iterdir()} - own) if folder.is_dir() else None
    if foreign == []:
        return
    found = f"a folder with {foreign[0]}" if foreign else "a file"
    raise ModelError(
        "A model is saved to a new or empty folder, or replaces a saved model. "
        f"Received: {folder}, {found}. Choose another folder."
    )
