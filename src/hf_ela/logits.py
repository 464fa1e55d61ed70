"""The score of an image before calibration: from views to logits."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hf_ela.errors import ModelError

if TYPE_CHECKING:
    from hf_ela.backend import keras

__all__ = ["Probabilities", "batched", "image_logits", "keras_probabilities", "view_logits"]

T = TypeVar("T")
Probabilities = Callable[[np.ndarray], np.ndarray]
"""From N views, uint8, to N x 2 probabilities in the order of `hf_ela.recipe.LABELS`: a network of
Keras, or `OnnxModel.probabilities`."""


def keras_probabilities(model: "keras.Model") -> Probabilities:
    """Return the `Probabilities` of a network of `build_model`."""

    def probabilities(views: np.ndarray) -> np.ndarray:
        # Filled up to a power of two: few shapes to compile for, and one image does not pay for a
        # full batch.
        filling = 2 ** (len(views) - 1).bit_length() - len(views)
        rows = np.concatenate([views, np.zeros((filling, *views.shape[1:]), views.dtype)])
        return np.asarray(model.predict_on_batch(rows))[: len(views)]

    return probabilities


def image_logits(
    probabilities: Probabilities, views: Iterable[np.ndarray], batch_size: int = 32
) -> np.ndarray:
    """Return the logit of each image: the one definition of the score, before the temperature.

    It is the mean of the image's `view_logits`; the arguments and errors are the same.

    Returns:
        float64 array, one value for each image.
    """
    return np.asarray(view_logits(probabilities, views, batch_size).mean(axis=1))


def view_logits(
    probabilities: Probabilities, views: Iterable[np.ndarray], batch_size: int = 32
) -> np.ndarray:
    """Return the logit of each view of each image.

    It is log p(fake) - log p(real) of the softmax, each limited to the smallest normal float32
    (so that logits end at ±87.3).

    Args:
        probabilities: What judges the views.
        views: For each image a uint8 array, views x height x width x channels; all alike.
        batch_size: Images per step.

    Returns:
        float64 array, images x views; 0 x 1 without images.

    Raises:
        ModelError: The network's output is not finite.
    """
    logits = [_batch_logits(probabilities, batch) for batch in batched(views, batch_size)]
    return np.concatenate(logits) if logits else np.empty((0, 1))


def _batch_logits(probabilities: Probabilities, views: list[np.ndarray]) -> np.ndarray:
    outputs = np.asarray(probabilities(np.concatenate(views)), np.float64)
    if not np.isfinite(outputs).all():
        raise ModelError(
            "The network's output must be finite. Received: NaN or infinity. "
            "Its training has diverged: train again, with a lower learning rate."
        )
    logs = np.log(np.maximum(outputs, np.finfo(np.float32).tiny))
    return np.asarray((logs[:, 0] - logs[:, 1]).reshape(len(views), -1))


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one perhaps shorter; draws them as they are asked for.

    Raises:
        ValueError: `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={size}.")
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, size)), [])
