"""`hf_ela.json`, the description of a saved model: what it holds, and reading it without trust."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from hf_ela._files import read_json
from hf_ela.errors import ModelError
from hf_ela.recipes.schema import Recipe

__all__ = [
    "INPUT",
    "OUTPUT",
    "SCHEMA",
    "SETTINGS_FILE",
    "VIEWS",
    "Runtime",
    "Settings",
    "read_settings",
]

Runtime = Literal["onnx", "keras"]
"""What computes the probabilities: ONNX Runtime or Keras."""

SCHEMA: Final = 4
"""Version of `hf_ela.json`; raised whenever an older hf-ela could no longer read it."""
SETTINGS_FILE = "hf_ela.json"
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


INPUT, VIEWS, OUTPUT = "pixels", "views", "probabilities"
"""Tensors of an exported graph: its input, what the network in it takes, its output."""
