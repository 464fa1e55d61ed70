"""Training on several devices equals training on one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from threading import Thread

import h5py
import numpy as np
import pytest

from conftest import CHEAP, TINY, made_once
from hf_ela.data.loading import DataOptions
from hf_ela.data.preparation import Prepared, prepare
from hf_ela.errors import RunError
from hf_ela.recipes.loading import load_recipe
from hf_ela.training.processes import Processes

OVERRIDES = [
    *TINY,
    "validation.fraction=0.2",  # of 25 images, and of 7, the last batch does not divide
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
recipe = load_recipe("scratch", overrides)
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
# Of each split one, then an epoch with the copies in its last batches, and half the next.
store.left = 2 + (24 + 4) + 28 + 13
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
np.savez(folder / "one.npz", *one)
json.dump([difference, expected, found, epochs, refused], (folder / "found.json").open("w"))
"""


RANK = """
import json, sys
from hf_ela.data.loading import DataOptions
from hf_ela.models.folder import read_network
from hf_ela.recipes.loading import load_recipe
from hf_ela.training.helping import help_train
from hf_ela.training.processes import Processes
from hf_ela.training.trainer import train

data, folder, cheap, *overrides = sys.argv[1:]
processes = Processes.detected()
recipe = load_recipe("scratch", overrides)
what = recipe, DataOptions(data, num_proc=1, cache_dir=f"{folder}/cache"), f"{folder}/run"
if processes.rank:
    help_train(*what, processes, devices=2)
else:
    train(*what, processes=processes, devices=2, **json.loads(cheap))
"""


def environment(devices: int) -> dict[str, str]:
    flag = f"--xla_force_host_platform_device_count={devices}"
    return {"KERAS_BACKEND": "jax", "XLA_FLAGS": flag}


@pytest.fixture(scope="module")
def fits(tiny, tmp_path_factory, python) -> Path:
    """Of four devices, one trains; then four do, until it fails, and two go on."""
    pytest.importorskip("jax")

    def make(folder: Path) -> None:
        folder.mkdir()
        done = python(["-c", FITS, tiny, folder, *OVERRIDES], **environment(4))
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "device-fits", make)


@pytest.fixture
def coordinator() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.second_lane
def test_several_devices_train_to_the_weights_of_one_and_resume(fits) -> None:
    difference, expected, found, epochs, refused = json.loads((fits / "found.json").read_text())
    assert epochs == 1
    assert 0 < difference <= 1e-5
    for name in ("val_loss", "val_accuracy"):  # copies in a batch do not count
        assert found[name] == pytest.approx(expected[name], abs=1e-5)
    assert "Received: 5; there: cpu:0, cpu:1, cpu:2, cpu:3." in refused


@pytest.mark.second_lane
def test_two_processes_of_two_devices_train_to_the_weights_of_one(
    fits, tiny, tmp_path, coordinator
) -> None:
    """Their ranks come from the environment, as Slurm makes it."""
    words = ["-c", RANK, tiny, tmp_path, json.dumps(CHEAP), *OVERRIDES]
    host, port = coordinator.split(":")
    slurm = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": host, "SLURM_NTASKS": "2"}
    slurm |= {"JAX_COORDINATOR_PORT": port} | environment(2)
    ranks = [
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            env=os.environ | slurm | dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID"), str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    printed = [rank.communicate(timeout=600)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(printed)
    assert "on 4 devices" in printed[0]
    with (
        np.load(fits / "one.npz") as saved,
        h5py.File(tmp_path / "run" / "weights" / "model.weights.h5") as file,
    ):
        found: dict[str, np.ndarray] = {}
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
        expected = list(saved.values())
    # The bias of the last layer has the calibration in it.
    del found["layers/dense/vars/1"], expected[-1]
    # Sorted, since a file has the weights by name.
    one, two = (
        np.sort(np.concatenate([w.ravel() for w in ws])) for ws in (expected, found.values())
    )
    assert 0 < np.abs(one - two).max() <= 1e-5


@pytest.fixture(scope="module")
def prepared(tiny, tmp_path_factory) -> Prepared:
    cache = str(tmp_path_factory.mktemp("cache"))
    options = DataOptions(str(tiny), num_proc=1, cache_dir=cache)
    return prepare(options, load_recipe("scratch", TINY))


@pytest.mark.second_lane
def test_processes_that_do_not_meet_say_why(prepared, tmp_path, coordinator) -> None:
    recipe = load_recipe("scratch", TINY)
    for rank, words in (
        (0, "All 2 processes must come within 0.5 seconds of each other. Missing: rank 1. Start"),
        (1, f"Rank 0 must answer at `coordinator` within 0.5 seconds. Received: {coordinator}: "),
    ):
        with pytest.raises(RunError, match=words):
            Processes(coordinator, 2, rank, wait=0.5).join(recipe, prepared, tmp_path)


@pytest.mark.second_lane
def test_processes_that_would_train_different_things_are_refused(
    prepared, tmp_path, coordinator
) -> None:
    said: list[str] = []

    def join(rank: int) -> None:
        recipe = load_recipe("scratch", [*TINY, f"training.seed={rank}"])
        with pytest.raises(RunError) as error:
            Processes(coordinator, 2, rank, wait=60).join(recipe, prepared, tmp_path)
        said.append(str(error.value))

    threads = [Thread(target=join, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 2
    assert all("give all of them the same options" in text for text in said)


@pytest.mark.second_lane
def test_an_environment_without_other_processes_says_so(tmp_path, monkeypatch, command) -> None:
    pytest.importorskip("jax")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    typed = f"train --processes auto --data {tmp_path} --out {tmp_path}/run"
    text = command(typed, status=2).err
    assert "JAX finds no Slurm" in text
    assert "Give --coordinator, --processes and --rank." in text


@pytest.mark.parametrize(
    ("typed", "backend", "words"),
    [
        ("--devices 2", "tensorflow", "requires Keras on JAX. Received: tensorflow. Set KERAS_BAC"),
        ("--devices 0", "jax", "--devices must be at least 1. Received: 0."),
        ("--devices 3", "jax", "Received: training.batch_size=256, devices=3."),
        (
            "--devices 1 --coordinator here --processes 2 --rank 0",
            "jax",
            "--coordinator must be HOST:PORT. Received: here.",
        ),
        (
            "--coordinator here:1 --processes 2 --rank 2",
            "jax",
            "--rank must be from 0 to one less than --processes. Received: rank=2, processes=2.",
        ),
        (
            "--coordinator here:1 --processes 2 --rank 1",
            "tensorflow",
            "requires Keras on JAX. Received: tensorflow. Set KERAS_BAC",
        ),
        ("--coordinator here:1", "jax", "--rank and --out go together"),
        ("--processes auto --rank 1", "jax", "or --processes auto, --out"),
        ("--processes auto", "tensorflow", "requires Keras on JAX. Received: tensorflow."),
        ("--devices 2", "jax", "on one device, in seconds. Leave out --devices"),
    ],
)
def test_what_cannot_be_shared_is_refused_before_any_work(
    typed, backend, words, tmp_path, monkeypatch, command
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", backend)
    out = tmp_path / "run"
    assert words in command(f"train {typed} --data {tmp_path} --out", out, status=2).err
    assert not out.exists()
