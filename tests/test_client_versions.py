"""Other versions than those installed: of the client of the Hub, and of Keras."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from importlib.metadata import version as version_of
from pathlib import Path

import huggingface_hub
import pytest

from conftest import REPOSITORY, python_path
from hf_ela.hub.locate import packaged_model

MAJOR = huggingface_hub.__version__[0]
OTHER = "huggingface_hub==1.31.0" if MAJOR == "2" else "huggingface_hub>=2,<3"
FILES = ("test_hub_server.py", "test_hub_model.py", "test_release.py")


KERAS = """
import sys
import keras, numpy as np, onnxruntime

model = keras.saving.load_model(sys.argv[1])
pixels = np.random.default_rng(0).integers(0, 256, (2, *model.input_shape[1:]), np.uint8)
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx")
expected = session.run(None, {"pixels": pixels})[0]
assert "hf_ela" not in sys.modules
print(keras.__version__, abs(model.predict_on_batch(pixels) - expected).max())
"""


def install(requirement: str, folder: Path, *options: str) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), *options]
    done = subprocess.run([*pip, requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{requirement} cannot be installed here")


@pytest.mark.second_lane
@pytest.mark.parametrize(
    ("version", "backend"),  # the installed one on TensorFlow: `test_keras_alone_loads_it`
    [
        ("3.13.2", "jax"),
        ("3.13.2", "tensorflow"),
        ("3.14.1", "tensorflow"),
        ("installed", "jax"),
    ],
)
def test_other_versions_of_keras_use_this_model(python, tmp_path, version, backend) -> None:
    """As "Use this model" on the Hub says, which downloads the folder and loads it like this."""
    environment = {"KERAS_BACKEND": backend}
    if version != "installed":
        install(f"keras=={version}", tmp_path, "--no-deps")
        environment["PYTHONPATH"] = python_path(tmp_path)
    done = python(["-c", KERAS, packaged_model()], **environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found, difference = done.stdout.split()
    assert found == (version_of("keras") if version == "installed" else version)
    assert float(difference) < 1e-5


TRACKED = """
import sys
from pathlib import Path
from hf_ela.training.events import event_files

for begun in ({}, {"loss": [0.5]}):  # begun, interrupted, resumed
    with event_files(Path(sys.argv[1], "events"), begun) as [callback]:
        callback.on_epoch_end(len(begun), {"loss": 0.5 - 0.25 * len(begun), "val_loss": 0.75})
"""


@pytest.mark.second_lane
def test_trackio_has_each_epoch_once_and_on_this_machine(python, tmp_path) -> None:
    install("trackio>=0.43", tmp_path / "packages", "pillow>=12", "numpy")
    environment = {
        "PYTHONPATH": python_path(tmp_path / "packages"),
        "TRACKIO_DIR": str(tmp_path / "trackio"),
    }
    done = python(["-c", TRACKED, tmp_path / "mine"], **environment)
    assert done.returncode == 0, done.stderr[-2000:]
    folder = str((tmp_path / "mine" / "events").resolve())
    run = f"mine-{sha256(folder.encode()).hexdigest()[:6]}"
    words = ["get", "metric", "--project", "hf-ela", "--run", run, "--json", "--metric"]
    for metric, expected in (("loss/train", [0.5, 0.25]), ("loss/validation", [0.75, 0.75])):
        found = python(["-m", "trackio.cli", *words, metric], **environment)
        values = json.loads(found.stdout)["values"]
        assert [(row["step"], row["value"]) for row in values] == [*enumerate(expected)]


@pytest.mark.second_lane
def test_the_other_major_version_passes_the_same_tests(tmp_path) -> None:
    install(OTHER, tmp_path)
    # Ahead of the installed version, here and in the processes that the tests start.
    environment = os.environ | {"PYTHONPATH": python_path(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    version = [sys.executable, "-c", "import huggingface_hub as hub; print(hub.__version__)"]
    found = subprocess.run(version, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout[0] != MAJOR
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
        + [f"tests/{name}" for name in FILES],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
