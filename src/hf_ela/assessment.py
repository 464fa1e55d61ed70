"""What a saved model is worth on a dataset: every metric, tables by source, robustness."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import datasets
import numpy as np
from PIL import Image

from hf_ela.abstention import Band, coverage_curve, measure_decided
from hf_ela.alignment import align
from hf_ela.classifier import ElaClassifier
from hf_ela.data import check_rejected
from hf_ela.errors import DataError, ImageError
from hf_ela.evaluation import (
    Interval,
    by_source,
    chance_calibration_error,
    confusion,
    measure,
    spread,
)
from hf_ela.groups import GroupTable
from hf_ela.hub.dataset import read_image
from hf_ela.images import load_image
from hf_ela.recipe import Protocol
from hf_ela.robustness import LOADERS, Sample, Versions, robustness, score_versions, tracked
from hf_ela.rows import name_and_kind
from hf_ela.source import DataOptions, Source, open_source

__all__ = [
    "COLUMNS",
    "PROTOCOLS",
    "Assessment",
    "Labelled",
    "assess",
    "chance_ece",
    "covered",
    "labelled_images",
    "measured",
    "scored",
    "tables",
]

PROTOCOLS: tuple[Protocol, ...] = ("as_is", "aligned")
COLUMNS = {"sources": "source", "generators": "generator"}
"""Sections of a result, and the columns of a groups file that they are made of."""


Scores = Mapping[str, np.ndarray]
"""Protocol to the probability of fake of each image."""


class Labelled(NamedTuple):
    """An encoded image of a dataset; the label is 1 for fake. What cannot be read has no bytes."""

    name: str
    label: int
    content: bytes
    error: ImageError | None = None


class Assessment(NamedTuple):
    """What `assess` finds.

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


def assess(
    classifier: ElaClassifier,
    options: DataOptions,
    *,
    split: str = "test",
    base: Protocol = "aligned",
    progress: bool = False,
) -> Assessment:
    """Measure a classifier on a split of a dataset, at its own temperature, threshold and band.

    Args:
        classifier: What is measured.
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
    found_scores = scored(classifier, labelled_images(source, split), _under_protocols)
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
    table = robustness(classifier, *drawn.balanced(), load=LOADERS[base], progress=progress)
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
            "temperature": classifier.temperature,
            "threshold": classifier.threshold,
            "uncertain": classifier.uncertain and [*classifier.uncertain],
        },
        "evaluation": {
            split: measured(labels, by_protocol, classifier.threshold, group_names),
            "chance_ece": chance_ece(by_protocol),
            "coverage": covered(labels, by_protocol, classifier.threshold, classifier.uncertain),
        },
        **tables(columns, labels, by_protocol, classifier.threshold, group_names),
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


def measured(
    labels: np.ndarray, scores: Scores, threshold: float, groups: Sequence[str | None]
) -> dict[str, Any]:
    """Return every metric with its interval, and the confusion matrix, under each protocol."""
    return {
        name: {
            **measure(labels, found, threshold, groups),
            "confusion": confusion(labels, found, threshold),
        }
        for name, found in scores.items()
    }


def chance_ece(scores: Scores) -> dict[str, Interval]:
    """Return, under each protocol, the ECE that the scores would have if they were calibrated."""
    return {name: chance_calibration_error(found) for name, found in scores.items()}


def covered(
    labels: np.ndarray, scores: Scores, threshold: float, band: Band | None
) -> dict[str, Any]:
    """Return what a band leaves, and what others would, under each protocol."""
    return {
        name: {
            "shipped": measure_decided(labels, found, threshold, band),
            "curve": coverage_curve(labels, found, threshold),
        }
        for name, found in scores.items()
    }


def tables(
    columns: Mapping[str, Sequence[str | None]],
    labels: np.ndarray,
    scores: Scores,
    threshold: float,
    groups: Sequence[str | None],
) -> dict[str, Any]:
    """Return a section for each column, protocol to its rows, and `spread` over all of them.

    Args:
        columns: `sources` and `generators`, one name an image.
        labels: 1 for fake, 0 for real, shape (N,).
        scores: By protocol.
        threshold: Lowest score that is called fake.
        groups: Which images belong together; None where not known.
    """
    found = {
        section: {
            name: by_source(column, labels, s, threshold, groups) for name, s in scores.items()
        }
        for section, column in columns.items()
    }
    spreads = {
        section: {name: spread(rows) for name, rows in by_protocol.items()}
        for section, by_protocol in found.items()
        if any(by_protocol.values())
    }
    return {**found, "spread": spreads}


def scored(
    classifier: ElaClassifier, images: Iterable[Labelled], versions: Versions
) -> Iterator[tuple[Labelled, np.ndarray | ImageError]]:
    """Yield each image with the scores of its versions, or with why it is refused.

    The arguments are those of `hf_ela.robustness.score_versions`.
    """
    waiting: deque[Labelled] = deque()

    def contents() -> Iterator[bytes]:
        for image in images:
            waiting.append(image)
            yield image.content

    for found in score_versions(classifier, contents(), versions):
        image = waiting.popleft()
        yield image, image.error or found


def _under_protocols(content: bytes) -> list[Image.Image]:
    """Return an image under each of `PROTOCOLS`, decoded once."""
    pixels = load_image(content).pixels
    return [pixels, align(pixels, sha256(content).hexdigest())]
