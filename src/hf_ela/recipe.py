"""One validated description of preprocessing, network and training, read from TOML.

A recipe travels with every run and every saved model, so that prediction repeats exactly what
training did. The built-in ones are `recipes/reference.toml` and `recipes/default.toml`.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hf_ela.ela import check_settings
from hf_ela.errors import RecipeError

LABELS = ("fake", "real")
"""Class names in the order of the network's outputs; `fake` is the positive class."""

Protocol = Literal["as_is", "aligned"]
Fraction = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[list[float], Field(min_length=2, max_length=2)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Ela(_Section):
    """Settings of `error_level`."""

    qualities: Annotated[list[int], Field(min_length=1, max_length=8)]
    signed: bool
    color: Literal["RGB", "YCbCr"]
    gain: Literal["max"] | Annotated[float, Field(gt=0, le=255)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_settings(self.qualities, signed=self.signed, color=self.color, gain=self.gain)
        return self

    @property
    def channels(self) -> int:
        """Number of channels of the network's input."""
        return 3 * len(self.qualities)


class Resize(_Section):
    """The whole image, squashed: resize to `before`, ELA, resize to `size`."""

    kind: Literal["resize"]
    before: Annotated[int, Field(ge=8, le=4096)]
    size: Annotated[int, Field(ge=16, le=1024)]
    training: Protocol


class Crops(_Section):
    """Native-resolution crops of `size` pixels, on a `grid` x `grid` over the image.

    `training` is the protocol that training and validation images go through.
    """

    kind: Literal["crops"]
    size: Annotated[int, Field(ge=16, le=1024, multiple_of=16)]
    grid: Annotated[int, Field(ge=1, le=8)]
    training: Protocol


class Augmentation(_Section):
    """What happens to a training image before ELA, drawn anew for each of its `views`.

    Both classes go through the same distribution. Without this section, training sees the crops
    that evaluation sees.
    """

    views: Annotated[int, Field(ge=1, le=64)]
    flips: bool
    rescale: Range
    blur: Fraction
    noise: Fraction
    jpeg: Fraction
    jpeg_quality: Annotated[list[int], Field(min_length=2, max_length=2)]
    webp: Fraction

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.rescale
        if not 0.1 <= low <= high <= 4:
            raise ValueError(
                f"`rescale` must be [low, high] within .1 to 4. Received: {[low, high]}."
            )
        first, last = self.jpeg_quality
        if not 1 <= first <= last <= 100:
            raise ValueError(
                f"`jpeg_quality` must be [low, high] within 1 to 100. Received: {[first, last]}."
            )
        return self


class ReferenceNetwork(_Section):
    """The published network: two 5x5 convolutions, one Dense layer with nearly all parameters."""

    kind: Literal["reference"]


class FullyConvolutional(_Section):
    """Strided patch convolution, residual blocks, global average pooling.

    `patch` is the stride of the stem (8 = the JPEG block), `widths` the channels of each stage,
    `blocks` the residual blocks of a stage.
    """

    kind: Literal["fully_convolutional"]
    patch: Annotated[int, Field(ge=1, le=16)]
    widths: Annotated[list[Annotated[int, Field(ge=4, le=1024)]], Field(min_length=1, max_length=6)]
    blocks: Annotated[int, Field(ge=1, le=8)]
    dropout: Annotated[float, Field(ge=0, lt=1)]


class EarlyStopping(_Section):
    """Stop when `monitor` has not improved for `patience` epochs."""

    monitor: Literal["val_accuracy", "val_loss"]
    patience: Annotated[int, Field(ge=1)]
    restore_best: bool


class Training(_Section):
    """Optimisation."""

    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    optimizer: Literal["rmsprop", "adamw"]
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    schedule: Literal["constant", "cosine"]
    weight_decay: Annotated[float, Field(ge=0, lt=1)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    order_seed: Annotated[int, Field(ge=0, lt=2**32)]
    mixed_precision: bool
    early_stopping: EarlyStopping | None = None


class Validation(_Section):
    """The part of the train split that training does not see.

    `grouped` keeps a group, or near-duplicates, on one side; without it rows are drawn one by
    one with scikit-learn's ``train_test_split``.
    """

    fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    grouped: bool


class Calibration(_Section):
    """What is fitted on validation: a temperature, and a threshold or a fixed one."""

    temperature: bool
    threshold: Literal["fit"] | Annotated[float, Field(gt=0, lt=1)]


class Preprocessing(_Section):
    """From an image to the network's inputs: the part of a recipe that the ELA cache hangs on."""

    ela: Ela
    input: Annotated[Resize | Crops, Field(discriminator="kind")]
    augmentation: Augmentation | None = None

    @model_validator(mode="after")
    def _check_augmentation(self) -> Self:
        if self.augmentation and self.input.kind == "resize":
            raise ValueError(
                "`augmentation` works on native-resolution crops. Received: input.kind='resize'. "
                "Take input.kind='crops', or leave the section out."
            )
        return self

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one network input (uint8)."""
        return self.input.size, self.input.size, self.ela.channels

    @property
    def evaluation_views(self) -> int:
        """Number of views whose scores are averaged for one image."""
        return 1 if self.input.kind == "resize" else self.input.grid**2


class Recipe(Preprocessing):
    """A complete recipe. Every value is explicit: the TOML file hides no default."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    network: Annotated[ReferenceNetwork | FullyConvolutional, Field(discriminator="kind")]
    training: Training
    validation: Validation
    calibration: Calibration

    @model_validator(mode="after")
    def _check_network(self) -> Self:
        if self.network.kind == "fully_convolutional":
            reduction = self.network.patch * 2 ** (len(self.network.widths) - 1)
            if self.input.size % reduction:
                raise ValueError(
                    "`input.size` must be a multiple of network.patch times 2 for every stage "
                    f"after the first ({reduction}). Received: input.size={self.input.size}."
                )
        return self

    @property
    def preprocessing(self) -> Preprocessing:
        """The part that decides the pixels of the views."""
        return Preprocessing(ela=self.ela, input=self.input, augmentation=self.augmentation)


def built_in_recipes() -> list[str]:
    """Return the names of the recipes in this package."""
    return sorted(
        Path(f.name).stem for f in files("hf_ela.recipes").iterdir() if f.name.endswith(".toml")
    )


def load_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        recipe: A built-in name (``reference``, ``default``) or the path of a TOML file.
        overrides: Texts such as ``"training.epochs=3"``, values in TOML notation.

    Raises:
        RecipeError: There is no such recipe, it is no TOML, or a key or value is not valid.
    """
    values = _read(recipe)
    for override in overrides:
        _apply(values, override)
    return parse_recipe(values, source=str(recipe))


def parse_recipe(values: Mapping[str, Any], source: str) -> Recipe:
    """Validate a mapping as a recipe; `source` names it in messages.

    Raises:
        RecipeError: A key is unknown (the nearest valid one is named), missing, or its value
            is not valid.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = [_explain(problem) for problem in error.errors(include_url=False)]
        raise RecipeError(f"recipe {source} is not valid:\n  " + "\n  ".join(problems)) from None


def parse_label_map(text: str) -> dict[str, str]:
    """Read ``"ai=fake,human=real"``.

    Raises:
        RecipeError: It is not written so, or maps to something else than `LABELS`.
    """
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and kind.strip() in LABELS for name, _, kind in pairs):
        raise RecipeError(
            "A label map is written NAME=fake,NAME=real, as in ai=fake,human=real. "
            f"Received: {text!r}."
        )
    return {name.strip(): kind.strip() for name, _, kind in pairs}


def _read(recipe: str | Path) -> dict[str, Any]:
    if recipe in built_in_recipes():
        return tomllib.loads(files("hf_ela.recipes").joinpath(f"{recipe}.toml").read_text("utf-8"))
    path = Path(recipe)
    if not path.is_file():
        raise RecipeError(
            f"`recipe` must be one of {', '.join(built_in_recipes())}, or a TOML file. "
            f"Received: {recipe}, which is neither."
        )
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} is no TOML: {error}") from None


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise RecipeError(
            f"An override is written KEY=VALUE, as in training.epochs=3. Received: {override!r}."
        )
    if key not in known_keys():
        raise RecipeError(f"override of an unknown key: {_unknown(key)}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        # As people type: a bare word is a string, network.kind=reference; and .5 is a number.
        text = text.strip()
        value = float(text) if re.fullmatch(r"-?\.\d+", text) else text
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[last] = value


@cache
def known_keys() -> tuple[str, ...]:
    """Return every key that a recipe can have, in dotted notation."""

    def walk(schema: Mapping[str, Any], prefix: str) -> Iterator[str]:
        if "$ref" in schema:
            schema = definitions[schema["$ref"].rsplit("/", 1)[-1]]
        for choice in [*schema.get("oneOf", ()), *schema.get("anyOf", ())]:
            yield from walk(choice, prefix)
        for name, child in schema.get("properties", {}).items():
            yield prefix + name
            yield from walk(child, f"{prefix}{name}.")

    whole = Recipe.model_json_schema()
    definitions = whole.get("$defs", {})
    return tuple(dict.fromkeys(walk(whole, "")))


def _unknown(key: str) -> str:
    near = get_close_matches(key, known_keys(), n=1, cutoff=0.0)
    return f"`{key}`. The nearest valid one is `{near[0]}`."


def _explain(problem: Mapping[str, Any]) -> str:
    kinds = {"resize", "crops", "reference", "fully_convolutional"}  # tags of the unions
    key = ".".join(str(part) for part in problem["loc"] if part not in kinds)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {_unknown(key)}"
    if problem["type"] == "missing":
        return f"`{key}` is missing."
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return message
    return f"`{key}`: {message}. Received: {problem['input']!r}."
