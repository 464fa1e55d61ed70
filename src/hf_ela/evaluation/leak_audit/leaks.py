"""What a plain classifier learns about the class from file facts, or from simple statistics.

Pure: tables in, scores out. Every score is held out: five-fold cross-validation, stratified by
class, clusters of related images on one side. Labels are 1 for fake and 0 for real.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from hf_ela.ela.statistics import CONDITIONS
from hf_ela.evaluation.intervals import RESAMPLES, measure
from hf_ela.run_record import Interval

__all__ = [
    "FILE_FACTS",
    "boosting",
    "fact_table",
    "fold_pairs",
    "held_out_metrics",
    "held_out_scores",
    "one_thread",
    "ranked_facts",
    "scores_across_conditions",
]

CATEGORIES = ("format", "mode", "subsampling")
FILE_FACTS = (
    "format",
    "mode",
    "width",
    "height",
    "aspect",
    "bytes_per_pixel",
    "jpeg_quality",
    "subsampling",
    "exif",
    "icc",
)
"""What is known of a file without its pixels; `aspect` is width by height."""
TOGETHER = {"size": ("width", "height", "aspect")}
"""Facts that are also ranked together."""
FOLDS = 5
REPORTED = ("accuracy", "balanced_accuracy", "roc_auc")

Folds = Sequence[tuple[np.ndarray, np.ndarray]]


def fact_table(facts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return `FILE_FACTS` and `mean_error_level` of every image, missing ones as NaN."""
    table = pd.DataFrame(facts, columns=[*facts[0]])
    table["aspect"] = table["width"] / table["height"]
    table["bytes_per_pixel"] = table["bytes"] / (table["width"] * table["height"])
    for name in (*FILE_FACTS, "mean_error_level"):
        table[name] = table[name].astype("category" if name in CATEGORIES else "float64")
    return table[[*FILE_FACTS, "mean_error_level"]]


def fold_pairs(labels: np.ndarray, members: np.ndarray, seed: int = 0) -> Folds:
    """Return train and test rows of each fold, no cluster on both sides.

    Returns none where a class has fewer clusters than folds, or where a fold would have nothing to
    test or one class to train on.
    """
    if min(len(np.unique(members[labels == label])) for label in (0, 1)) < FOLDS:
        return []
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    found = list(splitter.split(labels, labels, members))
    usable = all(len(np.unique(labels[train])) == 2 and len(test) for train, test in found)
    return found if usable else []


def held_out_scores(
    table: pd.DataFrame,
    labels: np.ndarray,
    folds: Folds,
    make: Callable[[np.ndarray], Any] | None = None,
) -> np.ndarray:
    """Return the held-out probability of fake of every row.

    Args:
        table: A row per image; gradient boosting takes categories and missing values too.
        labels: int64, shape (images,).
        folds: From `fold_pairs`.
        make: From training labels to an untrained classifier; by default `boosting`.
    """
    held = np.zeros(len(labels))
    with one_thread():
        for train, test in folds:
            # Boosting fails on a column without any value (scikit-learn 1.9), which is useless.
            known = table.iloc[train].notna().any()
            seen = table.assign(**dict.fromkeys(table.columns[~known], 0.0))
            model = (make or boosting)(labels[train]).fit(seen.iloc[train], labels[train])
            held[test] = model.predict_proba(seen.iloc[test])[:, 1]
    return held


def ranked_facts(
    table: pd.DataFrame,
    labels: np.ndarray,
    folds: Folds,
    members: np.ndarray,
    *,
    resamples: int = RESAMPLES,
) -> list[dict[str, Any]]:
    """Measure each of `FILE_FACTS` alone, by a small decision tree, the most telling first."""
    codes = {name: table[name].cat.codes for name in CATEGORIES}
    numbers = table.assign(**codes).astype(np.float64)
    candidates = {**{name: (name,) for name in FILE_FACTS}, **TOGETHER}
    found = [
        {
            "fact": name,
            **held_out_metrics(
                labels,
                held_out_scores(numbers[[*columns]], labels, folds, _tree),
                members,
                resamples=resamples,
            ),
        }
        for name, columns in candidates.items()
    ]
    return sorted(found, key=lambda row: -row["roc_auc"]["value"])


def scores_across_conditions(
    statistics: np.ndarray,
    labels: np.ndarray,
    folds: Folds,
    members: np.ndarray,
    *,
    resamples: int = RESAMPLES,
) -> Iterator[tuple[str, dict[str, dict[str, Interval]]]]:
    """Yield each training condition with the metrics of the classifier in every condition.

    Args:
        statistics: float32, images x conditions x statistics, from `hf_ela.ela.statistics`.
        labels: int64, shape (images,).
        folds: From `fold_pairs`, the same for all cells.
        members: Cluster of each image, for the intervals.
        resamples: Draws of the bootstrap for each interval.
    """
    for number, trained in enumerate(CONDITIONS):
        held = np.zeros((len(CONDITIONS), len(labels)))
        with one_thread():
            for train, test in folds:
                model = boosting(labels[train]).fit(statistics[train, number], labels[train])
                for other in range(len(CONDITIONS)):
                    held[other, test] = model.predict_proba(statistics[test, other])[:, 1]
        yield (
            trained,
            {
                tested: held_out_metrics(labels, values, members, resamples=resamples)
                for tested, values in zip(CONDITIONS, held, strict=True)
            },
        )


def held_out_metrics(
    labels: np.ndarray, held: np.ndarray, members: np.ndarray, *, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """Return the metrics of `REPORTED` at a threshold of 0.5, with intervals over clusters."""
    clusters = [str(number) for number in members]
    found = measure(labels, held, 0.5, clusters, resamples=resamples)
    return {name: found[name] for name in REPORTED}


def one_thread() -> threadpool_limits:
    """Return a context in which the plain classifier fits and predicts on one thread.

    While other work keeps the cores busy, OpenMP's threads wait for each other at every split:
    fitting a few thousand rows took thirty times as long with two threads as with one.
    """
    return threadpool_limits(1, "openmp")


def boosting(labels: np.ndarray) -> HistGradientBoostingClassifier:
    """Return the plain classifier for rows of these labels, untrained; its fit is deterministic."""
    return HistGradientBoostingClassifier(
        categorical_features="from_dtype",
        class_weight="balanced",
        early_stopping=False,  # it would hold out rows regardless of clusters
        max_leaf_nodes=16,  # enough for a thousand images, at half the cost of the default 31
        min_samples_leaf=_leaf(labels),
        random_state=0,
    )


def _tree(labels: np.ndarray) -> DecisionTreeClassifier:
    return DecisionTreeClassifier(
        class_weight="balanced",
        max_leaf_nodes=16,
        min_samples_leaf=_leaf(labels),
        random_state=0,
    )


def _leaf(labels: np.ndarray) -> int:
    """Return the fewest rows of a leaf, so few that the smaller class can fill some leaves."""
    return max(1, min(20, int(np.bincount(labels).min()) // 10))
