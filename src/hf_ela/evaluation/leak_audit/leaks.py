"""What reveals the class: values of file facts, and what a plain classifier learns from them.

Pure: tables in, values and scores out. Every score is held out: five-fold cross-validation,
stratified by class, clusters of related images on one side. Labels are 1 for fake and 0 for real.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from hf_ela.ela.statistics import CONDITIONS
from hf_ela.evaluation.intervals import RESAMPLES, measure
from hf_ela.run_record import Interval

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
KINDS = (("fake", 1), ("real", 0))
VALUED = ("format", "mode", "shape", "size", "jpeg_quality", "subsampling", "exif", "icc")
"""Facts whose single values are counted."""
NUMBERS = ("width", "height", "aspect", "bytes_per_pixel", "jpeg_quality", "mean_error_level")
VALUES_LISTED = 20
SIGNIFICANCE = 0.00135
"""One-sided p-value below which a value is listed: three standard errors."""
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


def scores_of_facts(
    table: pd.DataFrame, labels: np.ndarray, folds: Folds
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each of `FILE_FACTS` with the held-out scores of a small decision tree of it alone."""
    codes = {name: table[name].cat.codes for name in CATEGORIES}
    numbers = table.assign(**codes).astype(np.float64)
    for name, columns in ({name: (name,) for name in FILE_FACTS} | TOGETHER).items():
        yield name, held_out_scores(numbers[[*columns]], labels, folds, _tree)


def scores_across_conditions(
    statistics: np.ndarray, labels: np.ndarray, folds: Folds
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each training condition with the held-out scores in every condition, a row for each.

    Args:
        statistics: float32, images x conditions x statistics, from `hf_ela.ela.statistics`.
        labels: int64, shape (images,).
        folds: From `fold_pairs`, the same for all conditions.
    """
    for number, trained in enumerate(CONDITIONS):
        held = np.zeros((len(CONDITIONS), len(labels)))
        with one_thread():
            for train, test in folds:
                model = boosting(labels[train]).fit(statistics[train, number], labels[train])
                for other in range(len(CONDITIONS)):
                    held[other, test] = model.predict_proba(statistics[test, other])[:, 1]
        yield trained, held


def held_out_metrics(
    labels: np.ndarray, held: np.ndarray, members: np.ndarray, *, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """Return the metrics of `REPORTED` at a threshold of 0.5, with intervals over clusters."""
    found = measure(labels, held, 0.5, [*map(str, members)], resamples=resamples)
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
        early_stopping=False,  # it would hold out rows regardless of clusters
        **_shared_settings(labels),
    )


def _tree(labels: np.ndarray) -> DecisionTreeClassifier:
    return DecisionTreeClassifier(**_shared_settings(labels))


def _shared_settings(labels: np.ndarray) -> dict[str, Any]:
    return {
        "class_weight": "balanced",
        "max_leaf_nodes": 16,  # enough for a thousand images, at half the cost of the default 31
        # So few that the smaller class can fill some leaves.
        "min_samples_leaf": max(1, min(20, int(np.bincount(labels).min()) // 10)),
        "random_state": 0,
    }


def count_classes(labels: Sequence[int] | np.ndarray) -> dict[str, int]:
    """Count the images of each class."""
    return {kind: int(np.equal(labels, label).sum()) for kind, label in KINDS}


def telling_values(
    table: pd.DataFrame, labels: np.ndarray, members: np.ndarray
) -> list[dict[str, Any]]:
    """List values that one class has much more often than the other, the widest gap first.

    A value is listed if its shares differ significantly (`SIGNIFICANCE`), and by 0.1 or with at
    least ten clusters of one class and no image of the other. The test is one of clusters, drawn as
    a whole: a hundred images of one artist are not a hundred observations. In a class of fewer than
    nine images or so, no value is significant.
    """
    classes = {kind: labels == label for kind, label in KINDS}
    totals = count_classes(labels)
    clustered = sum(len(np.unique(members[here])) for here in classes.values())
    errors_allowed = float(student.isf(SIGNIFICANCE, max(1, clustered - 2)))
    found = []
    for fact in VALUED:
        values = _values(table, fact)
        counted = pd.crosstab(values, labels).reindex(columns=[1, 0], fill_value=0)
        for value, (fake, real) in zip(counted.index, counted.to_numpy(), strict=True):
            gap = abs(fake / totals["fake"] - real / totals["real"])
            wide = gap >= 0.1 and value != "no"  # "yes" says the same
            only = gap < 0.1 and 0 in (fake, real) and max(fake, real) >= 10
            if not (wide or only):
                continue
            has = (values == value).to_numpy()
            if only and len(np.unique(members[has])) < 10:
                continue
            above = has - has.mean()
            variances = [
                np.square(np.bincount(members[here], above[here])).sum() / totals[kind] ** 2
                for kind, here in classes.items()
            ]
            if gap > errors_allowed * np.sqrt(sum(variances)):
                counts = {"fake": int(fake), "real": int(real)}
                found.append({"fact": fact, "value": value, **counts, "gap": round(gap, 4)})
    return sorted(found, key=lambda row: -row["gap"])[:VALUES_LISTED]


def _values(table: pd.DataFrame, fact: str) -> pd.Series:
    """Return a fact as text; a missing fact has no value."""
    if fact == "shape":
        kinds = np.sign(table["width"] - table["height"])
        return kinds.map({-1: "portrait", 0: "square", 1: "landscape"})
    if fact == "size":
        sides = table[["width", "height"]].astype(int).astype(str)
        return sides["width"] + " x " + sides["height"]
    values = table[fact]
    if fact in ("exif", "icc"):
        return values.map({1.0: "yes", 0.0: "no"})
    return values.map(lambda v: f"{v:g}" if isinstance(v, float) else v, na_action="ignore")


def describe(table: pd.DataFrame) -> dict[str, Any]:
    """Describe one class: counts of values, and quartiles of numbers."""
    counted = {fact: _values(table, fact).value_counts() for fact in VALUED}
    quartiles = {fact: table[fact].quantile([0, 0.25, 0.5, 0.75, 1]) for fact in NUMBERS}
    return {
        "n": len(table),
        "values": {
            fact: {str(value): int(n) for value, n in counts[:VALUES_LISTED].items() if n}
            for fact, counts in counted.items()
        },
        "quartiles": {
            fact: None if values.isna().any() else [round(float(v), 4) for v in values]
            for fact, values in quartiles.items()
        },
    }
