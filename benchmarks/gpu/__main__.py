"""ELA and training on a GPU, with JAX or torch: speed, exactness, and what comes out of it.

    python benchmarks/gpu pack --data FOLDER --out pool.npz    # where the images are
    KERAS_BACKEND=jax python benchmarks/gpu run --data pool.npz   # where the GPU is
    python benchmarks/gpu run --data pool.npz --quick          # does it run? a few steps

`pack` brings every image to a longest side drawn from 256 to 384 pixels and saves it as JPEG of a
quality drawn from 75 to 95, as the package's protocol `aligned` does; sides are made smaller by one
factor for all where the file would exceed `--megabytes`. What the file holds is thus what training
and test see, and nothing is lost by packing; accuracies are to be compared with aligned ones.

`run` needs Keras, JAX or torch, Pillow and pydantic; no TensorFlow, datasets or scikit-learn. It
measures ELA at 256 x 256 pixels (quality 90), of pixels that are on the device, checked against
Pillow to the last bit, and trains `reference` and `default`. `reference`: ELA of all images once,
then the network. `default`: crop, JPEG history, flips and ELA anew in every step, within the
compiled step. Without a GPU it measures the CPU, and says so. Writes benchmarks/gpu/gpu.json.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from common import HERE, save, seconds
from device import Device
from pool import Pool, pack, read_pool
from training import trained

from hf_ela.ela.error_level import error_level

QUALITY = 90
LIMIT = 2.3e6
"""Round trips of 256 x 256 pixels a second of an H200: an estimate, bound by its integer units."""
PUBLISHED = "7-10 minutes on an RTX 3080"
BATCHES = (512, 1024, 256, 128, 64)
PATIENCE = 120
"""Seconds after which no other batch size is tried: each is compiled anew."""


def ela_rates(
    device: Device, pool: Pool, sizes: Sequence[int], repeat: int
) -> Iterator[dict[str, Any]]:
    """Yield images per second for each batch size, and the pixels that differ from Pillow's."""
    from hf_ela.ela.layers import ErrorLevel

    begun = perf_counter()
    layer = ErrorLevel(QUALITY)
    squares = np.stack([np.asarray(image.resize((256, 256))) for image in pool.images[:64]])
    noise = np.random.default_rng(0).integers(0, 256, (16, 256, 256, 3), np.uint8)
    probes = np.concatenate([noise, squares])
    exact = np.stack([error_level(image, QUALITY) for image in probes])
    for size in sizes:
        if perf_counter() - begun > PATIENCE:
            break
        places = np.arange(size) % len(probes)
        images = device.put(probes[places])
        started = perf_counter()
        function = device.compiled(layer, images)
        levels = device.get(function(images))
        first = perf_counter() - started
        different = int((levels != exact[places]).any(axis=-1).sum())
        steps = max(1, 4096 // size) if device.gpu else 1

        def work(run: Callable[[Any], Any] = function, given: Any = images, n: int = steps) -> None:
            for _ in range(n):
                run(given)

        rate = size * steps / seconds(work, repeat)
        yield {
            "batch": size,
            "images_per_second": rate,
            "share_of_limit": rate / LIMIT,
            "differing_pixels": different,
            "compile_seconds": first,
        }


def run(data: Path, quick: bool, repeat: int, out: Path) -> None:
    """Measure, print tables, write JSON."""
    device = Device()
    what = "GPU" if device.gpu else "NO GPU: what follows is of the CPU"
    print(f"{device.name}: {what}", flush=True)
    started = perf_counter()
    pool = read_pool(data, limit=160 if quick else None)
    print(f"{len(pool.images)} images read and decoded in {perf_counter() - started:.1f} s")

    rates = []
    print(f"\n{'batch':>6}{'ELA images/s':>16}{'of 2.3 M/s':>12}{'differing pixels':>18}", end="")
    print(f"{'compile':>10}")
    for row in ela_rates(device, pool, [8] if quick else BATCHES, repeat):
        rates.append(row)
        print(
            f"{row['batch']:6}{row['images_per_second']:16,.0f}{row['share_of_limit']:12.2%}"
            f"{row['differing_pixels']:18}{row['compile_seconds']:8.1f} s",
            flush=True,
        )
    best = max(row["images_per_second"] for row in rates)
    print(f"best: {best:,.0f} images/s")

    trainings = list(trained(device, pool, quick))
    print(f"\n{'':12}{'seconds':>10}{'accuracy':>10}{'AUC':>8}   published: {PUBLISHED}")
    for row in trainings:
        print(
            f"{row['recipe']:12}{row['seconds']:10.1f}{row['test_accuracy']:10.3f}"
            f"{row['test_auc']:8.3f}"
        )
    if quick:
        print("--quick: few images, one epoch; these figures say only that it runs")
    report = {"device": device.name, "gpu": device.gpu, "quick": quick, "ela": rates}
    save(out, report | {"training": trainings}, one_backend=True)
    if any(row["differing_pixels"] for row in rates):
        sys.exit("ELA on this device differs from Pillow's")


def main() -> None:
    """Pack or run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="images to one file")
    packing.add_argument("--data", type=Path, required=True, help="imagefolder with train and test")
    packing.add_argument("--out", type=Path, required=True, help="file to write, .npz")
    packing.add_argument("--megabytes", type=float, default=58, help="at most")
    running = commands.add_parser("run", help="measure on this machine")
    running.add_argument("--data", type=Path, required=True, help="what `pack` wrote")
    running.add_argument("--quick", action="store_true", help="few images, one epoch")
    running.add_argument("--repeat", type=int, default=5)
    running.add_argument("--out", type=Path, default=HERE / "gpu.json")
    args = parser.parse_args()
    if args.command == "pack":
        pack(args.data, args.out, args.megabytes)
    else:
        run(args.data, args.quick, args.repeat, args.out)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
