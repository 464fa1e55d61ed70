"""Why an image got its score: the score of each view, and a map of what the network says where."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hf_ela._threads import batched
from hf_ela.ela.error_level import brightened, error_level
from hf_ela.ela.views import Box, at_size, crops, fitted, network_inputs, sliding_boxes, view_boxes
from hf_ela.images.containers import memory_errors
from hf_ela.images.contents import is_smooth, smooth_parts
from hf_ela.images.loading import ImageSource, LoadedImage, load_image
from hf_ela.images.sources import name_of
from hf_ela.models.detector import Detector
from hf_ela.models.score import Score
from hf_ela.recipes.schema import Crops, Resize

Rgb = tuple[int, int, int]

OVERLAY_SIDE = 768
"""Longest side of the picture in an overlay, in pixels."""
RED, BLUE, GREY = (214, 40, 40), (29, 78, 216), (160, 160, 160)
"""Colours of fake, real and neither, distinct with every common kind of colour blindness."""
DARK = (60, 60, 60)
"""Stands for what is darker in the picture, where there is no evidence."""
STRONGEST = 0.6
"""Opacity of the colour at a probability of 1 or 0."""
UNSEEN = 0.45
"""Factor of the brightness where no view lies."""
LEGEND = 40
"""Height of the legend in pixels."""
MOST_CROPS = 48
"""Most crops behind a map: what two cores score in about a second with the packaged model."""
BATCH = 16
"""Crops that are in memory at once."""
CELLS = 8
"""Parts of a crop, across and down, that are looked at for something to see."""


@dataclass(frozen=True)
class Evidence:
    """The score of an image and of each of its views, and a map of scores.

    Attributes:
        image: The upright RGB pixels of the image.
        label: ``fake`` or ``real``.
        score: Calibrated probability of fake of the image. Its logit is the mean of the views'. Its
            `doubt` says why the image itself allows no certain verdict, its `info` what the file
            is and claims.
        threshold: Probability from which on an image is called fake.
        uncertain: Whether the model abstains, by `Detector.is_uncertain`. It is a property of the
            image: single views have no band.
        boxes: The part of the image that each view shows. A recipe that resizes the whole image
            has one view of all of it, and so does not locate anything.
        scores: Calibrated probability of fake of each view, in the order of `boxes`.
        map: float32, height x width of the image: the mean score of the crops in `slid` that show
            the pixel, where a crop counts more the nearer the pixel is to its middle (a Hann
            window). NaN where no crop lies or there is nothing to see, and everywhere in an image
            that allows no certain verdict. No single pixel is scored: `slid` says how many stand
            behind a value.
        slid: The part of the image that each crop behind `map` shows. They lie closer than `boxes`,
            decide nothing, and are at most `MOST_CROPS`; crops of one colour, a gradient or a blur
            are left out. The one view of a resized image.
        ela: uint8, height x width x 3: the absolute error levels of the image at `ela_quality`,
            `brightened` for the eye. The network sees them otherwise.
        ela_quality: The lowest JPEG quality of the recipe, 90 for a recipe without ELA.
    """

    image: Image.Image
    label: str
    score: Score
    threshold: float
    uncertain: bool
    boxes: list[Box]
    scores: list[float]
    map: np.ndarray
    slid: list[Box]
    ela: np.ndarray
    ela_quality: int


def evidence(detector: Detector, image: ImageSource) -> Evidence:
    """Return the score of each view of an image, and a map; see `ElaClassifier.explain`."""
    with memory_errors(name_of(image)):
        return _evidence(detector, load_image(image))


def _evidence(detector: Detector, loaded: LoadedImage) -> Evidence:
    recipe, pixels = detector.recipe, loaded.pixels
    logits = detector.view_logits(detector.views(pixels))
    score = Score(float(detector.calibrated(logits.mean())), *detector.examined(loaded))
    scores = detector.calibrated(logits).tolist()
    boxes = view_boxes(pixels.size, recipe)
    quality = min(recipe.ela.qualities) if recipe.ela else 90
    if score.doubt:
        slid, found = [], np.full(pixels.size[::-1], np.nan, np.float32)
    elif isinstance(recipe.input, Resize):
        slid, found = boxes, np.full(pixels.size[::-1], score, np.float32)
    else:
        slid, found = _slide(detector, pixels, recipe.input)
    return Evidence(
        image=pixels,
        label=detector.label(score),
        score=score,
        threshold=detector.threshold,
        uncertain=detector.is_uncertain(score),
        boxes=boxes,
        scores=scores,
        map=found,
        slid=slid,
        ela=brightened(error_level(pixels, quality)),
        ela_quality=quality,
    )


def _slide(
    detector: Detector, pixels: Image.Image, settings: Crops
) -> tuple[list[Box], np.ndarray]:
    """Return what crops say that slide over an image: `slid` and `map` of `Evidence`."""
    image = fitted(pixels, settings)
    places = {
        box: shown
        for box in sliding_boxes(image.size, settings, MOST_CROPS)
        # Seen in the image's own pixels: an enlarged image is a blur.
        if not is_smooth(_part(pixels, shown := at_size(box, image.size, pixels.size)))
    }

    def scores() -> Iterator[float]:
        for some in batched(places, BATCH):
            views = network_inputs(crops(image, some, settings), detector.recipe)
            yield from detector.calibrated(detector.view_logits(views)).tolist()

    hann = np.sin(np.pi * (np.arange(settings.size) + 0.5) / settings.size) ** 2
    window = np.outer(hann, hann).astype(np.float32)
    weight = np.zeros(image.size[::-1], np.float32)
    total = np.zeros_like(weight)
    for box, score in zip(places, scores(), strict=True):
        at = np.s_[box.y : box.y + box.height, box.x : box.x + box.width]
        seen = window[: box.height, : box.width]
        weight[at] += seen
        total[at] += seen * score
    cell = settings.size / CELLS * pixels.width / image.width
    blank = smooth_parts(pixels, cell, image.size)
    weight[blank] = total[blank] = 0
    weight, total = (
        np.asarray(Image.fromarray(one).resize(pixels.size, Image.Resampling.BILINEAR))
        for one in (weight, total)
    )
    unseen = np.full_like(weight, np.nan)
    return [*places.values()], np.divide(total, weight, out=unseen, where=weight > 0)


def _part(image: Image.Image, box: Box) -> Image.Image:
    return image.crop((box.x, box.y, box.x + box.width, box.y + box.height))


def overlay(found: Evidence) -> Image.Image:
    """Return `tinted` evidence with its legend below; the longest side has `OVERLAY_SIDE` pixels.

    An image that allows no certain verdict shows no evidence: it stays grey, and the legend says
    why.
    """
    scale = OVERLAY_SIDE / max(found.image.size)
    width, height = (max(1, round(side * scale)) for side in found.image.size)
    return _with_legend(tinted(found, (width, height)), legend(found))


def tinted(found: Evidence, size: tuple[int, int]) -> Image.Image:
    """Return the image in grey, in another size, with its evidence in colour.

    Red where the map says fake, blue where it says real, stronger further from the threshold;
    darker where it says nothing.
    """
    # In grey: colours of the picture would be taken for evidence.
    picture = found.image.resize(size, Image.Resampling.LANCZOS).convert("L").convert("RGB")
    if found.score.doubt:
        return picture
    pixels = np.asarray(picture, np.float64)
    scores = np.asarray(
        Image.fromarray(found.map).resize(size, Image.Resampling.BILINEAR), np.float64
    )
    for_fake = np.nan_to_num((scores - found.threshold) / max(1 - found.threshold, 1e-9))
    for_real = np.nan_to_num((found.threshold - scores) / max(found.threshold, 1e-9))
    for share, color in ((for_fake, RED), (for_real, BLUE)):
        opacity = STRONGEST * np.clip(share, 0, 1)[..., np.newaxis]
        pixels = pixels * (1 - opacity) + np.array(color) * opacity
    pixels[np.isnan(scores)] *= UNSEEN
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def legend(found: Evidence) -> list[tuple[Rgb, str]]:
    """Return the colours of `tinted` and what they mean."""
    if found.score.doubt:
        return [(GREY, f"no evidence ({found.score.doubt})")]
    entries = [(RED, "like AI-generated"), (BLUE, "like human-made")]
    return [*entries, (DARK, "no evidence")] if np.isnan(found.map).any() else entries


def draw_legend(
    draw: ImageDraw.ImageDraw, x: int, y: int, entries: list[tuple[Rgb, str]], size: int = 22
) -> None:
    """Draw a `legend` in one line of letters of a size in pixels."""
    font = ImageFont.load_default(size)
    for color, text in entries:
        draw.rectangle((x, y, x + size - 2, y + size - 2), fill=color)
        draw.text((x + size + 6, y - 2), text, "black", font)
        x += legend_width([(color, text)], size)


def legend_width(entries: list[tuple[Rgb, str]], size: int = 22) -> int:
    """Return how many pixels `draw_legend` needs."""
    font = ImageFont.load_default(size)
    return sum(2 * size + 12 + round(font.getlength(text)) for _, text in entries)


def _with_legend(picture: Image.Image, entries: list[tuple[Rgb, str]]) -> Image.Image:
    size = (max(picture.width, legend_width(entries)), picture.height + LEGEND)
    framed = Image.new("RGB", size, "white")
    framed.paste(picture, ((framed.width - picture.width) // 2, 0))
    draw_legend(ImageDraw.Draw(framed), 8, picture.height + 10, entries)
    return framed
