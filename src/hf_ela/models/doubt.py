"""Why an image itself allows no certain verdict, whatever its score.

``benchmarks/doubts.py`` measures how often certain answers are right with and without each reason.
"""

from hf_ela.images.info import ImageInfo
from hf_ela.recipes.schema import Recipe


def doubt(info: ImageInfo, recipe: Recipe) -> str:
    """Return the reason, or "".

    Args:
        info: The facts of the image, with its traces.
        recipe: That of the model.
    """
    least = recipe.pixel_side // 2
    if min(info.width, info.height) < least:
        return f"too small: a side of fewer than {least} pixels"
    if info.smooth:
        return "nothing to see: one colour, a gradient or a blur"
    if info.two_tones:
        return "hardly more than two tones: text, a diagram or a drawing in ink"
    if info.monochrome:
        return "one colour: the model is wrong too often about grey and toned pictures"
    if info.noise:
        return "noise: too much of the finest detail"
    return ""
