"""Stores: views made once per image, kept in Arrow files, read memory-mapped.

`map_store` makes a store through ``datasets.Dataset.map`` and its cache, `stream_store` from the
shards of `hf_ela.data.shards`: ``IterableDataset.map`` has no cache, and neither knows a cluster.
"""

import json
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import multiprocess
import numpy as np
import pyarrow as pa

from hf_ela._files import held_alone, sweep, write_json
from hf_ela._processes import KILLED, stay_with
from hf_ela._terminal import progress_bar
from hf_ela.data.rows import (
    FACT_COLUMNS,
    PIXEL_SETS,
    RowSettings,
    ViewSet,
    compute_row,
    unpacked,
)
from hf_ela.data.shards import MANIFEST, complete, shard_path, write_missing
from hf_ela.ela.statistics import CONDITIONS
from hf_ela.ela.views import network_inputs
from hf_ela.errors import DataError
from hf_ela.images.loading import load_image

WRITE_ROWS = 16
"""Images per Arrow record batch: what `.map()` holds in memory."""


class ElaStore:
    """The rows of one split, read from memory-mapped Arrow files.

    Attributes:
        files: The Arrow files.
        settings: How they were computed, and how ELA is computed from them.
        facts: One dict per image, without the views.
        computed: Number of images whose views were made for this store.
        cached: Number of images whose views were found in the cache.
    """

    def __init__(self, files: Sequence[Path], settings: RowSettings, fresh: set[Path]) -> None:
        """Open the files; `fresh` are those just computed."""
        self.files = list(files)
        self._maps = [_map(file) for file in files]
        tables = [pa.ipc.open_stream(pa.py_buffer(m)).read_all() for m in self._maps]
        self._table = pa.concat_tables(tables) if tables else settings.schema.empty_table()
        self.settings = settings
        self.facts: list[dict[str, Any]] = self._table.select(list(FACT_COLUMNS)).to_pylist()
        rows = dict(zip(files, (table.num_rows for table in tables), strict=True))
        self.computed = sum(n for file, n in rows.items() if file in fresh)
        self.cached = sum(rows.values()) - self.computed

    def views(self, view_set: ViewSet, row: int, chosen: slice = slice(None)) -> np.ndarray:
        """Return uint8, views x height x width x channels, all views of an image or those chosen.

        Only those are decoded, and their ELA is computed if they do not hold it.
        """
        packed = self._table[self.settings.column(view_set)][row].values[chosen]
        views = np.stack([unpacked(view) for view in packed.to_pylist()])
        if self.settings.ela or view_set in PIXEL_SETS:
            return views
        return network_inputs(views, self.settings.preprocessing)

    def pictures(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return thumbnails of an image and of its ELA: RGB, uint8, height x width x 3."""
        image, ela = (self._table[name][row].as_py() for name in ("thumbnail", "ela"))
        return np.asarray(load_image(image).pixels), np.asarray(load_image(ela).pixels)

    def aligned_png(self, row: int) -> bytes:
        """Return an image as the aligned protocol sees it, as a PNG."""
        return bytes(self._table["aligned_png"][row].as_py())

    def statistics(self, row: int) -> np.ndarray:
        """Return the statistics under each condition: float32, conditions x statistics."""
        content = self._table["statistics"][row].as_py()
        return np.frombuffer(content, np.float32).reshape(len(CONDITIONS), -1)

    def release(self) -> None:
        """Release the pages read so far: they stay in the kernel's cache, not in this process.

        Without it the resident memory of a training would grow to the size of the store.
        """
        for m in self._maps:
            if hasattr(mmap, "MADV_DONTNEED"):
                m.madvise(mmap.MADV_DONTNEED)


def _title(settings: RowSettings) -> str:
    """Return the title of a progress bar."""
    what = "Statistics" if settings.statistics else "Views" if settings.view_sets else "Facts"
    return f"{what} of {settings.split}"


def _map(file: Path) -> mmap.mmap:
    with file.open("rb") as opened:
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)


def map_store(rows: datasets.Dataset, settings: RowSettings, num_proc: int) -> ElaStore:
    """Make views through `Dataset.map` and its cache."""
    folder = Path(rows.cache_files[0]["filename"]).parent
    with held_alone(folder, wait=True), _killed_workers(), _watched_forks():
        if rows.builder_name == "generator":  # else other programs may write there too
            sweep(folder, "tmp*")
        before = set(folder.glob("*.arrow"))
        mapped = rows.map(
            compute_row,
            input_columns=["image", "label"],
            with_indices=True,
            remove_columns=rows.column_names,
            fn_kwargs={"settings": settings.to_json()},
            features=datasets.Features.from_arrow_schema(settings.schema),
            writer_batch_size=WRITE_ROWS,
            num_proc=min(num_proc, len(rows)) if num_proc > 1 else None,
            desc=_title(settings),
        )
    files = [Path(file["filename"]) for file in mapped.cache_files]
    return ElaStore(files, settings, fresh=set(files) - before)


def stream_store(
    stream: Iterable[Mapping[str, Any]],
    settings: RowSettings,
    folder: Path,
    num_proc: int,
    address: str | None = None,
) -> ElaStore:
    """Make views in one pass over a stream, into shards.

    After an interruption the next call computes only the missing shards; once the manifest exists,
    the stream is not even read. Of two processes with one folder, the second waits for the first.

    Args:
        stream: The rows, ``{"image", "label"}`` with undecoded images.
        settings: What to compute.
        folder: For the shards of exactly these rows and settings.
        num_proc: Worker processes.
        address: Of the Ray cluster that computes in their place; it is called only for what is
            missing. Its nodes write into `folder`, and read files by their paths.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / MANIFEST
    fresh: set[Path] = set()
    with held_alone(folder, wait=True):
        sweep(folder)
        if not complete(folder):
            images = progress_bar(stream, _title(settings))
            shards = write_missing(images, folder, settings, num_proc, address, fresh)
            write_json(manifest, {"shards": shards, "settings": settings.to_json()})
    shards = json.loads(manifest.read_text("utf-8"))["shards"]
    return ElaStore([shard_path(folder, i) for i in range(shards)], settings, fresh)


@contextmanager
def _killed_workers() -> Iterator[None]:
    """Say in a DataError what most likely happened when a worker of `datasets` has died."""
    try:
        yield
    except (multiprocess.ProcessError, OSError, EOFError, RuntimeError) as error:
        # Having lost them, `datasets` waits for results that never come.
        cause = error.__context__ if isinstance(error, multiprocess.TimeoutError) else error
        lost = isinstance(cause, EOFError | ConnectionError)
        if not lost and "abruptly died" not in str(cause):
            raise
        raise DataError(KILLED) from error


_watching: int | None = None
"""The process whose forks are workers."""


@contextmanager
def _watched_forks() -> Iterator[None]:
    """Make workers forked by `datasets` leave with their parent, and let Ctrl-C through."""
    global _watching
    _watching = os.getpid()
    try:
        yield
    except multiprocess.TimeoutError as error:
        # While leaving, `datasets` waits for results that never come.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        _watching = None


def _after_fork() -> None:
    if _watching:
        stay_with(_watching)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
