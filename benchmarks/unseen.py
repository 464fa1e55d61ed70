"""A training that leaves sources out, and its test on them: for `ablation.py`, `averaging.py`."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from common import training_parser
from sklearn.metrics import roc_auc_score

from hf_ela.data import Prepared, Split
from hf_ela.files import write_json
from hf_ela.intervals import over_seeds

HEADINGS = ("validation AUC", "unseen AUC, mean", "minimum")


@dataclass(frozen=True)
class Parts:
    """The images of a training that leaves sources out.

    Attributes:
        train: Of the train split, without them.
        validation: Of validation, without them.
        left_out: The images of the unseen sources, of train and of validation.
        sources: Source of every image of `left_out`, split after split.
    """

    train: Split
    validation: Split
    left_out: tuple[Split, Split]
    sources: np.ndarray

    def logits(self, of: Callable[[Split], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return those of the validation images, and of the unseen ones; images on the last axis.

        Args:
            of: Returns those of a split.
        """
        unseen = np.concatenate([of(split) for split in self.left_out], axis=-1)
        return of(self.validation), unseen

    def areas(self, held: np.ndarray, unseen: np.ndarray) -> dict[str, Any]:
        """Return the AUC on validation and on each unseen source, given the `logits` of either.

        A source of one class has the validation images of the other beside it.
        """
        held_labels = self.validation.labels
        labels = np.concatenate([split.labels for split in self.left_out])

        def area(source: str) -> float:
            here = self.sources == source
            beside = ~np.isin(held_labels, labels[here])
            truth = np.concatenate([labels[here], held_labels[beside]])
            return float(roc_auc_score(truth, np.concatenate([unseen[here], held[beside]])))

        return {
            "validation_auc": float(roc_auc_score(held_labels, held)),
            "unseen_auc": {source: area(source) for source in np.unique(self.sources).tolist()},
        }

    @property
    def images(self) -> dict[str, Any]:
        """How many there are."""
        sources, counts = np.unique(self.sources, return_counts=True)
        unseen = dict(zip(sources.tolist(), counts.tolist(), strict=True))
        return {"train": len(self.train), "validation": len(self.validation), "unseen": unseen}


def parted(data: Prepared, column: str, unseen: list[str]) -> Parts:
    """Take the images of some values of a column of the groups file out of a training."""

    def values(split: Split) -> np.ndarray:
        return np.array([str(data.groups.get(row["file_name"], column)) for row in split.facts])

    def divided(split: Split) -> tuple[Split, Split]:
        out = np.isin(values(split), unseen)
        return Split(split.store, split.rows[~out]), Split(split.store, split.rows[out])

    train, of_train = divided(data.train)
    validation, of_validation = divided(data.validation)
    left_out = of_train, of_validation
    sources = np.concatenate([values(split) for split in left_out])
    if missing := set(unseen) - set(sources):
        sys.exit(f"--unseen must be in train. Received: {', '.join(missing)}, which is not.")
    if any(len(set(split.labels)) < 2 for split in (train, validation)):
        sys.exit("--unseen must leave both classes. Received: so many that one is gone.")
    return Parts(train, validation, left_out, sources)


def settings_of(data: Prepared, column: str, unseen: list[str]) -> dict[str, Any]:
    """Return what tells the images of one training from those of another."""
    return {
        "images": data.summary["fingerprint"],
        "groups": data.summary["groups"],
        "unseen": [column, *unseen],
    }


def check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Take a folder for a training, or find it taken for the same one."""
    path = folder / "settings.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)
    elif json.loads(path.read_text("utf-8")) != settings:
        sys.exit(f"{folder} holds a run of other settings: take another --runs.")


def unseen_parser(description: str, name: str) -> argparse.ArgumentParser:
    """Return the parser of a benchmark that leaves sources out."""
    p = training_parser(description, name, seeds=3)
    p.add_argument("--column", default="source", help="of the groups file (source)")
    p.add_argument(
        "--unseen", required=True, nargs="+", metavar="VALUE", help="of it, left out of training"
    )
    return p


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return what a report says of its options."""
    return {"column": args.column, "unseen": args.unseen, "overrides": args.overrides}


def cells(row: dict[str, Any]) -> list[str]:
    """Return what is under `HEADINGS`, over seeds; mean and minimum are over the sources of one."""
    of_seeds = list(zip(*row["unseen_auc"].values(), strict=True))
    return [
        over_seeds(row["validation_auc"]),
        over_seeds([mean(values) for values in of_seeds]),
        over_seeds([min(values) for values in of_seeds]),
    ]
