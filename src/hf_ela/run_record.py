"""`run.json` of somebody else's release, validated: what a reproduction takes from it."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from hf_ela._files import read_json
from hf_ela.errors import ModelError, RunError
from hf_ela.recipes.schema import Recipe

__all__ = ["RUN_SCHEMA", "Record", "read_record", "read_run"]

Count = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(max_length=200)]
Commit = Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Section(BaseModel):
    # A later hf-ela may record more.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class Interval(_Section):
    """A value with its interval; all None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None
    n: Count

    @model_validator(mode="after")
    def _check(self) -> Self:
        numbers = (self.low, self.value, self.high)
        defined = [number for number in numbers if number is not None]
        if len(defined) not in (0, 3) or sorted(defined) != defined:
            raise ValueError(f"low <= value <= high, or none of them. Received: {numbers}")
        return self


class Groups(_Section):
    """The CSV that kept groups on one side."""

    sha256: Hash


class LeftOut(_Section):
    """Images that were kept out of training."""

    rule: Text


class Counts(_Section):
    """The images of a split."""

    n: Count


class Data(_Section):
    """On what it was trained."""

    id: Text
    revision: Commit | None
    conversion: Commit | None
    fingerprint: Hash
    classes: Annotated[dict[Text, Literal["fake", "real"]], Field(max_length=100)]
    splits: dict[Literal["train", "validation", "test"], Counts]
    limit: Annotated[int, Field(ge=2)] | None
    groups: Groups | None
    left_out: LeftOut | None = None
    rejected: list[JsonValue]

    @model_validator(mode="after")
    def _check_id(self) -> Self:
        # With a commit it is a name of the Hub, and cannot be taken for a path.
        if self.revision and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", self.id, re.ASCII):
            raise ValueError(f"a dataset of the Hub is user/name. Received: {self.id!r}")
        return self

    @property
    def share_rejected(self) -> float:
        """Share of refused images that the training has borne, rounded up."""
        images = sum(split.n for split in self.splits.values()) + len(self.rejected)
        return min(1.0, (len(self.rejected) + 1) / max(1, images)) if self.rejected else 0.0


class Environment(_Section):
    """With what it was trained; more than these, to be compared."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)

    backend: Literal["tensorflow", "jax", "torch"]
    packages: dict[Text, Text]
    pixels: dict[Text, Text]


class Measured(_Section):
    """The metrics, by name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Interval] = Field(init=False)

    confusion: dict[Text, Count]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.__pydantic_extra__:
            raise ValueError("at least one metric. Received: none")
        return self


class Test(_Section):
    """The test split under both protocols."""

    as_is: Measured
    aligned: Measured


class Evaluation(_Section):
    """What it was worth."""

    test: Test


class Record(_Section):
    """What a reproduction takes from ``run.json``."""

    schema_version: Literal[1] = Field(alias="schema")
    recipe: Recipe
    data: Data
    evaluation: Evaluation
    environment: Environment


def read_record(path: Path) -> Record:
    """Read and validate ``run.json``.

    Raises:
        ModelError: It is missing, too large, no JSON, of a newer hf-ela, or not valid.
    """
    if not path.is_file():
        raise ModelError(
            "What is reproduced is a release, or a run that has ended, with its run.json. "
            f"Received: {path.parent}, without it. Check the path."
        )
    return read_json(path, Record, RUN_SCHEMA)


RUN_SCHEMA = 1
"""Version of the layout of ``run.json``."""


def read_run(folder: Path) -> dict[str, Any]:
    """Return what ``run.json`` of a run folder or of a downloaded release holds.

    Raises:
        RunError: There is none, or it is damaged or of another version.
    """
    path = folder / "run.json"
    try:
        run = json.loads(path.read_text("utf-8"))
        schema = run["schema"]
    except (FileNotFoundError, NotADirectoryError):
        interrupted = (folder / "checkpoint").is_dir()
        hint = (
            f"Finish it: python train.py --out {folder} --resume"
            if interrupted
            else "Give the folder that train.py wrote."
        )
        found = "without it" if folder.is_dir() else "which is no folder"
        raise RunError(
            f"A run that has ended is a folder with run.json. Received: {folder}, {found}. {hint}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} must be what a training wrote. Received: {type(error).__name__}: {error}. "
            "Copy the folder again."
        ) from error
    if schema != RUN_SCHEMA:
        raise RunError(
            f"`schema` of {path} must be {RUN_SCHEMA} for this hf-ela. Received: {schema!r}. "
            "Take the version of hf-ela that made the run."
        )
    return dict(run)
