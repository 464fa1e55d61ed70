"""What a plain classifier learns of the class from file facts, or from hand-made statistics.

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
from hf_ela.evaluation.intervals import Interval, measure

__all__ = [
    "FACTS",
    "boosting",
    "fact_table",
    "fold_pairs",
    "matrix",
    "measured",
    "one_thread",
    "ranked_facts",
    "scores",
]

CATEGORIES = ("format", "mode", "subsampling")
FACTS = (
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
"""What a file tells without its pixels; `aspect` is width by height."""
TOGETHER = {"size": ("width", "height", "aspect")}
"""Facts that are ranked as one too."""
FOLDS = 5
REPORTED = ("accuracy", "balanced_accuracy", "roc_auc")

Folds = Sequence[tuple[np.ndarray, np.ndarray]]


def fact_table(facts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return `FACTS` and `mean_error_level` of every image, missing ones as NaN."""
    table = pd.DataFrame(facts, columns=[*facts[0]])
    table["aspect"] = table["width"] / table["height"]
    table["bytes_per_pixel"] = table["bytes"] / (table["width"] * table["height"])
    for name in (*FACTS, "mean_error_level"):
        table[name] = table[name].astype("category" if name in CATEGORIES else "float64")
    return table[[*FACTS, "mean_error_level"]]


def fold_pairs(labels: np.ndarray, members: np.ndarray, seed: int = 0) -> Folds:
    """Return train and test rows of each fold, no cluster on both sides.

    None where a class has fewer clusters than folds, or no fold could train on both classes and
    test: nothing would follow from so few.
    """
    if min(len(np.unique(members[labels == label])) for label in (0, 1)) < FOLDS:
        return []
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    found = list(splitter.split(labels, labels, members))
    usable = all(len(np.unique(labels[train])) == 2 and len(test) for train, test in found)
    return found if usable else []


def scores(table: pd.DataFrame, labels: np.ndarray, folds: Folds) -> np.ndarray:
    """Return the held-out probability of fake of every row, by gradient boosting.

    Categories and missing values are taken as they are.
    """
    return _held_out(table, labels, folds, boosting)


def ranked_facts(
    table: pd.DataFrame, labels: np.ndarray, folds: Folds, members: np.ndarray
) -> list[dict[str, Any]]:
    """Return what each of `FACTS` gives alone, by a small decision tree, the most telling first."""
    codes = {name: table[name].cat.codes for name in CATEGORIES}
    numbers = table.assign(**codes).astype(np.float64)
    candidates = {**{name: (name,) for name in FACTS}, **TOGETHER}
    held = {
        name: _held_out(numbers[[*columns]], labels, folds, _tree)
        for name, columns in candidates.items()
    }
    found = [{"fact": name, **measured(labels, one, members)} for name, one in held.items()]
    return sorted(found, key=lambda row: -row["roc_auc"]["value"])


def matrix(
    features: np.ndarray, labels: np.ndarray, folds: Folds, members: np.ndarray
) -> Iterator[tuple[str, dict[str, dict[str, Interval]]]]:
    """Yield, for each condition to train in, what the classifier is worth in every condition.

    Args:
        features: float32, images x conditions x features: `statistics_by_condition`.
        labels: int64, shape (images,).
        folds: Of the images, the same for all cells.
        members: Cluster of each image, for the intervals.
    """
    for number, trained in enumerate(CONDITIONS):
        held = np.zeros((len(CONDITIONS), len(labels)))
        for train, test in folds:
            with one_thread():
                model = boosting(labels[train]).fit(features[train, number], labels[train])
                for other in range(len(CONDITIONS)):
                    held[other, test] = model.predict_proba(features[test, other])[:, 1]
        yield (
            trained,
            {
                tested: measured(labels, values, members)
                for tested, values in zip(CONDITIONS, held, strict=True)
            },
        )


def measured(labels: np.ndarray, held: np.ndarray, members: np.ndarray) -> dict[str, Interval]:
    """Return the metrics of `REPORTED` at a threshold of .5, with intervals over clusters."""
    found = measure(labels, held, 0.5, [str(number) for number in members])
    return {name: found[name] for name in REPORTED}


def _held_out(
    table: pd.DataFrame, labels: np.ndarray, folds: Folds, make: Callable[[np.ndarray], Any]
) -> np.ndarray:
    held = np.zeros(len(labels))
    for train, test in folds:
        # Boosting fails on a column without any value (scikit-learn 1.9): it says nothing.
        known = table.iloc[train].notna().any()
        seen = table.assign(**dict.fromkeys(table.columns[~known], 0.0))
        with one_thread():
            model = make(labels[train]).fit(seen.iloc[train], labels[train])
            held[test] = model.predict_proba(seen.iloc[test])[:, 1]
    return held


def one_thread() -> threadpool_limits:
    """Return a context in which the plain classifier fits and predicts.

    Where other work keeps the cores busy, OpenMP's threads wait for each other at every split:
    fitting a few thousand rows took thirty times as long with two threads as with one.
    """
    return threadpool_limits(1, "openmp")


def boosting(labels: np.ndarray) -> HistGradientBoostingClassifier:
    """Return the plain classifier for rows of these labels, untrained; the same fit every time."""
    return HistGradientBoostingClassifier(
        categorical_features="from_dtype",
        class_weight="balanced",
        early_stopping=False,  # it would hold out rows without regard to clusters
        max_leaf_nodes=16,  # enough for a thousand images, at half the cost of the usual 31
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
    """Return the fewest rows of a leaf: few enough that the smaller class can fill some."""
    return max(1, min(20, int(np.bincount(labels).min()) // 10))
