"""Measure the speed of ELA, preprocessing, prediction and the search for duplicates on a CPU.

    python benchmarks/speed.py                      # all of them, on paintings by this package
    python benchmarks/speed.py ela --data FOLDER    # one of them, on your own images

ela: Error Level Analysis (quality 90, absolute, RGB) of the same uint8 arrays by Pillow, by the
layer on each installed backend and by ONNX Runtime, with the share of pixels that differ.

preprocess: from image files to network inputs, by the published recipe as notebooks usually write
it (a temporary JPEG file, ImageEnhance, a Python loop, floats) and by this package; then all of a
training's preparation, `hf_ela.data.preparation.prepare`, from an empty cache and from a full one.

predict: cold start of `hf-ela predict` for one image of a megapixel, in a new process; images per
second by each runtime and by the published way, where Keras loads the network and each image takes
a temporary JPEG file and a `predict` of its own; peak memory of the command over a tenth of
--files and over all. The networks are untrained: speed does not depend on weights. At last, by the
packaged model, once loaded, of an image of a megapixel: what an answer holds beside the score, and
`explain` of a square and a strip.

duplicates: near-duplicates among --rows synthetic hashes, counted and grouped: seconds of one call,
and the most memory, of which half is the rows themselves (on Linux).

Every rate is a median of --repeat calls after a warm-up call; a preparation is measured once.
Writes benchmarks/speed.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from common import (
    HERE,
    apart,
    compiled,
    installed_backends,
    onnx_runtime,
    pictures,
    save,
    seconds,
    write_images,
)
from PIL import Image, ImageChops, ImageEnhance

from hf_ela._threads import cores
from hf_ela.ela.error_level import error_level
from hf_ela.ela.views import evaluation_views
from hf_ela.images.claims import read_claims
from hf_ela.images.loading import load_image
from hf_ela.recipes.loading import load_recipe

ONNX = "onnx"
PUBLISHED = "published"
QUALITY = 90
PIXELS = 2**20
"""Pixels of one ELA call: 16 images of 256 x 256, 1 image of 1024 x 1024."""

NOISE = 0.28
"""Standard deviation of noise on soft thumbnails: less makes their hashes more uneven."""

Row = dict[str, Any]
Levels = Callable[[np.ndarray], np.ndarray]


def ela(args: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each size and each way to compute ELA."""
    ways = [("Pillow", None), *((name, name) for name in args.backends)]
    ways.append((ONNX, args.backends[0]))
    for side in args.sides:
        for way, backend in ways:
            yield from apart(ela_rows, way, side, args.data, args.repeat, backend=backend)


def ela_rows(way: str, side: int, data: str | None, repeat: int) -> list[Row]:
    """Return the rows of one way at one size."""
    count = max(1, PIXELS // side**2)
    images = np.stack([np.asarray(image.resize((side, side))) for image in pictures(data, count)])
    exact = np.stack([error_level(image, QUALITY) for image in images])
    rows = []
    for name, levels in ela_functions(way, side).items():
        started = perf_counter()
        differing = (levels(images) != exact).any(axis=-1).mean()
        first = perf_counter() - started
        rate = count / seconds(partial(levels, images), repeat)
        row = {"what": f"ELA of {side} x {side} pixels, images/s", "way": name, "value": rate}
        rows.append(row | {"differing": float(differing), "first_call_seconds": first})
    return rows


def ela_functions(way: str, side: int) -> dict[str, Levels]:
    """Return functions from images to error levels by name: uint8, N x height x width x 3."""
    if way == "Pillow":
        one = partial(error_level, quality=QUALITY)
        threads = ThreadPoolExecutor(cores())
        return {
            "Pillow, 1 thread": lambda images: np.stack([one(image) for image in images]),
            f"Pillow, {cores()} threads": lambda images: np.stack([*threads.map(one, images)]),
        }
    from hf_ela.backend import keras
    from hf_ela.ela.layers import ErrorLevel

    layer = ErrorLevel(QUALITY)
    if way == ONNX:
        pixels = keras.Input((side, side, 3), dtype="uint8", name="pixels")
        return {"layer, ONNX Runtime": onnx_runtime(keras.Model(pixels, layer(pixels)))}
    found = {f"layer, {way}": compiled(layer)}
    if way == "tensorflow":
        found["layer, tensorflow with XLA"] = compiled(layer, xla=True)
    return found


def as_usually_written(path: str) -> np.ndarray:
    """Return the published recipe's input as notebooks write it: float64, 128 x 128 x 3, 0 to 1."""
    temporary = Path(tempfile.gettempdir()) / f"temp_ela_{os.getpid()}.jpg"
    image = Image.open(path).convert("RGB").resize((256, 256))
    image.save(temporary, "JPEG", quality=90)
    ela = ImageChops.difference(image, Image.open(temporary))
    largest = max(high for _, high in ela.getextrema()) or 1
    ela = ImageEnhance.Brightness(ela).enhance(255.0 / largest)
    return np.array(ela.resize((128, 128))) / 255.0


def ours(path: str) -> np.ndarray:
    """Return the same input by this package: uint8, 1 x 128 x 128 x 3."""
    return evaluation_views(load_image(path).pixels, load_recipe("reference"), "as_is", key="")


def each(work: Callable[[str], object], paths: Sequence[str]) -> None:
    """Do the work for every path."""
    for path in paths:
        work(path)


def preprocess(args: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each way from files to network inputs, for each number of processes."""
    paths = [str(path) for path in sorted(args.folder.rglob("*.*"))]
    what = "from file to network input, images/s"
    for processes in args.processes:
        shares = [paths[first::processes] for first in range(processes)]
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            for name, work in {"as usually written": as_usually_written, "ours": ours}.items():
                run = partial(pool.map, each, [work] * processes, shares)
                rate = len(paths) / seconds(lambda run=run: list(run()), args.repeat)
                yield {"what": what, "way": f"{name}, {processes} process(es)", "value": rate}
    for recipe in args.recipes:
        for processes in args.processes:
            for cache, rate in prepare_rates(str(args.folder), recipe, processes).items():
                way = f"{recipe}, {processes} process(es), {cache}"
                yield {"what": "prepare, images/s", "way": way, "value": rate}


def prepare_rates(folder: str, recipe: str, processes: int) -> dict[str, float]:
    """Return images per second of `prepare`, first with an empty cache, then with a full one."""
    from hf_ela.data.loading import DataOptions
    from hf_ela.data.preparation import prepare

    rates = {}
    with tempfile.TemporaryDirectory() as cache:
        options = DataOptions(folder, streaming=True, cache_dir=cache, num_proc=processes)
        for state in ("cold", "cached"):
            started = perf_counter()
            found = prepare(options, load_recipe(recipe))
            rates[state] = (found.computed + found.cached) / (perf_counter() - started)
    assert found.computed == 0
    return rates


def predict(args: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each runtime, recipe and measure."""
    models, large = args.folder.parent / "models", args.folder.parent / "megapixel.jpg"
    apart(save_models, models, args.recipes, backend=installed_backends()[0])
    pictures(args.data, 1)[0].resize((1024, 1024)).save(large, quality=92)
    runtimes = [ONNX, *args.backends]
    for recipe in args.recipes:
        for runtime in runtimes:
            calls = [command(models / recipe, runtime, large) for _ in range(args.repeat)]
            value = median(taken for taken, _ in calls)
            yield {"what": "cold start, s", "way": f"{recipe}, {runtime}", "value": value}
    paths = [str(path) for path in sorted(args.folder.rglob("*.*"))]
    for recipe in args.recipes:
        for runtime in [*([PUBLISHED] if recipe == "reference" else []), *runtimes]:
            backend = runtime if runtime in args.backends else installed_backends()[0]
            taken = apart(scoring, runtime, models / recipe, paths, args.repeat, backend=backend)
            value = len(paths) / taken
            yield {"what": "scoring, images/s", "way": f"{recipe}, {runtime}", "value": value}
    for count in (max(1, args.files // 10), args.files):
        many = args.folder.parent / f"{count}-files"
        many.mkdir()
        for number in range(count):
            (many / f"{number:06}.jpg").symlink_to(paths[number % len(paths)])
        _, memory = command(models / args.recipes[-1], ONNX, many)
        way = f"{args.recipes[-1]}, {ONNX}, {count:,} files"
        yield {"what": "peak memory, MiB", "way": way, "value": memory}

    from hf_ela.classifier import ElaClassifier

    packaged = ElaClassifier.from_pretrained()
    decoded, data, opened = load_image(large), large.read_bytes(), Image.open(large)
    for name, work in {
        "claims": partial(read_claims, opened, data),
        "facts of the pixels and doubts": partial(packaged.examined, decoded),
    }.items():
        value = 1000 * seconds(work, args.repeat)
        yield {"what": "beside the score, ms", "way": f"{name}, 1024 x 1024 pixels", "value": value}
    for shape in ((1024, 1024), (2048, 512)):
        image = pictures(args.data, 1)[0].resize(shape)
        value = seconds(partial(packaged.explain, image), args.repeat)
        way = f"packaged model, {shape[0]} x {shape[1]} pixels"
        yield {"what": "explain, s", "way": way, "value": value}


def save_models(folder: Path, recipes: Sequence[str]) -> None:
    """Save the untrained network of each recipe, for Keras and as ONNX."""
    from hf_ela.classifier import ElaClassifier
    from hf_ela.models.networks import build_model

    for name in recipes:
        recipe = load_recipe(name)
        ElaClassifier(build_model(recipe), recipe).save_pretrained(folder / name)


def scoring(runtime: str, model: Path, paths: Sequence[str], repeat: int) -> float:
    """Return how many seconds it takes to score the files by a runtime, or the published way."""
    from hf_ela.classifier import ElaClassifier

    kind = ONNX if runtime == ONNX else "keras"
    classifier = ElaClassifier.from_pretrained(model, runtime=kind)
    if runtime != PUBLISHED:
        return seconds(lambda: [*classifier.scores(paths)], repeat)
    network = classifier.model

    def one(path: str) -> None:
        network.predict(as_usually_written(path)[np.newaxis] * 255, verbose=0)

    return seconds(lambda: each(one, paths), repeat)


LAUNCHER = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([time.perf_counter() - started, usage.ru_maxrss / 1024]))
sys.exit(status != 0)
"""
"""A small process between: the peak memory of a child includes that of what started it."""


def command(model: Path, runtime: str, images: Path) -> tuple[float, float]:
    """Return wall time in seconds and peak memory in MiB (on Linux) of `hf-ela predict`."""
    kind = ONNX if runtime == ONNX else "keras"
    predict = [sys.executable, "-m", "hf_ela", "predict", "--model", model, "--runtime", kind]
    environment = os.environ | ({} if runtime == ONNX else {"KERAS_BACKEND": runtime})
    call = [sys.executable, "-c", LAUNCHER, *predict, images]
    done = subprocess.run(call, env=environment, stdout=subprocess.PIPE, check=True)
    taken, memory = json.loads(done.stdout)
    return taken, memory


def duplicates(args: argparse.Namespace) -> Iterator[Row]:
    """Yield time and memory of finding near-duplicates, and of grouping by them."""
    found = apart(near_duplicates_of, args.rows)
    for place, measure in enumerate(("s", "peak memory, MiB")):
        for name, measured in found.items():
            way = f"{name}, {args.rows:,} rows"
            yield {"what": f"near-duplicates, {measure}", "way": way, "value": measured[place]}


def near_duplicates_of(rows: int) -> dict[str, tuple[float, float]]:
    """Return seconds and MiB for hashes of soft shapes, a tenth with a copy one bit away."""
    from hf_ela.data.duplicates import find_duplicates
    from hf_ela.data.groups import GroupTable, clusters

    rng = np.random.default_rng(0)
    hashes = np.concatenate(
        [soft_hashes(rng, min(10**5, rows - at)) for at in range(0, rows, 10**5)]
    )
    copies = rows // 10
    hashes[:copies] = hashes[rng.integers(copies, rows, copies)] ^ (
        1 << rng.integers(0, 63, copies)
    )
    facts = [
        {"file_name": f"{i:07}.jpg", "label": i % 2, "key": f"{i:064}", "perceptual_hash": one}
        for i, one in enumerate(hashes.tolist())
    ]
    splits = {"train": facts[: rows // 2], "test": facts[rows // 2 :]}
    found = {}
    for name, work in {
        "pairs": partial(find_duplicates, splits),
        "groups": partial(clusters, facts, GroupTable.read(None)),
    }.items():
        started = perf_counter()
        work()
        taken = perf_counter() - started
        found[name] = taken, getrusage(RUSAGE_SELF).ru_maxrss / 1024
    return found


def soft_hashes(rng: np.random.Generator, number: int) -> np.ndarray:
    """Return hashes spread unevenly, as those of pictures are: of 3 x 3 tones, and noise."""
    down, across = (
        np.stack([np.interp(np.arange(n), np.linspace(0, n - 1, 3), tone) for tone in np.eye(3)], 1)
        for n in (8, 9)
    )
    tones = down @ rng.normal(size=(number, 3, 3)) @ across.T
    signs = np.diff(tones + rng.normal(0, NOISE, tones.shape)) > 0
    return np.packbits(signs.reshape(number, 64), axis=1).view(">i8").astype(np.int64)[:, 0]


PARTS = {"ela": ela, "preprocess": preprocess, "predict": predict, "duplicates": duplicates}
RECIPES = ("reference", "scratch")


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (all)")
    parser.add_argument("--data", metavar="FOLDER", help="images, instead of paintings")
    parser.add_argument("--images", type=int, default=96, help="files of a rate (96)")
    parser.add_argument("--files", type=int, default=1000, help="files of the memory (1000)")
    parser.add_argument("--rows", type=int, default=10**6, help="hashes of near-duplicates (10^6)")
    parser.add_argument("--repeat", type=int, default=5, help="calls of a median (5)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 1024], metavar="PIXELS")
    backends = installed_backends()
    parser.add_argument("--backends", nargs="+", choices=backends, default=backends)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    parser.add_argument("--out", type=Path, default=HERE / "speed.json")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"PART must be one of {', '.join(PARTS)}. Received: {', '.join(unknown)}.")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        args.folder = Path(folder) / "images"
        write_images(args.folder, args.data, args.images)
        for part in args.parts or PARTS:
            for row in PARTS[part](args):
                show(row, rows)
                rows.append(row)
    settings = {name: getattr(args, name) for name in ("images", "files", "repeat", "recipes")}
    save(args.out, {"data": bool(args.data), **settings, "rows": rows})


def show(row: Row, before: Sequence[Row]) -> None:
    """Print a row, with its ratio to the first row that measures the same."""
    first = next((other for other in before if other["what"] == row["what"]), row)
    if first is row:
        print(f"\n{row['what']}\n{'':48}{'value':>12}{'ratio':>8}")
    row["ratio"] = row["value"] / first["value"]
    differing = f"{row['differing']:10.2%} of pixels differ" if "differing" in row else ""
    print(f"{row['way']:48}{row['value']:12.2f}{row['ratio']:8.2f}{differing}", flush=True)


if __name__ == "__main__":
    main()
