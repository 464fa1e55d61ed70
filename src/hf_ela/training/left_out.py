"""Predictions for images of sources that the network has not seen: cross-fitting by sources.

A network knows the sources that it was trained on, and is surer of them than of what people bring.
Calibration on held-out images of known sources would promise too much: here the head is trained
once per part of the sources, on all others, and scores the images of that part.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from hf_ela.backend import keras
from hf_ela.data.preparation import Prepared, Split
from hf_ela.ela.views import drawn_by
from hf_ela.evaluation.calibration import (
    FALSE_ALARMS,
    fit_false_alarms,
    measure_coverage,
    measure_false_alarms,
)
from hf_ela.evaluation.metrics import compute_metrics
from hf_ela.evaluation.summary import PROTOCOLS, Scores, by_source
from hf_ela.models.detector import Detector, image_logits, keras_probabilities
from hf_ela.models.networks import head_of
from hf_ela.recipes.schema import Protocol, Recipe
from hf_ela.training.features import in_features
from hf_ela.training.fit import fit_model, initial_model, normalise, seen_features

MOST = 100
"""Images of a source and class that are scored: more of one source would tell little more."""


@dataclass(frozen=True)
class LeftOut:
    """Images scored by heads that have not seen their part of the sources.

    Attributes:
        split: The images, of training and validation.
        parts: The part of each.
        logits: By protocol, float64.
    """

    split: Split
    parts: list[str]
    logits: dict[Protocol, np.ndarray]


def score_left_out(
    recipe: Recipe,
    data: Prepared,
    network: keras.Model,
    folder: Path,
    among: np.ndarray | None = None,
) -> LeftOut:
    """Train a head without each part of the sources, and score the images of that part.

    Args:
        recipe: A recipe with a frozen `transfer` network and `calibration.left_out`, the column of
            the groups file that names the part of an image.
        data: Its data.
        network: The trained network; its backbone is used, its head is not.
        folder: For the state of each training.
        among: Whether a head may be trained on each training image: bool; None means on all.
    """
    known = Split(data.train.store, np.union1d(data.train.rows, data.validation.rows))
    chosen = _at_most(known, data.groups.column(known.file_names, "source"))
    column = str(recipe.calibration.left_out)
    parts, training = (data.groups.column(x.file_names, column) for x in (chosen, data.train))
    backbone, _ = head_of(network)
    held = {
        protocol: in_features(chosen, protocol, backbone, mirrored=False) for protocol in PROTOCOLS
    }
    seen = seen_features(data.train, recipe, backbone)
    sources = data.groups.column(data.train.file_names, "source")
    logits = {protocol: np.full(len(chosen), np.nan) for protocol in PROTOCOLS}
    _, head = head_of(initial_model(recipe))
    start = head.get_weights()
    for part in sorted({part for part in parts if part}):
        inside = np.array([name == part for name in parts])
        stays = np.array([name not in (part, None) for name in training])
        if among is not None:
            stays &= among
        here = {name: replace(split, rows=split.rows[inside]) for name, split in held.items()}
        others = replace(seen, rows=seen.rows[stays])
        head.set_weights(start)
        normalise(head, others)
        state = sha256(others.rows.tobytes()).hexdigest()[:16]  # of a training on exactly these
        kept = [source for source, stay in zip(sources, stays, strict=True) if stay]
        validation = here[recipe.input.training]
        fit_model(head, recipe, others, validation, folder / f"left-out-{state}", kept)
        for name, found in here.items():
            logits[name][inside] = image_logits(keras_probabilities(head), found.views(name))
    scored = np.isfinite(logits["as_is"])
    return LeftOut(
        Split(chosen.store, chosen.rows[scored]),
        [part or "" for part, kept in zip(parts, scored, strict=True) if kept],
        {protocol: found[scored] for protocol, found in logits.items()},
    )


def score_known(data: Prepared, network: keras.Model) -> dict[Protocol, np.ndarray]:
    """Return by protocol the logits of the validation images, whose sources are trained on.

    Args:
        data: Its data.
        network: The trained network, of a frozen backbone.
    """
    backbone, head = head_of(network)
    probabilities = keras_probabilities(head)
    return {
        protocol: image_logits(
            probabilities,
            in_features(data.validation, protocol, backbone, mirrored=False).views(protocol),
        )
        for protocol in PROTOCOLS
    }


def left_out_tables(
    found: LeftOut,
    scores: Scores,
    detector: Detector,
    columns: Mapping[str, Sequence[str | None]],
) -> dict[str, Any]:
    """Measure a network on sources that it has not seen, by part and by source.

    Args:
        found: The images.
        scores: Their calibrated scores.
        detector: Has the threshold and the uncertain scores.
        columns: `group` and `source` of each image.

    Returns:
        By protocol: ``coverage``; ``false_alarms``; ``parts``, each with its AUC, and its recall
        where `FALSE_ALARMS` of its own real images are called fake; and ``sources``, as in
        ``run.json``.
    """
    labels, groups, threshold = found.split.labels, columns["group"], detector.threshold
    return {
        "coverage": {
            protocol: measure_coverage(labels, s, threshold, detector.uncertain)
            for protocol, s in scores.items()
        },
        "false_alarms": {
            protocol: measure_false_alarms(labels, s, detector.false_alarms)
            for protocol, s in scores.items()
        },
        "parts": by_part(found, scores),
        "sources": {
            protocol: by_source(columns["source"], labels, s, threshold, groups)
            for protocol, s in scores.items()
        },
    }


def by_part(found: LeftOut, scores: Scores) -> dict[str, list[dict[str, Any]]]:
    """Return by protocol, for each part, what `left_out_tables` says."""
    labels, names = found.split.labels, np.array(found.parts)
    return {
        protocol: [
            {"part": part, **_in_part(labels[names == part], s[names == part])}
            for part in sorted(set(found.parts))
        ]
        for protocol, s in scores.items()
    }


def _in_part(labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    fake = scores[labels == 1]
    thresholds = {share: fit_false_alarms(labels, scores, share) for share in FALSE_ALARMS}
    return {
        "fake": len(fake),
        "real": len(labels) - len(fake),
        "roc_auc": compute_metrics(labels, scores, 0.5)["roc_auc"],
        "recall_at_false_alarms": {
            f"{share:g}": float((fake >= threshold).mean()) if len(fake) else None
            for share, threshold in thresholds.items()
        },
    }


def _at_most(split: Split, sources: list[str | None]) -> Split:
    """Draw at most `MOST` images of each source and class."""
    drawn = drawn_by("left out").permutation(len(split))
    taken: Counter[tuple[str | None, int]] = Counter()
    kept = []
    labels = split.labels
    for image in drawn:
        pair = sources[image], int(labels[image])
        if sources[image] is None or taken[pair] < MOST:
            taken[pair] += 1
            kept.append(image)
    return Split(split.store, split.rows[np.sort(kept)])
