"""Half precision: large arrays are stored as float16 where that changes none of their numbers.

The kernels of a published backbone are rounded once, before anything is computed with them, and
those that were trained before calibration. So calibration and each file have the same numbers, and
the files have half the size. A network from random weights is not rounded, and is stored as it is.
"""

from pathlib import Path
from typing import Any

import numpy as np

from hf_ela.backend import keras

LARGE = 2**14
"""Fewest numbers of an array that is rounded and stored in half precision. Smaller ones are 4 % of
the backbone's numbers, and rounding them too would move probabilities twice as far."""


def round_kernels(model: keras.Model) -> None:
    """Round the large arrays of a model to the nearest float16."""
    for weight in model.weights:
        if np.prod(weight.shape) >= LARGE:
            numbers = keras.ops.convert_to_numpy(weight)
            weight.assign(numbers.astype(np.float16).astype(np.float32))


def halved(numbers: np.ndarray) -> np.ndarray:
    """Return a large float32 array as float16 if that holds the same numbers, else as it is."""
    if numbers.dtype != np.float32 or numbers.size < LARGE:
        return numbers
    with np.errstate(over="ignore"):
        half = numbers.astype(np.float16)
    return half if np.array_equal(half, numbers) else numbers


def halve_weights(path: Path) -> None:
    """Store the arrays of a file of weights in half precision where that changes no number.

    Keras gives them the type of its variables when it reads them. Without such an array, the file
    stays as it is.
    """
    import h5py  # comes with Keras

    items: list[tuple[str, dict[str, Any], np.ndarray | None]] = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: items.append(
                (name, dict(item.attrs), item[()] if isinstance(item, h5py.Dataset) else None)
            )
        )
    halves = {name: halved(numbers) for name, _, numbers in items if numbers is not None}
    if all(half.dtype != np.float16 for half in halves.values()):
        return
    with h5py.File(path, "w") as file:
        for name, attributes, _ in items:
            array = halves.get(name)
            place = (
                file.require_group(name) if array is None else file.create_dataset(name, data=array)
            )
            place.attrs.update(attributes)
