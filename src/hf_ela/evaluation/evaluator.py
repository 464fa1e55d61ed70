"""What a saved model is worth on a dataset: every metric, tables by source, robustness."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import datasets
import numpy as np
from PIL import Image

from hf_ela.data.groups import GroupTable
from hf_ela.data.loading import DataOptions, Source, open_source
from hf_ela.data.preparation import check_rejected
from hf_ela.data.rows import name_and_kind
from hf_ela.ela.views import align
from hf_ela.errors import DataError, ImageError
from hf_ela.evaluation.robustness import (
    LOADERS,
    Sample,
    Versions,
    robustness,
    score_versions,
    tracked,
)
from hf_ela.evaluation.summary import (
    COLUMNS,
    PROTOCOLS,
    Scores,
    chance_ece,
    covered,
    measured,
    tables,
)
from hf_ela.hub.datasets import read_image
from hf_ela.images.loading import load_image
from hf_ela.models.detector import Detector
from hf_ela.recipes.schema import Protocol

__all__ = ["Assessment", "Labelled", "evaluate", "labelled_images", "scored"]


class Labelled(NamedTuple):
    """An encoded image of a dataset; the label is 1 for fake. What cannot be read has no bytes."""

    name: str
    label: int
    content: bytes
    error: ImageError | None = None


class Assessment(NamedTuple):
    """What `evaluate` finds.

    Attributes:
        sections: `data`, `calibration`, `evaluation`, `sources`, `generators`, `spread` and
            `robustness`, fit for JSON, as in ``run.json``.
        labels: Of the images of the split: int64, shape (N,), 1 for fake.
        scores: By protocol, the probability of fake of each: float64, shape (N,).
    """

    sections: dict[str, Any]
    labels: np.ndarray
    scores: Scores

    @property
    def threshold(self) -> float:
        """Of the model that was measured."""
        return float(self.sections["calibration"]["threshold"])

    def right(self, protocol: str) -> np.ndarray:
        """Return whether the model is right about each image: bool, shape (N,)."""
        return np.asarray((self.scores[protocol] >= self.threshold) == (self.labels == 1))


def evaluate(
    detector: Detector,
    options: DataOptions,
    *,
    split: str = "test",
    base: Protocol = "aligned",
    progress: bool = False,
) -> Assessment:
    """Measure a detector on a split of a dataset, at its own temperature, threshold and band.

    Args:
        detector: What is measured.
        options: Where the images come from; `max_rejected` counts for the split.
        split: Which of its splits; where there is but one, it is that, whatever its name.
        base: What an image is before it is perturbed, for the robustness table.
        progress: Show bars on standard error.

    Raises:
        DataError: The data cannot be reached or used, or lacks the split or a class of it, or more
            images are refused than allowed, or the groups are of other images.
    """
    groups = GroupTable.read(options.groups)
    source = open_source(options)
    split = _the_split(source, split)
    if isinstance(source.splits[split], datasets.Dataset):  # a stream passes once
        _check([(name, label) for name, label, _ in _rows(source, split)], groups, source, split)
    images: list[tuple[str, int]] = []
    scores: list[np.ndarray] = []
    rejected: list[dict[str, str]] = []
    drawn = Sample()
    found_scores = scored(detector, labelled_images(source, split), _under_protocols)
    for image, found in tracked(found_scores, None, "Scoring", shown=progress):
        if isinstance(found, ImageError):
            reason = f"{type(found).__name__}: {found.reason}"
            rejected.append({"file": image.name, "split": split, "reason": reason})
            continue
        images.append((image.name, image.label))
        scores.append(found)
        drawn.add(image.content, image.label)
    check_rejected(rejected, len(images) + len(rejected), options.max_rejected)
    _check(images, groups, source, split)
    names = [name for name, _ in images]
    labels = np.array([label for _, label in images], np.int64)
    by_protocol = dict(zip(PROTOCOLS, np.reshape(scores, (-1, len(PROTOCOLS))).T, strict=True))
    group_names = [groups.get(name, "group") for name in names]
    columns = {
        section: [groups.get(name, column) for name in names] for section, column in COLUMNS.items()
    }
    table = robustness(detector, *drawn.balanced(), load=LOADERS[base], progress=progress)
    sections = {
        "data": {
            "id": source.id,
            "revision": source.hub.revision if source.hub else None,
            "split": split,
            "n": len(labels),
            "fake": int(labels.sum()),
            "real": int((1 - labels).sum()),
            "limit": options.limit,
            "groups": {"sha256": groups.sha256, "matched": groups.matched(names)}
            if options.groups
            else None,
            "rejected": rejected,
        },
        "calibration": {
            "temperature": detector.temperature,
            "threshold": detector.threshold,
            "uncertain": detector.uncertain and [*detector.uncertain],
        },
        "evaluation": {
            split: measured(labels, by_protocol, detector.threshold, group_names),
            "chance_ece": chance_ece(by_protocol),
            "coverage": covered(labels, by_protocol, detector.threshold, detector.uncertain),
        },
        **tables(columns, labels, by_protocol, detector.threshold, group_names),
        "robustness": {"base": base, **table},
    }
    return Assessment(sections, labels, by_protocol)


def labelled_images(source: Source, split: str) -> Iterator[Labelled]:
    """Yield the images of a split, undecoded, in its order; a stream passes once.

    Raises:
        DataError: A label is unknown.
    """
    for name, label, image in _rows(source, split):
        try:
            yield Labelled(name, label, read_image(image))
        except ImageError as error:
            yield Labelled(name, label, b"", error)


def _rows(source: Source, split: str) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Yield name, label and what `read_image` takes, of each image of a split."""
    for index, row in enumerate(source.splits[split]):
        image = row["image"]
        name, kind = name_and_kind(image, row["label"], index, split, source.root, source.kinds)
        yield name, int(kind == "fake"), image


def _check(
    images: Sequence[tuple[str, int]], groups: GroupTable, source: Source, split: str
) -> None:
    """Refuse images, names and labels, of one class, and groups of others."""
    fake = sum(label for _, label in images)
    real = len(images) - fake
    if not (fake and real):
        raise DataError(
            f"A model is measured on images of both classes. Received: {fake} fake and {real} real "
            f"ones in the split {split} of {source.id}. Add some, or name another with --split."
        )
    groups.matched([name for name, _ in images])


def _the_split(source: Source, asked: str) -> str:
    """Return the split that was asked for, or the only one that there is."""
    if asked in source.splits:
        return asked
    if len(source.splits) == 1:
        return next(iter(source.splits))
    raise DataError(
        f"A split must be one of {sorted(source.splits)} for {source.id}. Received: {asked!r}. "
        "Name one of these with --split."
    )


def scored(
    detector: Detector, images: Iterable[Labelled], versions: Versions
) -> Iterator[tuple[Labelled, np.ndarray | ImageError]]:
    """Yield each image with the scores of its versions, or with why it is refused.

    The arguments are those of `hf_ela.evaluation.robustness.score_versions`.
    """
    waiting: deque[Labelled] = deque()

    def contents() -> Iterator[bytes]:
        for image in images:
            waiting.append(image)
            yield image.content

    for found in score_versions(detector, contents(), versions):
        image = waiting.popleft()
        yield image, image.error or found


def _under_protocols(content: bytes) -> list[Image.Image]:
    """Return an image under each of `PROTOCOLS`, decoded once."""
    pixels = load_image(content).pixels
    return [pixels, align(pixels, sha256(content).hexdigest())]
