"""The folder of a saved model: written, and read back, without trusting it.

Keras's own `config.json`, `metadata.json` and `model.weights.h5`, so that Keras alone can load the
model too; `model.onnx` and `network.onnx`, which do not need Keras; and `hf_ela.json` (`Settings`),
the only description that is read: the network is rebuilt from the validated recipe in it, so that
nothing from the folder is unpickled or run. Weights that any backend wrote load in any other.

File names are constants, and `hf_ela.models.guards` checks that each file holds all of its numbers:
nothing in a folder leads out of it. Symbolic links are followed: only the owner of the folder can
make them, as the cache of the Hub's client does.
"""

import json
import platform
import shutil
import warnings
from collections.abc import Sequence
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from hf_ela._files import TEMPORARY, named_if_full
from hf_ela._version import __version__
from hf_ela.backend import choose_backend
from hf_ela.ela.views import pixel_versions
from hf_ela.errors import ModelError
from hf_ela.models.guards import check_weights, largest_weights
from hf_ela.models.onnx_runtime import OnnxModel
from hf_ela.models.settings import (
    NETWORK_FILE,
    ONNX_FILE,
    SCHEMA,
    SETTINGS_FILE,
    WEIGHTS_FILE,
    ModelFile,
    Runtime,
    Settings,
    read_settings,
)
from hf_ela.recipes.schema import Recipe

if TYPE_CHECKING:
    from hf_ela.backend import keras
    from hf_ela.models.detector import Detector

_ALWAYS = frozenset({"config.json", "metadata.json", WEIGHTS_FILE, SETTINGS_FILE})
_ONNX_FILES = frozenset({ONNX_FILE, NETWORK_FILE})
_NEW_IN_KERAS = {
    "input_axes": None,  # of initialisers, 3.15
    "output_axes": None,
    "renorm": False,  # of BatchNormalization, 3.14
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
}


def saved_files(folder: Path) -> list[str]:
    """Return the names of the files of a saved model, its ONNX files where it was saved with them.

    Raises:
        ModelError: Its settings are not valid.
    """
    path = folder / SETTINGS_FILE
    with_onnx = path.is_file() and read_settings(path).with_onnx
    return sorted(_ALWAYS | _ONNX_FILES if with_onnx else _ALWAYS)


def read_model(
    folder: Path,
    runtime: Runtime | None = None,
    threads: int | None = None,
    providers: Sequence[str] | None = None,
) -> tuple["OnnxModel | keras.Model", Settings]:
    """Return a saved model, or that of a run folder's `weights/`, and its settings.

    Args:
        folder: The folder of the model, or of the run.
        runtime: ``onnx`` for the network as ONNX, ``keras`` for a Keras network; None for ONNX
            where the model was saved with it.
        threads: As for `OnnxModel`.
        providers: As for `OnnxModel`.

    Raises:
        ValueError: There are `providers`, but the model runs on Keras.
        ModelError: The folder does not exist or does not hold a usable model.
        BackendError: The Keras network is needed, and Keras or its backend is not installed.
    """
    folder = _saved_folder(folder)
    settings = read_settings(folder / SETTINGS_FILE)
    if settings.runtime(runtime) == "onnx":
        return _read_onnx(folder, settings, threads, providers), settings
    if providers:
        raise ValueError(
            "`providers` are those of ONNX Runtime, and this model runs on Keras. Leave them out."
        )
    return _read_network(folder, settings), settings


def read_network(folder: Path) -> "keras.Model":
    """Return the Keras network of a saved model; raises as `read_model` does."""
    return read_model(folder, "keras")[0]


def _read_onnx(
    folder: Path, settings: Settings, threads: int | None, providers: Sequence[str] | None
) -> OnnxModel:
    path = _file_of(folder, NETWORK_FILE)
    with path.open("rb") as file:  # once, so that what is checked is what is run
        data = file.read(largest_weights(settings.recipe) + 1)
    _check_sha256(path, sha256(data).hexdigest(), settings.sha256[NETWORK_FILE])
    return OnnxModel(data, settings.recipe, threads, providers)


def checked_weights(folder: Path) -> tuple[Path, Settings]:
    """Return the weights of a saved model, whose checksum is right, and its settings.

    Raises:
        ModelError: The folder does not exist or does not hold a usable model.
    """
    folder = _saved_folder(folder)
    settings = read_settings(folder / SETTINGS_FILE)
    weights = _file_of(folder, WEIGHTS_FILE)
    _check_sha256(weights, _sha256(weights), settings.sha256[WEIGHTS_FILE])
    return weights, settings


def _read_network(folder: Path, settings: Settings) -> "keras.Model":
    weights, _ = checked_weights(folder)
    choose_backend()  # h5py, which reads them, comes with Keras
    check_weights(weights, settings.recipe)
    network = _full_precision_network(settings.recipe)
    try:
        with warnings.catch_warnings():
            # Keras only warns where it leaves a layer at its random start.
            warnings.simplefilter("error", UserWarning)
            network.load_weights(weights)
    except (ValueError, KeyError, OSError, RuntimeError, UserWarning) as error:
        raise ModelError(
            f"The weights must fit the network of the recipe in {SETTINGS_FILE}. Received: "
            f"{weights}, which Keras cannot load: {error}. Copy or download the folder again."
        ) from error
    return network


def write_model(
    folder: Path, detector: "Detector", *, data: dict[str, Any] | None, onnx: bool
) -> None:
    """Write a saved model, with or without its ONNX files; see `ElaClassifier.save_pretrained`.

    Raises:
        ModelError: `folder` exists and is not a saved model.
        ExportError: The ONNX files cannot be made.
        RunError: The disk is full.
    """
    folder = folder.resolve()
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f"{TEMPORARY}{uuid4().hex}")
    try:
        with named_if_full(folder):
            _write_files(temporary, detector, data, onnx)
        previous = temporary.with_name(f"{temporary.name}.old")
        if folder.exists():
            folder.replace(previous)
        temporary.replace(folder)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_files(
    folder: Path, detector: "Detector", data: dict[str, Any] | None, onnx: bool
) -> None:
    from hf_ela.backend import keras
    from hf_ela.models.half_precision import halve_weights
    from hf_ela.models.networks import built_in_model

    # A new network is not compiled and in full precision, whatever training used.
    network = _full_precision_network(detector.recipe)
    network.set_weights(detector.model.get_weights())
    built_in_model(network, detector.recipe).save(folder, zipped=False)
    _let_older_keras_read(folder / "config.json")
    halve_weights(folder / WEIGHTS_FILE)
    (folder / "assets").rmdir()  # Keras always makes it; built-in layers leave it empty
    files: list[ModelFile] = [WEIGHTS_FILE]
    if onnx:
        from hf_ela.models.export import onnx_files

        exported = onnx_files(network, detector.recipe)
        (folder / ONNX_FILE).write_bytes(exported.from_pixels)
        (folder / NETWORK_FILE).write_bytes(exported.from_views)
        files += [ONNX_FILE, NETWORK_FILE]
    settings = Settings(
        schema=SCHEMA,
        labels=("fake", "real"),
        recipe=detector.recipe,
        temperature=detector.temperature,
        threshold=detector.threshold,
        uncertain=detector.uncertain,
        false_alarms=detector.false_alarms,
        frequencies=detector.frequencies,
        sha256={name: _sha256(folder / name) for name in files},
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
    (folder / SETTINGS_FILE).write_text(text + "\n", "utf-8")


def _let_older_keras_read(config: Path) -> None:
    """Leave out arguments that Keras 3.13 or 3.14 refuse, where they have their defaults."""

    def known(values: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if _NEW_IN_KERAS.get(key, ...) != value}

    config.write_text(json.dumps(json.loads(config.read_text("utf-8"), object_hook=known)), "utf-8")


def _full_precision_network(recipe: Recipe) -> "keras.Model":
    # Imported here: a problem with a folder is reported before a backend takes seconds to start.
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


def _file_of(folder: Path, name: str) -> Path:
    if not (path := folder / name).is_file():
        raise ModelError(
            f"{folder} does not hold {name}, which {SETTINGS_FILE} names. Copy or download the "
            "whole folder again."
        )
    return path


def _check_sha256(path: Path, digest: str, stated: str) -> None:
    if digest != stated:
        raise ModelError(
            f"{path.name} must have the checksum {stated}, as {SETTINGS_FILE} states. Received: "
            f"{path} with {digest}. It is corrupt or belongs to another model: copy or download "
            "the folder again."
        )


def _saved_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise ModelError(
            "A model must be a folder that `save_pretrained` wrote, or a run folder. "
            f"Received: {folder}, which is not a folder. Check the path."
        )
    for place in (folder, folder / "weights"):
        if (place / SETTINGS_FILE).is_file():
            return place
    raise ModelError(
        f"The folder of a saved model must hold {SETTINGS_FILE}. Received: {folder}, without it. "
        "Name the folder that `save_pretrained` wrote, or that of a finished run."
    )


def _refuse_foreign(folder: Path) -> None:
    """Refuse to replace anything but a saved model."""
    if not folder.exists():
        return
    own = _ALWAYS | _ONNX_FILES
    foreign = sorted({path.name for path in folder.iterdir()} - own) if folder.is_dir() else None
    if foreign == []:
        return
    found = f"a folder with {foreign[0]}" if foreign else "a file"
    raise ModelError(
        "A model is saved to a new or empty folder, or replaces a saved model. "
        f"Received: {folder}, which is {found}. Choose another folder."
    )
