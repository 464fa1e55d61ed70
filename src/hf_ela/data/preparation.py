"""From a dataset's name to the three splits of a training, views made and cached.

The rows of `hf_ela.data.loading` go into a store of `hf_ela.data.store`; refused images are
counted; validation is held out of train, groups and near-duplicates on one side.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from sklearn.model_selection import train_test_split

from hf_ela.data.duplicates import near_duplicates
from hf_ela.data.groups import GroupTable, check_parts, clusters, grouped_split
from hf_ela.data.loading import DataOptions, OpenedDataset, open_for_training
from hf_ela.data.local_files import files_state, local_files
from hf_ela.data.rows import RowSettings, StoredSet, ViewSet
from hf_ela.data.shards import complete, shard_folder
from hf_ela.data.store import ElaStore, map_store, stream_store
from hf_ela.errors import DataError, TooManyRejectedError
from hf_ela.recipes.schema import Recipe

REJECTED_LISTED = 20  # refused images that an error names


@dataclass(frozen=True)
class Split:
    """The images of one split.

    Attributes:
        store: The rows, with their views, of this split and perhaps of others.
        rows: Row numbers of the images in the store, int64.
    """

    store: ElaStore
    rows: np.ndarray

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    @property
    def facts(self) -> list[dict[str, Any]]:
        """File facts of every image."""
        return [self.store.facts[row] for row in self.rows]

    @property
    def file_names(self) -> list[str]:
        """Paths inside the dataset."""
        return [facts["file_name"] for facts in self.facts]

    @property
    def labels(self) -> np.ndarray:
        """int64, 1 for fake and 0 for real."""
        return np.array([facts["label"] for facts in self.facts], np.int64)

    def views(self, view_set: ViewSet) -> Iterator[np.ndarray]:
        """Yield each image's views: uint8, views x height x width x channels."""
        for number, row in enumerate(self.rows):
            yield self.views_of(view_set, int(row))
            if number % 256 == 0:
                self.store.release()

    def views_of(self, view_set: ViewSet, row: int, chosen: slice = slice(None)) -> np.ndarray:
        """Return the views of the image in a row of the store, or some of them."""
        return self.store.views(view_set, row, chosen)


@dataclass(frozen=True)
class Prepared:
    """The result of `prepare`; `summary` is the `data` section of ``run.json``."""

    train: Split
    validation: Split
    test: Split
    groups: GroupTable
    summary: dict[str, Any]
    computed: int
    cached: int


def prepare(options: DataOptions, recipe: Recipe) -> Prepared:
    """Load a dataset at a pinned revision, make its views or find them in the cache, and split it.

    Raises:
        DataError: The dataset cannot be reached or used as asked; see `hf_ela.errors`.
    """
    groups = GroupTable.read(options.groups)
    source = open_for_training(options, groups)
    stores = {
        name: row_store(options, source, _row_settings(name, recipe, source))
        for name in source.splits
    }
    rejected = refused({name: store.facts for name, store in stores.items()})
    check_rejected(rejected, sum(len(s.facts) for s in stores.values()), options.max_rejected)
    splits, left_out = {name: _good(name, store) for name, store in stores.items()}, None
    if options.leave_out:
        splits, left_out = _without(splits, options.leave_out, groups)
    if "validation" not in splits:
        splits |= _validation(splits["train"], recipe, groups)
    if column := recipe.calibration.left_out:
        check_parts(column, splits["train"].labels, splits["train"].file_names, groups)
    matched = groups.matched([name for split in splits.values() for name in split.file_names])
    trained = groups.sources(splits["train"].file_names + splits["validation"].file_names)
    seen = splits["train"].facts + splits["validation"].facts
    summary = {
        "id": source.id,
        "revision": source.hub.revision if source.hub else None,
        "conversion": source.hub.conversion if source.hub else None,
        "fingerprint": _fingerprint(splits.values()),
        "classes": source.classes,
        "splits": {name: _counts(splits[name]) for name in ("train", "validation", "test")},
        "limit": options.limit,
        "synthetic": (Path(options.source) / "samples.json").is_file(),
        "groups": {"sha256": groups.sha256, "matched": matched} if options.groups else None,
        "sources": trained,
        "left_out": left_out,
        "test_near_duplicates_of_train": int(near_duplicates(splits["test"].facts, seen).sum()),
        "rejected": rejected,
    }
    return Prepared(
        splits["train"],
        splits["validation"],
        splits["test"],
        groups,
        summary,
        computed=sum(store.computed for store in stores.values()),
        cached=sum(store.cached for store in stores.values()),
    )


def row_store(
    options: DataOptions,
    source: OpenedDataset,
    settings: RowSettings,
    chosen: Sequence[int] | None = None,
) -> ElaStore:
    """Compute the rows of the settings' split, or find them in the cache.

    Args:
        options: Decide where the rows are cached, and who computes.
        source: The dataset.
        settings: What to compute.
        chosen: Numbers of the rows, ascending; None for all of them.
    """
    rows = source.splits[settings.split]
    if isinstance(rows, datasets.Dataset):
        if chosen is not None:
            rows = rows.select(chosen)
        # A test split may have been held out of them.
        folder = shard_folder(options.cache_dir, settings, rows._fingerprint)
        if not (options.address or complete(folder)):
            return map_store(rows, settings, options.num_proc)
    else:
        hub = source.hub
        origin: Any = (
            [hub.id, hub.revision, hub.conversion]
            if hub
            else files_state(local_files(Path(options.source)))
        )
        folder = shard_folder(options.cache_dir, settings, [origin, options.limit, chosen])
        if chosen is not None:
            wanted = set(chosen)
            rows = (row for number, row in enumerate(rows) if number in wanted)
    return stream_store(rows, settings, folder, options.num_proc, options.address)


def training_view_set(recipe: Recipe) -> ViewSet:
    """Return the view set that training draws from."""
    if recipe.training.ela == "on_device":
        return "sources" if recipe.augmentation else "pixels"
    return "augmented" if recipe.augmentation else recipe.input.training


def held_view_set(recipe: Recipe) -> ViewSet:
    """Return the view set of validation after every epoch."""
    return "pixels" if recipe.training.ela == "on_device" else recipe.input.training


def _row_settings(split: str, recipe: Recipe, source: OpenedDataset) -> RowSettings:
    preprocessing = recipe.preprocessing
    view_sets: tuple[StoredSet, ...] = ("as_is", "aligned")
    if split != "test" and not recipe.calibration.left_out:
        view_sets = (recipe.input.training,)
    if split == "train" and recipe.augmentation:
        view_sets += ("sources" if recipe.training.ela == "on_device" else "augmented",)
    else:
        preprocessing = preprocessing.model_copy(update={"augmentation": None})
    return RowSettings(
        *(preprocessing, view_sets, source.labels, split, source.root),
        pictures=split == "test",
        ela=recipe.training.ela == "cached",
    )


def refused(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, str]]:
    """List the refused images, given the facts of every file by split."""
    return [
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


def check_rejected(rejected: Sequence[Mapping[str, str]], total: int, max_rejected: float) -> None:
    """Check that not too many images were refused.

    `total` counts all images, the refused ones included.

    Raises:
        TooManyRejectedError: The share is exceeded.
    """
    if len(rejected) > max_rejected * total:
        raise TooManyRejectedError(
            f"At most {max_rejected:.1%} of the images may be refused. Received: {len(rejected)} "
            f"refused of {total}. Fix or remove them, or raise `max_rejected`:",
            *reasons(rejected),
        )


def reasons(rejected: Sequence[Mapping[str, str]]) -> list[str]:
    """Return lines for an error: the first refused images, and why."""
    lines = [f"  {bad['file']}: {bad['reason']}" for bad in rejected[:REJECTED_LISTED]]
    return [*lines, "  ..."] if len(rejected) > REJECTED_LISTED else lines


def _good(name: str, store: ElaStore) -> Split:
    rows = [row for row, facts in enumerate(store.facts) if not facts["error"]]
    return _with_both(name, Split(store, np.array(rows, np.int64)))


def _with_both(name: str, split: Split) -> Split:
    counts = _counts(split)
    if not (counts["fake"] and counts["real"]):
        raise DataError(
            f"Every split needs images of both classes. Received: {counts['fake']} fake and "
            f"{counts['real']} real images in {name}. Add images."
        )
    return split


def _without(
    splits: Mapping[str, Split], rule: str, groups: GroupTable
) -> tuple[dict[str, Split], dict[str, Any]]:
    """Drop the images with one value of a column from all splits but test, and count them."""
    column, _, value = rule.partition("=")
    kept = dict(splits)
    for name, split in splits.items():
        if name != "test":
            stays = [groups.get(file, column) != value for file in split.file_names]
            kept[name] = _with_both(name, Split(split.store, split.rows[stays]))
    dropped = sum(len(split) - len(kept[name]) for name, split in splits.items())
    if not dropped:
        raise DataError(
            "`leave_out` must name a value of training images in the groups file. Received: "
            f"{rule}, which no image has. Check the spelling."
        )
    return kept, {"rule": rule, "images": dropped}


def _validation(train: Split, recipe: Recipe, groups: GroupTable) -> dict[str, Split]:
    """Divide the train split by clusters, or row by row as the published recipe does."""
    how = recipe.validation
    if how.grouped:
        members = clusters(train.facts, groups)
        remedy = "Add images, or choose a larger validation.fraction, such as 0.5."
        kept, held = grouped_split(train.labels, members, how.fraction, how.seed, remedy)
        kept, held = train.rows[kept], train.rows[held]
    else:
        kept, held = train_test_split(train.rows, test_size=how.fraction, random_state=how.seed)
    return {"train": Split(train.store, kept), "validation": Split(train.store, held)}


def _counts(split: Split) -> dict[str, int]:
    fake = int(split.labels.sum())
    return {"n": len(split), "fake": fake, "real": len(split) - fake}


def _fingerprint(splits: Iterable[Split]) -> str:
    """Hash the contents and labels of all images, whatever their order."""
    rows = sorted(f"{facts['key']} {facts['label']}" for split in splits for facts in split.facts)
    return sha256("\n".join(rows).encode()).hexdigest()
