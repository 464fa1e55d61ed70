"""`hf_ela.json`, the description of a saved model, and the names of the files beside it."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from hf_ela._files import read_json
from hf_ela.errors import ModelError
from hf_ela.models.calibrated import Frequencies, Probability
from hf_ela.recipes.schema import Recipe

Runtime = Literal["onnx", "keras"]
"""What computes the probabilities: ONNX Runtime or Keras."""

SCHEMA: Final = 1
"""Version of `hf_ela.json`; raised whenever an older hf-ela could no longer read it."""
SETTINGS_FILE = "hf_ela.json"
WEIGHTS_FILE: Final = "model.weights.h5"
"""The weights, in Keras's own layout."""
ONNX_FILE: Final = "model.onnx"
"""From RGB pixels to probabilities, with ELA inside: for browsers and other programs."""
NETWORK_FILE: Final = "network.onnx"
"""From views to probabilities: what this package runs. Pillow computes the ELA before it, the same
bits in a fifth of the time."""
INPUT, VIEWS, OUTPUT = "pixels", "views", "probabilities"
"""Tensors of the ONNX files: the inputs of `ONNX_FILE` and `NETWORK_FILE`, and their output."""

ModelFile = Literal["model.weights.h5", "model.onnx", "network.onnx"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Settings(BaseModel):
    """What `hf_ela.json` holds: all that prediction needs beside a file of the network.

    `sha256` has the checksum of each file of the network: of the weights, and of both ONNX files
    where the model was saved with them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    schema_version: Literal[1] = Field(alias="schema")
    labels: tuple[Literal["fake"], Literal["real"]]
    recipe: Recipe
    temperature: Annotated[float, Field(gt=0)]
    threshold: Probability
    uncertain: tuple[Probability, Probability] | None
    false_alarms: dict[Annotated[str, Field(pattern=r"^0\.\d+$")], Probability] = {}
    frequencies: Frequencies = {}
    sha256: dict[ModelFile, Sha256]
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

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        for rows in self.frequencies.values():
            ends = [row["up_to"] for row in rows]
            if ends != sorted(set(ends)):
                raise ValueError(f"`frequencies` must have rows by score. Received: {ends}.")
        return self

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        if self.sha256.keys() not in ({WEIGHTS_FILE}, {WEIGHTS_FILE, ONNX_FILE, NETWORK_FILE}):
            raise ValueError(
                f"`sha256` must name {WEIGHTS_FILE}, and {ONNX_FILE} and {NETWORK_FILE} or neither."
                f" Received: {', '.join(self.sha256) or 'none'}."
            )
        return self

    @property
    def with_onnx(self) -> bool:
        """Whether the model was saved with its ONNX files."""
        return NETWORK_FILE in self.sha256

    def runtime(self, asked: Runtime | None = None) -> Runtime:
        """Return what runs the model: what was asked for, or ONNX Runtime where it has a file.

        Raises:
            ValueError: `asked` is neither ``onnx`` nor ``keras``.
            ModelError: ``onnx`` was asked for, and the model was saved without ONNX files.
        """
        if asked not in ("onnx", "keras", None):
            raise ValueError(f"`runtime` must be 'onnx', 'keras' or None. Received: {asked!r}.")
        if asked == "onnx" and not self.with_onnx:
            raise ModelError(
                f"runtime='onnx' requires {NETWORK_FILE}, and {SETTINGS_FILE} does not name it. "
                "Leave `runtime` out, or save the model again with ONNX."
            )
        return asked or ("onnx" if self.with_onnx else "keras")


def read_settings(path: Path) -> Settings:
    """Read and validate `hf_ela.json`.

    Raises:
        ModelError: The file is too large, not JSON, of a newer hf-ela, or not valid.
    """
    return read_json(path, Settings, SCHEMA)
