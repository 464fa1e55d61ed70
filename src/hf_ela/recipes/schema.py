"""One validated description of preprocessing, network and training, read from TOML.

A recipe travels with every run and every saved model, so that prediction repeats exactly what
training did. The built-in ones are the TOML files beside this module.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from hf_ela._checks import check_settings
from hf_ela.recipes.networks import FullyConvolutional, ReferenceNetwork, Section, Transfer

LABELS = ("fake", "real")
"""Class names in the order of the network's outputs; `fake` is the positive class."""

LARGEST = 2**28
"""Most numbers in the weights of a network, and in one of its layers for one image: 1 GiB each. A
recipe can come from anywhere; the reference network stays below it with inputs up to 368 pixels."""

BORDER = 16
"""Pixels around a training crop that share its file history: one chroma block."""

Protocol = Literal["as_is", "aligned"]
Fraction = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[list[float], Field(min_length=2, max_length=2)]


class Ela(Section):
    """Settings of `error_level`, and whether the network sees the RGB pixels beside it."""

    qualities: Annotated[list[int], Field(min_length=1, max_length=8)]
    signed: bool
    color: Literal["RGB", "YCbCr"]
    gain: Literal["max"] | Annotated[float, Field(gt=0, le=255)]
    with_pixels: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_settings(self.qualities, **self.settings)
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of `error_level` beside the qualities."""
        return {"signed": self.signed, "color": self.color, "gain": self.gain}


class Resize(Section):
    """The whole image, without its aspect ratio: resize to `before`, ELA, resize to `size`."""

    kind: Literal["resize"]
    before: Annotated[int, Field(ge=8, le=4096)]
    size: Annotated[int, Field(ge=16, le=1024)]
    training: Protocol


class Crops(Section):
    """Crops of `size` pixels, on a `grid` x `grid` over the image.

    An image larger than `longest_side` is shrunk to it first; or every image is brought to
    `shortest_side`, so that crops show much of it, and its size tells nothing. Without either key,
    crops have the native resolution. `training` is the protocol of training and validation images.
    """

    kind: Literal["crops"]
    size: Annotated[int, Field(ge=16, le=1024, multiple_of=16)]
    grid: Annotated[int, Field(ge=1, le=8)]
    longest_side: Annotated[int, Field(ge=384, le=4096)] | None = None
    shortest_side: Annotated[int, Field(ge=16, le=2048)] | None = None
    training: Protocol

    @model_validator(mode="after")
    def _check_sides(self) -> Self:
        if self.shortest_side and (self.longest_side or self.shortest_side < self.size):
            raise ValueError(
                "`shortest_side` must be at least `size`, without `longest_side`. Received: "
                f"{self.shortest_side}, size={self.size}, longest_side={self.longest_side}."
            )
        return self


class Augmentation(Section):
    """Changes of a training image before ELA, drawn anew for each of its `views`.

    Both classes are drawn from the same distribution. Without this section, training sees the same
    crops as evaluation. `rescale` is a range of factors; the other steps are probabilities: `blank`
    is one colour in place of the image, so of no class; `shrink`, a smaller copy of the image.
    """

    views: Annotated[int, Field(ge=1, le=64)]
    flips: bool
    rescale: Range
    blur: Fraction
    noise: Fraction
    jpeg: Fraction
    jpeg_quality: Annotated[list[int], Field(min_length=2, max_length=2)]
    webp: Fraction
    blank: Fraction = 0.0
    shrink: Fraction = 0.0
    grey: Fraction = 0.0
    palette: Fraction = 0.0

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


class EarlyStopping(Section):
    """Stop when `monitor` has not improved for `patience` epochs."""

    monitor: Literal["val_accuracy", "val_loss"]
    patience: Annotated[int, Field(ge=1)]
    restore_best: bool


class Training(Section):
    """Optimisation.

    `ela` says where training computes ELA: ``cached``, once per view on the CPU; ``in_batches``, on
    the CPU whenever a view is read, from cached pixels, to the same result; or ``on_device``, in
    every step where the network is, with a newly drawn JPEG history.
    `balance` says whether each image is drawn equally often, or each ``source`` of a class.
    """

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
    ela: Literal["cached", "on_device", "in_batches"] = "cached"
    balance: Literal["images", "sources"] = "images"
    early_stopping: EarlyStopping | None = None


class Validation(Section):
    """The part of the train split that is held out.

    `grouped` keeps a group, or near-duplicates, on one side; without it, rows are drawn one by one
    with scikit-learn's ``train_test_split``.
    """

    fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    grouped: bool


class Calibration(Section):
    """What is fitted on validation data: temperature and bias, threshold, uncertain band.

    `temperature` says whether to fit a temperature and a bias, see
    `hf_ela.evaluation.calibration.fit_calibration`; `threshold` is ``fit`` or a fixed value.
    `certain` is the target accuracy of the images outside of the band, see
    `hf_ela.evaluation.calibration.fit_uncertain`; without it, no image is uncertain.
    `left_out` names a column of the groups file that divides the sources into parts: everything is
    then fitted on predictions for unseen parts, see `hf_ela.training.left_out`.
    """

    temperature: bool
    threshold: Literal["fit"] | Annotated[float, Field(gt=0, lt=1)]
    certain: Annotated[float, Field(gt=0.5, le=1)] | None = None
    left_out: str | None = None


class Preprocessing(Section):
    """From an image to the network's inputs: the part of a recipe that a cache depends on.

    Without `ela` the network sees RGB pixels, as a baseline.
    """

    ela: Ela | None
    input: Annotated[Resize | Crops, Field(discriminator="kind")]
    augmentation: Augmentation | None = None

    @model_validator(mode="after")
    def _check_augmentation(self) -> Self:
        if self.augmentation is None:
            return self
        if self.input.kind == "resize":
            raise ValueError(
                "`augmentation` requires native-resolution crops. Received: input.kind='resize'. "
                "Set input.kind='crops', or leave `augmentation` out."
            )
        if self.augmentation.shrink and not self.input.shortest_side:
            raise ValueError("`augmentation.shrink` requires `input.shortest_side`.")
        return self

    @property
    def channels(self) -> int:
        """Number of channels of the network's input."""
        return 3 * (len(self.ela.qualities) + self.ela.with_pixels) if self.ela else 3

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one network input (uint8)."""
        return self.input.size, self.input.size, self.channels

    @property
    def pixel_side(self) -> int:
        """Height and width of the RGB pixels that ELA starts from, for one network input."""
        return self.input.before if self.input.kind == "resize" else self.input.size

    @property
    def source_side(self) -> int:
        """Height and width of the pixels that the accelerator augments, with room for any draw."""
        low = min(1.0, self.augmentation.rescale[0]) if self.augmentation else 1.0
        return math.ceil((self.pixel_side + 2 * BORDER) / low)

    @property
    def evaluation_views(self) -> int:
        """Number of views whose logits are averaged for one image."""
        return 1 if self.input.kind == "resize" else self.input.grid**2


class Recipe(Preprocessing):
    """A complete recipe."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    network: Annotated[
        ReferenceNetwork | FullyConvolutional | Transfer, Field(discriminator="kind")
    ]
    training: Training
    validation: Validation
    calibration: Calibration

    @model_validator(mode="after")
    def _check_network(self) -> Self:
        if self.network.kind == "fully_convolutional":
            reduction = self.network.patch * 2 ** (len(self.network.widths) - 1)
            if self.input.size % reduction:
                raise ValueError(
                    "`input.size` must be a multiple of network.patch, doubled for each stage "
                    f"after the first ({reduction}). Received: input.size={self.input.size}."
                )
        return self

    @model_validator(mode="after")
    def _check_device(self) -> Self:
        if self.training.ela == "on_device" and getattr(self.input, "shortest_side", None):
            raise ValueError("`training.ela='on_device'` requires no `input.shortest_side`.")
        return self

    @model_validator(mode="after")
    def _check_left_out(self) -> Self:
        network, how = self.network, self.training
        frozen = network.kind == "transfer" and not network.trainable_blocks
        trained_on_views = not frozen or how.ela == "on_device"
        if self.calibration.left_out and (trained_on_views or how.early_stopping):
            raise ValueError(
                "`calibration.left_out` requires network.kind='transfer' without trainable blocks, "
                "ELA not on the device, and no early stopping: whatever has seen the sources would "
                "not be left out. Change these, or leave `left_out` out."
            )
        return self

    @property
    def preprocessing(self) -> Preprocessing:
        """The part that decides the pixels of the views."""
        return Preprocessing(ela=self.ela, input=self.input, augmentation=self.augmentation)

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        for what, numbers in (("weights", self.weights), ("layers", self.largest_layer)):
            if numbers > LARGEST:
                raise ValueError(
                    f"The {what} of a network may hold at most {LARGEST:,} numbers for an image. "
                    f"Received: a recipe with about {numbers:,}. Lower input.size, input.grid or "
                    "network.widths, or raise network.patch."
                )
        return self

    @property
    def weights(self) -> int:
        """Approximate number of weights, without those of normalisation and biases."""
        return self.network.weights(self.input.size, self.channels)

    @property
    def largest_layer(self) -> int:
        """Number of values in the largest layer for one image, with all its views."""
        layer, size = self.network.largest_layer(self.input.size), self.input.size
        return self.evaluation_views * max(size**2 * self.channels, layer)
