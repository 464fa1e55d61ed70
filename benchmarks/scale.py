"""Are the ELA and the scores of two Ray nodes those of one process, if one is lost half-way?

    python benchmarks/scale.py --out scale.json

Writes the shards of the train split, three quarters of the pictures, in one process and by two
nodes of this machine. Scores all in one process, then by `hf-ela score` on the nodes, of which one
is killed when half of the results are written, then repeats the command. Needs the `scale` extra.
CPU seconds a picture, of the one process, are what docs/scale.md reckons with; those of nodes are
of the driver and the workers, from their start to their last shard.
"""

import argparse
import os
import resource
import tempfile
from pathlib import Path
from threading import Thread
from time import perf_counter, process_time, sleep
from typing import Any

os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",  # a head tells that they are off
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on loopback
    "RAY_worker_niceness": "0",  # does not give way to the process that it is compared with
}

from common import save, write_images
from pyarrow import parquet
from ray.cluster_utils import Cluster

from hf_ela import ElaClassifier
from hf_ela.cli import main as hf_ela
from hf_ela.data import shards
from hf_ela.data.loading import DataOptions, open_dataset
from hf_ela.data.preparation import row_store
from hf_ela.data.rows import RowSettings
from hf_ela.errors import ImageError
from hf_ela.recipes.loading import load_recipe

BAD = {"empty.png": b"", "text.jpg": b"no picture", "archive.webp": b"PK\x03\x04"}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="FOLDER", help="pictures to draw from, not paintings")
    parser.add_argument("--pictures", type=int, default=1000, metavar="N")
    parser.add_argument("--out", type=Path, default=Path("scale.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "pictures")
        write_images(place, options.data, options.pictures - len(BAD))
        for name, content in BAD.items():
            (place / name).write_bytes(content)
        node = {"num_cpus": 1, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        second = cluster.add_node(num_cpus=1)
        alone, cpu = in_one_process(place)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows = in_shards(place, Path(folder), cluster)
        rows += on_two_nodes(place, Path(folder, "results"), alone, cluster, second)
    rows = [
        {"what": "CPU seconds a picture, one process", "value": cpu},
        {"what": "MB of that process", "value": memory},
        *rows,
    ]
    for row in rows:
        print(f"{row['what']:<55} {row['value']:>10.4g}")
    save(options.out, {"pictures": options.pictures, "rows": rows}, one_backend=True)


def in_one_process(place: Path) -> tuple[dict[str, Any], float]:
    """Return the score of each picture, or why it is refused, and CPU seconds a picture."""
    classifier = ElaClassifier.from_pretrained()
    files = sorted(path for path in place.rglob("*.*") if path.is_file())
    started = process_time()
    scores = [*classifier.scores([*map(str, files)])]
    cpu = (process_time() - started) / len(files)
    found = {
        path.relative_to(place).as_posix(): score.reason
        if isinstance(score, ImageError)
        else float(score).hex()
        for path, score in zip(files, scores, strict=True)
    }
    return found, cpu


def in_shards(place: Path, folder: Path, cluster: Cluster) -> list[dict[str, Any]]:
    """Write shards in one process and by two nodes; return what they cost, and what differs."""
    write, here, rows, written = shards._write_shard, os.getpid(), [], []

    def counted(path: Path, *rest: Any) -> None:  # goes to a node as it is
        write(path, *rest)
        if os.getpid() != here:
            path.with_name(f"{os.getpid()}.cpu").write_text(str(process_time()))

    shards._write_shard = counted
    for name, address in {"one process": None, "two nodes": cluster.address}.items():
        cache = folder / name.replace(" ", "-")
        options = DataOptions(
            str(place), streaming=True, num_proc=1, cache_dir=str(cache), address=address
        )
        source, how = open_dataset(options), load_recipe("scratch").preprocessing
        views = ("aligned", "augmented")
        started, began = process_time(), perf_counter()
        settings = RowSettings(how, views, source.labels, "train", source.root, pictures=False)
        count = len(row_store(options, source, settings).facts)
        cpu = process_time() - started
        cpu += sum(float(path.read_text()) for path in cache.rglob("*.cpu"))
        written.append({p.name: p.read_bytes() for p in sorted(cache.rglob("*.arrow"))})
        rows += [
            {"what": f"pictures prepared, {name}", "value": count},
            {"what": f"CPU seconds a picture to prepare, {name}", "value": cpu / count},
            {"what": f"seconds to prepare, {name}", "value": perf_counter() - began},
        ]
    shards._write_shard = write
    differ = sum(written[1].get(name) != content for name, content in written[0].items())
    return [
        *rows,
        {"what": "shards", "value": len(written[0])},
        {"what": "shards that differ from one process", "value": differ},
    ]


def on_two_nodes(
    place: Path, out: Path, alone: dict[str, Any], cluster: Cluster, second: Any
) -> list[dict[str, Any]]:
    """Score by two nodes, lose one, repeat the command; return what differs."""
    lost: list[int] = []

    def lose() -> None:
        while len(rows_of(out)) < len(alone) / 2:
            sleep(0.2)
        cluster.remove_node(second, allow_graceful=False)
        lost.append(len(rows_of(out)))

    Thread(target=lose, daemon=True).start()
    command = ["score", str(place), "--out", str(out), "--address", cluster.address]
    started = perf_counter()
    statuses = [hf_ela(command)]
    seconds = perf_counter() - started
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    statuses.append(hf_ela(command))
    after = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    cluster.shutdown()
    rows = rows_of(out)
    found = {row["path"]: row["error"] or row["fake"].hex() for row in rows}
    return [
        {"what": "pictures", "value": len(alone)},
        {"what": "results when a node was killed", "value": lost[0]},
        {"what": "commands that could not be done", "value": statuses.count(2)},
        {"what": "pictures with a result in the end", "value": len(found)},
        {"what": "results twice", "value": len(rows) - len(found)},
        {"what": "refused", "value": sum(row["error"] is not None for row in rows)},
        {
            "what": "results that differ from one process",
            "value": sum(found.get(path) != score for path, score in alone.items()),
        },
        {
            "what": "files that the repeated command wrote",
            "value": len(after.items() - before.items()),
        },
        {"what": "seconds on two nodes, with the start of Ray", "value": seconds},
    ]


def rows_of(out: Path) -> list[dict[str, Any]]:
    """Return the rows of all files of results."""
    return [row for path in out.glob("*.parquet") for row in parquet.read_table(path).to_pylist()]


if __name__ == "__main__":
    main()
