"""The folder of a saved model: written, and read back, without trusting it.

Keras's own `config.json`, `metadata.json` and `model.weights.h5`, so that Keras alone can load it
too, and `hf_ela.json` (`Settings`), the only description that we read: the network is rebuilt from
the validated recipe in it, so that nothing from the folder is unpickled or run. Weights that any
backend wrote load in any other.

File names are constants, and the weights are checked to lie in one file: nothing that a folder says
leads out of it. Symbolic links are followed: only who owns the folder makes them, as the cache of
the Hub's client does.
"""

import platform
import shutil
import warnings
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from uuid import uuid4

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import from_json

from hf_ela import __version__
from hf_ela.errors import ModelError
from hf_ela.recipe import Recipe
from hf_ela.views import pixel_versions
from hf_ela.weights import check_weights

if TYPE_CHECKING:
    from hf_ela.backend import keras

__all__ = ["SCHEMA", "Settings", "read_json", "read_model", "read_settings", "write_model"]

Model = TypeVar("Model", bound=BaseModel)

SCHEMA = 1
"""Version of `hf_ela.json`; raised whenever an older hf-ela could no longer read it."""
SETTINGS_FILE = "hf_ela.json"
WEIGHTS_FILE = "model.weights.h5"
JSON_LIMIT = 2**24
"""Bytes of JSON that are read: room for 100,000 refused images."""
FILES = frozenset({"config.json", "metadata.json", WEIGHTS_FILE, SETTINGS_FILE})


class Settings(BaseModel):
    """What `hf_ela.json` holds: all that prediction needs beside the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    schema_version: Literal[1] = Field(alias="schema")
    labels: tuple[Literal["fake"], Literal["real"]]
    recipe: Recipe
    temperature: Annotated[float, Field(gt=0)]
    threshold: Annotated[float, Field(ge=0, le=1)]
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    data: dict[str, JsonValue] | None
    versions: dict[str, str]


def read_model(folder: Path) -> tuple["keras.Model", Settings]:
    """Return the network and the settings of a saved model, or of a run folder's `weights/`.

    Raises:
        ModelError: There is no usable model: no folder, no or damaged settings, settings of a
            newer hf-ela, or weights that are missing, damaged or of another network.
        BackendError: No Keras backend is installed.
    """
    folder = _saved_folder(folder)
    settings = read_settings(folder / SETTINGS_FILE)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise ModelError(
            f"A saved model has its weights in {WEIGHTS_FILE}. Received: {folder}, without it. "
            "Copy or download the whole folder again."
        )
    digest = _sha256(weights)
    if digest != settings.weights_sha256:
        raise ModelError(
            f"The weights must have the checksum that {SETTINGS_FILE} states, "
            f"{settings.weights_sha256}. Received: {weights} with {digest}. "
            "It is damaged or of another model: copy or download the folder again."
        )
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
    return network, settings


def write_model(
    folder: Path,
    model: "keras.Model",
    recipe: Recipe,
    *,
    temperature: float,
    threshold: float,
    data: dict[str, Any] | None,
) -> None:
    """Write a saved model; `ElaClassifier.save_pretrained` says how.

    Raises:
        ModelError: At `folder` is something that is not a saved model.
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
        settings = Settings(
            schema=1,
            labels=("fake", "real"),
            recipe=recipe,
            temperature=temperature,
            threshold=threshold,
            weights_sha256=_sha256(temporary / WEIGHTS_FILE),
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
    from hf_ela.model import build_model

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return build_model(recipe)
    finally:
        keras.config.set_dtype_policy(policy)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


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


def read_settings(path: Path) -> Settings:
    """Read and validate `hf_ela.json`.

    Raises:
        ModelError: It is too large, no JSON, of a newer hf-ela, or not valid.
    """
    return read_json(path, Settings, SCHEMA)


def read_json(path: Path, kind: type[Model], schema: int) -> Model:
    """Read JSON that anybody may have written; of a key that comes twice, the last counts.

    Raises:
        ModelError: It is too large, no JSON, of a schema above `schema`, or not a valid `kind`.
    """
    with path.open("rb") as file:
        text = file.read(JSON_LIMIT + 1)
    if len(text) > JSON_LIMIT:
        raise ModelError(
            f"{path.name} has at most {JSON_LIMIT:,} bytes. Received: {path}, which is larger. "
            "It is damaged, or was not made by hf-ela: do not use it."
        )
    try:
        values = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise ModelError(f"{path} must be JSON: {error}. Copy the folder again.") from None
    found = values.get("schema") if isinstance(values, dict) else None
    if isinstance(found, int) and found > schema:
        raise ModelError(
            f"`schema` of {path} must be at most {schema} for hf-ela {__version__}. "
            f"Received: schema={found}, of a newer version. Upgrade: pip install -U hf-ela"
        )
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        problems = [
            f"`{'.'.join(map(str, problem['loc']))[:100]}`: {problem['msg'][:300]}"
            for problem in error.errors(include_url=False)[:12]  # not a book, of a hostile file
        ]
        raise ModelError(
            f"{path} is not valid: {'; '.join(problems)}. Copy the folder again, or save the model "
            "again."
        ) from None


def _refuse_foreign(folder: Path) -> None:
    """Refuse to replace what is not a saved model."""
    if not folder.exists():
        return
    foreign = sorted({path.name for path in folder.iterdir()} - FILES) if folder.is_dir() else None
    if foreign == []:
        return
    found = f"a folder with {foreign[0]}" if foreign else "a file"
    raise ModelError(
        "A model is saved to a new or empty folder, or replaces a saved model. "
        f"Received: {folder}, {found}. Choose another folder."
    )
