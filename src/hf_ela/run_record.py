"""``run.json``, the record of a training: one model of it, read and written here alone.

A release carries the record of its training, so it may come from a stranger: known fields have
types and limits, others are kept as they are, and nothing in it becomes a path.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator
from typing_extensions import TypedDict  # pydantic needs it until Python 3.12

from hf_ela._files import read_json, whole_file
from hf_ela.errors import RunError
from hf_ela.recipes.schema import Protocol, Recipe

RUN_SCHEMA = 1
"""Version of the layout of ``run.json``."""
EVENTS, GROUPS_TABLE = "events", "groups.csv"
"""In a run: the folder of the event file of a tracked training; and the group and the split of each
image, without names."""
Count = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(max_length=1000)]
Commit = Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Label = Literal["fake", "real"]


class Interval(TypedDict):
    """A value with its 95 % interval, all None where undefined, and the number of its images.

    ``groups`` counts the groups of images that were drawn as a whole for the interval.
    """

    value: float | None
    low: float | None
    high: float | None
    n: Count
    groups: NotRequired[Count]


def _check_order(interval: Interval) -> Interval:
    ends = interval["low"], interval["value"], interval["high"]
    defined = [number for number in ends if number is not None]
    if len(defined) not in (0, 3) or sorted(defined) != defined:
        raise ValueError(f"low <= value <= high, or none of them. Received: {ends}")
    return interval


Ordered = Annotated[Interval, AfterValidator(_check_order)]

Uncertain = tuple[float, float]
"""Lowest and highest score for which a model abstains, both included."""


class CoverageRow(TypedDict):
    """Share of images with a certain score, and of correct ones among them."""

    coverage: float
    accuracy: float
    uncertain: Uncertain | None


class SourceRow(TypedDict):
    """Results for one source; ``recall`` has only its classes, the intervals disregard groups."""

    source: str
    n: Count
    groups: NotRequired[Count]
    fake: Count
    real: Count
    accuracy: Ordered
    recall: dict[Label, Ordered]
    mean_score: float


class Spread(TypedDict):
    """Recall of one class over sources, each counted once; all None without any source."""

    mean: float | None
    minimum: float | None
    worst: str | None
    sources: Count


class RobustnessRow(TypedDict):
    """A perturbation; `loss` is the balanced accuracy of the unperturbed images minus its own."""

    perturbation: str
    balanced_accuracy: Ordered
    recall: Ordered
    specificity: Ordered
    roc_auc: Ordered
    loss: float


class Robustness(TypedDict):
    """The robustness table; the first row, ``none``, is that of the images of ``base`` itself."""

    base: Protocol
    threshold: float
    n: Count
    rows: list[RobustnessRow]


class _Section(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)


class _Groups(_Section):
    sha256: Hash
    table: Hash | None = None  # of `GROUPS_TABLE`


class _LeftOut(_Section):
    rule: Text


class _SplitSize(_Section):
    n: Count


class _Pinned(_Section):
    """Something of the Hub at a commit, or, without one, on the machine of the training."""

    id: Text
    revision: Commit | None

    @model_validator(mode="after")
    def _check_id(self) -> Self:
        # With a commit it is the name of a repository, and cannot be taken for a path.
        if self.revision and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", self.id, re.ASCII):
            raise ValueError(f"a repository of the Hub is user/name. Received: {self.id!r}")
        return self


class Data(_Pinned):
    """What the model was trained on: `groups` is the CSV of groups, `left_out` a rule on it."""

    conversion: Commit | None
    fingerprint: Hash
    classes: Annotated[dict[Text, Label], Field(max_length=100)]
    splits: dict[Literal["train", "validation", "test"], _SplitSize]
    limit: Annotated[int, Field(ge=2)] | None
    synthetic: bool = False
    groups: _Groups | None
    left_out: _LeftOut | None = None
    rejected: list[JsonValue]


class Origin(_Pinned):
    """The model that the training started from, and the checksum of its weights."""

    sha256: Hash


class Calibration(_Section):
    """From logits to answers; `false_alarms` are thresholds by share of real images called fake."""

    temperature: float
    bias: float = 0.0
    threshold: float
    uncertain: Uncertain | None = None
    kept: bool = False  # of the initial model, because validation has too few images
    false_alarms: dict[Text, float] | None = None


class Metrics(_Section):
    """The metrics under one protocol, by name, and the confusion matrix."""

    __pydantic_extra__: dict[str, Ordered] = Field(init=False)

    confusion: dict[Text, Count]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.__pydantic_extra__:
            raise ValueError("at least one metric is required")
        return self


class Test(_Section):
    """The test split under both protocols."""

    as_is: Metrics
    aligned: Metrics


class Coverage(_Section):
    """What the model's own uncertain scores leave, and what others would."""

    shipped: dict[Literal["coverage", "accuracy"], Ordered]
    curve: list[CoverageRow]


class Evaluation(_Section):
    """Metrics with intervals, by split and protocol; `false_alarms` by the share allowed."""

    test: Test
    validation: dict[Protocol, Metrics] | None = None
    chance_ece: dict[Protocol, Ordered] | None = None
    coverage: dict[Protocol, Coverage] | None = None
    false_alarms: dict[Protocol, dict[Text, dict[Text, Ordered]]] | None = None


class Environment(_Section):
    """Versions and hardware; more than these are compared by a reproduction."""

    backend: Literal["tensorflow", "jax", "torch"]
    packages: dict[Text, Text]
    pixels: dict[Text, Text]


class Sample(_Section):
    """A picture of the package with its score: every copy of the model must give it again."""

    file: Text
    title: Text | None = None
    label: Label
    sha256: Hash
    score: float


class Fit(_Section):
    """The fit, epoch by epoch."""

    epochs: Count
    best_epoch: Count | None
    history: dict[Text, list[float]]


class Run(_Section):
    """The record of a training.

    Attributes:
        audit: The leak audit of the files, `hf_ela.evaluation.leak_audit.audit.audit_facts`.
        ela: How many images were prepared, and how many found in the cache.
        model: Network, parameters and layers, `hf_ela.models.networks.describe`.
        spread: By table (`sources`, `generators`), protocol and class.
        plots: Names of the plots without images of the dataset.
    """

    schema_version: Literal[1] = Field(alias="schema")
    created: Text | None = None
    recipe: Recipe
    seed: int | None = None
    data: Data
    initial: Origin | None = None
    audit: dict[str, JsonValue] | None = None
    ela: dict[Literal["computed", "cached"], Count] | None = None
    model: dict[str, JsonValue] | None = None
    training: Fit | None = None
    calibration: Calibration | None = None
    evaluation: Evaluation
    sources: dict[Protocol, list[SourceRow]] | None = None
    generators: dict[Protocol, list[SourceRow]] | None = None
    spread: dict[Text, dict[Protocol, dict[Label, Spread]]] | None = None
    robustness: Robustness | None = None
    left_out: dict[str, JsonValue] | None = None
    samples: list[Sample] | None = None
    onnx: dict[Text, Count] | None = None
    plots: list[Text] | None = None
    environment: Environment
    timing: dict[Text, float] | None = None
    co2_eq_emissions: dict[str, JsonValue] | None = None

    def content(self) -> dict[str, Any]:
        """Return what ``run.json`` holds: plain values, and nothing that it does not have."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


def read_run(folder: Path) -> Run:
    """Read the record of a finished run, or of a downloaded release.

    Raises:
        RunError: The folder has no ``run.json``.
        ModelError: ``run.json`` is too large, not JSON, of a newer hf-ela, or not valid.
    """
    path = folder / "run.json"
    if path.is_file():
        return read_json(path, Run, RUN_SCHEMA)
    hint = "Resume its training." if (folder / "checkpoint").is_dir() else "Give a finished run."
    what = "without it" if folder.is_dir() else "not a folder"
    raise RunError(f"A finished run is a folder with run.json. Received: {folder}, {what}. {hint}")


def write_run(folder: Path, values: Mapping[str, Any]) -> Run:
    """Write the fields of `Run`, fit for JSON, as ``run.json``, whole or not at all; return them.

    Raises:
        ValueError: The values are not a valid record.
    """
    text = json.dumps({"schema": RUN_SCHEMA, **values}, indent=2, allow_nan=False)
    run = Run.model_validate_json(text)
    with whole_file(folder / "run.json") as temporary:
        temporary.write_text(f"{text}\n", "utf-8")
    return run
