"""The JPEG round trip and the layers on it: the same bits compiled, and on every backend.

Operation by operation on TensorFlow, `test_jpeg.py` and `test_layers.py` compare more.
"""

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exact_cases import OTHER_BACKENDS, QUALITIES, pictures, saved
from hf_ela.backend import keras
from hf_ela.ela.error_level import error_level
from hf_ela.ela.layers import ErrorLevel, PillowResize
from hf_ela.ela.tensor_jpeg import round_trip

# torch.compile itself calls what torch calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

MODES = {"tensorflow": ["graph", "xla"], "jax": ["jit"], "torch": ["eager", "inductor"]}
SETTINGS: dict[str, dict[str, Any]] = {
    "maximum": {"quality": [90, 40], "gain": "max"},
    "default": {"quality": [75, 85, 95], "signed": True, "color": "YCbCr", "gain": 1.0},
    "table": {"quality": 60, "gain": 2.5},
}
CASES = ["4:2:0", "4:4:4", *SETTINGS, "resize"]
FEW = {"inductor": ["4:2:0", "default", "resize"]}
"""Compiling takes it minutes, and the other cases are made of the same parts."""


def case(name: str) -> tuple[Callable[..., Any], list[np.ndarray], np.ndarray]:
    """A function of tensors, what goes into it, and what must come out."""
    if name == "resize":
        images = pictures(14, 37, 37)
        resized = [np.asarray(Image.fromarray(image).resize((16, 16))) for image in images]
        return PillowResize(16), [images], np.stack(resized)
    if name in SETTINGS:
        images = pictures(28, 17, 35)
        levels = [error_level(image, **SETTINGS[name]) for image in images]
        return ErrorLevel(**SETTINGS[name]), [images], np.stack(levels)
    images = pictures(len(QUALITIES), 17, 35)
    after = [saved(image, quality, name) for image, quality in zip(images, QUALITIES, strict=True)]
    return lambda x, quality: round_trip(x, quality, name), [images, QUALITIES], np.stack(after)


def compiled(function: Callable[..., Any], mode: str) -> Callable[..., Any]:
    match mode:
        case "eager":
            return function
        case "jit":
            import jax

            return jax.jit(function)
        case "inductor":
            import torch

            return torch.compile(function, dynamic=False)
    import tensorflow

    return tensorflow.function(function, jit_compile=mode == "xla")


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        pytest.param(mode, name, marks=[] if mode == "graph" else [pytest.mark.second_lane])
        for mode in MODES[keras.backend.backend()]
        for name in FEW.get(mode, CASES)
    ],
)
def test_compiled_they_equal_pillow_to_the_bit(mode, name) -> None:
    if mode == "inductor" and not shutil.which("g++"):
        pytest.skip("no C++ compiler is here")
    function, inputs, expected = case(name)
    result = compiled(function, mode)(*map(keras.ops.convert_to_tensor, inputs))
    found = keras.ops.convert_to_numpy(result)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert np.array_equal(found, expected)


@pytest.mark.second_lane
@pytest.mark.parametrize("backend", OTHER_BACKENDS)
def test_other_backends_too(backend, python) -> None:
    words = ["-m", "pytest", "-q", "-m", "", "-p", "no:cacheprovider", "-k", "compiled", __file__]
    done = python(words, KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stdout
    cases = sum(len(FEW.get(mode, CASES)) for mode in MODES[backend])
    assert f"{cases} passed" in done.stdout
