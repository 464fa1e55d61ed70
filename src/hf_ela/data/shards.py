"""Shards of a store: Arrow files of `SHARD_ROWS` images, by worker processes or a Ray cluster.

A shard is written under a temporary name and renamed: whatever exists is whole, and one that two
nodes have written, as one of them was thought to be lost, is the same.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from hf_ela._cluster import Nodes, check_nodes, connected, core_count, import_ray
from hf_ela._files import whole_file
from hf_ela._processes import Workers
from hf_ela._threads import batched
from hf_ela.data.rows import RowSettings, compute_row
from hf_ela.ela.views import pixel_versions
from hf_ela.errors import needs_extra

SHARD_ROWS = 64
"""Images per shard: a kill loses at most this much work of each process or core."""
MANIFEST = "manifest.json"
"""Says how many shards there are, when all of them are written."""
Rows = list[Mapping[str, Any]]


def shard_path(folder: Path, number: int) -> Path:
    """Return where a shard lies."""
    return folder / f"{number:05d}.arrow"


def shard_folder(cache_dir: str | None, settings: RowSettings, rows: object) -> Path:
    """Return the folder for the shards of a split; `rows` tells its rows from all others."""
    key = json.dumps([rows, settings.to_json()])
    base = Path(cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "hf_ela")
    return base / f"{settings.split}-{sha256(key.encode()).hexdigest()[:16]}"


def complete(folder: Path) -> bool:
    """Return whether all shards of the manifest exist; one emptied by a power loss is removed."""
    manifest = folder / MANIFEST
    for shard in folder.glob("[0-9]*.arrow"):
        if not shard.stat().st_size:
            shard.unlink()
    if not manifest.exists():
        return False
    shards = json.loads(manifest.read_text("utf-8"))["shards"]
    return all(shard_path(folder, number).exists() for number in range(shards))


def write_missing(
    images: Iterable[Mapping[str, Any]],
    folder: Path,
    settings: RowSettings,
    num_proc: int,
    address: str | None,
    fresh: set[Path],
) -> int:
    """Write the missing shards, add them to `fresh`, return the number of all shards."""
    number = 0
    running: set[Future[None]] = set()
    with ExitStack() as stack:
        for number, rows in enumerate(batched(images, SHARD_ROWS), start=1):
            path = shard_path(folder, number - 1)
            if path.exists():
                continue
            if not fresh:
                started = _on_nodes(address, folder, rows) if address else _here(num_proc)
                pool, at_once = stack.enter_context(started)
            if len(running) > at_once:  # the stream waits for the workers: memory stays flat
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
            first = (number - 1) * SHARD_ROWS
            running.add(pool.submit(_write_shard, path, first, rows, settings.to_json()))
            fresh.add(path)
        for future in running:
            future.result()
    return number


@contextmanager
def _here(num_proc: int) -> Iterator[tuple[Executor, int]]:
    """Yield an executor of so many processes; one alone is a thread of this process."""
    with ThreadPoolExecutor(1) if num_proc == 1 else Workers(num_proc) as pool:
        yield pool, num_proc


@contextmanager
def _on_nodes(address: str, folder: Path, rows: Rows) -> Iterator[tuple[Executor, int]]:
    """Yield an executor of the cores of a cluster, whose nodes see the folder and the files."""
    with needs_extra("scale", "`address`"):
        import_ray(local=False)
    paths = {"folder of the cache": str(folder)}
    sent = (row["image"] or {} for row in rows)
    files = (image["path"] for image in sent if image.get("path") and image.get("bytes") is None)
    if file := next((path for path in files if Path(path).exists()), None):
        paths["pictures"] = file
    with connected(address) as cluster:
        check_nodes(cluster, partial(_other_versions, pixel_versions()), paths)
        yield Nodes(cluster), core_count(cluster)


def _other_versions(expected: Mapping[str, str]) -> str:
    """Return what else a node would compute with, if it has other versions than the driver."""
    found = pixel_versions()
    other = [
        f"{name} {found.get(name, 'none')} in place of {expected.get(name, 'none')}"
        for name in dict.fromkeys([*expected, *found])
        if found.get(name) != expected.get(name)
    ]
    return f"has {', '.join(other)}. Install the same there" if other else ""


def _write_shard(path: Path, first: int, rows: Rows, settings: str) -> None:
    schema = RowSettings.from_json(settings).schema
    with (
        whole_file(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_stream(sink, schema) as writer,
    ):
        for index, row in enumerate(rows, start=first):
            values = compute_row(row["image"], row["label"], index, settings=settings)
            writer.write_batch(pa.RecordBatch.from_pylist([values], schema=schema))
