"""The sections of a result, from labels and scores: metrics, coverage, tables, robustness."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from hf_ela.evaluation.calibration import (
    coverage_curve,
    measure_coverage,
    measure_false_alarms,
)
from hf_ela.evaluation.intervals import (
    RESAMPLES,
    chance_calibration_error,
    measure,
    numbered_groups,
    wilson,
)
from hf_ela.evaluation.metrics import check, confusion
from hf_ela.evaluation.robustness import SUITE, BalancedSample, measure_robustness
from hf_ela.models.detector import Detector
from hf_ela.recipes.schema import Protocol
from hf_ela.run_record import Label, SourceRow, Spread

PROTOCOLS: tuple[Protocol, ...] = ("as_is", "aligned")
TABLE_COLUMNS = {"sources": "source", "generators": "generator"}
"""Sections of a result, and the columns of a groups file that they are made of."""
_LABELS: tuple[Label, ...] = ("fake", "real")
FEWEST = 5
"""Fewest images of a source that count towards a mean and a minimum over sources."""

Scores = Mapping[Protocol, np.ndarray]
"""Protocol to the probability of fake of each image."""


def evaluation_sections(
    detector: Detector,
    labels: np.ndarray,
    scores: Scores,
    columns: Mapping[str, Sequence[str | None]],
    sample: BalancedSample,
    *,
    split: str = "test",
    base: Protocol = "aligned",
    load: Callable[[bytes], Image.Image] | None = None,
    resamples: int = RESAMPLES,
    perturbations: Sequence[str] = tuple(SUITE),
    progress: bool = False,
) -> dict[str, Any]:
    """Measure a detector by its scores on a split, at its own threshold and uncertain scores.

    Args:
        detector: What gave the scores.
        labels: 1 for fake, 0 for real, shape (N,).
        scores: By protocol, float64, shape (N,).
        columns: `group`, `source` and `generator` of each image (`GroupTable.columns`).
        sample: Images for the robustness table.
        split: Name of the split.
        base: Protocol under which images are perturbed.
        load: From an image of the sample to the pixels that are perturbed; by default what `base`
            says.
        resamples: Draws of the bootstrap for each interval.
        perturbations: Rows of the robustness table, names of `SUITE`.
        progress: Show a bar on standard error.

    Returns:
        `evaluation`, `sources`, `generators`, `spread` and `robustness`, as in ``run.json``.
    """
    groups, threshold = columns["group"], detector.threshold
    return {
        "evaluation": {
            split: metrics_by_protocol(labels, scores, threshold, groups, resamples=resamples),
            "chance_ece": {
                protocol: chance_calibration_error(found, resamples=resamples)
                for protocol, found in scores.items()
            },
            "coverage": {
                protocol: {
                    "shipped": measure_coverage(labels, found, threshold, detector.uncertain),
                    "curve": coverage_curve(labels, found, threshold),
                }
                for protocol, found in scores.items()
            },
            "false_alarms": {
                protocol: measure_false_alarms(labels, found, detector.false_alarms)
                for protocol, found in scores.items()
            },
        },
        **_tables(columns, labels, scores, threshold),
        "robustness": measure_robustness(
            detector,
            *sample.balanced(),
            base=base,
            load=load,
            perturbations=perturbations,
            resamples=resamples,
            progress=progress,
        ),
    }


def metrics_by_protocol(
    labels: np.ndarray,
    scores: Scores,
    threshold: float,
    groups: Sequence[str | None],
    *,
    resamples: int = RESAMPLES,
) -> dict[Protocol, dict[str, Any]]:
    """Return every metric with its interval, and the confusion matrix, under each protocol."""
    return {
        protocol: {
            **measure(labels, found, threshold, groups, resamples=resamples),
            "confusion": confusion(labels, found, threshold),
        }
        for protocol, found in scores.items()
    }


def _tables(
    columns: Mapping[str, Sequence[str | None]],
    labels: np.ndarray,
    scores: Scores,
    threshold: float,
) -> dict[str, Any]:
    """Return each of `TABLE_COLUMNS`, protocol to its rows, and `spread` over them."""
    found = {
        section: {
            protocol: by_source(columns[column], labels, s, threshold, columns["group"])
            for protocol, s in scores.items()
        }
        for section, column in TABLE_COLUMNS.items()
    }
    spreads = {
        section: {protocol: spread(rows) for protocol, rows in by_protocol.items()}
        for section, by_protocol in found.items()
        if any(by_protocol.values())
    }
    return {**found, "spread": spreads}


def by_source(
    sources: Sequence[str | None],
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    groups: Sequence[str | None] | None = None,
) -> list[SourceRow]:
    """Return a row per source, sorted by name, with Wilson 95 % intervals.

    The intervals take images as independent: for a source of few groups they are too narrow.

    Args:
        sources: The source, generator or kind of art of each image, length N; images with None or
            an empty name are left out.
        labels: 1 for fake, 0 for real, shape (N,).
        scores: Probabilities of fake, shape (N,).
        threshold: Lowest score that is called fake.
        groups: The group of each image, to be counted, length N; None where not known.
    """
    y, s = check(labels, scores)
    if len(sources) != y.size:
        raise ValueError(
            "`sources` must have one entry per label. "
            f"Received: {len(sources)} sources for {y.size} labels. Use None where not known."
        )
    correct = (s >= threshold) == (y == 1)
    # An empty cell of a table arrives as NaN, which is not a string.
    names = np.array([name if isinstance(name, str) else "" for name in sources], dtype=object)
    members = numbered_groups(groups, y.size)
    rows = []
    for name in sorted(set(names) - {""}):
        here = names == name
        classes: dict[Label, np.ndarray] = {"fake": here & (y == 1), "real": here & (y == 0)}
        rows.append(
            SourceRow(
                source=name,
                n=int(here.sum()),
                fake=int(classes["fake"].sum()),
                real=int(classes["real"].sum()),
                accuracy=wilson(correct[here]),
                recall={c: wilson(correct[mask]) for c, mask in classes.items() if mask.any()},
                mean_score=float(s[here].mean()),
            )
        )
        if members is not None:
            rows[-1]["groups"] = len(np.unique(members[here]))
    return rows


def spread(rows: Sequence[SourceRow]) -> dict[Label, Spread]:
    """Return mean and minimum over sources of the recall of each class (for real: specificity).

    A mean over images would hide a small source whose fakes are all missed. Sources with fewer
    than `FEWEST` images of the class are left out: their minimum would be chance.
    """
    found: dict[Label, Spread] = {}
    for label in _LABELS:
        recalls = {
            row["source"]: row["recall"][label]["value"] or 0.0
            for row in rows
            if row[label] >= FEWEST
        }
        worst = min(recalls, key=recalls.__getitem__) if recalls else None
        found[label] = Spread(
            mean=float(np.mean([*recalls.values()])) if recalls else None,
            minimum=recalls[worst] if worst is not None else None,
            worst=worst,
            sources=len(recalls),
        )
    return found
