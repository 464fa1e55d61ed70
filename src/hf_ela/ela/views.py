"""From images to network inputs, for evaluation, and the aligned protocol.

The aligned protocol brings every image into one range of sizes and saves it as JPEG once more. The
longest side and the quality are drawn from one distribution for both classes, so that file history
reveals less. The aspect ratio stays: where one class is square and the other is not, it remains so.
"""

from collections.abc import Iterable
from hashlib import sha256
from itertools import count
from math import ceil
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL import features as pillow_features

from hf_ela.ela.error_level import codec_versions, error_level
from hf_ela.images.containers import default_max_pixels
from hf_ela.images.jpeg import reencode
from hf_ela.images.operations import rescale
from hf_ela.images.sources import heif_version
from hf_ela.recipes.schema import Crops, Preprocessing, Protocol, Resize

ALIGNED_SIDE = (256, 384)
"""Longest side of an aligned image in pixels, drawn uniformly: below most images of the art
datasets, so that alignment rarely enlarges."""
ALIGNED_QUALITY = (75, 95)
"""JPEG quality of an aligned image, drawn uniformly; chroma subsampling is 4:2:0."""


def align(image: Image.Image, key: str) -> Image.Image:
    """Return the image under the aligned protocol; the draws depend on `key` alone."""
    side, quality = draw_alignment(drawn_by(f"align {key}"))
    return reencode(rescale(image, side / max(image.size)), quality)


def draw_alignment(rng: np.random.Generator) -> tuple[int, int]:
    """Draw a longest side in pixels and a JPEG quality."""
    side = rng.integers(*ALIGNED_SIDE, endpoint=True)
    return int(side), int(rng.integers(*ALIGNED_QUALITY, endpoint=True))


def drawn_by(key: str) -> np.random.Generator:
    """Return a random generator that depends on a text alone."""
    return np.random.default_rng(int.from_bytes(sha256(key.encode()).digest()[:8]))


OFF_GRID = 4
"""Pixels between the corner of a crop and a block of the file's JPEG grid."""
WIDEST = 4
"""Ratio of the sides of an image up to which `shortest_side` decides its size: a strip would become
enormous."""
VIEWS_VERSION = 6
"""Raised whenever this package changes a view or a row: decoding, facts, statistics, hashes,
draws."""


class Box(NamedTuple):
    """A rectangle of an image, in pixels; (x, y) is its upper left corner."""

    x: int
    y: int
    width: int
    height: int


def pixel_versions() -> dict[str, str]:
    """Return the versions of everything that a view depends on, or whether there is one."""
    names = ("webp", "avif", "libtiff", "jpg_2000")
    codecs = {name: pillow_features.version(name) or "none" for name in names}
    codecs |= {"heif": heif} if (heif := heif_version()) else {}
    own = {"views": str(VIEWS_VERSION), "max_pixels": str(default_max_pixels())}
    return {**codec_versions(), **codecs, "numpy": np.__version__, **own}


def evaluation_views(
    image: Image.Image, recipe: Preprocessing, protocol: Protocol, key: str
) -> np.ndarray:
    """Return the network inputs that one image is scored by, made from `evaluation_pixels`.

    The arguments are the same.

    Returns:
        uint8 array, views x height x width x channels.
    """
    return network_inputs(evaluation_pixels(image, recipe, protocol, key), recipe)


def evaluation_pixels(
    image: Image.Image, recipe: Preprocessing, protocol: Protocol, key: str
) -> np.ndarray:
    """Return the pixels that one image is scored by: its crops, or the whole image, resized.

    Args:
        image: RGB image of any size.
        recipe: How inputs are made.
        protocol: ``as_is`` or ``aligned``.
        key: Identity of the image; the draws of ``aligned`` depend on it alone.

    Returns:
        uint8 array, views x `recipe.pixel_side` x `recipe.pixel_side` x 3.
    """
    if protocol == "aligned":
        image = align(image, key)
    settings = recipe.input
    if isinstance(settings, Resize):
        return np.asarray(image.resize((settings.before, settings.before)))[np.newaxis]
    image = fitted(image, settings)
    return crops(image, _boxes(*image.size, settings.size, settings.grid, settings.grid), settings)


def crops(image: Image.Image, boxes: Iterable[Box], settings: Crops) -> np.ndarray:
    """Return the crops of a `fitted` image, each `at_least` as large as the network takes them.

    Returns:
        uint8 array, boxes x `settings.size` x `settings.size` x 3.
    """
    parts = (image.crop((x, y, x + width, y + height)) for x, y, width, height in boxes)
    return np.stack([np.asarray(at_least(part, settings.size)) for part in parts])


def network_inputs(pixels: np.ndarray, recipe: Preprocessing) -> np.ndarray:
    """Return the channels of `evaluation_pixels`, resized where the recipe resizes after ELA."""
    views = (network_channels(Image.fromarray(view), recipe) for view in pixels)
    return np.stack([_resized(view, recipe) for view in views])


def view_boxes(size: tuple[int, int], recipe: Preprocessing) -> list[Box]:
    """Return the part of an image that each view of `evaluation_views` shows, in the same order.

    A view of a resized image shows all of it; a crop, in a direction where the image is smaller
    than the crop, all but its first pixels, which are on the grid. Where the recipe gives the image
    another size first, the edges are rounded to whole pixels of the image.

    Args:
        size: Width and height of the image; under ``aligned``, of the aligned image.
        recipe: How inputs are made.
    """
    width, height = size
    settings = recipe.input
    if isinstance(settings, Resize):
        return [Box(0, 0, width, height)]
    before = _fitted_size(width, height, settings)
    boxes = _boxes(*before, settings.size, settings.grid, settings.grid)
    return [at_size(box, before, size) for box in boxes]


def sliding_boxes(size: tuple[int, int], settings: Crops, most: int) -> list[Box]:
    """Return where a crop lies that slides over a `fitted` image of a size, row by row.

    Like the crops of `evaluation_views`, each keeps off the 8 x 8 grid. The stride is the smallest
    multiple of 8 pixels with at most `most` places.
    """
    for stride in count(8, 8):
        across, down = (1 + ceil(max(side - settings.size, 0) / stride) for side in size)
        if across * down <= most:
            break
    return list(dict.fromkeys(_boxes(*size, settings.size, across, down)))


def at_size(box: Box, before: tuple[int, int], after: tuple[int, int]) -> Box:
    """Return the same part of an image, in whole pixels, after a change of its width and height."""
    across, down = after[0] / before[0], after[1] / before[1]
    # One pixel at least, also where the image has fewer pixels than its larger copy.
    left, right = (int(x * across + 0.5) for x in (box.x, box.x + box.width))
    top, bottom = (int(y * down + 0.5) for y in (box.y, box.y + box.height))
    left, top = min(left, after[0] - 1), min(top, after[1] - 1)
    return Box(left, top, max(right - left, 1), max(bottom - top, 1))


def network_channels(image: Image.Image, recipe: Preprocessing) -> np.ndarray:
    """Return what a network sees of an image: ELA, RGB pixels, or both in this order."""
    if recipe.ela is None:
        return np.asarray(image)
    levels = error_level(image, recipe.ela.qualities, **recipe.ela.settings)
    if not recipe.ela.with_pixels:
        return levels
    # One by one, channels are joined in a fifth of the time.
    return np.dstack([*levels.transpose(2, 0, 1), *np.asarray(image).transpose(2, 0, 1)])


def _resized(view: np.ndarray, recipe: Preprocessing) -> np.ndarray:
    """Resize after ELA, where the recipe does."""
    if not isinstance(recipe.input, Resize):
        return view
    planes = (Image.fromarray(view[..., c : c + 3]) for c in range(0, view.shape[-1], 3))
    size = (recipe.input.size, recipe.input.size)
    return np.concatenate([np.asarray(plane.resize(size)) for plane in planes], axis=2)


def _boxes(width: int, height: int, side: int, across: int, down: int) -> list[Box]:
    return [
        Box(x, y, min(side, width - x), min(side, height - y))
        for y in _steps(height, side, down)
        for x in _steps(width, side, across)
    ]


def _fitted_size(width: int, height: int, settings: Crops) -> tuple[int, int]:
    """Return the size that the settings give to an image before it is cropped."""
    factor = 1.0
    if side := settings.shortest_side:
        factor = side * min(1 / min(width, height), WIDEST / max(width, height))
    elif settings.longest_side:
        factor = min(settings.longest_side / max(width, height), 1.0)
    if factor == 1:
        return width, height
    return max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5))


def fitted(
    image: Image.Image,
    settings: Crops,
    kernel: Image.Resampling = Image.Resampling.BICUBIC,
    scale: float = 1.0,
) -> Image.Image:
    """Return the image in the size that the settings give it before a crop, times `scale`."""
    width, height = _fitted_size(*image.size, settings)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return image if size == image.size else image.resize(size, kernel)


def at_least(image: Image.Image, side: int) -> Image.Image:
    """Return the image, mirrored at its edges until no side is shorter than `side` pixels."""
    width, height = image.size
    if min(width, height) >= side:
        return image
    pad = ((0, max(side - height, 0)), (0, max(side - width, 0)), (0, 0))
    return Image.fromarray(np.pad(np.asarray(image), pad, mode="symmetric"))


def _steps(length: int, side: int, number: int) -> list[int]:
    # Corners lie four pixels off the 8 x 8 grid, whatever the size: on the grid, the network would
    # see a JPEG's own quantisation instead of its content, and training, at random phases, hardly
    # has such crops. Where no room is left, the crop is mirrored at its other end.
    if length <= OFF_GRID:
        return [0] * number
    room = max(length - side, 0)
    places = [room / 2] if number == 1 else np.linspace(0, room, number)
    return [max(min(int(place), room - OFF_GRID), 0) // 8 * 8 + OFF_GRID for place in places]
