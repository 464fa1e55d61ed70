"""Count the pixels in which the JPEG round trip of this package differs from Pillow's.

    python benchmarks/exact.py                     # every installed backend, and ONNX Runtime
    python benchmarks/exact.py --data FOLDER       # with crops of own images among the contents
    python benchmarks/exact.py --seed 7 --cases 1000000 --backends jax onnx

A case is one image, saved once by Pillow at one quality and one chroma subsampling, and compared
pixel by pixel without tolerance. TensorFlow, JAX and ONNX compile a graph of each shape, with the
quality of each image as an input; torch, whose compiler takes minutes, runs eagerly. The sizes,
drawn by `--seed`, leave every remainder modulo 16 in height and width; 1 x 1 and widths of 2 to 5
come on top. A shape gets all qualities from 1 to 100 and all contents. Then come qualities that are
constants of the graph and, except for ONNX, every quality in eager mode. Prints a table and writes
benchmarks/exact.json; the exit status is 1 if a pixel differs.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from common import HERE, apart, compiled, installed_backends, onnx_runtime, pictures, save
from PIL import Image

SUBSAMPLINGS = ("4:2:0", "4:4:4")
QUALITIES = np.arange(1, 101, dtype=np.int32)
CONSTANT = (1, 50, 75, 85, 90, 95, 100)
"""Qualities that are constants of a graph, as in a model."""
STEP = 800
"""Images per call: 100 qualities x 8 contents."""

Pixels = np.ndarray
Function = Callable[..., Pixels]


class Shape(NamedTuple):
    """Size and chroma subsampling of the images of one graph."""

    height: int
    width: int
    subsampling: str


def shapes(rng: np.random.Generator) -> list[Shape]:
    """Return 21 sizes of 1 to 64 pixels for each subsampling, alternating, the narrow ones last."""
    found = []
    for subsampling in SUBSAMPLINGS:
        blocks = rng.integers(0, 4, (2, 16)) * 16
        remainders = [rng.permutation(16) + 1 for _ in range(2)]
        sizes = list(zip(*(blocks + remainders).tolist(), strict=True))
        sizes += [(1, 1), *((int(rng.integers(1, 64)), width) for width in (2, 3, 4, 5))]
        found += [Shape(height, width, subsampling) for height, width in sizes]
    return [found[i // 2 + 21 * (i % 2)] for i in range(len(found))]


# --------------------------------------------------------------------------------------- contents


def _noise(rng: np.random.Generator, n: int, height: int, width: int) -> Pixels:
    return rng.integers(0, 256, (n, height, width, 3), np.uint8)


def _extremes(rng: np.random.Generator, n: int, height: int, width: int) -> Pixels:
    return rng.integers(0, 2, (n, height, width, 3), np.uint8) * np.uint8(255)


def _gradients(rng: np.random.Generator, n: int, height: int, width: int) -> Pixels:
    start, down, across = rng.uniform(-1, 1, (3, n, 1, 1, 3))
    y, x = np.arange(height)[:, None, None], np.arange(width)[:, None]
    return np.clip(128 + 127 * start + 16 * (down * y + across * x), 0, 255).astype(np.uint8)


def _flat(rng: np.random.Generator, n: int, height: int, width: int) -> Pixels:
    return np.broadcast_to(_noise(rng, n, 1, 1), (n, height, width, 3))


def _saturated(rng: np.random.Generator, n: int, height: int, width: int) -> Pixels:
    return _enlarged(_extremes(rng, n, -(-height // 5), -(-width // 5)), 5)[:, :height, :width]


def _checkerboards(rng: np.random.Generator, n: int, height: int, width: int) -> Pixels:
    dark, light = _noise(rng, 2 * n, 1, 1).reshape(2, n, 1, 1, 3)
    (a, b), (c, d) = rng.integers(1, 9, (2, 2, n, 1, 1, 1))  # side and phase
    y, x = np.arange(height)[:, None, None], np.arange(width)[:, None]
    return np.where(((y + c) // a + (x + d) // b) % 2, light, dark)


def _grain(rng: np.random.Generator, n: int, height: int, width: int) -> Pixels:
    grain = rng.integers(-3, 4, (n, height, width, 3))
    return np.clip(_gradients(rng, n, height, width) + grain, 0, 255).astype(np.uint8)


def _enlarged(pixels: Pixels, times: int) -> Pixels:
    return pixels.repeat(times, axis=1).repeat(times, axis=2)


def _crops(images: list[Pixels]) -> Callable[[np.random.Generator, int, int, int], Pixels]:
    def crop(rng: np.random.Generator, height: int, width: int) -> Pixels:
        image = images[rng.integers(len(images))]
        y, x = (rng.integers(image.shape[i] - side + 1) for i, side in enumerate((height, width)))
        return image[y : y + height, x : x + width]

    return lambda rng, n, height, width: np.stack([crop(rng, height, width) for _ in range(n)])


class Cases:
    """Images of every content, and their shapes."""

    def __init__(self, data: str | None, seed: int) -> None:
        """Take crops from the images of a folder, or from paintings."""
        large = [image for image in pictures(data, 24, seed) if min(image.size) >= 80]
        self.rng = np.random.default_rng(seed)
        self.kinds = [_noise, _extremes, _gradients, _flat, _saturated, _checkerboards, _grain]
        self.kinds.append(_crops([np.asarray(image) for image in large]))
        self.shapes = shapes(self.rng)

    def images(self, count: int, shape: Shape) -> tuple[Pixels, Pixels]:
        """Return `count` images and the quality of each; 800 hold each content at each quality."""
        place = np.arange(count)
        images = np.empty((count, *shape[:2], 3), np.uint8)
        for number, kind in enumerate(self.kinds):
            here = (place + place // len(QUALITIES)) % len(self.kinds) == number
            if here.any():
                images[here] = kind(self.rng, int(here.sum()), *shape[:2])
        return images, QUALITIES[place % len(QUALITIES)]


def pillow(images: Pixels, qualities: Pixels, subsampling: str) -> Pixels:
    """Return the images as Pillow saves and opens them."""
    encoded = []
    for image, quality in zip(images, qualities.tolist(), strict=True):
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=subsampling)
        encoded.append(np.asarray(Image.open(file)))
    return np.stack(encoded)


def differing(ours: Pixels, theirs: Pixels) -> int:
    """Return the number of pixels in which two uint8 arrays differ."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == np.uint8
    return int((ours != theirs).any(axis=-1).sum())


# --------------------------------------------------------------------------------------- backends


def graph(part: str, shape: Shape, constant: tuple[int, ...] = ()) -> Function:
    """Return the compiled round trip: of images and qualities, or of images at constant ones."""
    from hf_ela.backend import keras
    from hf_ela.ela.tensor_jpeg import round_trip, round_trips

    def with_qualities(images: Any, qualities: Any) -> Any:
        return round_trip(images, qualities, shape.subsampling)

    def with_constant(images: Any) -> Any:
        return keras.ops.concatenate(round_trips(images, constant, shape.subsampling))

    function = with_constant if constant else with_qualities
    return onnx(function, shape) if part == "onnx" else compiled(function)


def onnx(function: Callable[..., Any], shape: Shape) -> Function:
    """Return a function of tensors as ONNX Runtime computes it."""
    from hf_ela.backend import keras

    class Layer(keras.layers.Layer):
        def call(self, *tensors: Any) -> Any:
            return function(*tensors)

    inputs = [keras.Input((*shape[:2], 3), dtype="uint8", name="images")]
    inputs += [keras.Input((), dtype="int32", name="q")] * (function.__name__ == "with_qualities")
    return onnx_runtime(keras.Model(inputs, Layer(autocast=False)(*inputs)))


def eager(images: Pixels, quality: int, subsampling: str) -> Pixels:
    """Return the round trip, operation by operation."""
    from hf_ela.backend import keras
    from hf_ela.ela.tensor_jpeg import round_trip

    return np.asarray(keras.ops.convert_to_numpy(round_trip(images, quality, subsampling)))


def comparisons(part: str, cases: Cases, limit: int, count: int) -> Iterator[tuple[str, int, int]]:
    """Yield for every comparison of arrays its kind, its cases and its differing pixels."""
    chosen = cases.shapes[:limit]
    for shape in chosen:
        function = graph(part, shape)
        images, qualities = cases.images(count, shape)
        theirs = pillow(images, qualities, shape.subsampling)
        for at in range(0, count, STEP):
            here = slice(at, at + STEP)
            ours = function(images[here], qualities[here])
            yield "a quality an image", len(ours), differing(ours, theirs[here])
    for shape in chosen[:2]:  # one of each subsampling
        images, _ = cases.images(2 * len(cases.kinds), shape)  # two of each content
        theirs = [pillow(images, np.repeat(q, len(images)), shape.subsampling) for q in CONSTANT]
        ours = graph(part, shape, CONSTANT)(images)
        yield "constant qualities", len(ours), differing(ours, np.concatenate(theirs))
        if part == "onnx":
            continue
        for quality in QUALITIES.tolist():
            theirs = pillow(images, np.repeat(quality, len(images)), shape.subsampling)
            ours = eager(images, quality, shape.subsampling)
            yield "eager", len(ours), differing(ours, theirs)


def compared(part: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the counts of one backend, or of ONNX Runtime."""
    cases = Cases(args.data, args.seed)
    chosen = min(args.shapes, len(cases.shapes))
    count = -(-args.cases // chosen)
    if count > STEP:
        count = -(-count // STEP) * STEP  # calls of one size, compiled once
    started = perf_counter()
    kinds: dict[str, dict[str, int]] = {}
    for kind, number, different in comparisons(part, cases, chosen, count):
        counts = kinds.setdefault(kind, {"cases": 0, "differing_pixels": 0})
        counts["cases"] += number
        counts["differing_pixels"] += different
    totals = {name: sum(counts[name] for counts in kinds.values()) for name in counts}
    taken = round(perf_counter() - started, 1)
    return totals | {"shapes": chosen, "seconds": taken, "kinds": kinds}


def main() -> None:
    """Compare, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    exporter = installed_backends()[0]
    parts = [*installed_backends(), "onnx"]
    parser.add_argument("--data", help="folder of images, instead of paintings")
    parser.add_argument("--cases", type=int, default=100_000, help="at least, on each backend")
    parser.add_argument("--shapes", type=int, default=42, help="at most; 2 or more")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backends", nargs="+", choices=parts, default=parts)
    parser.add_argument("--out", type=Path, default=HERE / "exact.json")
    args = parser.parse_args()
    rows = {}
    print(f"{'':16}{'cases':>12}{'differing pixels':>20}{'shapes':>10}{'seconds':>10}", flush=True)
    for part in args.backends:
        backend = exporter if part == "onnx" else part
        row = rows[part] = apart(compared, part, args, backend=backend)
        print(
            f"{part:16}{row['cases']:12,}{row['differing_pixels']:20,}{row['shapes']:10}"
            f"{row['seconds']:10.0f}",
            flush=True,
        )
    settings = {"seed": args.seed, "data": bool(args.data), "exported_from": exporter}
    save(args.out, {"unit": "pixels that differ from Pillow's", **settings, "rows": rows})
    if any(row["differing_pixels"] for row in rows.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
