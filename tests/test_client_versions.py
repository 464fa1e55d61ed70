"""The tests of the Hub once more, with the other major version of its client."""

import os
import subprocess
import sys

import huggingface_hub
import pytest

from conftest import REPOSITORY, python_path

MAJOR = huggingface_hub.__version__[0]
OTHER = "huggingface_hub==1.31.0" if MAJOR == "2" else "huggingface_hub>=2,<3"
FILES = ("test_hub_server.py", "test_hub_model.py", "test_release.py")


@pytest.mark.second_lane
def test_the_other_major_version_passes_the_same_tests(tmp_path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tmp_path), OTHER]
    installed = subprocess.run(pip, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"{OTHER} cannot be installed here")
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
