"""From an RGB image to the network's inputs: views, each an ELA picture of fixed size.

Evaluation looks at an image under one of two protocols:

- ``as_is``: the file as it came;
- ``aligned``: every image is brought to one range of sizes and re-encoded as JPEG, size and
  quality drawn from one distribution for all classes, so that file history tells nothing.
"""

from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter, features

from hf_ela.ela import codec_versions, error_level, round_trip
from hf_ela.recipe import BORDER, Augmentation, Crops, Preprocessing, Protocol, Resize

ALIGNED_SIDE = (256, 384)
"""Longest side of an aligned image in pixels, drawn uniformly: below most images of the art
datasets, so that alignment rarely enlarges."""
ALIGNED_QUALITY = (75, 95)
"""JPEG quality of an aligned image, drawn uniformly; chroma subsampling is 4:2:0."""
VIEWS_VERSION = 2
"""Raised whenever our code changes a view or a row: decoding, facts, features, hashes, draws."""

_KERNELS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


class Box(NamedTuple):
    """A rectangle of an image, in pixels; (x, y) is its upper left corner."""

    x: int
    y: int
    width: int
    height: int


def pixel_versions() -> dict[str, str]:
    """Return the versions of everything that the exact pixels of a view depend on."""
    names = ("webp", "avif", "libtiff", "jpg_2000")
    codecs = {name: features.version(name) or "none" for name in names}
    return {**codec_versions(), **codecs, "numpy": np.__version__, "views": str(VIEWS_VERSION)}


def evaluation_views(
    image: Image.Image, recipe: Preprocessing, protocol: Protocol, key: str
) -> np.ndarray:
    """Return the network inputs by which one image is judged: the ELA of `evaluation_pixels`.

    The arguments are the same.

    Returns:
        uint8 array, views x height x width x channels.
    """
    pixels = evaluation_pixels(image, recipe, protocol, key)
    return np.stack([_resized(_ela(Image.fromarray(view), recipe), recipe) for view in pixels])


def evaluation_pixels(
    image: Image.Image, recipe: Preprocessing, protocol: Protocol, key: str
) -> np.ndarray:
    """Return the pixels by which one image is judged: its crops, or all of it, squashed.

    Args:
        image: RGB image of any size.
        recipe: Says how inputs are made.
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
    image = _at_most(image, settings)
    boxes = _boxes(*image.size, settings)
    image = _at_least(image, settings.size)
    crops = (_crop(image, box.x, box.y, settings.size) for box in boxes)
    return np.stack([np.asarray(crop) for crop in crops])


def view_boxes(size: tuple[int, int], recipe: Preprocessing) -> list[Box]:
    """Return which part of an image each view of `evaluation_views` shows, in the same order.

    A view of a resized image shows all of it; so does a crop in a direction where the image is
    smaller than the crop. Where the recipe makes the image smaller first, the edges of a part are
    rounded to whole pixels of the image.

    Args:
        size: Width and height of the image; under ``aligned``, of the aligned one.
        recipe: Says how inputs are made.
    """
    width, height = size
    settings = recipe.input
    if isinstance(settings, Resize):
        return [Box(0, 0, width, height)]
    fitted = _fitted(width, height, settings)
    across, down = width / fitted[0], height / fitted[1]

    def enlarged(box: Box) -> Box:
        left, right = (int(x * across + 0.5) for x in (box.x, box.x + box.width))
        top, bottom = (int(y * down + 0.5) for y in (box.y, box.y + box.height))
        return Box(left, top, max(right - left, 1), max(bottom - top, 1))

    return [enlarged(box) for box in _boxes(*fitted, settings)]


def training_views(image: Image.Image, recipe: Preprocessing, key: str) -> np.ndarray:
    """Return `recipe.augmentation.views` augmented network inputs of one image.

    The image goes through the recipe's training protocol first, a new draw for each view. The
    augmentation comes before ELA: afterwards it could no longer change what ELA sees.

    Returns:
        uint8 array, views x height x width x channels; the same for the same `key`.
    """
    augmentation, settings = recipe.augmentation, recipe.input
    if augmentation is None or settings.kind == "resize":
        raise ValueError("`training_views` needs a recipe with augmentation. Received: none.")
    rngs = (_rng(f"augment {key} {number}") for number in range(augmentation.views))
    return np.stack([_ela(_augmented_crop(image, settings, augmentation, r), recipe) for r in rngs])


def source_views(image: Image.Image, recipe: Preprocessing, key: str) -> np.ndarray:
    """Return what `hf_ela.history.History` makes network inputs of, anew in every epoch.

    As in `training_views` the image is brought to a drawn size where the recipe aligns, cropped,
    and, with the recipe's probabilities, blurred, made noisy and saved as WebP. What comes after
    that, JPEG history, rescaling, grid phase and flips, is left to the accelerator.

    Returns:
        uint8 array, `recipe.augmentation.views` x `recipe.source_side` x `recipe.source_side` x 3;
        the same for the same `key`.
    """
    augmentation, settings = recipe.augmentation, recipe.input
    if augmentation is None or settings.kind == "resize":
        raise ValueError("`source_views` needs a recipe with augmentation. Received: none.")
    views = []
    for number in range(augmentation.views):
        rng = _rng(f"source {key} {number}")
        crop = image
        if settings.training == "aligned":
            side, _ = _draw_alignment(rng)
            factor = side / max(image.size)
            crop = _random_crop(image, int(np.ceil((recipe.source_side + BORDER) / factor)), rng)
            crop = _rescaled(crop, factor, Image.Resampling.LANCZOS)
        else:
            crop = _at_most(crop, settings)
        crop = _at_least(crop, recipe.source_side)
        crop = _degraded(_random_crop(crop, recipe.source_side, rng), augmentation, rng)
        views.append(np.asarray(crop))
    return np.stack(views)


def align(image: Image.Image, key: str) -> Image.Image:
    """Return the image as the aligned protocol sees it; the draws depend on `key` alone."""
    side, quality = _draw_alignment(_rng(f"align {key}"))
    return _aligned(image, side / max(image.size), quality)


def _draw_alignment(rng: np.random.Generator) -> tuple[int, int]:
    side = rng.integers(*ALIGNED_SIDE, endpoint=True)
    return int(side), int(rng.integers(*ALIGNED_QUALITY, endpoint=True))


def _aligned(image: Image.Image, factor: float, quality: int) -> Image.Image:
    return round_trip(_rescaled(image, factor, Image.Resampling.LANCZOS), quality)


def _rng(key: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(sha256(key.encode()).digest()[:8]))


def _ela(image: Image.Image, recipe: Preprocessing) -> np.ndarray:
    settings = recipe.ela
    if settings is None:
        return np.asarray(image)
    return error_level(
        image,
        settings.qualities,
        signed=settings.signed,
        color=settings.color,
        gain=settings.gain,
    )


def _resized(ela: np.ndarray, recipe: Preprocessing) -> np.ndarray:
    """Resize after ELA, where the recipe does."""
    if not isinstance(recipe.input, Resize):
        return ela
    planes = (Image.fromarray(ela[..., c : c + 3]) for c in range(0, ela.shape[-1], 3))
    size = (recipe.input.size, recipe.input.size)
    return np.concatenate([np.asarray(plane.resize(size)) for plane in planes], axis=2)


def _boxes(width: int, height: int, settings: Crops) -> list[Box]:
    xs, ys = _steps(width, settings), _steps(height, settings)
    wide, high = min(settings.size, width), min(settings.size, height)
    return [Box(x, y, wide, high) for y in ys for x in xs]


def _fitted(width: int, height: int, settings: Crops) -> tuple[int, int]:
    """Return the size of an image that is made smaller where it is larger than `longest_side`."""
    longest = max(width, height)
    if settings.longest_side is None or longest <= settings.longest_side:
        return width, height
    factor = settings.longest_side / longest
    return max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5))


def _at_most(image: Image.Image, settings: Crops) -> Image.Image:
    size = _fitted(*image.size, settings)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def _at_least(image: Image.Image, side: int) -> Image.Image:
    """Mirror an image that is smaller than a crop until it is not."""
    width, height = image.size
    if min(width, height) >= side:
        return image
    pad = ((0, max(side - height, 0)), (0, max(side - width, 0)), (0, 0))
    return Image.fromarray(np.pad(np.asarray(image), pad, mode="symmetric"))


def _steps(length: int, settings: Crops) -> list[int]:
    # Corners four pixels off the 8 x 8 grid: on the grid, a JPEG's own quantisation would answer
    # instead of its content, and training, at random phases, has seen hardly any such crop.
    room = max(length - settings.size, 0)
    places = [room / 2] if settings.grid == 1 else np.linspace(0, room, settings.grid)
    off_grid = [max(min(int(place), room - 4), 0) // 8 * 8 + 4 for place in places]
    return [min(place, room) for place in off_grid]  # a room below 4 leaves no choice


def _crop(image: Image.Image, x: int, y: int, size: int) -> Image.Image:
    return image.crop((x, y, x + size, y + size))


def _rescaled(image: Image.Image, factor: float, kernel: Image.Resampling) -> Image.Image:
    width, height = image.size
    return image.resize((max(1, round(width * factor)), max(1, round(height * factor))), kernel)


def _augmented_crop(
    image: Image.Image, settings: Crops, augmentation: Augmentation, rng: np.random.Generator
) -> Image.Image:
    """Align where the recipe trains so; rescale, blur, noise, WebP and JPEG history; then crop.

    Each step works on no more of the image than the crop needs, with a border that is cut off
    again at a random grid phase: the cost does not grow with the image.
    """
    scale = rng.uniform(augmentation.rescale[0], augmentation.rescale[1])
    kernel = _KERNELS[rng.integers(len(_KERNELS))]
    needed = int(np.ceil((settings.size + BORDER) / scale))
    if settings.training == "aligned":
        side, quality = _draw_alignment(rng)
        factor = side / max(image.size)
        image = _random_crop(image, int(np.ceil((needed + BORDER) / factor)), rng)
        image = _aligned(image, factor, quality)
    else:
        image = _at_most(image, settings)
    image = _rescaled(_random_crop(image, needed, rng), scale, kernel)

    image = _degraded(image, augmentation, rng)
    if rng.random() < augmentation.jpeg:
        low, high = augmentation.jpeg_quality
        image = round_trip(image, int(rng.integers(low, high, endpoint=True)))
    return _random_crop(_at_least(image, settings.size), settings.size, rng)


def _degraded(
    image: Image.Image, augmentation: Augmentation, rng: np.random.Generator
) -> Image.Image:
    """Blur, add noise and save as WebP, each with its probability."""

    def blur(picture: Image.Image) -> Image.Image:
        return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))

    def noise(picture: Image.Image) -> Image.Image:
        values = np.asarray(picture, np.float64)
        values = values + rng.normal(0, rng.uniform(1, 4), values.shape)
        return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))

    def webp(picture: Image.Image) -> Image.Image:
        file = BytesIO()
        picture.save(file, "WEBP", quality=int(rng.integers(60, 96)), method=2)
        with Image.open(file) as encoded:
            return encoded.convert("RGB")

    steps: list[tuple[float, Callable[[Image.Image], Image.Image]]] = [
        (augmentation.blur, blur),
        (augmentation.noise, noise),
        (augmentation.webp, webp),
    ]
    for probability, step in steps:
        if rng.random() < probability:
            image = step(image)
    return image


def _random_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Return a square of `size` pixels, or less where the image is smaller."""
    width, height = min(size, image.width), min(size, image.height)
    x = int(rng.integers(image.width - width, endpoint=True))
    y = int(rng.integers(image.height - height, endpoint=True))
    return image.crop((x, y, x + width, y + height))
