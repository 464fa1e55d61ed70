"""The JPEG round trip and the layers on it: the same bits on every backend, eager and compiled."""

import importlib.util
import shutil
from collections.abc import Callable

import numpy as np
import pytest

import exact_cases
from exact_cases import CASES, MODES

SLOW = {"inductor"}
"""Its C++ compiler takes about ten seconds for each."""
DEFAULT = {("tensorflow", "graph")}
"""Eager, the other test files compare more; compiled and elsewhere, the second lane does."""
Results = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def computed(python, tmp_path_factory) -> Callable[[str, bool], Results]:
    """Results of a backend by mode and case: in this process, or in one other for its modes."""
    from hf_ela.backend import keras

    found: dict[tuple[str, bool], Results] = {}

    def compute(backend: str, slow: bool) -> Results:
        modes = [mode for name, mode in MODES if name == backend and (mode in SLOW) == slow]
        if backend == keras.backend.backend():
            return {f"{m}: {name}": x for m in modes for name, x in exact_cases.results(m)}
        out = tmp_path_factory.mktemp(backend) / "out.npz"
        done = python([exact_cases.__file__, out, *modes], KERAS_BACKEND=backend)
        assert done.returncode == 0, done.stderr
        return dict(np.load(out))

    def remembered(backend: str, slow: bool) -> Results:
        if importlib.util.find_spec(backend) is None:
            pytest.skip(f"{backend} is not installed")
        if slow and not shutil.which("g++"):
            pytest.skip("no C++ compiler is here")
        if (backend, slow) not in found:
            found[backend, slow] = compute(backend, slow)
        return found[backend, slow]

    return remembered


@pytest.mark.parametrize(
    ("backend", "mode", "name"),
    [
        pytest.param(*key, name, marks=[] if key in DEFAULT else [pytest.mark.second_lane])
        for key, names in MODES.items()
        for name in names
    ],
)
def test_equals_pillow_to_the_bit(backend, mode, name, computed) -> None:
    result = computed(backend, mode in SLOW)[f"{mode}: {name}"]
    expected = CASES[name].expected()
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    assert np.array_equal(result, expected)
