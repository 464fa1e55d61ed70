"""Four states that all images of a set can be brought to, for the leak audit's matrix."""

from typing import Literal, get_args

import numpy as np
from PIL import Image

from hf_ela.alignment import align
from hf_ela.ela import reencode
from hf_ela.features import features

Condition = Literal["as_is", "aligned", "jpeg_95", "resized"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
RESIZED = (256, 256)
"""Width and height to which the published recipe squashes an image before ELA."""


def in_condition(image: Image.Image, condition: Condition, key: str) -> Image.Image:
    """Return an RGB image as it came, aligned, saved as JPEG 95, or resized.

    After ``jpeg_95`` all images have one last save in common, as when everything is PNG made from
    JPEG 95; ``resized`` gives them one size.

    Args:
        image: RGB, of any size.
        condition: One of `CONDITIONS`.
        key: Identity of the image; the draws of ``aligned`` depend on it alone.
    """
    match condition:
        case "as_is":
            return image
        case "aligned":
            return align(image, key)
        case "jpeg_95":
            return reencode(image, 95)
        case "resized":
            return image.resize(RESIZED)


def features_by_condition(image: Image.Image, key: str) -> np.ndarray:
    """Return `features` under each condition: float32, (len(CONDITIONS), len(FEATURES))."""
    return np.stack([features(in_condition(image, condition, key)) for condition in CONDITIONS])
