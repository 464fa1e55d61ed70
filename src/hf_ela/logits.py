"""The score of an image before calibration: from views to logits."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hf_ela.errors import ModelError

if TYPE_CHECKING:
    from hf_ela.backend import keras

__all__ = ["batched", "image_logits", "view_logits"]

T = TypeVar("T")


def image_logits(
    model: "keras.Model", views: Iterable[np.ndarray], batch_size: int = 32
) -> np.ndarray:
    """Return the logit of each image: the one definition of the score, before the temperature.

    It is the mean of the image's `view_logits`; the arguments and errors are the same.

    Returns:
        float64 array, one value for each image.
    """
    return np.asarray(view_logits(model, views, batch_size).mean(axis=1))


def view_logits(
    model: "keras.Model", views: Iterable[np.ndarray], batch_size: int = 32
) -> np.ndarray:
    """Return the logit of each view of each image.

    It is log p(fake) - log p(real) of the softmax, each limited to the smallest normal float32
    (so that logits end at ±87.3).

    Args:
        model: Network of `build_model`.
        views: For each image a uint8 array, views x height x width x channels; all alike.
        batch_size: Images per step. The last step is filled up with zeros to a power of two:
            few shapes to compile for, and one image does not pay for a full batch.

    Returns:
        float64 array, images x views; 0 x 1 without images.

    Raises:
        ModelError: The network's output is not finite.
    """
    logits = [_batch_logits(model, batch) for batch in batched(views, batch_size)]
    return np.concatenate(logits) if logits else np.empty((0, 1))


def _batch_logits(model: "keras.Model", views: list[np.ndarray]) -> np.ndarray:
    filling = 2 ** (len(views) - 1).bit_length() - len(views)
    rows = np.concatenate([*views, *[np.zeros_like(views[0])] * filling])
    probabilities = np.asarray(model.predict_on_batch(rows), np.float64)
    if not np.isfinite(probabilities).all():
        raise ModelError(
            "The network's output must be finite. Received: NaN or infinity. "
            "Its training has diverged: train again, with a lower learning rate."
        )
    logs = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    by_image = (logs[:, 0] - logs[:, 1]).reshape(-1, len(views[0]))
    return np.asarray(by_image[: len(views)])


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one perhaps shorter; draws them as they are asked for.

    Raises:
        ValueError: `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={size}.")
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, size)), [])
