"""What a file of weights may be before Keras reads it: numbers in one HDF5 file, and no more.

HDF5 can point at other files (external links, external storage, virtual datasets) and can promise
more numbers than it stores. Keras writes none of that, so all of it is refused.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_ela.errors import ModelError
from hf_ela.recipe import Recipe

__all__ = ["check_weights", "largest_weights"]

DEPTH, ENTRIES = 8, 50_000
"""Groups within groups, and groups and arrays: Keras needs 4, and some 2,000 for our deepest."""


def largest_weights(recipe: Recipe) -> int:
    """Return a size in bytes above which a file holds more than the weights of a recipe."""
    return 8 * recipe.weights + 2**23


def check_weights(path: Path, recipe: Recipe) -> None:
    """Refuse a file that is more than the float32 and integer arrays of the recipe's network.

    Raises:
        ModelError: It is no HDF5, reaches out of itself, or is too large.
    """
    limit = largest_weights(recipe)
    try:
        import h5py  # comes with Keras

        declared = 0
        with h5py.File(path, "r") as file:
            for number, (name, item) in enumerate(_entries(file)):
                if number >= ENTRIES:
                    raise ValueError(f"more than {ENTRIES:,} entries")
                if isinstance(item, h5py.Dataset):
                    declared += _bytes(name, item)
                    if declared > limit:
                        raise ValueError(
                            f"arrays of more than {limit:,} bytes, where this network has "
                            f"{4 * recipe.weights:,}"
                        )
    # h5py has no error of its own: a broken file gives any of these.
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            "The weights must fit the network of the recipe, in an HDF5 file as Keras writes it. "
            f"Received: {path}: {error}. It is damaged or made to do harm: do not use it."
        ) from error


def _entries(group: Any, depth: int = DEPTH) -> Iterator[tuple[str, Any]]:
    """Yield all below a group; a link that is not followed cannot lead anywhere."""
    import h5py

    if depth == 0:
        raise ValueError(f"groups nested deeper than {DEPTH}")
    for name in group:
        link = group.get(name, getlink=True)
        place = f"{group.name}/{name}".replace("//", "/")
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{place} is a link ({type(link).__name__})")
        item = group[name]
        yield place, item
        if isinstance(item, h5py.Group):
            yield from _entries(item, depth - 1)
        elif not isinstance(item, h5py.Dataset):
            raise ValueError(f"{place} is a {type(item).__name__}")


def _bytes(place: str, array: Any) -> int:
    """Return how much memory an array takes."""
    if array.external or array.is_virtual:
        raise ValueError(f"{place} has its numbers in another file")
    if array.chunks is not None:  # also what is compressed, or could grow
        raise ValueError(f"{place} is stored in chunks")
    if array.dtype.kind not in "fiu" or array.shape is None:
        raise ValueError(f"{place} holds {array.dtype}, not numbers")
    return math.prod(map(int, array.shape)) * int(array.dtype.itemsize)
