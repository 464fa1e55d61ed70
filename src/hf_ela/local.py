"""Datasets of this machine: an imagefolder, or Parquet files."""

from pathlib import Path
from typing import Any

import datasets

from hf_ela.errors import DatasetNotFoundError
from hf_ela.images import IMAGE_SUFFIXES

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


def load_local_rows(folder: Path, *, streaming: bool, cache_dir: str | None) -> dict[str, Any]:
    """Load the rows of every split, images not decoded.

    Args:
        folder: Holds train/{fake,real}, test/{fake,real}, or {fake,real}, or Parquet files; or
            is one Parquet file.
        streaming: Read rows as they are asked for.
        cache_dir: Instead of the cache of `datasets`.

    Returns:
        Split name to a Dataset, or to an IterableDataset when streaming.

    Raises:
        DatasetNotFoundError: `datasets` finds no rows there.
    """
    kind, files = _local_files(folder)
    options = {"drop_labels": False} if kind == "imagefolder" else {}
    try:
        splits = datasets.load_dataset(
            kind, data_files=files, streaming=streaming, cache_dir=cache_dir, **options
        )
    except (FileNotFoundError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error)
        if error.__cause__ is not None:
            reason += f" ({type(error.__cause__).__name__}: {error.__cause__})"
        raise DatasetNotFoundError(
            "Data is a folder train/{fake,real}, test/{fake,real} of images, or Parquet files with "
            f"the columns image and label. Received: {folder}, where `datasets` says: {reason}"
        ) from error
    if streaming:
        return {name: rows.decode(False) for name, rows in splits.items()}
    undecoded = datasets.Image(decode=False)
    return {
        name: rows.cast_column("image", undecoded) if "image" in rows.features else rows
        for name, rows in splits.items()
    }


def _local_files(folder: Path) -> tuple[str, dict[str, list[str]]]:
    """Return the builder's name, and the files of every split by the names of the folders.

    `datasets` would also go by the names of files: a `test` in one makes it a split.
    """
    if folder.is_file():
        return "parquet" if folder.suffix == ".parquet" else "imagefolder", {"train": [str(folder)]}
    by_name = {
        split: [path for name in names if (path := folder / name).is_dir()]
        for split, names in SPLIT_FOLDERS.items()
    }
    found = {split: paths for split, paths in by_name.items() if paths} or {"train": [folder]}
    if any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.rglob("*")):
        pattern = "**"
        kind = "imagefolder"
    else:
        kind, pattern = "parquet", "**/*.parquet"
        if "train" not in by_name or not by_name["train"]:
            patterns = {s: sorted(map(str, folder.rglob(f"{s}*.parquet"))) for s in SPLIT_FOLDERS}
            named = {split: paths for split, paths in patterns.items() if paths}
            if named:
                return kind, named
    return kind, {split: [f"{path}/{pattern}" for path in paths] for split, paths in found.items()}
