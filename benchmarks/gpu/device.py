"""JAX or torch, whichever Keras runs on, on what it computes on."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from common import torch_graph


class Device:
    """JAX or torch on what it computes on: arrays there, compiled functions, waiting."""

    def __init__(self) -> None:
        """Start Keras's backend."""
        from hf_ela.backend import has_gpu, keras

        self.backend = keras.backend.backend()
        if self.backend not in ("jax", "torch"):
            sys.exit(f"KERAS_BACKEND must be jax or torch. Received: {self.backend}.")
        self.gpu = has_gpu()

    @property
    def name(self) -> str:
        """Return what it computes on."""
        if self.backend == "jax":
            import jax

            return f"{jax.devices()[0].device_kind}, JAX"
        import torch

        return f"{torch.cuda.get_device_name() if self.gpu else 'cpu'}, torch"

    def put(self, array: np.ndarray) -> Any:
        """Return the array on the device."""
        if self.backend == "jax":
            import jax

            return jax.block_until_ready(jax.device_put(array))
        import torch

        return torch.from_numpy(array).to("cuda" if self.gpu else "cpu")

    def compiled(self, function: Callable[[Any], Any], example: Any = None) -> Callable[[Any], Any]:
        """Return a function of arrays that waits for its result.

        JAX compiles it. Torch does, as one graph for arrays like `example`, where there is one;
        where it cannot, it stays eager, and says so.
        """
        if self.backend == "jax":
            import jax

            jitted = jax.jit(function)
            return lambda array: jax.block_until_ready(jitted(array))
        import torch

        def waited(work: Callable[[Any], Any]) -> Callable[[Any], Any]:
            def run(array: Any) -> Any:
                with torch.no_grad():
                    result = work(array)
                if self.gpu:
                    torch.cuda.synchronize()
                return result

            return run

        if example is None:
            return waited(function)
        try:
            fast = waited(torch_graph(function, example))
            fast(example)
        except Exception as error:  # of a compiler, a driver, or a missing one
            print(f"torch.compile failed, eager instead: {str(error).strip().splitlines()[0]}")
            return waited(function)
        return fast

    def get(self, array: Any) -> np.ndarray:
        """Return an array of the device as NumPy's."""
        from hf_ela.backend import keras

        return np.asarray(keras.ops.convert_to_numpy(array))
