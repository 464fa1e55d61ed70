"""How robust a detector is to images that are saved again, resized or sent on.

The table of `measure_robustness` has a row for each perturbation of
`hf_ela.evaluation.perturbations.SUITE`, scored at the threshold that the model ships with: nothing
is fitted to the perturbed images.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from hashlib import sha256
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from hf_ela._terminal import progress_bar
from hf_ela._threads import in_threads
from hf_ela.ela.views import align
from hf_ela.errors import DataError, ImageError
from hf_ela.evaluation.intervals import RESAMPLES, measure
from hf_ela.evaluation.perturbations import SUITE
from hf_ela.images.loading import load_image
from hf_ela.models.detector import Detector
from hf_ela.recipes.schema import Protocol
from hf_ela.run_record import Robustness, RobustnessRow

__all__ = [
    "LOADERS",
    "BalancedSample",
    "Versions",
    "load_aligned",
    "load_as_is",
    "measure_robustness",
    "score_versions",
]

PERTURBED_IMAGES = 200
"""Images that the table is measured on, half of each class: less than a minute on two cores for the
default recipe, and a 95 % interval of a balanced accuracy of about ±.06."""
IMAGES_AT_A_TIME = 4
"""Images whose views are made ahead: 19 MB each with the default recipe and the whole suite."""
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

    with in_threads(views, images, IMAGES_AT_A_TIME) as batches:
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
