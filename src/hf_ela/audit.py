"""The leak audit: whether a dataset's files give the class away, whatever their pictures show.

A detector of error levels sees file history first. Where that differs between the classes, its
score as-is says little about art. `audit_facts` needs no more than the facts of every file, and is
part of every run; `audit` adds a matrix of a plain classifier, trained and tested in each of
`hf_ela.conditions`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hf_ela.data import Prepared, row_store
from hf_ela.duplicates import Splits, class_order, find_duplicates
from hf_ela.errors import DataError
from hf_ela.groups import GroupTable, clusters
from hf_ela.leaks import FACTS, fact_table, fold_pairs, matrix, measured, ranked_facts, scores
from hf_ela.recipe_file import load_recipe
from hf_ela.rows import RowSettings
from hf_ela.source import DataOptions, Source, open_source
from hf_ela.verdict import verdict

__all__ = ["SAMPLE", "audit", "audit_facts", "audit_prepared", "fact_settings"]

SAMPLE = 600
"""Images of each class that the matrix is measured on."""
VALUED = ("format", "mode", "size", "jpeg_quality", "subsampling", "exif", "icc")
"""Facts whose single values are counted."""
NUMBERS = ("width", "height", "bytes_per_pixel", "jpeg_quality", "mean_error_level")
VALUES_LISTED = 20


def audit(
    options: DataOptions, *, sample: int = SAMPLE, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Audit a dataset.

    Args:
        options: Where it is, as for training.
        sample: Images of each class for the matrix, drawn by a fixed seed; 0 leaves it out.
        say: Receives a line about each step.

    Returns:
        What `audit_facts` returns, with ``rejected``, each image that cannot be read, and with
        ``matrix`` where a sample was asked for.

    Raises:
        DataError: The dataset cannot be reached or used as asked, or has no readable image of
            one class.
    """
    groups = GroupTable.read(options.groups)
    source = open_source(options)
    say("File facts of every image ...")
    rows = {
        split: row_store(options, source, fact_settings(split, source)).facts
        for split in source.splits
    }
    splits = {
        split: [facts for facts in found if not facts["error"]] for split, found in rows.items()
    }
    found = audit_facts(splits, groups)
    found["rejected"] = [
        {
            "file": facts["file_name"],
            "split": split,
            "class": "fake" if facts["label"] else "real",
            "reason": facts["error"],
        }
        for split, listed in rows.items()
        for facts in listed
        if facts["error"]
    ]
    if sample:
        found["matrix"] = _matrix(options, rows, groups, sample, say)
    return found | {"verdict": verdict(found)}


def audit_prepared(data: Prepared) -> dict[str, Any]:
    """Return `audit_facts` of the splits of a training, rows in the dataset's own order."""
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    facts = {
        name: [split.store.facts[row] for row in np.sort(split.rows)]
        for name, split in splits.items()
    }
    return audit_facts(facts, data.groups)


def audit_facts(splits: Splits, groups: GroupTable) -> dict[str, Any]:
    """Audit what is known of every file; pure.

    Args:
        splits: File facts (`hf_ela.rows.FACTS`) of every readable image by split, in order.
        groups: Images of one group are on one side of every cross-validation.

    Returns:
        JSON-able: ``images``; ``classifiers``, what file facts give and what the mean error level
        gives, held out (None where there are too few images); ``facts``, each alone, the most
        telling first; ``values``, single values that tell the class; ``duplicates``; ``order``;
        ``tables``, per class; ``verdict``, sentences.

    Raises:
        DataError: There is no image of one class.
    """
    facts = [row for listed in splits.values() for row in listed]
    labels = np.array([row["label"] for row in facts], np.int64)
    if len(set(labels.tolist())) < 2:
        raise DataError(
            "An audit compares the readable images of two classes. Received: "
            f"{len(labels)}, of one class at most."
        )
    table = fact_table(facts)
    folds = fold_pairs(labels, clusters(facts, groups))
    classifiers: dict[str, Any] = {"file_facts": None, "mean_error_level": None}
    if folds:
        for name, columns in (("file_facts", FACTS), ("mean_error_level", ["mean_error_level"])):
            classifiers[name] = measured(labels, scores(table[[*columns]], labels, folds))
    found = {
        "images": {
            split: {kind: sum(row["label"] == label for row in rows) for kind, label in KINDS}
            for split, rows in splits.items()
        },
        "classifiers": classifiers,
        "facts": ranked_facts(table, labels, folds) if folds else [],
        "values": telling_values(table, labels),
        "duplicates": find_duplicates(splits),
        "order": class_order(splits),
        "tables": {kind: _table(table[labels == label]) for kind, label in KINDS},
    }
    return found | {"verdict": verdict(found)}


KINDS = (("fake", 1), ("real", 0))


def telling_values(table: pd.DataFrame, labels: np.ndarray) -> list[dict[str, Any]]:
    """List values that one class has much more often than the other, the widest gap first.

    Listed is a value whose shares differ by more than three standard errors, and by .1 or with at
    least ten images of one class and none of the other.
    """
    totals = {kind: int((labels == label).sum()) for kind, label in KINDS}
    found = []
    for fact in VALUED:
        for value, classes in pd.Series(labels).groupby(_values(table, fact).to_numpy()):
            counts = {kind: int((classes == label).sum()) for kind, label in KINDS}
            shares = [counts[kind] / totals[kind] for kind in counts]
            overall = sum(counts.values()) / len(labels)
            error = np.sqrt(overall * (1 - overall) * sum(1 / n for n in totals.values()))
            gap = abs(shares[0] - shares[1])
            only = min(counts.values()) == 0 and max(counts.values()) >= 10
            if gap > 3 * error and (gap >= 0.1 or only):
                found.append({"fact": fact, "value": value, **counts, "gap": round(gap, 4)})
    return sorted(found, key=lambda row: -row["gap"])[:VALUES_LISTED]


def _values(table: pd.DataFrame, fact: str) -> pd.Series:
    """Return a fact as text; what is not there has no value."""
    if fact == "size":
        sides = table[["width", "height"]].astype(int).astype(str)
        return sides["width"] + " x " + sides["height"]
    values = table[fact]
    if fact in ("exif", "icc"):
        return values.map({1.0: "yes", 0.0: "no"})
    return values.map(lambda v: f"{v:g}" if isinstance(v, float) else v, na_action="ignore")


def _table(table: pd.DataFrame) -> dict[str, Any]:
    """Describe one class: counts of values, and quartiles of numbers."""
    counted = {fact: _values(table, fact).value_counts() for fact in VALUED}
    quartiles = {fact: table[fact].dropna().quantile([0, 0.25, 0.5, 0.75, 1]) for fact in NUMBERS}
    return {
        "n": len(table),
        "values": {
            fact: {str(value): int(n) for value, n in counts.items() if n}
            for fact, counts in ((fact, counts[:VALUES_LISTED]) for fact, counts in counted.items())
        },
        "quartiles": {
            fact: None if values.isna().any() else [round(float(v), 4) for v in values]
            for fact, values in quartiles.items()
        },
    }


def fact_settings(split: str, source: Source, *, features: bool = False) -> RowSettings:
    """Return settings for rows with the facts of every file and, where asked for, `features`."""
    # Without views any preprocessing will do.
    preprocessing = load_recipe("default").preprocessing
    return RowSettings(
        preprocessing, (), source.kinds, split, source.root, pictures=False, features=features
    )


def _matrix(
    options: DataOptions,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    groups: GroupTable,
    sample: int,
    say: Callable[[str], None],
) -> dict[str, Any] | None:
    """Measure the matrix on a sample of all splits; None where there are too few images."""
    chosen = _sample(rows, sample)
    say(f"Statistics of error levels of {sum(map(len, chosen.values()))} images ...")
    source = open_source(options)  # anew: a stream can be read once
    stores = {
        split: row_store(options, source, fact_settings(split, source, features=True), numbers)
        for split, numbers in chosen.items()
    }
    facts = [row for store in stores.values() for row in store.facts]
    features = np.stack(
        [store.features(row) for store in stores.values() for row in range(len(store.facts))]
    )
    labels = np.array([row["label"] for row in facts], np.int64)
    folds = fold_pairs(labels, clusters(facts, groups))
    if not folds:
        return None
    cells = {}
    for trained, row in matrix(features, labels, folds):
        say(f"Trained {trained.replace('_', '-')}, tested in every condition")
        cells[trained] = row
    return {
        "images": {kind: int((labels == label).sum()) for kind, label in KINDS},
        "cells": cells,
    }


def _sample(rows: Mapping[str, Sequence[Mapping[str, Any]]], sample: int) -> dict[str, list[int]]:
    """Draw rows of each class from all splits together, by a fixed seed; numbers by split."""
    rng = np.random.default_rng(0)
    chosen: list[tuple[str, int]] = []
    for _, label in KINDS:
        here = [
            (split, number)
            for split, listed in rows.items()
            for number, facts in enumerate(listed)
            if facts["label"] == label and not facts["error"]
        ]
        drawn = rng.permutation(len(here))[:sample]
        chosen += [here[number] for number in drawn]
    by_split = {split: sorted(n for s, n in chosen if s == split) for split in rows}
    return {split: numbers for split, numbers in by_split.items() if numbers}
