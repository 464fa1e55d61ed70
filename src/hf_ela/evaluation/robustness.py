"""How robust a detector is to images that are saved again, resized or sent on.

The table of `measure_robustness` has a row for each perturbation of `SUITE`, scored at the
threshold that the model ships with: nothing is fitted to the perturbed images.

Each perturbation takes an RGB image and returns a new one, on one thread, always the same for the
same pixels: random draws are seeded by the pixels. None knows the label. The parameters are fixed,
so that tables of different models can be compared.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import partial
from hashlib import sha256
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageFilter

from hf_ela._terminal import progress_bar
from hf_ela._threads import in_threads
from hf_ela.ela.views import align
from hf_ela.errors import DataError, ImageError
from hf_ela.evaluation.intervals import RESAMPLES, measure
from hf_ela.images.jpeg import reencode
from hf_ela.images.loading import load_image
from hf_ela.images.operations import add_noise, blur, reencode_webp, rescale
from hf_ela.models.detector import Detector
from hf_ela.recipes.schema import Protocol
from hf_ela.run_record import Robustness, RobustnessRow

Perturbation = Callable[[Image.Image], Image.Image]

JPEG_QUALITIES = (100, 95, 90, 80, 70, 60, 50, 40, 30)
"""From a camera's best to clearly visible blocks; 4:2:0, as everywhere in this package."""
FACTORS = (0.5, 0.75, 1.25, 1.5)
"""Half size, as in a gallery's thumbnails; 1.25 and 1.5, as a screen zooms. Not 1, where a resize
does nothing. Lanczos, as image servers use."""
BLUR = 1.0
"""Standard deviation in pixels: removes the finest octave, hardly visible to a person."""
NOISE = 5.0
"""Standard deviation in levels of 255, independent per channel: the grain of a camera at about ISO
800, visible in smooth areas only, and above the 1 to 4 of the training augmentation."""
WEBP_QUALITY = 75
"""The default of `cwebp`: https://developers.google.com/speed/webp/docs/cwebp"""
CROP = 0.8
"""Share of width and height that is kept, in the middle; a square crop: of the shorter side."""
DOUBLE = (75, 90)
"""First a site's own compression (75 is the default of Pillow and libjpeg), then a careful save,
whose finer steps keep the traces of the first, on the same grid."""
SCREEN_FACTOR = 0.83
"""A picture seldom fits a window by a round factor."""
SCREEN_CUT = (3, 5)
"""Pixels that a manual selection misses, left and right of the picture, above and below: both odd,
so that the grid of an earlier JPEG never matches the next."""
SCREEN_GAMMA = 1.05
"""Slightly darker, as without its colour profile."""
SCREEN_QUALITY = 85
"""The screenshot itself is a PNG, without loss; a messenger then saves it as such a JPEG."""


def noise(image: Image.Image) -> Image.Image:
    """Add Gaussian noise of `NOISE` levels, seeded by the pixels."""
    return add_noise(image, NOISE, np.random.default_rng([*sha256(image.tobytes()).digest()]))


def crop(image: Image.Image) -> Image.Image:
    """Keep the middle, of the same shape."""
    return _middle(image, *(max(1, round(length * CROP)) for length in image.size))


def square_crop(image: Image.Image) -> Image.Image:
    """Keep a square in the middle, whatever the shape: in some datasets one class is square.

    On a square image it equals `crop`.
    """
    side = max(1, round(min(image.size) * CROP))
    return _middle(image, side, side)


def _middle(image: Image.Image, width: int, height: int) -> Image.Image:
    """Start four pixels off the 8 x 8 grid, if there is room.

    On the grid, blocks of an earlier JPEG would stay in place.
    """
    rooms = image.width - width, image.height - height
    x, y = (min(room // 2 // 8 * 8 + 4, room) for room in rooms)
    return image.crop((x, y, x + width, y + height))


def double_jpeg(image: Image.Image) -> Image.Image:
    """Save as JPEG twice, by the qualities of `DOUBLE`."""
    for quality in DOUBLE:
        image = reencode(image, quality)
    return image


def screenshot(image: Image.Image) -> Image.Image:
    """Scale to an odd size, cut out by hand, darken and sharpen slightly, send as JPEG.

    Bilinear, as graphics cards scale; sharpened as weakly as a viewer's filter can.
    """
    shown = [max(1, round(length * SCREEN_FACTOR)) for length in image.size]
    image = image.resize((shown[0], shown[1]), Image.Resampling.BILINEAR)
    x, y = (min(cut, (length - 1) // 2) for cut, length in zip(SCREEN_CUT, shown, strict=True))
    image = image.crop((x, y, shown[0] - x, shown[1] - y))
    levels = np.rint(255 * (np.arange(256) / 255) ** SCREEN_GAMMA).astype(int).tolist()
    image = image.point(levels * 3)
    image = image.filter(ImageFilter.UnsharpMask(radius=1, percent=30, threshold=0))
    return reencode(image, SCREEN_QUALITY)


SUITE: dict[str, Perturbation] = {
    **{f"jpeg_{quality}": partial(reencode, quality=quality) for quality in JPEG_QUALITIES},
    **{f"rescale_{factor:g}": partial(rescale, factor=factor) for factor in FACTORS},
    "blur": partial(blur, sigma=BLUR),
    "noise": noise,
    "webp": partial(reencode_webp, quality=WEBP_QUALITY),
    "crop": crop,
    "square_crop": square_crop,
    "double_jpeg": double_jpeg,
    "screenshot": screenshot,
}
"""The perturbations by name, in the order of the table."""

PERTURBED_IMAGES = 200
"""Images that the table is measured on, half of each class: less than a minute on two cores for the
recipe `scratch`, and a 95 % interval of a balanced accuracy of about ±.06."""
IMAGES_AT_A_TIME = 4
"""Images whose views are made ahead: 19 MB each with `scratch` and the whole suite."""
VIEWS_AT_A_TIME = 64
"""Views that are scored in a step; a power of two, which Keras's batches are filled up to."""

Versions = Callable[[bytes], Sequence[Image.Image]]
"""From an encoded image to RGB images that are each to be scored; the same number for all."""


def load_as_is(content: bytes) -> Image.Image:
    """Return the RGB pixels of an encoded image."""
    return load_image(content).pixels


def load_aligned(content: bytes) -> Image.Image:
    """Return the pixels of an encoded image as the aligned protocol sees it."""
    return align(load_as_is(content), sha256(content).hexdigest())


LOADERS: dict[Protocol, Callable[[bytes], Image.Image]] = {
    "as_is": load_as_is,
    "aligned": load_aligned,
}


def measure_robustness(
    detector: Detector,
    images: Sequence[bytes],
    labels: ArrayLike,
    *,
    base: Protocol = "as_is",
    load: Callable[[bytes], Image.Image] | None = None,
    perturbations: Sequence[str] = tuple(SUITE),
    resamples: int = RESAMPLES,
    progress: bool = False,
) -> Robustness:
    """Score images under each perturbation, at the threshold of the detector.

    Args:
        detector: What is measured.
        images: Encoded images, none of which may be refused; `BalancedSample` bounds them.
        labels: 1 for fake, 0 for real, shape (N,); both have to be there.
        base: Protocol under which images are perturbed.
        load: From an encoded image to the pixels that are perturbed; by default `LOADERS` of
            `base`.
        perturbations: Names of those to apply, keys of `SUITE`.
        resamples: Draws of the bootstrap for each interval.
        progress: Show a bar on standard error.

    Raises:
        ValueError: `labels` and `images` are not equally long, or a label is neither 0 nor 1.
        DataError: A class is missing.
        ImageError: An image is refused.
    """
    y = np.asarray(labels)
    if len(images) != len(y):
        raise ValueError(
            "`images` and `labels` must be equally long. "
            f"Received: {len(images)} images and {len(y)} labels. Give one label an image."
        )
    if set(y.tolist()) != {0, 1}:
        raise DataError(
            "Robustness is measured on images of both classes, labelled 1 (fake) and 0 (real). "
            f"Received: {len(y)} images with the labels {sorted(set(y.tolist()))}. Give images of "
            "both."
        )
    pixels = load or LOADERS[base]

    def versions(content: bytes) -> list[Image.Image]:
        image = pixels(content)
        return [image, *(SUITE[name](image) for name in perturbations)]

    scores = np.empty((len(images), 1 + len(perturbations)))
    # Closed in the end: a refusal that is raised would hold on to it, and to its threads.
    with closing(score_versions(detector, images, versions)) as found:
        bar = progress_bar(found, "Perturbing", len(images), shown=progress)
        for row, one in enumerate(bar):
            if isinstance(one, ImageError):
                raise one
            scores[row] = one
    rows: list[RobustnessRow] = []
    for name, column in zip(("none", *perturbations), scores.T, strict=True):
        cells = measure(y, column, detector.threshold, resamples=resamples)
        value = float(cells["balanced_accuracy"]["value"] or 0.0)
        before = rows[0]["balanced_accuracy"]["value"] if rows else value
        rows.append(
            RobustnessRow(
                perturbation=name,
                balanced_accuracy=cells["balanced_accuracy"],
                recall=cells["recall"],
                specificity=cells["specificity"],
                roc_auc=cells["roc_auc"],
                loss=float(before or 0.0) - value,
            )
        )
    return Robustness(base=base, threshold=detector.threshold, n=len(y), rows=rows)


def score_versions(
    detector: Detector, images: Iterable[bytes], versions: Versions
) -> Generator[np.ndarray | ImageError]:
    """Yield the probability of fake of each version of each image, or why an image is refused.

    Threads read, change and cut images while the views of others are scored.

    Args:
        detector: What scores them.
        images: Encoded images, drawn a few at a time.
        versions: What is scored of an image; it runs in threads.

    Yields:
        float64, one value for each version.
    """

    def views(content: bytes) -> np.ndarray | ImageError:
        try:
            return np.stack([detector.views(image) for image in versions(content)])
        except ImageError as error:
            return error

    with in_threads(views, images, IMAGES_AT_A_TIME, detector.threads) as batches:
        for call in chain.from_iterable(batches):
            found = call()
            if isinstance(found, ImageError):
                yield found
                continue
            rows = found.reshape(-1, *found.shape[2:])
            steps = range(0, len(rows), VIEWS_AT_A_TIME)
            logits = [detector.view_logits(rows[at : at + VIEWS_AT_A_TIME]) for at in steps]
            yield detector.calibrated(np.concatenate(logits).reshape(found.shape[:2]).mean(axis=1))


class BalancedSample:
    """A class-balanced draw of bounded size from images that pass once.

    Those with the smallest SHA-256 sums are kept: as good as random, and the same for the same
    images in any order.
    """

    def __init__(self, most: int = PERTURBED_IMAGES) -> None:
        """Keep at most `most` images, half of each class."""
        self._each = most // 2
        self._kept: dict[int, dict[str, bytes]] = {1: {}, 0: {}}

    def add(self, image: bytes, label: int, key: str | None = None) -> None:
        """Offer an image; `key` is the SHA-256 of its file, where `image` is not that file."""
        kept = self._kept[label]
        kept[key or sha256(image).hexdigest()] = image
        if len(kept) > self._each:
            del kept[max(kept)]

    def balanced(self) -> tuple[list[bytes], list[int]]:
        """Return images and labels, the rarer class deciding how many of each."""
        size = min(map(len, self._kept.values()))
        drawn = [
            (kept[key], label) for label, kept in self._kept.items() for key in sorted(kept)[:size]
        ]
        return [image for image, _ in drawn], [label for _, label in drawn]
