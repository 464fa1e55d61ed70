"""Datasets: a Hub id, a local imagefolder, or Parquet files; rows by split.

Images are never decoded by `datasets`: one broken file would end a stream.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from hf_ela._files import held_alone
from hf_ela.data.groups import GroupTable, clusters, grouped_split
from hf_ela.data.local import load_local_rows
from hf_ela.data.rows import hash_row
from hf_ela.ela.views import pixel_versions
from hf_ela.errors import DataError, DatasetNotFoundError, HubUnreachableError, LabelError
from hf_ela.hub.datasets import (
    DEFAULT_DATASET,
    HubDataset,
    dataset_errors,
    load_hub_rows,
    resolve_dataset,
)
from hf_ela.recipes.schema import LABELS

TEST_FRACTION, SMALL_TEST_FRACTION, SMALL = 0.1, 0.2, 500
"""Share that a training holds out as the test split of a dataset without one; that of a dataset
with fewer images than `SMALL`, of which a tenth would measure next to nothing; and `SMALL`."""
LABELS_LISTED = 10  # labels that an error names


@dataclass(frozen=True)
class DataOptions:
    """Where images come from, which of them to use, and how.

    Attributes:
        source: Hub id, or the path of an imagefolder or of Parquet files.
        revision: Branch, tag or commit of a Hub dataset; ``None`` is the head of main.
        streaming: ``None`` streams a Hub id and maps a local folder.
        groups: CSV with `file_name,group` and, optionally, `source` and `generator`.
        leave_out: ``COLUMN=VALUE`` of that CSV: such images take part in neither training nor
            validation. Their views are cached all the same.
        label_map: The dataset's class names to `fake` and `real`.
        limit: Number of images of every split, half of each class (all of a class with fewer);
            ``None`` uses all.
        max_rejected: Share of refused images above which preparation fails.
        num_proc: Processes that prepare images.
        cache_dir: Where prepared images are kept, instead of the cache of `datasets`.
        address: Of a Ray cluster whose nodes prepare images in place of `num_proc` processes; they
            must all see `cache_dir`, and files of images by the paths that they have here.

    Raises:
        DataError: A value is out of range, or two of them exclude each other.
    """

    source: str = DEFAULT_DATASET
    revision: str | None = None
    streaming: bool | None = None
    groups: str | None = None
    leave_out: str | None = None
    label_map: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    max_rejected: float = 0.02
    num_proc: int = 2
    cache_dir: str | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers out of range; make local paths absolute, for a resume from elsewhere."""
        for name in ("source", "groups"):
            path = getattr(self, name)
            if path and Path(path).exists():
                object.__setattr__(self, name, str(Path(path).resolve()))
        if self.limit is not None and self.limit < 2:
            raise DataError(f"`limit` must be at least 2, for two classes. Received: {self.limit}.")
        if not 0 <= self.max_rejected <= 1:
            raise DataError(
                f"`max_rejected` must be a share from 0 to 1. Received: {self.max_rejected}."
            )
        if self.num_proc < 1:
            raise DataError(f"`num_proc` must be at least 1. Received: {self.num_proc}.")
        if self.leave_out is not None and "=" not in self.leave_out:
            raise DataError(
                "`leave_out` must be COLUMN=VALUE, such as source=wikiart. "
                f"Received: {self.leave_out}."
            )
        if self.leave_out is not None and not self.groups:
            raise DataError(
                "`leave_out` needs a groups file with its column. "
                f"Received: {self.leave_out} alone. Give the CSV as `groups`."
            )
        if self.revision and Path(self.source).exists():
            raise DataError(
                "`revision` needs a dataset on the Hub. Received: the local folder "
                f"{self.source}. Leave out `revision`."
            )


@dataclass(frozen=True)
class OpenedDataset:
    """An opened dataset.

    Attributes:
        id: Hub id, or the name of the folder.
        hub: The pinned commits of a Hub dataset.
        splits: Rows with `image`, undecoded, and `label`: a Dataset, or a stream's iterable.
        classes: The dataset's class names to `fake` and `real`.
        labels: The values of the label column, as text, to `fake` or `real`.
        root: Prefix of file names in paths: the folder, or the commit.
    """

    id: str
    hub: HubDataset | None
    splits: dict[str, Any]
    classes: dict[str, str]
    labels: dict[str, str]
    root: str


def open_dataset(options: DataOptions) -> OpenedDataset:
    """Open a dataset at a pinned revision, with the splits that it has.

    Raises:
        DataError: It cannot be reached or used as asked.
    """
    return _limited(_open(options), options)


def open_for_training(options: DataOptions, groups: GroupTable) -> OpenedDataset:
    """Open a dataset as `open_dataset` does; hold out a test split where it has none.

    Raises:
        DataError: It cannot be reached or used as asked, or has no train split.
    """
    source = _open(options)
    if "train" not in source.splits:
        raise DataError(
            f"Training needs a split named train. Received: {source.id} with the splits "
            f"{', '.join(sorted(source.splits))}. Rename the split to learn from."
        )
    if "test" not in source.splits:
        source = _with_test(source, groups)
    return _limited(source, options)


def _open(options: DataOptions) -> OpenedDataset:
    """Open a dataset, all images of it."""
    folder = Path(options.source)
    hub = None
    if folder.exists():
        streaming = bool(options.streaming)
        splits = load_local_rows(folder, streaming=streaming, cache_dir=options.cache_dir)
        name, root = folder.resolve().name, str(folder.resolve())
    else:
        if options.source.startswith((".", "/", "~")) or options.source.count("/") > 1:
            raise DatasetNotFoundError(
                f"Data must be a local folder or a Hub id user/name. Received: {options.source}: "
                "there is no such folder. Check the path."
            )
        try:
            hub = resolve_dataset(options.source, options.revision)
        except (DataError, HubUnreachableError) as error:
            raise type(error)(f"{error} (Nor is {options.source} a local folder.)") from error
        streaming = options.streaming is not False
        splits = load_hub_rows(hub, streaming=streaming, cache_dir=options.cache_dir)
        name, root = hub.id, hub.conversion or hub.revision
    _check_columns(splits)
    classes, labels = _classes(splits, options.label_map)
    if hub:
        splits = {name: _guarded(rows, hub.id) for name, rows in splits.items()}
    return OpenedDataset(name, hub, splits, classes, labels, root)


def _check_columns(splits: Mapping[str, Any]) -> None:
    for name, rows in splits.items():
        columns = list(rows.features or ())
        if not {"image", "label"} <= set(columns):
            raise DataError(
                f"Every split needs the columns image and label. Received: {name} with "
                f"{', '.join(columns) or 'none'}. Rename the columns."
            )
        if not isinstance(rows.features["image"], datasets.Image):
            raise DataError(
                "The column image must have the type Image of `datasets`. Received: "
                f"{rows.features['image']} in {name}. Cast it: "
                "rows.cast_column('image', datasets.Image())"
            )


def _classes(
    splits: Mapping[str, Any], label_map: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Map the class names to `fake` and `real`, and the values of the label column too."""
    feature = next(iter(splits.values())).features["label"]  # all splits have the same
    named = isinstance(feature, datasets.ClassLabel)
    names = feature.names if named else _labels_found(splits, label_map)
    listed = ", ".join(names[:LABELS_LISTED])
    if absent := sorted(set(label_map) - set(names)):
        raise LabelError(
            f"`label_map` names {', '.join(absent)}, but the classes of the dataset are {listed}. "
            "Correct the names."
        )
    classes = {name: label_map.get(name, name) for name in names}
    if unknown := [name for name, label in classes.items() if label not in LABELS]:
        alike = all(name.lower() in LABELS for name in unknown)
        pairs = [f"{name}={name.lower()}" for name in unknown] if alike else ["ai=fake,human=real"]
        raise LabelError(
            "Classes must be named fake (AI-generated) and real (human-made). "
            f"Received: {', '.join(unknown[:LABELS_LISTED])}. Correct the dataset, or map all "
            f"other names with `label_map`, such as {','.join(pairs)}."
        )
    if missing := [label for label in LABELS if label not in classes.values()]:
        raise LabelError(
            f"Both classes, fake and real, are needed. Received: {listed}, without "
            f"{' and '.join(missing)}. Add images of the missing class"
            f"{', or correct `label_map`' if label_map else ''}."
        )
    if not named:
        return classes, classes
    return classes, {str(feature.str2int(name)): label for name, label in classes.items()}


def _labels_found(splits: Mapping[str, Any], label_map: Mapping[str, str]) -> list[str]:
    """Return the labels of a column without class names; of a stream, those that rows may have."""
    if not all(isinstance(rows, datasets.Dataset) for rows in splits.values()):
        return sorted({*label_map, *(set(LABELS) - set(label_map.values()))})
    found = {label for rows in splits.values() for label in rows.unique("label")}
    return sorted("no label" if label is None else str(label) for label in found)


def _with_test(source: OpenedDataset, groups: GroupTable) -> OpenedDataset:
    """Hold out a test split of train; groups and near-duplicates stay on one side."""
    train = source.splits["train"]
    if not isinstance(train, datasets.Dataset):
        raise DataError(
            "Training on a stream needs a test split. Received: the splits "
            f"{', '.join(sorted(source.splits))}. Add a test split, or turn `streaming` off."
        )
    columns = {"file_name": "string", "key": "string", "perceptual_hash": "int64"}
    with held_alone(Path(train.cache_files[0]["filename"]).parent, wait=True):
        hashed = train.map(
            hash_row,
            input_columns=["image"],
            with_indices=True,
            remove_columns=train.column_names,
            fn_kwargs={"root": source.root, "versions": pixel_versions()},
            features=datasets.Features({c: datasets.Value(kind) for c, kind in columns.items()}),
            desc="Perceptual hashes",
        )
    members = clusters(hashed.to_list(), groups)
    labels = np.array(
        [source.labels.get(str(label)) == "fake" for label in train["label"]], np.int64
    )
    fraction = TEST_FRACTION if len(labels) >= SMALL else SMALL_TEST_FRACTION
    remedy = "Add images, or put test images into test/{fake,real}."
    kept, held = grouped_split(labels, members, fraction, seed=0, remedy=remedy)
    splits = {**source.splits, "train": train.select(kept), "test": train.select(held)}
    return replace(source, splits=splits)


def _limited(source: OpenedDataset, options: DataOptions) -> OpenedDataset:
    """Reduce every split to the limit, if there is one."""
    if options.limit is None:
        return source
    splits = {
        name: rows.select([*_first(enumerate(rows["label"]), options.limit, source.labels)])
        if isinstance(rows, datasets.Dataset)
        else _first(((row, row["label"]) for row in rows), options.limit, source.labels)
        for name, rows in source.splits.items()
    }
    return replace(source, splits=splits)


def _first(rows: Iterable[tuple[Any, Any]], limit: int, labels: Mapping[str, str]) -> Iterator[Any]:
    """Yield the first `limit` / 2 rows of each class, given each row with its label."""
    left = {"fake": limit - limit // 2, "real": limit // 2}
    for row, value in rows:
        label = labels.get(str(value))
        if label is None:
            yield row  # refused later, with its file's name
        elif left[label]:
            left[label] -= 1
            yield row
        if not any(left.values()):
            return


def _guarded(rows: Any, repo_id: str) -> Any:
    """Turn what the Hub raises while a stream is read into errors of this package."""

    def stream() -> Iterator[Any]:
        with dataset_errors(repo_id):
            yield from rows

    return rows if isinstance(rows, datasets.Dataset) else stream()
