"""What several benchmarks share: processes, trainings, a clock, pictures, the report."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from hf_ela._terminal import native_messages_held_back
from hf_ela.backend import BACKENDS
from hf_ela.cli.options import add_data_options
from hf_ela.data.synthetic.painting import STYLES, paint
from hf_ela.images.loading import load_image
from hf_ela.images.sources import IMAGE_SUFFIXES
from hf_ela.recipes.loading import load_recipe
from hf_ela.recipes.schema import Recipe

if TYPE_CHECKING:
    from hf_ela.data.loading import DataOptions
    from hf_ela.training import Initial

T = TypeVar("T")

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests"))  # for scripts that share hostile inputs with the tests


# -------------------------------------------------------------------------------------- processes


def installed_backends() -> list[str]:
    """Return the installed Keras backends."""
    return [name for name in BACKENDS if find_spec(name)]


def apart(work: Callable[..., T], *arguments: object, backend: str | None = None) -> T:
    """Return the result of a script's function, run in a new process.

    Backends share no process: memory, threads and compiled code are theirs alone.

    Args:
        work: A function of a module.
        arguments: Its arguments.
        backend: The Keras backend to start first, if any.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _start, (backend,)) as pool:
        return pool.submit(work, *arguments).result()


def _start(backend: str | None) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if backend:
        os.environ["KERAS_BACKEND"] = backend
        with native_messages_held_back():
            import_module("keras")


def compiled(function: Callable[..., Any], *, xla: bool = False) -> Callable[..., np.ndarray]:
    """Return a function of NumPy arrays, compiled by TensorFlow or JAX; torch runs it eagerly."""
    from hf_ela.backend import keras

    match keras.backend.backend():
        case "tensorflow":
            import tensorflow

            run = tensorflow.function(function, jit_compile=xla, autograph=False)
        case "jax":
            import jax

            run = jax.jit(function)
        case _:
            import torch

            run = torch.no_grad()(function)

    def on_arrays(*arrays: np.ndarray) -> np.ndarray:
        tensors = map(keras.ops.convert_to_tensor, arrays)
        return np.asarray(keras.ops.convert_to_numpy(run(*tensors)))

    return on_arrays


def onnx_runtime(model: Any) -> Callable[..., np.ndarray]:
    """Return a Keras model as a function of arrays that ONNX Runtime computes."""
    import onnxruntime

    from hf_ela.models.onnx_conversion import converted

    session = onnxruntime.InferenceSession(converted(model), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]


def seconds(work: Callable[[], Any], repeat: int) -> float:
    """Return how long `work` takes: the median of `repeat` calls after a warm-up call."""
    work()
    taken = []
    for _ in range(repeat):
        started = perf_counter()
        work()
        taken.append(perf_counter() - started)
    return median(taken)


# -------------------------------------------------------------------------------------- trainings


def training_parser(description: str, name: str, seeds: int) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark that trains.

    Args:
        description: The script's docstring.
        name: Its name, which names its default folder and report.
        seeds: How many trainings of each detector are the default.
    """
    p = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", required=True, metavar="FOLDER")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    p.add_argument(
        "--seeds", type=_positive, default=seeds, metavar="N", help=f"trainings of each ({seeds})"
    )
    p.add_argument("--runs", type=Path, default=Path("runs") / name, metavar="FOLDER")
    p.add_argument("--out", type=Path, default=HERE / f"{name.replace('-', '_')}.json")
    add_data_options(p)
    return p


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more. Received: {text}.")
    return value


def seeded(recipe: str, overrides: Sequence[str], seed: int) -> Recipe:
    """Return a recipe with one seed for its weights and for the order of its batches."""
    seeds = [f"training.seed={seed}", f"training.order_seed={seed}"]
    return load_recipe(recipe, [*overrides, *seeds])


def trained(
    recipe: Recipe, options: "DataOptions", folder: Path, *, whole: bool = True
) -> dict[str, Any]:
    """Return the ``run.json`` of a training in a folder; call it `apart`.

    A finished run of the same settings is kept; an interrupted one is resumed. Without `whole`, the
    run has no plots, no ONNX and no robustness.
    """
    from hf_ela.data.groups import GroupTable
    from hf_ela.run_record import read_run

    _train(recipe, options, folder, whole)
    run = read_run(folder)
    data, groups = run.data, run.data.groups
    then = run.recipe, data.id, groups and groups.sha256, data.limit
    now = recipe, Path(options.source).resolve().name, GroupTable.read(options.groups).sha256
    left_out = data.left_out and data.left_out.rule
    if (*then, left_out) != (*now, options.limit, options.leave_out):
        sys.exit(f"{folder} holds a run with other settings. Choose another folder with --runs.")
    return run.content()


def tuned(
    start: Path,
    options: "DataOptions",
    folder: Path,
    overrides: Sequence[str] = (),
    *,
    whole: bool = True,
) -> dict[str, Any]:
    """Return the ``run.json`` of a fine-tuning of the run in `start`; else as `trained`."""
    from hf_ela.run_record import read_run
    from hf_ela.training import Initial

    initial = Initial.load(str(start))
    _train(initial.recipe(overrides), options, folder, whole, initial)
    return read_run(folder).content()


def _train(
    recipe: Recipe,
    options: "DataOptions",
    folder: Path,
    whole: bool,
    initial: "Initial | None" = None,
) -> None:
    """Train into a folder, unless it holds a finished run."""
    if (folder / "run.json").exists():
        return
    from hf_ela.training import train

    resume = (folder / "checkpoint" / "settings.json").exists()
    how: Any = {} if whole else {"plots": False, "export": False, "perturbations": ()}
    train(recipe, options, folder, initial=initial, resume=resume, **how)


# --------------------------------------------------------------------------------------- pictures

PAINTINGS = 16
"""Different paintings at most: painting takes longer than what is measured."""


def image_paths(data: str, count: int, seed: int = 0) -> list[Path]:
    """Return `count` image files drawn from a folder, perhaps some of them twice."""
    paths = [p for p in sorted(Path(data).rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        sys.exit(f"--data must be a folder that contains images. Received: {data}.")
    chosen = np.random.default_rng(seed).choice(len(paths), count)
    return [paths[number].resolve() for number in chosen]


def pictures(data: str | None, count: int, seed: int = 0) -> list[Image.Image]:
    """Return RGB images drawn from a folder; without one, paintings by this package."""
    if data:
        return [load_image(path).pixels for path in image_paths(data, count, seed)]
    rng, styles = np.random.default_rng(seed), list(STYLES)
    painted = [paint(rng, styles[i % len(styles)]) for i in range(min(count, PAINTINGS))]
    images = [Image.fromarray(np.clip(np.rint(p), 0, 255).astype(np.uint8)) for p in painted]
    return [images[i % len(images)] for i in range(count)]


def write_images(folder: Path, data: str | None, count: int) -> None:
    """Write an imagefolder of links to files, or of paintings; labels do not matter to speed."""
    for number, source in enumerate(image_paths(data, count) if data else pictures(None, count)):
        place = folder / ("train" if number % 4 else "test") / ("fake", "real")[number // 4 % 2]
        place.mkdir(parents=True, exist_ok=True)
        if isinstance(source, Path):
            (place / f"{number:05}{source.suffix}").symlink_to(source)
        else:
            source.save(place / f"{number:05}.jpg", quality=92)


def save(path: Path, report: dict[str, Any], *, one_backend: bool = False) -> dict[str, Any]:
    """Write a report as JSON, with the machine and the versions, and return it; starts Keras."""
    with native_messages_held_back():
        from hf_ela.training.provenance import environment

        found = environment()
    del found["git_commit"]
    if not one_backend:
        del found["backend"], found["gpu"]
    if find_spec("onnxruntime"):
        found["packages"]["onnxruntime"] = version("onnxruntime")
    report = report | {"environment": found}
    path.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(f"written: {path}")
    return report


def over_seeds(values: Sequence[float], dash: str = "-") -> str:
    """Return the mean, with the lowest and the highest where they differ as written."""
    low, high = f"{min(values):.3f}", f"{max(values):.3f}"
    return low if low == high else f"{mean(values):.3f} ({low}{dash}{high})"
