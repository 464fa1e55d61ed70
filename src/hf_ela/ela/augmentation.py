"""What training sees of an image: crops, each with a file history of its own.

Both classes go through the same draws. Augmentation comes before ELA, which would otherwise not see
it.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from hf_ela.ela.views import at_least, draw_alignment, drawn_by, fitted, network_inputs
from hf_ela.images.jpeg import reencode
from hf_ela.images.operations import add_noise, blur, few_colors, in_grey, reencode_webp, rescale
from hf_ela.recipes.schema import BORDER, Augmentation, Crops, Preprocessing

SMALLEST = 0.45
"""Factor to which `augmentation.shrink` makes an image smaller at most."""
_KERNELS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def training_views(image: Image.Image, recipe: Preprocessing, key: str) -> np.ndarray:
    """Return the network inputs that training draws from, made from `training_pixels`.

    Returns:
        uint8 array, views x height x width x channels; the same for the same `key`.
    """
    return network_inputs(training_pixels(image, recipe, key), recipe)


def training_pixels(image: Image.Image, recipe: Preprocessing, key: str) -> np.ndarray:
    """Return `recipe.augmentation.views` augmented crops of one image.

    The image goes through the recipe's training protocol first, with new draws for each view.

    Returns:
        uint8 array, views x height x width x 3; the same for the same `key`.
    """
    augmentation, settings = recipe.augmentation, recipe.input
    if augmentation is None or settings.kind == "resize":
        raise ValueError("`training_views` requires a recipe with an `augmentation` section.")
    rngs = (drawn_by(f"augment {key} {number}") for number in range(augmentation.views))
    augmented = _augmented_crop if settings.shortest_side is None else _augmented_part
    crops = (augmented(image, settings, augmentation, rng) for rng in rngs)
    return np.stack([np.asarray(crop) for crop in crops])


def source_views(image: Image.Image, recipe: Preprocessing, key: str) -> np.ndarray:
    """Return the pixels that device augmentation turns into network inputs, anew in every epoch.

    As in `training_views`, the image is resized to a drawn side where the recipe aligns, cropped,
    and, with the recipe's probabilities, blurred, made noisy and saved as WebP. JPEG history,
    rescaling, grid phase and flips, which follow, are left to the accelerator.

    Returns:
        uint8 array, `recipe.augmentation.views` x `recipe.source_side` x `recipe.source_side` x 3;
        the same for the same `key`.
    """
    augmentation, settings = recipe.augmentation, recipe.input
    if augmentation is None or settings.kind == "resize":
        raise ValueError("`source_views` requires a recipe with an `augmentation` section.")
    views = []
    for number in range(augmentation.views):
        rng = drawn_by(f"source {key} {number}")
        crop = image
        if settings.training == "aligned":
            side, _ = draw_alignment(rng)
            factor = side / max(image.size)
            crop = _random_crop(image, int(np.ceil((recipe.source_side + BORDER) / factor)), rng)
            crop = rescale(crop, factor)
        else:
            crop = fitted(crop, settings)
        crop = at_least(crop, recipe.source_side)
        crop = _degraded(_random_crop(crop, recipe.source_side, rng), augmentation, rng)
        views.append(np.asarray(crop))
    return np.stack(views)


def _augmented_crop(
    image: Image.Image, settings: Crops, augmentation: Augmentation, rng: np.random.Generator
) -> Image.Image:
    """Align if the recipe does; rescale, blur, add noise, save as WebP and as JPEG; then crop.

    Each step works on the part of the image that the crop needs, with a border that is cut off
    at a random grid phase, so that the cost does not grow with the image.
    """
    low, high = augmentation.rescale
    scale, kernel = rng.uniform(low, high), _drawn_kernel(rng)
    needed = int(np.ceil((settings.size + BORDER) / scale))
    if settings.training == "aligned":
        side, quality = draw_alignment(rng)
        factor = side / max(image.size)
        image = _random_crop(image, int(np.ceil((needed + BORDER) / factor)), rng)
        image = reencode(rescale(image, factor, kernel), quality)
    else:
        image = fitted(image, settings)
    image = rescale(_random_crop(image, needed, rng), scale, kernel)

    image = _saved(_degraded(image, augmentation, rng), augmentation, rng)
    return _random_crop(at_least(image, settings.size), settings.size, rng)


def _augmented_part(
    image: Image.Image, settings: Crops, augmentation: Augmentation, rng: np.random.Generator
) -> Image.Image:
    """Do as `_augmented_crop` does where every image is brought to one size before it is cropped.

    What happens to a file happens at its own size, or at that of an aligned one, or smaller, with
    one JPEG at most; `augmentation.rescale` varies the size that it is brought to.
    """
    if settings.training == "aligned":
        side, _ = draw_alignment(rng)
        image = rescale(image, side / max(image.size), _drawn_kernel(rng))
    if rng.random() < augmentation.shrink:
        image = rescale(image, rng.uniform(SMALLEST, 1), _drawn_kernel(rng))
    image = _saved(_degraded(image, augmentation, rng), augmentation, rng)
    low, high = augmentation.rescale
    image = fitted(image, settings, _drawn_kernel(rng), rng.uniform(low, high))
    return _random_crop(at_least(image, settings.size), settings.size, rng)


def _drawn_kernel(rng: np.random.Generator) -> Image.Resampling:
    return _KERNELS[rng.integers(len(_KERNELS))]


def _saved(image: Image.Image, augmentation: Augmentation, rng: np.random.Generator) -> Image.Image:
    """Save the image as JPEG, with the probability of the recipe."""
    if rng.random() < augmentation.jpeg:
        low, high = augmentation.jpeg_quality
        image = reencode(image, int(rng.integers(low, high, endpoint=True)))
    return image


def _degraded(
    image: Image.Image, augmentation: Augmentation, rng: np.random.Generator
) -> Image.Image:
    """Change the image by each step with its probability."""
    plain = tuple(rng.integers(256, size=3).tolist())
    tint = rng.uniform(0.55, 1, 3) if rng.random() < 0.3 else np.ones(3)
    steps: list[tuple[float, Callable[[], Image.Image]]] = [
        (augmentation.blank, lambda: Image.new("RGB", image.size, plain)),
        (augmentation.grey, lambda: in_grey(image, tint)),
        (augmentation.blur, lambda: blur(image, rng.uniform(0.3, 1.0))),
        (augmentation.noise, lambda: add_noise(image, rng.uniform(1, 4), rng)),
        (augmentation.palette, lambda: few_colors(image, 256)),
        (augmentation.webp, lambda: reencode_webp(image, int(rng.integers(60, 96)), method=2)),
    ]
    for probability, step in steps:
        if rng.random() < probability:
            image = step()
    return image


def _random_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Return a square of `size` pixels, or less where the image is smaller."""
    width, height = min(size, image.width), min(size, image.height)
    x = int(rng.integers(image.width - width, endpoint=True))
    y = int(rng.integers(image.height - height, endpoint=True))
    return image.crop((x, y, x + width, y + height))
