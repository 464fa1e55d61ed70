"""Local datasets: an imagefolder, or Parquet files."""

from pathlib import Path
from typing import Any

import datasets

from hf_ela.errors import DataError, DatasetNotFoundError, LabelError
from hf_ela.images.sources import IMAGE_SUFFIXES

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
        streaming: Read rows one by one, without a copy in the cache.
        cache_dir: Used instead of the cache of `datasets`.

    Returns:
        Split name to a Dataset, or to an IterableDataset when streaming.

    Raises:
        DatasetNotFoundError: `datasets` finds no rows there.
        LabelError: Images lie in no folders of classes.
        DataError: The name of a file is not UTF-8.
    """
    _check_names(folder)
    try:
        splits = datasets.load_dataset(
            **_how_to_load(folder), streaming=streaming, cache_dir=cache_dir
        )
    except (FileNotFoundError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error)
        if error.__cause__ is not None:
            reason += f" ({type(error.__cause__).__name__}: {error.__cause__})"
        raise DatasetNotFoundError(
            "Data must be a folder train/{fake,real}, test/{fake,real} of images, or Parquet files "
            f"with the columns image and label. Received: {folder}, for which `datasets` reports: "
            f"{reason}"
        ) from error
    if streaming:
        return {name: rows.decode(False) for name, rows in splits.items()}
    undecoded = datasets.Image(decode=False)
    return {
        name: rows.cast_column("image", undecoded) if "image" in rows.features else rows
        for name, rows in splits.items()
    }


def _check_names(folder: Path) -> None:
    """Refuse a file name that is not UTF-8: `datasets` would not say which one it is."""
    for path in folder.rglob("*"):
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"File names must be UTF-8. Received: {path.relative_to(folder)}. Rename it."
            ) from error


def _how_to_load(folder: Path) -> dict[str, Any]:
    """Return the arguments of `load_dataset`.

    The names of folders alone decide the splits of an imagefolder: `datasets` would also use the
    names of files, and make a split of an image with `test` in its name.
    """
    if folder.is_file():
        kind = "parquet" if folder.suffix == ".parquet" else "imagefolder"
        return {"path": kind, "data_files": {"train": str(folder)}}
    parents = {path.parent for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES}
    if not parents:
        return {"path": "parquet", "data_dir": str(folder)}
    files = {
        split: [f"{folder / name}/**" for name in names if (folder / name).is_dir()]
        for split, names in SPLIT_FOLDERS.items()
    }
    found = {split: patterns for split, patterns in files.items() if patterns}
    whole = {folder / name for names in SPLIT_FOLDERS.values() for name in names}
    if parents <= {folder, *whole} and not any(folder.rglob("metadata.*")):  # it may have labels
        raise LabelError(
            "Images must lie in a folder for each class, fake and real. "
            f"Received: {folder}, with images in none. Move them into such folders."
        )
    return {
        "path": "imagefolder",
        "data_files": found or {"train": f"{folder}/**"},
        "drop_labels": False,
    }
