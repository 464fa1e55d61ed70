"""Measure ELA and training on a GPU by JAX or torch: speed, exactness and test accuracy.

    KERAS_BACKEND=jax python benchmarks/gpu.py run --data FOLDER    # all of it, in 8 minutes
    KERAS_BACKEND=jax python benchmarks/gpu.py run --quick          # check that it runs
    python benchmarks/gpu.py pack --data FOLDER --out packed        # to carry few bytes to a GPU

`pack` writes small copies of an imagefolder: every image gets a longest side drawn from 256 to 384
pixels and a JPEG quality drawn from 75 to 95, as in the protocol `aligned`. Packing thus loses
nothing; compare accuracies with aligned ones. `run` packs a folder that is not.

`run` measures ELA of 256 x 256 pixels that are on the device, against Pillow to the last bit and as
a share of the rate at which the device reads and writes such images, its limit; and trains
`reference` and `scratch` with ELA (and for `scratch` the augmentation) inside the compiled step. A
training that does not end within --minutes of the start is stopped, and its epochs are counted.
Without --data it paints images, whose accuracies say nothing.

It needs Keras on JAX or torch, datasets and scikit-learn, and no TensorFlow; torch without a
GPU needs a C++ compiler. Without a GPU it measures the CPU and says so. Writes
benchmarks/gpu.json.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from common import HERE, pictures, save, seconds, write_images

from hf_ela._threads import cores
from hf_ela.ela.error_level import error_level
from hf_ela.ela.views import draw_alignment
from hf_ela.images.loading import load_image
from hf_ela.images.operations import rescale
from hf_ela.images.sources import IMAGE_SUFFIXES
from hf_ela.recipes.loading import load_recipe

RECIPES = ("reference", "scratch")
PUBLISHED = "7-10 minutes on an RTX 3080"
QUALITY = 90
SIDE = 256
BATCHES = (64, 128, 256, 512, 1024)
STEPS = 4
"""Batches between two looks at the clock."""
PACKED = "packed.txt"
"""In a folder that holds what `pack` writes."""


def pack(data: Path, out: Path, scale: float) -> None:
    """Write every image as the protocol `aligned` draws it, its sides times `scale`."""
    paths = [p for p in sorted(data.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]

    def write(number: int) -> int:
        side, quality = draw_alignment(np.random.default_rng(number))
        image = load_image(paths[number]).pixels
        small = rescale(image, scale * side / max(image.size))
        copy = out / paths[number].relative_to(data).parent / f"{number:05}.jpg"
        copy.parent.mkdir(parents=True, exist_ok=True)
        small.save(copy, quality=quality)
        return copy.stat().st_size

    with ThreadPoolExecutor(cores()) as threads:
        total = sum(threads.map(write, range(len(paths))))
    (out / PACKED).write_text("by benchmarks/gpu.py\n")
    print(f"{len(paths)} images, {total / 1e6:.1f} MB: {out}")


def device() -> tuple[str, bool]:
    """Return the name of what Keras computes on, and whether it is a GPU."""
    from hf_ela.backend import has_gpu, keras

    match keras.backend.backend():
        case "jax":
            import jax

            return f"{jax.devices()[0].device_kind}, JAX", has_gpu()
        case "torch":
            import torch

            return f"{torch.cuda.get_device_name() if has_gpu() else 'cpu'}, torch", has_gpu()
        case other:
            sys.exit(f"KERAS_BACKEND must be jax or torch. Received: {other}.")


def on_device(function: Callable[[Any], Any], example: Any) -> Callable[[Any], Any]:
    """Return a function of device arrays like `example`, compiled for the device."""
    from hf_ela.backend import keras

    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    # The operations are traced first: torch.compile alone stops at every NumPy array.
    with torch.no_grad():
        return torch.compile(make_fx(lambda images: function(images))(example))


def ela_rates(sizes: Sequence[int], repeat: int) -> Iterator[dict[str, Any]]:
    """Yield images per second for each batch size, and the pixels that differ from Pillow's."""
    from hf_ela.backend import keras
    from hf_ela.ela.layers import ErrorLevel

    noise = np.random.default_rng(0).integers(0, 256, (16, SIDE, SIDE, 3), np.uint8)
    painted = [np.asarray(image.resize((SIDE, SIDE))) for image in pictures(None, 16)]
    probes = np.concatenate([noise, painted])[np.arange(32).reshape(2, 16).T.ravel()]  # by turns
    exact = np.stack([error_level(image, QUALITY) for image in probes])
    for size in sizes:
        places = np.arange(size) % len(probes)
        images = keras.ops.convert_to_tensor(probes[places])
        started = perf_counter()
        function = on_device(ErrorLevel(QUALITY), images)
        levels = keras.ops.convert_to_numpy(function(images))
        first = perf_counter() - started

        def rate(run: Callable[[Any], Any], given: Any = images) -> float:
            def work() -> None:
                for _ in range(STEPS):
                    result = run(given)
                keras.ops.convert_to_numpy(result[0, 0, 0])  # waits for all steps

            return STEPS * len(given) / seconds(work, repeat)

        yield {
            "batch": size,
            "images_per_second": rate(function),
            "limit_images_per_second": rate(on_device(lambda read: read + 1, images)),
            "differing_pixels": int((levels != exact[places]).any(axis=-1).sum()),
            "compile_seconds": first,
        }


class StoppedError(Exception):
    """A training took too long."""


@contextmanager
def stopped_after(duration: float) -> Iterator[None]:
    """Raise a StoppedError in the block if it takes longer."""

    def stop(*_: object) -> None:
        raise StoppedError

    before = signal.signal(signal.SIGALRM, stop)
    # Again every second: a backend may swallow one while it compiles.
    signal.setitimer(signal.ITIMER_REAL, max(duration, 0.001), 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def trained(name: str, data: Path, quick: bool, deadline: float) -> dict[str, Any]:
    """Train a recipe on packed images; return its times and its accuracy and AUC as-is.

    One that does not end by the deadline, on the clock of `perf_counter`, has neither.
    """
    from sklearn.metrics import accuracy_score, roc_auc_score

    from hf_ela.data.loading import DataOptions
    from hf_ela.data.preparation import prepare
    from hf_ela.models.detector import image_logits, keras_probabilities
    from hf_ela.training.fit import Checkpoint, fit

    # As-is: packed images are aligned already.
    overrides = ["training.ela=on_device", "input.training=as_is"]
    overrides += ["training.epochs=1", "training.batch_size=8"] if quick else []
    recipe = load_recipe(name, overrides)
    with tempfile.TemporaryDirectory() as folder:
        options = DataOptions(
            str(data),
            streaming=True,
            cache_dir=folder,
            limit=16 if quick else None,
            num_proc=1 if quick else cores(),
        )
        started = perf_counter()
        found = prepare(options, recipe)
        row = {
            "recipe": name,
            "preparation_seconds": perf_counter() - started,
            "test_images": len(found.test),
            "test_accuracy": None,
            "test_auc": None,
        }
        state = Path(folder) / "checkpoint"
        try:
            with stopped_after(deadline - perf_counter()):
                model, checkpoint = fit(recipe, found.train, found.validation, state)
        except StoppedError:
            checkpoint = Checkpoint(state, recipe.training.early_stopping, recipe.training.seed)
        else:
            logits = image_logits(keras_probabilities(model), found.test.views("as_is"))
            row["test_accuracy"] = accuracy_score(found.test.labels, logits >= 0)
            row["test_auc"] = roc_auc_score(found.test.labels, logits)
    return row | {"epochs": checkpoint.epochs, "training_seconds": checkpoint.seconds}


def packed(data: Path | None, folder: Path, quick: bool) -> Path:
    """Return a folder that holds what `pack` writes of the data, or of paintings."""
    if data and (data / PACKED).exists():
        return data
    if not data:
        data = folder / "paintings"
        write_images(data, None, 64 if quick else 1024)
    pack(data, folder / "packed", 1.0)
    return folder / "packed"


def run(args: argparse.Namespace) -> None:
    """Measure, print tables, write JSON."""
    name, gpu = device()
    deadline = perf_counter() + 60 * args.minutes
    print(f"{name}: {'GPU' if gpu else 'NO GPU: these are figures of the CPU'}")
    rates = []
    heads = f"{'ELA images/s':>16}{'share of limit':>16}{'differing pixels':>18}"
    print(f"\n{'batch':>6}{heads}{'compilation':>14}")
    for row in ela_rates([2] if args.quick else BATCHES, args.repeat):
        rates.append(row)
        print(
            f"{row['batch']:6}{row['images_per_second']:16,.0f}"
            f"{row['images_per_second'] / row['limit_images_per_second']:16.1%}"
            f"{row['differing_pixels']:18}{row['compile_seconds']:12.1f} s",
            flush=True,
        )
    trainings = []
    with tempfile.TemporaryDirectory() as folder:
        data = packed(args.data, Path(folder), args.quick)
        print(
            f"\n{'':12}{'preparation':>14}{'training':>12}{'epochs':>8}{'accuracy':>10}{'AUC':>8}"
        )
        for recipe in args.recipes:
            row = trained(recipe, data, args.quick, deadline)
            trainings.append(row)
            found = f"   stopped, {args.minutes:g} minutes after the start"
            if row["test_auc"] is not None:
                found = f"{row['test_accuracy']:10.3f}{row['test_auc']:8.3f}"
            print(
                f"{recipe:12}{row['preparation_seconds']:12.1f} s{row['training_seconds']:10.1f} s"
                f"{row['epochs']:8}{found}",
                flush=True,
            )
    print(f"published for `reference`: {PUBLISHED}")
    report = {"device": name, "quick": args.quick, "ela": rates, "training": trainings}
    save(args.out, report, one_backend=True)
    if any(row["differing_pixels"] for row in rates):
        sys.exit("ELA on this device differs from Pillow's.")


def main() -> None:
    """Pack or run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    packing = commands.add_parser("pack", help="write small copies of the images")
    packing.add_argument("--data", type=Path, required=True, help="imagefolder with train and test")
    packing.add_argument("--out", type=Path, required=True, help="new folder")
    packing.add_argument("--scale", type=float, default=1.0, help="of all sides, to save space")
    packing.set_defaults(work=lambda args: pack(args.data, args.out, args.scale))
    running = commands.add_parser("run", help="measure on this machine")
    running.add_argument("--data", type=Path, help="imagefolder with train and test, or packed")
    running.add_argument("--minutes", type=float, default=8, help="when trainings are stopped (8)")
    running.add_argument("--recipes", nargs="+", default=RECIPES, choices=RECIPES)
    running.add_argument("--quick", action="store_true", help="few images, one epoch")
    running.add_argument("--repeat", type=int, default=5)
    running.add_argument("--out", type=Path, default=HERE / "gpu.json")
    running.set_defaults(work=run)
    args = parser.parse_args()
    args.work(args)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Keras imports TensorFlow where it is
    main()
