"""The kinds of network that a recipe can name, with the size of each."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hf_ela.recipes.backbones import BACKBONES


class Section(BaseModel):
    """A part of a recipe: no unknown keys, no change, no conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ReferenceNetwork(Section):
    """The published network: two 5x5 convolutions, one Dense layer with nearly all parameters."""

    kind: Literal["reference"]

    def weights(self, size: int, channels: int) -> int:
        """Return about how many weights there are for views of such a side and depth."""
        return 25 * 32 * (channels + 32) + ((size - 8) // 2) ** 2 * 32 * 256

    def largest_layer(self, size: int) -> int:
        """Return how many values the largest layer has for a view of such a side."""
        return (size - 4) ** 2 * 32


class FullyConvolutional(Section):
    """Strided patch convolution, residual blocks, global average pooling.

    `patch` is the stride of the stem (8 = the JPEG block), `widths` the channels of each stage,
    `blocks` the residual blocks of a stage. `block_means` says whether the mean of every 8 x 8
    pixels of a channel is kept. In pixels, it is brightness and colour; in the residual of a low
    quality, which keeps few levels of it, a sawtooth of the brightness.
    """

    kind: Literal["fully_convolutional"]
    patch: Annotated[int, Field(ge=1, le=16)]
    widths: Annotated[list[Annotated[int, Field(ge=4, le=1024)]], Field(min_length=1, max_length=6)]
    blocks: Annotated[int, Field(ge=1, le=8)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    block_means: Literal["kept", "removed"] = "kept"

    def weights(self, size: int, channels: int) -> int:
        """Return about how many weights there are for views of such a depth."""
        stem = self.patch**2 * channels * self.widths[0]
        strides = sum(4 * a * b for a, b in pairwise(self.widths))
        return stem + strides + sum(self.blocks * 10 * width**2 for width in self.widths)

    def largest_layer(self, size: int) -> int:
        """Return how many values the largest layer has for a view of such a side."""
        sides = [size // self.patch >> stage for stage in range(len(self.widths))]
        return max(side * side * width for side, width in zip(sides, self.widths, strict=True))


class Transfer(Section):
    """A network trained on ImageNet, which describes each crop, and a small one that decides.

    `backbone` names the network and its weights, see `hf_ela.recipes.backbones`. Its last
    `trainable_blocks` blocks change in training; with 0, it describes every view once, and training
    takes minutes. ELA and pixels, three channels each, go through the same weights. What decides is
    a linear layer, behind one of `hidden` units if there are any.
    """

    kind: Literal["transfer"]
    backbone: str
    trainable_blocks: Annotated[int, Field(ge=0)] = 0
    hidden: Annotated[int, Field(ge=0, le=4096)] = 0
    dropout: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.backbone not in BACKBONES:
            raise ValueError(
                f"`backbone` must be one of {', '.join(BACKBONES)}. Received: {self.backbone}."
            )
        if self.trainable_blocks > (most := len(BACKBONES[self.backbone].blocks)):
            raise ValueError(
                f"`trainable_blocks` must be at most the {most} blocks of {self.backbone}. "
                f"Received: {self.trainable_blocks}."
            )
        return self

    def weights(self, size: int, channels: int) -> int:
        """Return about how many weights there are for views of such a depth."""
        row = BACKBONES[self.backbone]
        features = row.features * (channels // 3)  # a stream for three channels
        return row.weights + features * (self.hidden or 2)

    def largest_layer(self, size: int) -> int:
        """Return how many values the largest layer has for a view of such a side."""
        return (size // 2) ** 2 * BACKBONES[self.backbone].widest
