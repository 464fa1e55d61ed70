"""Cold start, images per second and memory of prediction: ONNX Runtime, Keras, the published way.

    python benchmarks/predict.py                  # paintings by this package
    python benchmarks/predict.py --data FOLDER    # own images
    python benchmarks/predict.py --files 10000    # memory over so many files, links to few

Cold start: the wall time of `hf-ela predict IMAGE` in a fresh process, imports included, one image
of a megapixel, median of `--repeat`. Rates: the same files by the command's own loop and in the
way of the published model: Keras loads the network, and each image goes through a temporary JPEG
file, `resize` and a `predict` of its own (see preprocess.py). The weights are untrained: speed
does not depend on them. Memory: the peak of the command over a tenth of the files and over all.
Writes benchmarks/predict.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from common import CHILD, HERE, in_child, installed_backends, pictures, save, seconds
from preprocess import as_usually_written

RECIPES = ("reference", "default")
OWN_MEMORY = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss)
sys.exit(status != 0)
"""
"""Peak memory of a command, told by a small process: a child counts that of what started it."""


def save_models(folder: Path) -> None:
    """Save the untrained network of each recipe, for Keras and as ONNX."""
    from hf_ela.classifier import ElaClassifier
    from hf_ela.models.networks import build_model
    from hf_ela.recipes.loading import load_recipe

    for name in RECIPES:
        recipe = load_recipe(name)
        ElaClassifier(build_model(recipe), recipe).save_pretrained(folder / name)


def published(model: Any, paths: Sequence[str]) -> list[float]:
    """Return the scores as the published model's users compute them."""
    inputs = ((as_usually_written(path) * 255).reshape(1, 128, 128, 3) for path in paths)
    return [float(model.predict(pixels, verbose=0)[0, 0]) for pixels in inputs]


def rates(runtime: str, folder: Path, paths: Sequence[str], repeat: int) -> dict[str, float]:
    """Return images per second of one runtime: ``onnx``, ``published``, or a backend of Keras."""
    if runtime == "published":
        from hf_ela.backend import keras

        model = keras.saving.load_model(folder / "reference", compile=False)
        return {"reference": len(paths) / seconds(lambda: published(model, paths), repeat)}
    from hf_ela.classifier import ElaClassifier

    found = {}
    for name in RECIPES:
        kind = "onnx" if runtime == "onnx" else "keras"
        classifier = ElaClassifier.from_pretrained(folder / name, runtime=kind)
        taken = seconds(lambda judge=classifier: list(judge.scores(paths)), repeat)
        found[name] = len(paths) / taken
    return found


def command(model: Path, runtime: str, *files: Path) -> tuple[list[str], dict[str, str]]:
    """Return a command line of `hf-ela predict`, and its environment."""
    kind = "onnx" if runtime == "onnx" else "keras"
    program = Path(sys.executable).with_name("hf-ela")
    call = [program, "predict", "--model", model, "--runtime", kind]
    environment = dict(os.environ)
    if kind == "keras":
        environment["KERAS_BACKEND"] = runtime
    return [*map(str, call), *map(str, files)], environment


def cold_start(model: Path, runtime: str, image: Path, repeat: int) -> float:
    """Return the seconds of a fresh process, the first one (files not yet in memory) left out."""
    call, environment = command(model, runtime, image)
    taken = []
    for _ in range(repeat + 1):
        started = perf_counter()
        subprocess.run(call, env=environment, stdout=subprocess.DEVNULL, check=True)
        taken.append(perf_counter() - started)
    return median(taken[1:])


def peak_memory(model: Path, files: Path) -> float:
    """Return the largest memory of the command over a folder, in MiB."""
    call, environment = command(model, "onnx", files)
    done = subprocess.run(
        [sys.executable, "-c", OWN_MEMORY, *call],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(done.stdout) / 1024  # in KiB on Linux


def links(folder: Path, paths: Sequence[Path], count: int) -> Path:
    """Return a new folder of `count` links to few files."""
    made = folder / f"links-{count}"
    made.mkdir()
    for i in range(count):
        path = paths[i % len(paths)]
        (made / f"{i:06}{path.suffix}").symlink_to(path.resolve())
    return made


def measured(folder: Path, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row for each runtime, recipe and measure."""
    paths = []
    for number, image in enumerate(pictures(args.data, args.images)):
        paths.append(folder / f"{number:04}.jpg")
        image.save(paths[-1], quality=92)
    large = folder / "megapixel.jpg"
    pictures(args.data, 1)[0].resize((1024, 1024)).save(large, quality=92)
    in_child("save", installed_backends()[0], ["--folder", folder])

    for recipe in RECIPES:
        for runtime in args.runtimes:
            value = cold_start(folder / recipe, runtime, large, args.repeat)
            yield {"what": "cold start, s", "recipe": recipe, "way": runtime, "value": value}
    given = ["--folder", folder, "--repeat", args.repeat]
    for runtime in ["published", *args.runtimes]:
        backend = runtime if runtime in installed_backends() else installed_backends()[0]
        for recipe, value in in_child(runtime, backend, given).items():
            yield {"what": "images/s", "recipe": recipe, "way": runtime, "value": value}
    for count in (max(1, args.files // 10), args.files):
        value = peak_memory(folder / "default", links(folder, paths, count))
        what = f"peak memory over {count:,} files, MiB"
        yield {"what": what, "recipe": "default", "way": "onnx", "value": value}


def child(part: str, args: argparse.Namespace) -> dict[str, float]:
    """Do one part: save the models, or measure one runtime."""
    if part == "save":
        save_models(args.folder)
        return {}
    paths = [str(path) for path in sorted(args.folder.glob("0*.jpg"))]
    return rates(part, args.folder, paths, args.repeat)


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of images, instead of paintings by this package")
    parser.add_argument("--images", type=int, default=96, help="of a rate")
    parser.add_argument("--files", type=int, default=1000, help="of the memory")
    parser.add_argument("--repeat", type=int, default=5)
    runtimes = ["onnx", *installed_backends()]
    parser.add_argument("--runtimes", nargs="+", choices=runtimes, default=runtimes)
    parser.add_argument("--out", type=Path, default=HERE / "predict.json")
    parser.add_argument(CHILD, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args.child, args)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in measured(Path(folder), args):
            base = rows_of(rows, row["what"])
            row["ratio"] = row["value"] / base[0]["value"] if base else 1.0
            rows.append(row)
            if not base:
                print(f"\n{row['what']}; ratio 1.00: {row['way']}, {row['recipe']}")
            print(
                f"{row['recipe']:12}{row['way']:12}{row['value']:12.2f}{row['ratio']:8.2f}",
                flush=True,
            )
    settings = {"images": args.images, "data": bool(args.data), "repeat": args.repeat}
    save(args.out, settings | {"rows": rows})


def rows_of(rows: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    """Return the rows of one measure."""
    return [row for row in rows if row["what"] == what]


if __name__ == "__main__":
    main()
