"""What a saved model is worth on a dataset: every metric, tables by source, robustness."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from hf_ela.evaluation.calibration import Band, coverage_curve, measure_decided
from hf_ela.evaluation.intervals import (
    RESAMPLES,
    Interval,
    chance_calibration_error,
    measure,
    numbered_groups,
    wilson,
)
from hf_ela.evaluation.metrics import (
    check,
    confusion,
)
from hf_ela.recipes.schema import Protocol

__all__ = [
    "COLUMNS",
    "PROTOCOLS",
    "SourceRow",
    "Spread",
    "by_source",
    "chance_ece",
    "covered",
    "measured",
    "spread",
    "tables",
]

PROTOCOLS: tuple[Protocol, ...] = ("as_is", "aligned")
COLUMNS = {"sources": "source", "generators": "generator"}
"""Sections of a result, and the columns of a groups file that they are made of."""


Scores = Mapping[str, np.ndarray]
"""Protocol to the probability of fake of each image."""
FEWEST = 5
"""Images of a source that a share of right answers is worth a mean and a minimum for."""


class Spread(TypedDict):
    """Recall of one class over sources, each counted once; all None without any source."""

    mean: float | None
    minimum: float | None
    worst: str | None
    sources: int


class SourceRow(TypedDict):
    """Results of one source; ``recall`` has only the classes that the source has.

    ``groups``, of its images, is there where groups are known. The intervals disregard them.
    """

    source: str
    n: int
    groups: NotRequired[int]
    fake: int
    real: int
    accuracy: Interval
    recall: dict[str, Interval]
    mean_score: float


def by_source(
    sources: Sequence[str | None],
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    groups: Sequence[str | None] | None = None,
) -> list[SourceRow]:
    """Return a row per source, by name, with Wilson 95 % intervals.

    These take images as independent: for a source of few groups they are too narrow.

    Args:
        sources: Where each image comes from, length N; None or empty where not known: left out.
            Any other name will do: of the generator, or of the kind of art.
        labels: 1 for fake, 0 for real, shape (N,).
        scores: Probabilities of fake, shape (N,).
        threshold: Lowest score that is called fake.
        groups: Which images belong together, to be counted, length N; None where not known.
    """
    y, s = check(labels, scores)
    if len(sources) != y.size:
        raise ValueError(
            "`sources` must have one entry per label. "
            f"Received: {len(sources)} sources for {y.size} labels. Use None where not known."
        )
    right = (s >= threshold) == (y == 1)
    # A table's empty cell arrives as NaN, which is not a string.
    names = np.array([name if isinstance(name, str) else "" for name in sources], dtype=object)
    members = numbered_groups(groups, y.size)
    rows = []
    for name in sorted(set(names) - {""}):
        here = names == name
        classes = {"fake": here & (y == 1), "real": here & (y == 0)}
        rows.append(
            SourceRow(
                source=name,
                n=int(here.sum()),
                fake=int(classes["fake"].sum()),
                real=int(classes["real"].sum()),
                accuracy=wilson(right[here]),
                recall={c: wilson(right[mask]) for c, mask in classes.items() if mask.any()},
                mean_score=float(s[here].mean()),
            )
        )
        if members is not None:
            rows[-1]["groups"] = len(np.unique(members[here]))
    return rows


def spread(rows: Sequence[SourceRow]) -> dict[str, Spread]:
    """Return mean and minimum of the recall of each class (of real: specificity) over sources.

    A mean over images would hide a small source of which nothing is found. Sources with fewer
    than `FEWEST` images of the class are left out: their minimum would be chance.
    """
    found = {}
    for label in ("fake", "real"):
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


def measured(
    labels: np.ndarray,
    scores: Scores,
    threshold: float,
    groups: Sequence[str | None],
    *,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Return every metric with its interval, and the confusion matrix, under each protocol."""
    return {
        name: {
            **measure(labels, found, threshold, groups, resamples=resamples),
            "confusion": confusion(labels, found, threshold),
        }
        for name, found in scores.items()
    }


def chance_ece(scores: Scores, *, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """Return, under each protocol, the ECE that the scores would have if they were calibrated."""
    return {
        name: chance_calibration_error(found, resamples=resamples) for name, found in scores.items()
    }


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
