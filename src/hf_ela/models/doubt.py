"""Why an image itself allows no certain verdict, whatever its score."""

from PIL import Image

from hf_ela.images.loading import ImageInfo
from hf_ela.images.operations import is_smooth
from hf_ela.recipes.schema import Recipe


def doubt(image: Image.Image, info: ImageInfo, recipe: Recipe) -> str:
    """Return the reason, or "".

    Args:
        image: Its RGB pixels.
        info: Its facts, with its traces.
        recipe: That of the model.
    """
    least = recipe.pixel_side // 2
    if min(image.size) < least:
        return f"too small: a side of fewer than {least} pixels"
    if is_smooth(image):
        return "nothing to see: one colour, a gradient or a blur"
    return ""
