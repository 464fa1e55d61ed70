"""`hf_ela.json`, the description of a saved model: what it holds, and reading it without trust."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic_core import from_json

from hf_ela import __version__
from hf_ela.errors import ModelError
from hf_ela.recipe import Recipe

__all__ = ["SCHEMA", "SETTINGS_FILE", "Runtime", "Settings", "read_json", "read_settings"]

Model = TypeVar("Model", bound=BaseModel)
Runtime = Literal["onnx", "keras"]
"""What computes the probabilities: ONNX Runtime or Keras."""

SCHEMA: Final = 4
"""Version of `hf_ela.json`; raised whenever an older hf-ela could no longer read it."""
SETTINGS_FILE = "hf_ela.json"
JSON_LIMIT = 2**24
"""Bytes of JSON that are read: room for 100,000 refused images."""
Probability = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Settings(BaseModel):
    """What `hf_ela.json` holds: all that prediction needs beside the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    # 1 was without `onnx_sha256`, 2 without `uncertain`, 3 without `ela.with_pixels` in the recipe.
    schema_version: Literal[1, 2, 3, 4] = Field(alias="schema")
    labels: tuple[Literal["fake"], Literal["real"]]
    recipe: Recipe
    temperature: Annotated[float, Field(gt=0)]
    threshold: Probability
    uncertain: tuple[Probability, Probability] | None = None
    weights_sha256: Sha256
    onnx_sha256: Sha256 | None = None
    data: dict[str, JsonValue] | None
    versions: dict[str, str]

    @model_validator(mode="after")
    def _check_band(self) -> Self:
        if self.uncertain and not self.uncertain[0] <= self.threshold <= self.uncertain[1]:
            raise ValueError(
                "`uncertain` must be [low, high] with the threshold in between. Received: "
                f"{list(self.uncertain)} with threshold={self.threshold}."
            )
        return self

    def runtime(self, asked: Runtime | None = None) -> Runtime:
        """Return what runs the model: what was asked for, or ONNX Runtime where it has a file.

        Raises:
            ValueError: `asked` is neither ``onnx`` nor ``keras``.
            ModelError: ``onnx`` was asked for, and the model was saved without.
        """
        if asked not in ("onnx", "keras", None):
            raise ValueError(f"`runtime` must be 'onnx', 'keras' or None. Received: {asked!r}.")
        if asked == "onnx" and not self.onnx_sha256:
            raise ModelError(
                "With runtime='onnx', a model must have been saved with an ONNX file. Received: "
                f"{SETTINGS_FILE} that names none. Leave `runtime` out, or save the model again."
            )
        return asked or ("onnx" if self.onnx_sha256 else "keras")


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
