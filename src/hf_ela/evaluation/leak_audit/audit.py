"""The leak audit: whether the files of a dataset give the class away, whatever their pictures show.

A detector of error levels sees file history first. Where that differs between the classes, an as-is
score says little about art. `audit_facts` needs only the facts of every file, and is part of every
run; `audit` adds the matrix of a plain classifier, trained and tested in each condition of
`hf_ela.ela.statistics`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from hf_ela.data.duplicates import Splits, class_order, find_duplicates
from hf_ela.data.groups import GroupTable, clusters
from hf_ela.data.loading import DataOptions, OpenedDataset, open_dataset
from hf_ela.data.preparation import Prepared, reasons, refused, row_store
from hf_ela.data.rows import RowSettings
from hf_ela.ela.statistics import CONDITIONS
from hf_ela.errors import DataError
from hf_ela.evaluation.intervals import RESAMPLES
from hf_ela.evaluation.leak_audit.leaks import (
    FILE_FACTS,
    KINDS,
    count_classes,
    describe,
    fact_table,
    fold_pairs,
    held_out_metrics,
    held_out_scores,
    scores_across_conditions,
    scores_of_facts,
    telling_values,
)
from hf_ela.evaluation.leak_audit.verdict import verdict
from hf_ela.recipes.loading import load_recipe

MATRIX_IMAGES = 600
"""Images of each class that the matrix is measured on."""


def audit(
    options: DataOptions,
    *,
    sample: int = MATRIX_IMAGES,
    resamples: int = RESAMPLES,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Audit a dataset.

    Args:
        options: The dataset, as for training.
        sample: Images of each class for the matrix, drawn by a fixed seed; 0 leaves it out.
        resamples: Draws of the bootstrap for each interval.
        say: Receives a line about each step.

    Returns:
        What `audit_facts` returns, with ``rejected``, the images that cannot be read, and, unless
        `sample` is 0, ``matrix``.

    Raises:
        DataError: The dataset cannot be reached or used as asked, or has no readable image of
            one class.
    """
    groups = GroupTable.read(options.groups)
    source = open_dataset(options)
    say("File facts of every image ...")
    rows = {
        split: row_store(options, source, fact_settings(split, source)).facts
        for split in source.splits
    }
    splits = {
        split: [facts for facts in found if not facts["error"]] for split, found in rows.items()
    }
    rejected = refused(rows)
    found = audit_facts(
        splits, groups, rejected, ordered=source.hub is not None, resamples=resamples
    )
    found["rejected"] = rejected
    if sample:
        found["matrix"] = _matrix(options, rows, groups, sample, resamples, say)
    return found | {"verdict": verdict(found)}


def audit_prepared(data: Prepared, *, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Audit the facts of the splits of a training, rows in the dataset's own order.

    Refused images of a source that was left out are counted too.
    """
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    facts = {
        name: [split.store.facts[row] for row in np.sort(split.rows)]
        for name, split in splits.items()
    }
    return audit_facts(
        facts,
        data.groups,
        data.summary["rejected"],
        ordered=data.summary["revision"] is not None,
        resamples=resamples,
    )


def audit_facts(
    splits: Splits,
    groups: GroupTable,
    rejected: Sequence[Mapping[str, str]] = (),
    *,
    ordered: bool = True,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Audit what is known of every file; pure.

    Args:
        splits: File facts (`hf_ela.data.rows`) of every readable image by split, in order.
        groups: Images of one group stay on one side of every cross-validation, and count as one
            in every test of significance.
        rejected: Images that cannot be read (`hf_ela.data.preparation.refused`): counted in the
            verdict, and named where a class is missing.
        ordered: Whether the order of rows belongs to the dataset, as on the Hub; a local folder is
            read class by class.
        resamples: Draws of the bootstrap for each interval.

    Returns:
        Fit for JSON: ``images``; ``groups``, how many images the groups file names (None without
        one); ``classifiers``, held-out metrics of file facts and of the mean error level (None for
        too few images); ``facts``, each alone, the most telling first; ``values``, single values
        that reveal the class; ``duplicates``; ``order``, empty unless `ordered`; ``tables``, per
        class; ``verdict``, sentences.

    Raises:
        DataError: A class has no image, or the groups file names other images.
    """
    facts = [row for listed in splits.values() for row in listed]
    labels = np.array([row["label"] for row in facts], np.int64)
    matched = groups.matched([row["file_name"] for row in facts])
    counts = count_classes(labels)
    if not all(counts.values()):
        raise DataError(
            f"An audit compares the readable images of two classes. Received: {counts['fake']} "
            f"fake and {counts['real']} real images; {len(rejected)} cannot be read. Fix or add "
            "images.",
            *reasons(rejected),
        )
    table = fact_table(facts)
    members = clusters(facts, groups)
    folds = fold_pairs(labels, members)
    measured = partial(held_out_metrics, labels, members=members, resamples=resamples)
    found: dict[str, Any] = {
        "images": {
            split: count_classes([row["label"] for row in rows]) for split, rows in splits.items()
        },
        "groups": {"matched": matched} if groups.sha256 else None,
        "classifiers": {"file_facts": None, "mean_error_level": None},
        "facts": [],
        "values": telling_values(table, labels, members),
        "duplicates": find_duplicates(splits),
        "order": class_order(splits) if ordered else {},
        "tables": {kind: describe(table[labels == label]) for kind, label in KINDS},
    }
    if folds:
        inputs = {"file_facts": [*FILE_FACTS], "mean_error_level": ["mean_error_level"]}
        for name, columns in inputs.items():
            held = held_out_scores(table[columns], labels, folds)
            found["classifiers"][name] = measured(held)
        alone = scores_of_facts(table, labels, folds)
        facts = [{"fact": name, **measured(held)} for name, held in alone]
        found["facts"] = sorted(facts, key=lambda row: -row["roc_auc"]["value"])
    return found | {"verdict": verdict(found | {"rejected": rejected})}


def fact_settings(split: str, source: OpenedDataset, *, statistics: bool = False) -> RowSettings:
    """Return settings for rows with the facts of every file and, if asked for, statistics."""
    # Without views the preprocessing does not matter.
    preprocessing = load_recipe("scratch").preprocessing
    return RowSettings(
        preprocessing, (), source.labels, split, source.root, pictures=False, statistics=statistics
    )


def _matrix(
    options: DataOptions,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    groups: GroupTable,
    sample: int,
    resamples: int,
    say: Callable[[str], None],
) -> dict[str, Any] | None:
    """Measure the matrix on a sample of all splits; None for too few images."""
    chosen = _draw_rows(rows, sample)
    say(f"Statistics of error levels of {sum(map(len, chosen.values()))} images ...")
    source = open_dataset(options)  # again: a stream can be read once
    stores = {
        split: row_store(options, source, fact_settings(split, source, statistics=True), numbers)
        for split, numbers in chosen.items()
    }
    facts = [row for store in stores.values() for row in store.facts]
    statistics = np.stack(
        [store.statistics(row) for store in stores.values() for row in range(len(store.facts))]
    )
    labels = np.array([row["label"] for row in facts], np.int64)
    members = clusters(facts, groups)
    folds = fold_pairs(labels, members)
    if not folds:
        return None
    measured = partial(held_out_metrics, labels, members=members, resamples=resamples)
    cells = {}
    for trained, held in scores_across_conditions(statistics, labels, folds):
        say(f"Trained {trained.replace('_', '-')}, tested in every condition")
        cells[trained] = dict(zip(CONDITIONS, map(measured, held), strict=True))
    return {"images": count_classes(labels), "cells": cells}


def _draw_rows(
    rows: Mapping[str, Sequence[Mapping[str, Any]]], sample: int
) -> dict[str, list[int]]:
    """Draw rows of each class from all splits together, by a fixed seed; numbers by split."""
    rng = np.random.default_rng(0)
    chosen: dict[str, list[int]] = {split: [] for split in rows}
    for _, label in KINDS:
        here = [
            (split, number)
            for split, listed in rows.items()
            for number, facts in enumerate(listed)
            if facts["label"] == label and not facts["error"]
        ]
        for drawn in rng.permutation(len(here))[:sample]:
            split, number = here[drawn]
            chosen[split].append(number)
    return {split: sorted(numbers) for split, numbers in chosen.items() if numbers}
