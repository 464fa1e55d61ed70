"""Local datasets: images in folders of classes, images with a table of labels, or Parquet files.

The files are found here and handed to `datasets` one by one: it takes the name of a folder for a
pattern and `::` in a name for a chain of addresses, and leaves out endings that it does not know.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
from pyarrow import parquet

from hf_ela._files import held_alone
from hf_ela.data.local_files import RULE, SPLIT_FOLDERS, files_state, local_files, split_named
from hf_ela.errors import DataError, DatasetNotFoundError, LabelError
from hf_ela.images.sources import IMAGE_SUFFIXES
from hf_ela.recipes.schema import LABELS

logger = logging.getLogger(__name__)

NOTES = frozenset(
    {".caption", ".csv", ".htm", ".html", ".ini", ".json", ".jsonl", ".md", ".txt", ".xml"}
    | {".xmp", ".yaml", ".yml"}
)
"""Suffixes of notes beside images: left out with a warning, where another file is refused."""
TABLES = {
    "metadata.csv": lambda path: pd.read_csv(path, dtype=str),
    "metadata.jsonl": lambda path: pd.read_json(path, lines=True, dtype=False),
    "metadata.parquet": pd.read_parquet,
}
"""Tables of labels, with `file_name` and `label`, and how each is read."""
IMAGE = datasets.Image(decode=False)
ROWS_AT_A_TIME = 16
"""Rows of a Parquet file in memory."""


def load_local_rows(source: Path, *, streaming: bool, cache_dir: str | None) -> dict[str, Any]:
    """Load the rows of every split, images not decoded.

    Args:
        source: Holds train/{fake,real}, test/{fake,real}, or {fake,real}, or Parquet files; or
            is one Parquet file. A `metadata.csv`, `.jsonl` or `.parquet` with `file_name` and
            `label` takes precedence over folder names.
        streaming: Read rows one by one, without a copy in the cache.
        cache_dir: Used instead of the cache of `datasets`.

    Returns:
        Split name to a Dataset, or to an IterableDataset when streaming.

    Raises:
        DatasetNotFoundError: There are no rows.
        LabelError: Images lie in no folders of classes.
        DataError: A folder or a table cannot be read, the name of a file is not UTF-8, or
            `cache_dir` cannot be made.
    """
    try:
        Path(cache_dir or ".").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"`cache_dir` must be a folder that can be written. Received: {cache_dir} "
            f"({error.strerror})."
        ) from error
    try:
        files = list(local_files(source))
        splits = _image_splits(source, files) or _parquet_splits(source, files)
        if not splits:
            kinds = ", ".join(sorted({path.suffix.lower() for path in files} - {""})) or "no files"
            raise DatasetNotFoundError(
                f"{RULE} Received: {source}, which holds {kinds}. Unpack archives, or check the "
                "path."
            )
        options = {"streaming": streaming, "cache_dir": cache_dir}
        state = files_state(files)
        order = [name for name in SPLIT_FOLDERS if name in splits]
        return {
            name: _rows(name, splits[name], state, **options)
            for name in dict.fromkeys([*order, *splits])
        }
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = error.__cause__ or error
        raise DatasetNotFoundError(
            f"{RULE} Received: {source}, which cannot be read: {type(reason).__name__}: {reason}"
        ) from error


def _image_splits(source: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Return what `_rows` takes for each split of images, or an empty dict without images.

    The names of folders at the top alone decide the splits: an image with `test` in its name is
    no split.
    """
    if not _pictures(files):
        return {}
    whole = _parquet_files(files)  # the figures of its card do not make it a folder of images
    if whole and {"image", "label"} <= set(parquet.read_schema(whole[0]).names):
        return {}
    tops = {path: name for path in source.iterdir() if (name := split_named(path.name))}
    splits: dict[str, list[Path]] = {tops[path]: [] for path in tops if path.is_dir()}
    for path in files:
        top = source / path.relative_to(source).parts[0]
        if top != path and top in tops:
            splits[tops[top]].append(path)
    if not splits and (nested := [p for p in source.glob("*/*/") if split_named(p.name)]):
        raise DatasetNotFoundError(
            f"{RULE} Received: {source}, whose splits lie deeper. Name {nested[0].parent}."
        )
    inside = {path for listed in splits.values() for path in listed}
    if splits and (unused := len(_pictures(files) - inside)):
        logger.warning("%s: pictures outside of the splits are not used: %d.", source, unused)
    splits = splits or {"train": list(files)}
    if empty := [name for name, listed in splits.items() if not listed]:
        raise DatasetNotFoundError(
            f"{RULE} Received: {source}, whose split {empty[0]} has no files. Add or remove it."
        )
    tables = {name: _listed(files) for name, files in splits.items()}
    labelled = {name: rows for name, rows in tables.items() if rows is not None}
    shared = _listed([path for path in files if path.parent == source]) if tops else None
    if shared or 0 < len(labelled) < len(splits):
        raise DataError(
            f"Each split with a table of labels needs its own. Received: {source}, where "
            f"{', '.join(name for name in splits if name not in labelled)} has none. Put a "
            "metadata.csv into the folder of each split."
        )
    if labelled:
        features = datasets.Features({"image": IMAGE, "label": datasets.Value("string")})
        return {name: (features, _image_rows, rows) for name, rows in labelled.items()}
    classes = {name: _in_classes(source, paths, {source, *tops}) for name, paths in splits.items()}
    names = sorted({label for rows in classes.values() for _, label in rows})
    features = datasets.Features({"image": IMAGE, "label": datasets.ClassLabel(names=names)})
    return {name: (features, _image_rows, rows) for name, rows in classes.items()}


def _pictures(files: Iterable[Path]) -> set[Path]:
    return {path for path in files if path.suffix.lower() in IMAGE_SUFFIXES}


def _in_classes(source: Path, files: Sequence[Path], tops: set[Path]) -> list[tuple[str, str]]:
    """Return path and class, the name of its folder, of each file in a folder of a class.

    Such a folder holds images or lies in one that does, or is named as a class. Every file in it
    is a row, to be counted if it is refused, but for notes.
    """
    images = _pictures(files)
    named = {path.parent for path in files if path.parent.name.lower() in LABELS}
    classes = {path.parent for path in images} | named
    if images and not classes - tops:
        raise LabelError(
            "Images must lie in a folder for each class, fake and real. "
            f"Received: {source}, with images in none. Move them into such folders."
        )
    inside = {path for path in files if (classes - tops).intersection(path.parents)}
    notes = {path for path in inside if path.suffix.lower() in NOTES or path.name in TABLES}
    if notes:
        counts = Counter(path.suffix for path in notes)
        said = ", ".join(f"{n} {suffix}" for suffix, n in sorted(counts.items()))
        logger.warning("%s: notes beside images are left out: %s.", source, said)
    return [(str(path), path.parent.name) for path in files if path in (images | inside) - notes]


def _listed(files: Sequence[Path]) -> list[tuple[str | None, str | None]] | None:
    """Return path and label of each image that a table of labels names; None without a table."""
    rows: list[tuple[str | None, str | None]] = []
    tables = [(path, _table(path)) for path in files if path.name in TABLES]
    if wrong := [path for path, table in tables if any(";" in str(name) for name in table)]:
        raise DataError(f"A table of labels has commas, not semicolons. Received: {wrong[0]}.")
    tables = [(path, table) for path, table in tables if "label" in table]  # not only captions
    if len({path.parent for path, _ in tables}) < len(tables):
        raise DataError(f"A folder has one table of labels. Received: {len(tables)} tables.")
    for path, table in tables:
        if "file_name" not in table:
            raise DataError(f"A table of labels needs the column file_name. Received: {path}.")
        for name, label in table[["file_name", "label"]].itertuples(index=False):
            if outside := isinstance(name, str) and not _is_inside(name):
                raise DataError(
                    f"A table of labels names images in its own folder. Received: {name} in {path}."
                )
            known = None if pd.isna(name) or outside else str(path.parent / name)
            rows.append((known, None if pd.isna(label) else str(label)))
    if tables and not rows:
        raise DataError(
            f"A table of labels must name images. Received: {tables[0][0]}, without a row. Fill or "
            "remove it."
        )
    if tables and (unnamed := len({*map(str, _pictures(files))}.difference(p for p, _ in rows))):
        logger.warning("%s leaves out %d images that it does not name.", tables[0][0], unnamed)
    return rows if tables else None


def _table(path: Path) -> pd.DataFrame:
    try:
        return TABLES[path.name](path)
    except ValueError as error:  # of pandas, of Arrow and of other encodings
        raise DataError(
            f"A table of labels must be readable, in UTF-8. Received: {path}: {error}. Save it "
            "again."
        ) from error


def _is_inside(name: str) -> bool:
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts


def _parquet_files(files: Sequence[Path]) -> list[Path]:
    return [p for p in files if p.suffix.lower() == ".parquet" and p.name not in TABLES]


def _parquet_splits(source: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Return what `_rows` takes for each split of Parquet files; a word in the name is the split.

    Raises:
        DataError: A file is of no split beside others that are, or they differ in their columns.
    """
    tables = _parquet_files(files)
    splits: dict[str, list[str]] = {}
    found: dict[str, datasets.Features] = {}
    for path in tables:
        splits.setdefault(_split_in(path.relative_to(source).as_posix()), []).append(str(path))
        features = datasets.Features.from_arrow_schema(parquet.read_schema(path))
        found.setdefault(str({name: features.get(name) for name in ("image", "label")}), features)
    if not tables:
        return {}
    if "" in splits and len(splits) > 1:
        raise DataError(
            "Every Parquet file must be named for its split, such as test-00000-of-00001.parquet. "
            f"Received: {splits[''][0]} beside files that are. Rename or remove it."
        )
    if len(found) > 1:
        raise DataError(
            "All Parquet files must have the same types of image and label. Received: "
            f"{' and '.join(found)} in {source}. Write them with the same features."
        )
    (features,) = found.values()
    if {"image", "label"} <= set(features):
        image = IMAGE if isinstance(features["image"], datasets.Image) else features["image"]
        features = datasets.Features({"image": image, "label": features["label"]})
    return {name or "train": (features, _parquet_rows, paths) for name, paths in splits.items()}


def _split_in(path: str) -> str:
    """Return the split that a path inside the dataset names; nothing without one."""
    if sharded := re.search(r"(?:^|/)data/(\w+)-\d{5}-of-\d{5}[^/]*$", path):
        return split_named(sharded[1]) or sharded[1]
    for part in reversed(path.split("/")):
        if found := set(filter(None, map(split_named, re.split("[-._ 0-9]+", part)))):
            if len(found) > 1:
                raise DataError(f"A name must be of one split. Received: {path}. Rename it.")
            return found.pop()
    return ""


def _rows(
    name: str, how: tuple[datasets.Features, Any, list[Any]], state: list[Any], **options: Any
) -> Any:
    features, generator, given = how
    kept = [name, generator.__name__, features.to_dict(), given, state]
    options |= {"features": features, "gen_kwargs": {"given": tuple(given)}, "split": name}
    if options.pop("streaming"):
        del options["cache_dir"]
        return datasets.IterableDataset.from_generator(generator, **options)
    key = sha256(json.dumps(kept).encode()).hexdigest()[:32]
    # `datasets` itself would wait in silence for another process that writes them.
    folder = Path(options["cache_dir"] or datasets.config.HF_DATASETS_CACHE, "generator")
    folder.mkdir(parents=True, exist_ok=True)
    with held_alone(folder, wait=True):
        return datasets.Dataset.from_generator(generator, fingerprint=key, **options)


def _image_rows(given: Iterable[tuple[str | None, str | None]]) -> Iterator[dict[str, Any]]:
    for path, label in given:
        yield {"image": path and {"bytes": None, "path": path}, "label": label}


def _parquet_rows(given: Iterable[str]) -> Iterator[dict[str, Any]]:
    for path in given:
        with parquet.ParquetFile(path) as file:
            complete = {"image", "label"} <= set(file.schema_arrow.names)
            columns = ["image", "label"] if complete else None
            for batch in file.iter_batches(ROWS_AT_A_TIME, columns=columns):
                yield from batch.to_pylist()
