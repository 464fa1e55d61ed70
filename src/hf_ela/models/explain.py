"""Why an image got its score: the score of each view, and where in the image the view lies."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hf_ela.ela.error_level import brightened, error_level
from hf_ela.ela.views import Box, view_boxes
from hf_ela.images.containers import memory_errors
from hf_ela.images.loading import ImageSource, LoadedImage, load_image
from hf_ela.images.sources import name_of
from hf_ela.models.detector import Detector
from hf_ela.models.score import Score

Rgb = tuple[int, int, int]

OVERLAY_SIDE = 768
"""Longest side of the picture in an overlay, in pixels."""
RED, BLUE, GREY = (214, 40, 40), (29, 78, 216), (160, 160, 160)
"""Colours of fake, real and neither, distinct with every common kind of colour blindness."""
STRONGEST = 0.6
"""Opacity of the colour at a probability of 1 or 0."""
UNSEEN = 0.45
"""Factor of the brightness where no view lies."""
LEGEND = 40
"""Height of the legend in pixels."""


@dataclass(frozen=True)
class Evidence:
    """The score of an image and of each of its views.

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
        map: float32, height x width of the image: the mean score of the views that show the
            pixel, NaN where no view does.
        ela: uint8, height x width x 3: the absolute error levels of the image at the lowest quality
            of the recipe (90 for a recipe without ELA), `brightened` for the eye. The network sees
            them otherwise.
    """

    image: Image.Image
    label: str
    score: Score
    threshold: float
    uncertain: bool
    boxes: list[Box]
    scores: list[float]
    map: np.ndarray
    ela: np.ndarray


def evidence(detector: Detector, image: ImageSource) -> Evidence:
    """Return the score of each view of an image; see `ElaClassifier.explain`."""
    with memory_errors(name_of(image)):
        return _evidence(detector, load_image(image))


def _evidence(detector: Detector, loaded: LoadedImage) -> Evidence:
    recipe, pixels = detector.recipe, loaded.pixels
    logits = detector.view_logits(detector.views(pixels))
    score = Score(float(detector.calibrated(logits.mean())), *detector.examined(loaded))
    scores = detector.calibrated(logits).tolist()
    boxes = view_boxes(pixels.size, recipe)
    quality = min(recipe.ela.qualities) if recipe.ela else 90
    return Evidence(
        image=pixels,
        label=detector.label(score),
        score=score,
        threshold=detector.threshold,
        uncertain=detector.is_uncertain(score),
        boxes=boxes,
        scores=scores,
        map=_mean_map(pixels.size, boxes, scores),
        ela=brightened(error_level(pixels, quality)),
    )


def overlay(found: Evidence) -> Image.Image:
    """Return the image in grey with its evidence in colour, and a legend below.

    Red where the views score it as fake, blue where they score it as real, stronger further from
    the threshold; darker where no view lies. An image that allows no certain verdict shows no
    evidence: it stays grey, and the legend says why. The longest side has `OVERLAY_SIDE` pixels.
    """
    scale = OVERLAY_SIDE / max(found.image.size)
    width, height = (max(1, round(side * scale)) for side in found.image.size)
    picture = found.image.resize((width, height), Image.Resampling.LANCZOS)
    # In grey: colours of the picture would be taken for evidence.
    picture = picture.convert("L").convert("RGB")
    if found.score.doubt:
        return _with_legend(picture, [(GREY, f"no evidence ({found.score.doubt})")])
    pixels = np.asarray(picture, np.float64)
    scores = np.asarray(
        Image.fromarray(found.map).resize(picture.size, Image.Resampling.NEAREST), np.float64
    )
    for_fake = np.nan_to_num((scores - found.threshold) / max(1 - found.threshold, 1e-9))
    for_real = np.nan_to_num((found.threshold - scores) / max(found.threshold, 1e-9))
    for share, color in ((for_fake, RED), (for_real, BLUE)):
        opacity = STRONGEST * np.clip(share, 0, 1)[..., np.newaxis]
        pixels = pixels * (1 - opacity) + np.array(color) * opacity
    pixels[np.isnan(scores)] *= UNSEEN
    entries = [(RED, "like AI-generated"), (BLUE, "like human-made")]
    if np.isnan(scores).any():
        entries.append(((60, 60, 60), "not examined"))
    return _with_legend(Image.fromarray(np.rint(pixels).astype(np.uint8)), entries)


def _mean_map(size: tuple[int, int], boxes: list[Box], scores: list[float]) -> np.ndarray:
    width, height = size
    total = np.zeros((height, width), np.float32)
    count = np.zeros((height, width), np.float32)
    for box, score in zip(boxes, scores, strict=True):
        part = np.s_[box.y : box.y + box.height, box.x : box.x + box.width]
        total[part] += score
        count[part] += 1
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _with_legend(picture: Image.Image, entries: list[tuple[Rgb, str]]) -> Image.Image:
    font = ImageFont.load_default(22)
    widths = [56 + round(font.getlength(text)) for _, text in entries]
    size = (max(picture.width, sum(widths)), picture.height + LEGEND)
    framed = Image.new("RGB", size, "white")
    framed.paste(picture, ((framed.width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(framed)
    x, y = 8, picture.height + 10
    for (color, text), width in zip(entries, widths, strict=True):
        draw.rectangle((x, y, x + 20, y + 20), fill=color)
        draw.text((x + 28, y - 2), text, "black", font)
        x += width
    return framed
