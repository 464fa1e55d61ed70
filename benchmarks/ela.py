"""Images per second of Error Level Analysis on the CPU, and pixels that differ from libjpeg's.

    python benchmarks/ela.py                     # paintings by this package
    python benchmarks/ela.py --data FOLDER       # own images

ELA is of the published settings: quality 90, absolute, RGB. Rows: Pillow in one thread and in as
many as there are cores; the layer on each installed backend; ONNX Runtime; and, where it is
installed (pip install kornia), kornia's differentiable JPEG, which approximates. Each in a process
of its own, over the same uint8 arrays, with all cores; a row is the median of `--repeat` calls,
without compilation. Writes benchmarks/ela.json.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from common import (
    CHILD,
    HERE,
    compiled,
    in_child,
    installed_backends,
    onnx_runtime,
    pictures,
    save,
    seconds,
    squares,
    torch_graph,
)

from hf_ela._threads import cores
from hf_ela.backend import exporting_backends
from hf_ela.ela.error_level import error_level

QUALITY = 90
PIXELS = 2**20
"""Of one call: 16 images of 256 pixels, 1 of 1024."""

Function = Callable[[np.ndarray], np.ndarray]


def batch(side: int) -> int:
    """Return the images of one call."""
    return max(1, PIXELS // side**2)


def pillow_functions(_: int) -> Iterator[tuple[str, Function]]:
    """Yield the CPU path of this package, in one thread and in several."""
    one = partial(error_level, quality=QUALITY)
    yield "Pillow, 1 thread", lambda images: np.stack([one(image) for image in images])
    pool = ThreadPoolExecutor(cores())
    name = f"Pillow, {cores()} threads"
    yield name, lambda images: np.stack(list(pool.map(one, images)))


def layer_functions(backend: str, side: int) -> Iterator[tuple[str, Function]]:
    """Yield the layer on one backend."""
    from hf_ela.ela.layers import ErrorLevel

    yield f"layer, {backend}", compiled(ErrorLevel(QUALITY), backend)
    if backend == "tensorflow":
        yield "layer, tensorflow with XLA", compiled(ErrorLevel(QUALITY), backend, xla=True)
    if backend == "torch":
        import torch

        example = torch.zeros((batch(side), side, side, 3), dtype=torch.uint8)
        yield "layer, torch.compile", compiled(torch_graph(ErrorLevel(QUALITY), example), backend)


def onnx_functions(side: int) -> Iterator[tuple[str, Function]]:
    """Yield the layer as ONNX Runtime computes it."""
    from hf_ela.backend import keras
    from hf_ela.ela.layers import ErrorLevel

    pixels = keras.Input((side, side, 3), dtype="uint8", name="pixels")
    yield "layer, ONNX Runtime", onnx_runtime(keras.Model(pixels, ErrorLevel(QUALITY)(pixels)))


def kornia_functions(_: int) -> Iterator[tuple[str, Function]]:
    """Yield kornia's differentiable JPEG, its result rounded to 8 bits."""
    import torch
    from kornia.enhance import jpeg_codec_differentiable

    quality = torch.tensor([float(QUALITY)])

    def differentiable(images: Any) -> Any:
        floats = images.permute(0, 3, 1, 2).float() / 255
        encoded = jpeg_codec_differentiable(floats, quality).mul(255).round().clamp(0, 255)
        return (encoded - floats * 255).abs().round().to(torch.uint8).permute(0, 2, 3, 1)

    yield "kornia, differentiable JPEG", compiled(differentiable, "torch")


def child(part: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of one part."""
    functions = {
        "Pillow": pillow_functions,
        "onnx": onnx_functions,
        "kornia": kornia_functions,
    }.get(part, partial(layer_functions, part))
    rows = []
    for side in args.sides:
        count = batch(side)
        images = squares(pictures(args.data, count), side)
        exact = np.stack([error_level(image, QUALITY) for image in images])
        for name, function in functions(side):
            started = perf_counter()
            different = (function(images) != exact).any(axis=-1).mean()
            first = perf_counter() - started
            rate = count / seconds(partial(function, images), args.repeat)
            row = {"side": side, "name": name, "images_per_second": rate}
            rows.append(row | {"differing": float(different), "first_call_seconds": first})
    return rows


def parts() -> Iterator[tuple[str, str]]:
    """Yield what can run here, and the backend of Keras that it needs."""
    backends = installed_backends()
    yield "Pillow", backends[0]
    yield from zip(backends, backends, strict=True)
    if exporters := exporting_backends():
        yield "onnx", exporters[0]
    else:
        print("ONNX Runtime is left out: an export needs onnx, and tensorflow with tf2onnx")
    if find_spec("kornia") and find_spec("torch"):
        yield "kornia", "torch"
    else:
        print("kornia is left out: pip install kornia")


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of images, instead of paintings by this package")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 1024], metavar="PIXELS")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="Pillow, tensorflow, onnx, ...")
    parser.add_argument("--out", type=Path, default=HERE / "ela.json")
    parser.add_argument(CHILD, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps({"rows": child(args.child, args)}))
        return
    given: list[object] = ["--repeat", args.repeat, "--sides", *args.sides]
    given += ["--data", args.data] if args.data else []
    rows = []
    for part, backend in parts():
        if args.only and part not in args.only:
            continue
        rows += in_child(part, backend, given)["rows"]
    for side in args.sides:
        here = [row for row in rows if row["side"] == side]
        print(f"\n{side} x {side} pixels; ratio 1.00: {here[0]['name']}")
        print(f"{'':32}{'images/s':>12}{'ratio':>8}{'pixels that differ':>22}{'first call':>14}")
        for row in here:
            row["ratio"] = row["images_per_second"] / here[0]["images_per_second"]
            print(
                f"{row['name']:32}{row['images_per_second']:12.1f}{row['ratio']:8.2f}"
                f"{row['differing']:22.2%}{row['first_call_seconds']:12.1f} s"
            )
    save(args.out, {"unit": "images/s", "data": bool(args.data), "rows": rows})


if __name__ == "__main__":
    main()
