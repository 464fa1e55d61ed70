"""What a saved model is worth on a dataset: `evaluate`."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import datasets
import numpy as np
from PIL import Image

from hf_ela._terminal import progress_bar
from hf_ela.data.groups import GroupTable
from hf_ela.data.loading import DataOptions, OpenedDataset, open_dataset
from hf_ela.data.preparation import check_rejected
from hf_ela.data.rows import name_and_label
from hf_ela.ela.views import align
from hf_ela.errors import DataError, ImageError
from hf_ela.evaluation.intervals import RESAMPLES, mcnemar
from hf_ela.evaluation.robustness import SUITE, BalancedSample, Versions, score_versions
from hf_ela.evaluation.summary import PROTOCOLS, Scores, evaluation_sections
from hf_ela.evaluation.verdict import verdict
from hf_ela.hub.datasets import read_image
from hf_ela.images.loading import load_image
from hf_ela.models.detector import Detector
from hf_ela.recipes.schema import Protocol


class LabelledImage(NamedTuple):
    """An encoded image of a dataset; the label is 1 for fake. What cannot be read has no bytes."""

    name: str
    label: int
    content: bytes
    error: ImageError | None = None


class EvaluationResult(NamedTuple):
    """What `evaluate` returns.

    Attributes:
        sections: `data`, `calibration`, `evaluation`, `sources`, `generators`, `spread` and
            `robustness`, fit for JSON, as in ``run.json``; and `verdict`, sentences.
        labels: Labels of the images of the split: int64, shape (N,), 1 for fake.
        scores: By protocol, the probability of fake of each: float64, shape (N,).
    """

    sections: dict[str, Any]
    labels: np.ndarray
    scores: Scores

    @property
    def threshold(self) -> float:
        """The threshold of the model."""
        return float(self.sections["calibration"]["threshold"])

    def correct(self, protocol: Protocol) -> np.ndarray:
        """Return whether the model is correct about each image: bool, shape (N,)."""
        return np.asarray((self.scores[protocol] >= self.threshold) == (self.labels == 1))


def evaluate(
    detector: Detector,
    options: DataOptions,
    *,
    split: str | None = None,
    base: Protocol = "aligned",
    resamples: int = RESAMPLES,
    perturbations: Sequence[str] = tuple(SUITE),
    progress: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> EvaluationResult:
    """Measure a detector on a split of a dataset, at its own temperature and threshold.

    Args:
        detector: What is measured, such as an `ElaClassifier`.
        options: Where the images come from; `max_rejected` counts for the split.
        split: Which of its splits; by default ``test``, or the only one, whatever its name.
        base: Protocol under which images are perturbed for the robustness table.
        resamples: Draws of the bootstrap for each interval.
        perturbations: Rows of the robustness table, names of
            `hf_ela.evaluation.robustness.SUITE`.
        progress: Show bars on standard error.
        say: Receives a line as each step begins.

    Raises:
        DataError: The data cannot be reached or used, lacks the split or one of the classes in it,
            more images are refused than allowed, or the groups file names other images.
    """
    groups = GroupTable.read(options.groups)
    source = open_dataset(options)
    split = _find_split(source, split)
    total = None
    if isinstance(source.splits[split], datasets.Dataset):  # a stream passes once
        _check([(name, label) for name, label, _ in _rows(source, split)], groups, source, split)
        total = len(source.splits[split])
    say(f"Scoring {total or 'the'} images of {source.id}, {split}, as-is and aligned ...")
    images: list[tuple[str, int]] = []
    scores: list[np.ndarray] = []
    rejected: list[dict[str, str]] = []
    sample = BalancedSample()
    results = score_images(detector, labelled_images(source, split), _under_protocols)
    for image, found in progress_bar(results, "Scoring", total, shown=progress):
        if isinstance(found, ImageError):
            reason = f"{type(found).__name__}: {found.reason}"
            rejected.append({"file": image.name, "split": split, "reason": reason})
            continue
        images.append((image.name, image.label))
        scores.append(found)
        sample.add(image.content, image.label)
    check_rejected(rejected, len(images) + len(rejected), options.max_rejected)
    _check(images, groups, source, split)
    names = [name for name, _ in images]
    labels = np.array([label for _, label in images], np.int64)
    by_protocol = dict(zip(PROTOCOLS, np.reshape(scores, (-1, len(PROTOCOLS))).T, strict=True))
    say("Measuring robustness to JPEG, resizing and other changes ...")
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
            "false_alarms": detector.false_alarms,
        },
        **evaluation_sections(
            detector,
            labels,
            by_protocol,
            groups.columns(names),
            sample,
            split=split,
            base=base,
            resamples=resamples,
            perturbations=perturbations,
            progress=progress,
        ),
    }
    result = EvaluationResult(sections, labels, by_protocol)
    aligning = mcnemar(result.correct("as_is"), result.correct("aligned"))
    sections["verdict"] = verdict(sections, aligning)
    return result


def labelled_images(source: OpenedDataset, split: str) -> Iterator[LabelledImage]:
    """Yield the images of a split, undecoded, in its order; a stream passes once.

    Raises:
        DataError: A label is unknown.
    """
    for name, label, image in _rows(source, split):
        try:
            yield LabelledImage(name, label, read_image(image))
        except ImageError as error:
            yield LabelledImage(name, label, b"", error)


def _rows(source: OpenedDataset, split: str) -> Iterator[tuple[str, int, Mapping[str, Any] | None]]:
    """Yield name, label and what `read_image` takes, of each image of a split."""
    for index, row in enumerate(source.splits[split]):
        image = row["image"]
        name, label = name_and_label(image, row["label"], index, split, source.root, source.labels)
        yield name, int(label == "fake"), image


def _check(
    images: Sequence[tuple[str, int]], groups: GroupTable, source: OpenedDataset, split: str
) -> None:
    """Refuse images, given by name and label, of one class, and groups of other images."""
    fake = sum(label for _, label in images)
    real = len(images) - fake
    if not (fake and real):
        raise DataError(
            f"A model is measured on images of both classes. Received: {fake} fake and {real} real "
            f"images in the split {split} of {source.id}. Add images, or choose another `split`; "
            "`hf-ela predict FOLDER` gives the answers for images of one class."
        )
    groups.matched([name for name, _ in images])


def _find_split(source: OpenedDataset, asked: str | None) -> str:
    """Return the split that was asked for; by default test, or the only one."""
    names = sorted(source.splits)
    if asked is None and len(names) == 1:
        return names[0]
    found = asked or "test"
    if found not in names:
        raise DataError(
            f"{source.id} has no split {found}. Choose one of its splits as `split`: "
            f"{', '.join(names)}."
        )
    return found


def score_images(
    detector: Detector, images: Iterable[LabelledImage], versions: Versions
) -> Iterator[tuple[LabelledImage, np.ndarray | ImageError]]:
    """Yield each image with the scores of its versions, or with the reason why it is refused.

    The arguments are those of `hf_ela.evaluation.robustness.score_versions`.
    """
    waiting: deque[LabelledImage] = deque()

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
