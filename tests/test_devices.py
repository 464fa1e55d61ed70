"""Training on several devices equals training on one."""

import json

import pytest

from conftest import TINY

OVERRIDES = [
    *TINY,
    "validation.fraction=0.2",  # 26 images to train on and 6: neither divides among four devices
    # Weights that batch normalisation takes out again have gradients of rounding errors alone, and
    # move by the rate.
    "training.learning_rate=0.0001",
]
FITS = """
import json, sys
from pathlib import Path
import numpy as np
from hf_ela.data.loading import DataOptions
from hf_ela.data.preparation import prepare
from hf_ela.errors import RunError
from hf_ela.recipes.loading import load_recipe
from hf_ela.training.fit import Checkpoint, fit

data, folder, *overrides = sys.argv[1:]
folder = Path(folder)
recipe = load_recipe("default", overrides)
data = prepare(DataOptions(data, num_proc=1, cache_dir=str(folder / "cache")), recipe)
store = data.train.store
views, store.left = store.views, 10**9

def fails_in_the_end(*what):
    store.left -= 1
    if store.left < 0:
        raise OSError("the disk is gone")
    return views(*what)

store.views = fails_in_the_end

def fitted(name, devices):
    model, checkpoint = fit(recipe, data.train, data.validation, folder / name, devices=devices)
    return model.get_weights(), {key: values[-1] for key, values in checkpoint.history.items()}

one, expected = fitted("one", 1)
store.left = 26 + 6 + 13  # views of an epoch, and of half the next
try:
    fitted("several", 4)
except OSError:
    pass
store.left = 10**9
epochs = Checkpoint(folder / "several", None, 0).epochs
several, found = fitted("several", 2)
try:
    fitted("too many", 5)
except RunError as error:
    refused = str(error)
difference = max(float(np.abs(a - b).max()) for a, b in zip(one, several, strict=True))
json.dump([difference, expected, found, epochs, refused], (folder / "found.json").open("w"))
"""


@pytest.mark.second_lane
def test_several_devices_train_to_the_weights_of_one_and_resume(tiny, tmp_path, python) -> None:
    """Of four devices, one trains; then four do, until it fails, and two go on."""
    pytest.importorskip("jax")
    done = python(
        ["-c", FITS, tiny, tmp_path, *OVERRIDES],
        KERAS_BACKEND="jax",
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
    )
    assert done.returncode == 0, done.stderr
    difference, expected, found, epochs, refused = json.loads((tmp_path / "found.json").read_text())
    assert epochs == 1
    assert 0 < difference <= 1e-5
    for name in ("val_loss", "val_accuracy"):  # copies in a batch do not count
        assert found[name] == pytest.approx(expected[name], abs=1e-5)
    assert "Received: 5; there: cpu:0, cpu:1, cpu:2, cpu:3." in refused


@pytest.mark.parametrize(
    ("typed", "backend", "words"),
    [
        ("--devices 2", "tensorflow", "requires Keras on JAX. Received: tensorflow. Set KERAS_BAC"),
        ("--devices 0", "jax", "--devices must be at least 1. Received: 0."),
        ("--devices 3", "jax", "Received: training.batch_size=32, devices=3."),
        ("--devices 2 --recipe transfer", "jax", "on one device, in seconds. Leave out --devices"),
    ],
)
def test_what_cannot_be_shared_is_refused_before_any_work(
    typed, backend, words, tmp_path, monkeypatch, command
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", backend)
    out = tmp_path / "run"
    assert words in command(f"train {typed} --data {tmp_path} --out", out, status=2).err
    assert not out.exists()
