"""Are the scores of two Ray nodes those of one process, if one of them is lost half-way?

    python benchmarks/scale.py --out scale.json

Scores pictures in one process, then by `hf-ela score` on two nodes of this machine, of which one is
killed when half of the results are written, then repeats the command. Needs the `scale` extra. CPU
seconds a picture, of the one process, are what docs/scale.md reckons with.
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

from hf_ela import ElaClassifier
from hf_ela.cli import main as hf_ela
from hf_ela.errors import ImageError

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
        alone, cpu = in_one_process(place)
        rows = on_two_nodes(place, Path(folder, "results"), alone)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
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


def on_two_nodes(place: Path, out: Path, alone: dict[str, Any]) -> list[dict[str, Any]]:
    """Score by two nodes, lose one, repeat the command; return what differs."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    second = cluster.add_node(num_cpus=1)
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
        {"what": "exit statuses, summed", "value": sum(statuses)},
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
