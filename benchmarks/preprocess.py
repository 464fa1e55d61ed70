"""Images per second from file to network input, and the memory of a training.

    python benchmarks/preprocess.py --data FOLDER          # speed
    python benchmarks/preprocess.py --data FOLDER --memory  # peak memory, data once and ten times

Speed, in one run: the published recipe as it is usually written (a temporary JPEG file,
ImageEnhance, a Python loop, floats) against this package's, with one and two processes, then the
whole of `hf_ela.data.preparation.prepare`, cold and from its cache. Every row is the median of
`--repeat` passes over the same files. Writes benchmarks/preprocess.json or benchmarks/memory.json.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from common import HERE, save
from PIL import Image, ImageChops, ImageEnhance

from hf_ela.data.loading import DataOptions
from hf_ela.data.preparation import prepare
from hf_ela.ela.views import evaluation_views
from hf_ela.images.loading import IMAGE_SUFFIXES, load_image
from hf_ela.recipes.loading import load_recipe

REFERENCE = load_recipe("reference")


def as_usually_written(path: str) -> np.ndarray:
    """Return the published recipe's input the way notebooks write it."""
    temporary = Path(tempfile.gettempdir()) / f"temp_ela_{os.getpid()}.jpg"
    image = Image.open(path).convert("RGB").resize((256, 256))
    image.save(temporary, "JPEG", quality=90)
    ela = ImageChops.difference(image, Image.open(temporary))
    largest = max(high for _, high in ela.getextrema()) or 1
    ela = ImageEnhance.Brightness(ela).enhance(255.0 / largest)
    return np.array(ela.resize((128, 128))).flatten() / 255.0


def ours(path: str) -> np.ndarray:
    """Return the same input by this package, file checks included."""
    return evaluation_views(load_image(path).pixels, REFERENCE, "as_is", key="")


def passes(
    work: Callable[[str], np.ndarray], paths: list[str], processes: int, repeat: int
) -> float:
    """Return images per second, the median of `repeat` passes."""
    seconds = []
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(work, paths[:50], chunksize=25))  # warm up
        for _ in range(repeat):
            started = perf_counter()
            if processes == 1:
                for path in paths:
                    work(path)
            else:
                for _ in pool.map(work, paths, chunksize=32):
                    pass
            seconds.append(perf_counter() - started)
    return len(paths) / median(seconds)


def whole_preparation(
    data: str, recipe: str, processes: int, limit: int | None
) -> tuple[float, float]:
    """Return images per second of `prepare`: cold, then found in the cache."""
    with tempfile.TemporaryDirectory() as cache:
        options = DataOptions(
            data, streaming=True, cache_dir=cache, num_proc=processes, limit=limit
        )
        rates = []
        for _ in range(2):
            started = perf_counter()
            found = prepare(options, load_recipe(recipe))
            rates.append((found.computed + found.cached) / (perf_counter() - started))
        assert found.computed == 0
        return rates[0], rates[1]


def speed(data: str, limit: int | None, repeat: int) -> dict[str, float]:
    """Return images per second of every way."""
    files = (path for path in Path(data).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    paths = [str(path) for path in sorted(files)][:limit]
    same = all(
        np.allclose(as_usually_written(p).reshape(128, 128, 3), ours(p)[0] / 255)
        for p in paths[::50]
        if load_image(p).info.mode == "RGB"
    )
    print(f"{len(paths)} images; same pixels both ways: {same}")
    rows = {}
    for processes in (1, 2):
        rows[f"as usually written, {processes} process(es)"] = passes(
            as_usually_written, paths, processes, repeat
        )
        rows[f"hf_ela views, {processes} process(es)"] = passes(ours, paths, processes, repeat)
    for recipe in ("reference", "default"):
        for processes in (1, 2):
            cold, warm = whole_preparation(data, recipe, processes, limit)
            rows[f"prepare {recipe}, {processes} worker(s), cold"] = cold
            rows[f"prepare {recipe}, {processes} worker(s), cached"] = warm
    return rows


def memory(data: str, limit: int) -> dict[str, float]:
    """Return the peak memory in MiB of a reference training, data once and ten times."""
    rows = {}
    for times in (1, 10):
        with tempfile.TemporaryDirectory() as folder:
            repeated = Path(folder) / "data"
            for split, kind in product(("train", "test"), ("fake", "real")):
                (repeated / split / kind).mkdir(parents=True)
                for path in sorted((Path(data) / split / kind).iterdir())[: limit // 2]:
                    for copy in range(times if split == "train" else 1):
                        (repeated / split / kind / f"{copy}-{path.name}").symlink_to(path.resolve())
            command = [sys.executable, HERE.parent / "train.py", "--recipe", "reference"]
            command += ["--data", repeated, "--cache-dir", f"{folder}/cache", "--streaming"]
            command += ["--set", "training.epochs=1", "--out", f"{folder}/run"]
            process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                sys.exit(f"the training of the data x {times} failed")
            rows[f"reference training, data x {times}"] = usage.ru_maxrss / 1024
    return rows


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="imagefolder with train and test")
    parser.add_argument("--limit", type=int, help="images per pass (all), or of a split (1000)")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="peak memory instead of speed")
    args = parser.parse_args()
    if args.memory:
        name, unit, rows = "memory", "MiB, largest process", memory(args.data, args.limit or 1000)
    else:
        name, unit, rows = "preprocess", "images/s", speed(args.data, args.limit, args.repeat)
    baseline = next(iter(rows.values()))
    print(f"ratio 1.00: {next(iter(rows))}; best with nothing else running")
    print(f"{'':48}{unit:>24}{'ratio':>8}")
    for row, value in rows.items():
        print(f"{row:48}{value:24.1f}{value / baseline:8.2f}")
    save(HERE / f"{name}.json", {"unit": unit, "rows": rows})


if __name__ == "__main__":
    main()
