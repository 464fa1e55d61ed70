"""The files of a local dataset, and the splits that its folders are named for."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hf_ela.errors import DataError
from hf_ela.images.folders import walk_once

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
RULE = (
    "Data must be a folder train/{fake,real}, test/{fake,real} of images, or Parquet files with "
    "the columns image and label."
)


def local_files(source: Path) -> Iterator[Path]:
    """Yield the files of a dataset in a fixed order, without what a system leaves behind.

    Links to folders are followed. Each folder is searched once, by its own name where it has one
    in the dataset: links may form loops.

    Raises:
        DataError: A folder cannot be read, a name is not UTF-8, or `source` is an archive.
    """
    if source.is_file():
        if source.suffix.lower() != ".parquet":
            raise DataError(
                f"{RULE} Received: the file {source}. Unpack an archive, and name the folder."
            )
        yield source
        return

    def refuse(error: OSError) -> None:
        raise DataError(f"The folder {error.filename} cannot be read: {error.strerror}.") from error

    # Splits first, with what they link to: a folder beside them is none of the data.
    splits = sorted(str(path) for path in source.glob("*/") if split_named(path.name))
    walk = walk_once([*reversed(splits), str(source)], refuse)
    found = [Path(folder, name) for folder, names in walk for name in names]
    for path in sorted(found, key=str):
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"File names must be UTF-8. Received: {path.relative_to(source)}. Rename it."
            ) from error
        yield path


def files_state(files: Iterable[Path]) -> list[Any]:
    """Return a value that changes when a file is added, removed, rewritten or replaced.

    The time of its last change of status tells a file that was replaced and has its old time.
    """
    states = [(str(file), file.stat()) for file in files if file.exists()]
    return [[name, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for name, s in states]


def split_named(name: str) -> str:
    """Return the split that a name stands for, or nothing."""
    found = (split for split, names in SPLIT_FOLDERS.items() if name.lower() in names)
    return next(found, "")
