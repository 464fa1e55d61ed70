"""Where images come from: a Hub id, a local imagefolder, or Parquet files; rows by split.

Images are never decoded by `datasets`: one broken file would end a stream.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from hf_ela.data.groups import GroupTable, clusters, grouped_split
from hf_ela.data.local import load_local_rows
from hf_ela.data.rows import hash_row
from hf_ela.ela.views import pixel_versions
from hf_ela.errors import DataError, DatasetNotFoundError, LabelError
from hf_ela.hub.datasets import (
    DEFAULT_DATASET,
    HubDataset,
    dataset_errors,
    load_hub_rows,
    resolve_dataset,
)
from hf_ela.recipes.schema import LABELS

TEST_FRACTION = 0.1
"""What a training holds out as the test split of a dataset that has none."""


@dataclass(frozen=True)
class DataOptions:
    """Where images come from and how much work may go into them.

    Attributes:
        source: Hub id, or the path of an imagefolder or of Parquet files.
        revision: Branch, tag or commit of a Hub dataset; ``None`` is the head of main.
        streaming: ``None`` streams a Hub id and maps a local folder.
        groups: CSV with `file_name,group` and, optionally, `source` and `generator`.
        leave_out: ``COLUMN=VALUE`` of that CSV: such images are in neither training nor
            validation. Their ELA is in the cache all the same.
        label_map: The dataset's class names to `fake` and `real`.
        limit: Number of images of every split, half of each class (a class with fewer gives all
            that it has); ``None`` takes all.
        max_rejected: Share of refused images above which preparing fails.
        num_proc: Processes that compute ELA.
        cache_dir: Where ELA is kept, instead of the cache of `datasets`.
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

    def __post_init__(self) -> None:
        """Refuse numbers out of range; make local paths absolute, for a resume from elsewhere."""
        for name in ("source", "groups"):
            path = getattr(self, name)
            if path and Path(path).exists():
                object.__setattr__(self, name, str(Path(path).resolve()))
        if self.limit is not None and self.limit < 2:
            raise DataError(f"`limit` must be 2 or more, for two classes. Received: {self.limit}.")
        if not 0 <= self.max_rejected <= 1:
            raise DataError(
                f"`max_rejected` is a share from 0 to 1. Received: {self.max_rejected}."
            )
        if self.num_proc < 1:
            raise DataError(f"`num_proc` must be 1 or more. Received: {self.num_proc}.")
        if self.leave_out is not None and not (self.groups and "=" in self.leave_out):
            raise DataError(
                "`leave_out` is written COLUMN=VALUE, as in source=wikiart, and goes with a groups "
                f"file. Received: {self.leave_out!r}, with groups={self.groups}."
            )
        if self.revision and Path(self.source).exists():
            raise DataError(
                f"`revision` goes with a dataset of the Hub. Received: the local {self.source}."
            )


@dataclass(frozen=True)
class Source:
    """An opened dataset.

    Attributes:
        id: Hub id, or the name of the folder.
        hub: The pinned commits of a Hub dataset.
        splits: Rows with `image`, undecoded, and `label`: a Dataset, or a stream's iterable.
        classes: The dataset's class names to `fake` and `real`.
        kinds: What a row's label can be, as text, to `fake` or `real`.
        root: Where file names begin in paths: the folder, or the commit.
    """

    id: str
    hub: HubDataset | None
    splits: dict[str, Any]
    classes: dict[str, str]
    kinds: dict[str, str]
    root: str


def open_source(options: DataOptions) -> Source:
    """Open a dataset at a pinned revision, with the splits that it has.

    Raises:
        DataError: It cannot be reached or used as asked.
    """
    return _limited(_opened(options), options)


def open_to_train(options: DataOptions, groups: GroupTable) -> Source:
    """Open a dataset as `open_source` does; hold out a test split where it has none.

    Raises:
        DataError: It cannot be reached or used as asked, or has no train split.
    """
    source = _opened(options)
    if "train" not in source.splits:
        raise DataError(
            f"Training needs a train split. Received: {source.id} with the splits "
            f"{sorted(source.splits)}. Name the split to learn from train."
        )
    if "test" not in source.splits:
        source = _with_test(source, groups)
    return _limited(source, options)


def _opened(options: DataOptions) -> Source:
    """Open a dataset, all images of it."""
    folder = Path(options.source)
    hub = None
    if folder.exists():
        splits = load_local_rows(
            folder, streaming=bool(options.streaming), cache_dir=options.cache_dir
        )
        name, root = folder.resolve().name, str(folder.resolve())
    else:
        if options.source.startswith((".", "/", "~")) or options.source.count("/") > 1:
            raise DatasetNotFoundError(
                f"Data is a local folder or a Hub id user/name. Received: {options.source}, and "
                "there is no such folder."
            )
        try:
            hub = resolve_dataset(options.source, options.revision)
        except DataError as error:
            hint = f"There is no local folder {options.source} either."
            raise type(error)(f"{error} {hint}") from error
        streaming = options.streaming is not False
        splits = load_hub_rows(hub, streaming=streaming, cache_dir=options.cache_dir)
        name, root = hub.id, hub.conversion or hub.revision
    _check_columns(splits)
    feature = next(iter(splits.values())).features["label"]  # all splits have the same
    classes, kinds = _classes(feature, options.label_map)
    if hub:
        splits = {name: _guarded(rows, hub.id) for name, rows in splits.items()}
    return Source(name, hub, splits, classes, kinds, root)


def _check_columns(splits: Mapping[str, Any]) -> None:
    for name, rows in splits.items():
        columns = list(rows.features or ())
        if not {"image", "label"} <= set(columns):
            raise DataError(
                f"Every split needs the columns image and label. Received: {name} with {columns}."
            )
        if not isinstance(rows.features["image"], datasets.Image):
            raise DataError(
                "The column image must be of the type Image of `datasets`. Received: "
                f"{rows.features['image']} in {name}. Cast it: "
                "rows.cast_column('image', datasets.Image())"
            )


def _classes(feature: Any, label_map: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Map the class names to `fake` and `real`, and what rows hold (an index, or a name) too."""
    named = isinstance(feature, datasets.ClassLabel)
    names = feature.names if named else sorted(label_map) or list(LABELS)
    classes = {name: label_map.get(name, name) for name in names}
    if set(classes.values()) != set(LABELS) or not set(label_map) <= set(names):
        missing = [label for label in LABELS if label not in classes.values()]
        without = f", so without {' and '.join(missing)}" if missing else ""
        raise LabelError(
            "Classes are told by their names: fake (AI-generated) and real (human-made). "
            f"Received: {names}, with the label map {dict(label_map)}{without}. "
            "Add that class, or map other names, for example: --label-map ai=fake,human=real"
        )
    kinds = {str(feature.str2int(n)): kind for n, kind in classes.items()} if named else classes
    return classes, kinds


def _with_test(source: Source, groups: GroupTable) -> Source:
    """Take a test split from train; groups and near-duplicates stay on one side."""
    train = source.splits["train"]
    if not isinstance(train, datasets.Dataset):
        raise DataError(
            "To train on a stream takes a dataset with a test split. Received: the splits "
            f"{sorted(source.splits)}. Add a test split, or take --no-streaming."
        )
    hashed = train.map(
        hash_row,
        input_columns=["image"],
        with_indices=True,
        remove_columns=train.column_names,
        fn_kwargs={"root": source.root, "versions": pixel_versions()},
        features=datasets.Features(
            {
                "file_name": datasets.Value("string"),
                "key": datasets.Value("string"),
                "perceptual_hash": datasets.Value("int64"),
            }
        ),
        desc="Perceptual hashes",
    )
    members = clusters(hashed.to_list(), groups)
    labels = np.array(
        [source.kinds.get(str(label)) == "fake" for label in train["label"]], np.int64
    )
    kept, held = grouped_split(labels, members, TEST_FRACTION, seed=0)
    splits = {**source.splits, "train": train.select(kept), "test": train.select(held)}
    return replace(source, splits=splits)


def _limited(source: Source, options: DataOptions) -> Source:
    """Cut every split down to the limit, where there is one."""
    if options.limit is None:
        return source
    splits = {
        name: _first(rows, options.limit, source.kinds) for name, rows in source.splits.items()
    }
    return replace(source, splits=splits)


def _first(rows: Any, limit: int, kinds: Mapping[str, str]) -> Any:
    """Return the first `limit` / 2 rows of each class."""
    if isinstance(rows, datasets.Dataset):
        labels = enumerate(rows["label"])
        return rows.select([index for index, _ in _quota(labels, limit, kinds)])
    return (row for row, _ in _quota(((row, row["label"]) for row in rows), limit, kinds))


def _quota(
    rows: Iterable[tuple[Any, Any]], limit: int, kinds: Mapping[str, str]
) -> Iterator[tuple[Any, Any]]:
    left = {"fake": limit - limit // 2, "real": limit // 2}
    for row, label in rows:
        kind = kinds.get(str(label))
        if kind is None:
            yield row, label  # refused later, with its file's name
        elif left[kind]:
            left[kind] -= 1
            yield row, label
        if not any(left.values()):
            return


def _guarded(rows: Any, repo_id: str) -> Any:
    """Give a stream typed errors for what the Hub does while it is read."""

    def stream() -> Iterator[Any]:
        with dataset_errors(repo_id):
            yield from rows

    return rows if isinstance(rows, datasets.Dataset) else stream()


def parse_label_map(text: str) -> dict[str, str]:
    """Read ``"ai=fake,human=real"``.

    Raises:
        LabelError: It is not written so, or maps to something else than `LABELS`.
    """
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and kind.strip() in LABELS for name, _, kind in pairs):
        raise LabelError(
            "A label map is written NAME=fake,NAME=real, as in ai=fake,human=real. "
            f"Received: {text!r}."
        )
    return {name.strip(): kind.strip() for name, _, kind in pairs}
