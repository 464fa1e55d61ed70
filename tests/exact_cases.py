"""Images, what Pillow makes of them, and what the tensor code makes of them on a Keras backend.

Run as a script, with ``KERAS_BACKEND`` set, it computes all of `CASES` in one mode after another
and saves the results: ``python tests/exact_cases.py OUT.npz MODE...``.
"""

import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from hf_ela.ela.error_level import error_level

KINDS = ("noise", "extremes", "gradient", "grain", "flat", "blocks", "stripes")
QUALITIES = np.arange(1, 101, dtype=np.int32)
SIZE = (17, 35)


def picture(kind: str, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return uint8 RGB pixels of a kind of content."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    y, x = np.arange(height)[:, None, None], np.arange(width)[:, None]
    down, across = rng.uniform(-12, 12, (2, 3))
    slope = rng.integers(0, 256, 3) + down * y + across * x
    match kind:
        case "noise":
            pixels = noise
        case "extremes":
            pixels = noise // 128 * 255
        case "gradient":
            pixels = slope
        case "grain":
            pixels = slope + rng.integers(-3, 4, noise.shape)
        case "flat":
            pixels = np.broadcast_to(noise[:1, :1], noise.shape)
        case "blocks":  # saturated, with edges off the grid of 8
            pixels = (noise // 128 * 255)[: -(-height // 5), : -(-width // 5)]
            pixels = pixels.repeat(5, 0).repeat(5, 1)[:height, :width]
        case "stripes":
            pixels = np.where((y + x) // 2 % 2, noise[0, 0], noise[-1, -1])
    return np.clip(pixels, 0, 255).astype(np.uint8)


def pictures(count: int, height: int, width: int) -> np.ndarray:
    """Return images of all kinds in turn."""
    return np.stack([picture(KINDS[i % len(KINDS)], height, width, i) for i in range(count)])


def saved(pixels: np.ndarray, quality: int, subsampling: str = "4:2:0") -> np.ndarray:
    """Return RGB pixels after Pillow saved them as JPEG and opened that."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(quality), subsampling=subsampling)
    return np.asarray(Image.open(file))


class Case(NamedTuple):
    """One graph: how to make it on the backend, what goes into it, and what must come out."""

    make: Callable[[], Callable[..., Any]]
    inputs: tuple[np.ndarray, ...]
    expected: Callable[[], np.ndarray]


def _round_trip(height: int, width: int, subsampling: Any) -> Case:
    images = pictures(len(QUALITIES), height, width)

    def make() -> Callable[..., Any]:
        from hf_ela.ela.tensor_jpeg import round_trip

        return lambda images, quality: round_trip(images, quality, subsampling)

    def expected() -> np.ndarray:
        pairs = zip(images, QUALITIES, strict=True)
        return np.stack([saved(image, quality, subsampling) for image, quality in pairs])

    return Case(make, (images, QUALITIES), expected)


def _error_level(quality: Any, **settings: Any) -> Case:
    images = pictures(28, *SIZE)

    def make() -> Callable[..., Any]:
        from hf_ela.ela.layers import ErrorLevel

        return ErrorLevel(quality, **settings)  # type: ignore[no-any-return]

    def expected() -> np.ndarray:
        return np.stack([error_level(image, quality, **settings) for image in images])

    return Case(make, (images,), expected)


def _resized(size: int) -> Case:
    images = pictures(14, 37, 37)

    def make() -> Callable[..., Any]:
        from hf_ela.ela.layers import PillowResize

        return PillowResize(size)  # type: ignore[no-any-return]

    def expected() -> np.ndarray:
        return np.stack([np.asarray(Image.fromarray(i).resize((size, size))) for i in images])

    return Case(make, (images,), expected)


CASES = {
    "1 x 1": _round_trip(1, 1, "4:2:0"),
    "chroma too narrow to smooth": _round_trip(9, 4, "4:2:0"),
    "odd sides": _round_trip(*SIZE, "4:2:0"),
    "odd sides, 4:4:4": _round_trip(*SIZE, "4:4:4"),
    "whole blocks": _round_trip(32, 16, "4:2:0"),
    "absolute": _error_level(90),
    "maximum": _error_level([90, 40], gain="max"),
    "signed": _error_level(75, signed=True),
    "colours of the default recipe": _error_level(
        [75, 85, 95], signed=True, color="YCbCr", gain=1.0
    ),
    "table of a gain": _error_level(60, signed=True, gain=2.5),
    "table of a small gain": _error_level(60, color="YCbCr", gain=0.7),
    "smaller": _resized(16),
    "larger": _resized(50),
}
FEW = ["odd sides", "odd sides, 4:4:4", "maximum", "colours of the default recipe", "smaller"]
"""Where each takes seconds to compile: every operation of the others is in one of these."""
MODES = {
    ("tensorflow", "graph"): ["odd sides", "maximum", "smaller"],
    ("tensorflow", "xla"): FEW,
    ("jax", "eager"): ["odd sides"],
    ("jax", "jit"): FEW,
    ("torch", "eager"): list(CASES),
    ("torch", "inductor"): ["odd sides", "colours of the default recipe", "smaller"],
}


def results(mode: str) -> Iterator[tuple[str, np.ndarray]]:
    """Compute the cases on this process's backend."""
    from hf_ela.backend import keras

    for name in MODES[keras.backend.backend(), mode]:
        tensors = map(keras.ops.convert_to_tensor, CASES[name].inputs)
        result = _in_mode(CASES[name].make(), mode)(*tensors)
        yield name, np.asarray(keras.ops.convert_to_numpy(result))


def _in_mode(function: Callable[..., Any], mode: str) -> Callable[..., Any]:
    match mode:
        case "graph" | "xla":
            import tensorflow

            return tensorflow.function(function, jit_compile=mode == "xla")  # type: ignore[no-any-return]
        case "jit":
            import jax

            return jax.jit(function)  # type: ignore[no-any-return]
        case "inductor":
            import torch

            return torch.compile(function, dynamic=False)
    return function


if __name__ == "__main__":
    out, *modes = sys.argv[1:]
    np.savez(out, **{f"{m}: {name}": x for m in modes for name, x in results(m)})
