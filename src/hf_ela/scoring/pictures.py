"""Pictures in a folder, a bucket or a dataset of the Hub, cut into parts that one worker scores.

A part is some files, or one row group of a Parquet file. It names its pictures and holds none of
their bytes: who scores it reads them, so that they move once.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import pyarrow
from pyarrow import fs, parquet

from hf_ela._threads import batched, in_threads
from hf_ela.errors import DataError, ImageError, ImageNotReadableError
from hf_ela.hub.datasets import dataset_errors, resolve_dataset
from hf_ela.hub.locate import split_revision
from hf_ela.images.folders import walk_once
from hf_ela.images.sources import IMAGE_SUFFIXES, PREFIX, UNREAD_SUFFIXES, reader_of
from hf_ela.scoring.storage import image_column, is_parquet, open_address, read_through

AT_ONCE = 32
"""Pictures that a worker holds in memory, and as many that it reads ahead."""
READERS = 16
"""Parquet files whose row groups are counted at once."""

Content = bytes | str | ImageError
"""What is scored: the bytes of a file, its path here, or why it cannot be read."""


@dataclass(frozen=True)
class Part:
    """Pictures that one worker scores.

    Attributes:
        files: Names below the source; of a row group one.
        group: The row group, or -1 for files.
        first: The first row of the group in its file.
        rows: How many pictures.
    """

    files: tuple[str, ...]
    group: int
    first: int
    rows: int

    @property
    def paths(self) -> list[str]:
        """What each picture is called in the results."""
        names = map(as_text, self.files)
        if self.group < 0:
            return [*names]
        (name,) = names
        return [f"{name}#{row}" for row in range(self.first, self.first + self.rows)]

    def record(self) -> dict[str, Any]:
        """Return it as a row for Arrow, whose texts are UTF-8, as a file's name need not be."""
        return asdict(self) | {"files": [*map(os.fsencode, self.files)]}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Return what gave the record."""
        files = tuple(map(os.fsdecode, record["files"]))
        return cls(files, *(int(record[name]) for name in ("group", "first", "rows")))


@dataclass(frozen=True)
class Pictures:
    """Where pictures lie.

    Attributes:
        address: A local folder, or an address that pyarrow knows, such as ``s3://bucket/folder``.
        only: The one Parquet file or picture of the folder that is meant, if not all.
        dataset: ``user/name``, if they are of a dataset of the Hub; its commit is in the address.
    """

    address: str
    only: str | None = None
    dataset: str | None = None

    @classmethod
    def find(cls, source: str) -> Self:
        """Find a folder, a file, a bucket, or a dataset ``user/name[@revision]``.

        A branch or tag of a dataset is resolved here, once.

        Raises:
            DataError: It is none of these.
            HubUnreachableError: The Hub did not answer.
        """
        place = Path(source).resolve()
        if not source or source.startswith("hf://"):
            raise DataError(
                "Pictures of the Hub are named as a dataset, user/name[@revision]. "
                f"Received: {source!r}."
            )
        if place.is_dir():
            return cls(str(place))
        if place.exists():
            return cls(str(place.parent), place.name)
        if "://" in source:
            return cls(source.rstrip("/"))
        name, revision = split_revision(source)
        if name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise DataError(
                "Pictures must lie in a folder, a bucket such as s3://name/folder, or a dataset "
                f"of the Hub, user/name[@revision]. Received: {source!r}, but no such folder "
                "exists. Check the path."
            )
        found = resolve_dataset(name, revision)
        commit = found.conversion or found.revision
        return cls(f"hf://datasets/{found.id}@{commit}", dataset=found.id)

    @property
    def is_local(self) -> bool:
        """Whether they lie in files that this machine can open by their path."""
        return "://" not in self.address

    def errors(self) -> AbstractContextManager[None]:
        """Turn errors of the Hub while a dataset is read."""
        return dataset_errors(self.dataset) if self.dataset else nullcontext()

    def listed(self) -> tuple[list[str], list[Part]]:
        """Return the names of all pictures that are files, and all row groups, in a fixed order.

        A Parquet file that cannot be read is among the files.

        Raises:
            DataError: The source cannot be listed, holds neither, or has Parquet without pictures.
        """
        with self.errors():
            found = [self.only] if self.only else sorted(self._names())
            tables = [*filter(is_parquet, found)]
            with ThreadPoolExecutor(READERS) as pool:
                groups = dict(zip(tables, pool.map(self._groups, tables), strict=True))
        files = [name for name in found if groups.get(name) is None]
        parts = [part for name in tables for part in groups[name] or ()]
        if not files and not parts:
            raise DataError(
                f"{self.address} holds no pictures, and no Parquet with a column of them. Check "
                "the path."
            )
        return files, parts

    def _names(self) -> Iterator[str]:
        kinds = IMAGE_SUFFIXES | UNREAD_SUFFIXES | {".parquet"}
        for name in self._local_names() if self.is_local else self._listed_names():
            if Path(name).suffix.lower() in kinds:
                yield name

    def _local_names(self) -> Iterator[str]:
        def refuse(error: OSError) -> None:
            raise DataError(f"{self.address} cannot be searched: {error}.") from error

        for folder, names in walk_once([self.address], refuse):
            within = os.path.relpath(folder, self.address)
            yield from (name if within == "." else f"{within}/{name}" for name in names)

    def _listed_names(self) -> Iterator[str]:
        files, base = open_address(self.address)
        try:
            for info in files.get_file_info(fs.FileSelector(base, recursive=True)):
                if info.type == fs.FileType.File:
                    yield info.path.removeprefix(base).lstrip("/")
        except (OSError, ValueError) as error:  # ValueError: a name that is not UTF-8
            raise DataError(f"{self.address} cannot be listed: {error!s:.300}.") from error

    def _groups(self, name: str) -> list[Part] | None:
        """Return the row groups of a Parquet file, or None if it cannot be read.

        One without pictures, such as the metadata of a folder, has none.
        """
        files, base = open_address(self.address)
        try:
            with parquet.ParquetFile(f"{base}/{name}", filesystem=files) as table:
                if image_column(table.schema_arrow) is None:
                    return []
                rows = [
                    table.metadata.row_group(group).num_rows
                    for group in range(table.num_row_groups)
                ]
        except (OSError, pyarrow.ArrowInvalid):
            read_through(files, f"{base}/{name}")
            return None
        firsts = accumulate(rows, initial=0)
        found = zip(range(len(rows)), firsts, rows, strict=False)  # one more first
        return [Part((name,), *group) for group in found if group[-1]]

    def contents(self, part: Part) -> Iterator[Sequence[Content]]:
        """Yield what is to be scored, in lists, in the order of `Part.paths`.

        Raises:
            OSError: What holds the pictures cannot be reached.
        """
        with self.errors():
            if part.group >= 0:
                yield from self._rows(part)
            elif self.is_local:
                yield [
                    _not_parquet(name) if is_parquet(name) else f"{self.address}/{name}"
                    for name in part.files
                ]
            else:
                with in_threads(self._file, part.files, AT_ONCE) as calls:
                    for batch in calls:
                        yield [call() for call in batch]

    def _file(self, name: str) -> Content:
        if is_parquet(name):
            return _not_parquet(name)
        files, base = open_address(self.address)
        try:
            with files.open_input_stream(f"{base}/{name}", compression=None) as stream:
                start = stream.read(PREFIX)
                reader_of(start, name)  # a video is refused before it fills the memory
                return bytes(start + stream.read())
        except ImageError as error:
            return error
        except (FileNotFoundError, PermissionError) as error:
            return ImageNotReadableError(name, f"cannot be read: {error}")

    def _rows(self, part: Part) -> Iterator[Sequence[Content]]:
        files, base = open_address(self.address)
        (name,) = part.files
        left = part.rows
        try:
            with parquet.ParquetFile(f"{base}/{name}", filesystem=files) as table:
                column = image_column(table.schema_arrow)
                for batch in table.iter_batches(AT_ONCE, [part.group], [column]):
                    left -= len(batch)
                    yield [_bytes_of(cell) for cell in batch.column(0).to_pylist()]
        except (OSError, pyarrow.ArrowInvalid) as error:
            read_through(files, f"{base}/{name}")
            damage = ImageNotReadableError(name, f"its Parquet file is damaged: {error!s:.200}")
            yield [damage] * left


def in_parts(files: Sequence[str], size: int) -> list[Part]:
    """Cut files into parts of so many."""
    return [Part(tuple(some), -1, 0, len(some)) for some in batched(files, size)]


def as_text(name: str) -> str:
    """Return the name of a file in UTF-8; of other bytes, their numbers."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _not_parquet(name: str) -> ImageNotReadableError:
    return ImageNotReadableError(name, "is not valid Parquet")


def _bytes_of(cell: Any) -> Content:
    # A path in a cell is that of a file of who made it, not to be opened here.
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    return ImageNotReadableError("<cell>", "the cell is empty") if content is None else content
