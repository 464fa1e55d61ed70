"""What several benchmarks need: processes, trainings, a clock, pictures, the report."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from hf_ela._text import native_messages_held_back
from hf_ela.backend import BACKENDS
from hf_ela.data.synthetic.painting import STYLES, paint
from hf_ela.images.loading import IMAGE_SUFFIXES, load_image
from hf_ela.recipes.loading import load_recipe
from hf_ela.recipes.schema import Recipe

if TYPE_CHECKING:
    from hf_ela.data.loading import DataOptions

T = TypeVar("T")

HERE = Path(__file__).resolve().parent
CHILD = "--child"
"""Option by which a script starts itself to do the part of one backend."""


def installed_backends() -> list[str]:
    """Return the backends of Keras that are here."""
    return [name for name in BACKENDS if find_spec(name)]


def onnx_runtime(model: Any) -> Callable[..., np.ndarray]:
    """Return a function of arrays: a model of Keras as ONNX Runtime computes it, in its order."""
    import onnxruntime

    from hf_ela.models.conversion import write_onnx

    with tempfile.TemporaryDirectory() as folder:
        write_onnx(model, Path(folder) / "model.onnx")
        session = onnxruntime.InferenceSession(
            Path(folder) / "model.onnx", providers=["CPUExecutionProvider"]
        )
    names = [given.name for given in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]


def in_child(part: str, backend: str, arguments: Sequence[object] = ()) -> dict[str, Any]:
    """Return what this script prints last, as JSON, when it does one part in a process of its own.

    Backends do not share a process: memory, threads and what was compiled are theirs alone.
    """
    command = [sys.executable, "-W", "ignore", sys.argv[0], CHILD, part, *map(str, arguments)]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": backend}
    done = subprocess.run(
        command, env=os.environ | quiet, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stderr}\nThe part {part} failed.")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def apart(work: Callable[..., T], *arguments: object) -> T:
    """Return what a function of a script gives in a process of its own.

    No fork after a backend has started, no memory left behind.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def training_parser(description: str, name: str, seeds: int) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark that trains; `name` is its own."""
    p = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", required=True, metavar="FOLDER")
    p.add_argument("--groups", required=True, metavar="CSV", help="as train.py's")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    p.add_argument(
        "--seeds", type=_positive, default=seeds, metavar="N", help=f"trainings of each ({seeds})"
    )
    p.add_argument("--num-proc", type=int, default=2, metavar="N")
    p.add_argument("--cache-dir", metavar="FOLDER", help="where ELA is kept")
    p.add_argument("--runs", type=Path, default=Path("runs") / name, metavar="FOLDER")
    p.add_argument("--out", type=Path, default=HERE / f"{name.replace('-', '_')}.json")
    return p


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more. Received: {text}.")
    return value


def data_options(args: argparse.Namespace) -> "DataOptions":
    """Return what the options of `training_parser` say of the data."""
    from hf_ela.data.loading import DataOptions

    return DataOptions(
        args.data, groups=args.groups, num_proc=args.num_proc, cache_dir=args.cache_dir
    )


def seeded(recipe: str, overrides: Sequence[str], seed: int) -> Recipe:
    """Return a recipe with one seed for its weights and for the order of its batches."""
    seeds = [f"training.seed={seed}", f"training.order_seed={seed}"]
    return load_recipe(recipe, [*overrides, *seeds])


def trained(recipe: Recipe, options: "DataOptions", folder: Path) -> dict[str, Any]:
    """Return the ``run.json`` of a training in a folder; to be called `apart`.

    A finished run is kept, if it is of this recipe and of these images; an interrupted one is
    resumed.
    """
    from hf_ela.data.groups import GroupTable
    from hf_ela.run_record import read_run

    if not (folder / "run.json").exists():
        from hf_ela.training.trainer import train

        resume = (folder / "checkpoint" / "settings.json").exists()
        train(recipe, options, folder, resume=resume)
    run = read_run(folder)
    data, groups = run.data, run.data.groups
    then = run.recipe, data.id, groups and groups.sha256, data.limit
    now = recipe, Path(options.source).resolve().name, GroupTable.read(options.groups).sha256
    left_out = data.left_out and data.left_out.rule
    if (*then, left_out) != (*now, options.limit, options.leave_out):
        sys.exit(f"{folder} holds a run of other settings: choose another --runs.")
    return run.content()


def compiled(function: Callable[..., Any], backend: str, *, xla: bool = False) -> Any:
    """Return a function of arrays, compiled by the backend, that gives a NumPy array.

    Torch stays eager; see `torch_compiled`.
    """
    if backend == "tensorflow":
        import tensorflow

        graph = tensorflow.function(function, jit_compile=xla)
        return lambda *arrays: graph(*map(tensorflow.constant, arrays)).numpy()
    if backend == "jax":
        import jax

        jitted = jax.jit(function)
        return lambda *arrays: np.asarray(jitted(*arrays))
    import torch

    def eager(*arrays: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            result: np.ndarray = function(*map(torch.from_numpy, arrays)).numpy()
            return result

    return eager


def torch_graph(function: Callable[[Any], Any], example: Any) -> Callable[[Any], Any]:
    """Return a function of tensors like `example`, compiled by torch as one graph.

    What it does is written down first: ``torch.compile`` alone stops at every array of NumPy.
    """
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    with torch.no_grad():
        return torch.compile(make_fx(lambda tensor: function(tensor))(example))


def seconds(work: Callable[[], Any], repeat: int) -> float:
    """Return how long `work` takes: the median of `repeat` calls, after one that does not count."""
    work()
    taken = []
    for _ in range(repeat):
        started = perf_counter()
        work()
        taken.append(perf_counter() - started)
    return median(taken)


PAINTINGS = 16
"""Painted anew; painting takes longer than what is measured."""


def pictures(data: str | None, count: int, seed: int = 0) -> list[Image.Image]:
    """Return RGB images: drawn from a folder, or painted by this package where none is named."""
    rng = np.random.default_rng(seed)
    if data is None:
        styles = list(STYLES)
        painted = (paint(rng, styles[i % len(styles)]) for i in range(min(count, PAINTINGS)))
        own = [Image.fromarray(np.clip(np.rint(p), 0, 255).astype(np.uint8)) for p in painted]
        return [own[i % len(own)] for i in range(count)]
    paths = [p for p in sorted(Path(data).rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        sys.exit(f"--data must be a folder with images. Received: {data}, without any.")
    return [load_image(paths[i]).pixels for i in rng.choice(len(paths), count)]


def squares(images: Sequence[Image.Image], side: int, seed: int = 0) -> np.ndarray:
    """Return the images as squares with a little grain: uint8, N x side x side x 3."""
    rng = np.random.default_rng(seed)
    pixels = np.stack([np.asarray(image.resize((side, side))) for image in images])
    grain = rng.normal(0, 2, pixels.shape)
    return np.clip(np.rint(pixels + grain), 0, 255).astype(np.uint8)


def save(path: Path, report: dict[str, Any], *, one_backend: bool = False) -> dict[str, Any]:
    """Write a report as JSON, with the machine and the versions, and return it; starts Keras."""
    with native_messages_held_back():
        from hf_ela.training.provenance import environment

        found = environment()
    del found["git_commit"]
    if not one_backend:
        del found["backend"], found["gpu"]
    for package in ("onnxruntime", "kornia"):
        if find_spec(package):
            found["packages"][package] = version(package)
    report = report | {"environment": found}
    path.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(f"written: {path}")
    return report
