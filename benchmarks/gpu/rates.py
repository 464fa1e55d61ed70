"""Images per second of Error Level Analysis on a device."""

import sys
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from common import pictures, seconds

from hf_ela.ela.error_level import error_level

QUALITY = 90
SIDE = 256
BATCHES = (64, 128, 256, 512, 1024)
STEPS = 4
"""Batches between two looks at the clock."""


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

        def work(run: Callable[[Any], Any] = function, given: Any = images) -> None:
            for _ in range(STEPS):
                result = run(given)
            keras.ops.convert_to_numpy(result[0, 0, 0])  # waits for all steps

        yield {
            "batch": size,
            "images_per_second": STEPS * size / seconds(work, repeat),
            "differing_pixels": int((levels != exact[places]).any(axis=-1).sum()),
            "compile_seconds": first,
        }
