"""Emissions of a training, measured by the real codecarbon."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from conftest import TINY

Python = Callable[..., CompletedProcess[str]]


def train(python: Python, tiny: Path, folder: Path, *more: str) -> CompletedProcess[str]:
    settings = [word for override in TINY for word in ("--set", override)]
    options = ["--data", tiny, "--out", folder / "run", "--cache-dir", folder / "cache"]
    return python(["train.py", *options, *settings, *more], KERAS_BACKEND="jax")


@pytest.mark.second_lane
def test_a_named_country_is_recorded_with_the_grams(
    python: Python, tiny: Path, tmp_path: Path
) -> None:
    pytest.importorskip("codecarbon")
    done = train(python, tiny, tmp_path, "--emissions", "FRA")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run" / "run.json").read_text())["co2_eq_emissions"]
    assert found["geographical_location"] == "France"
    assert 0 < found["emissions"] < 100  # seconds of two cores


def test_an_unknown_country_is_refused_before_training(
    python: Python, tiny: Path, tmp_path: Path
) -> None:
    pytest.importorskip("codecarbon")
    done = train(python, tiny, tmp_path, "--emissions", "France")
    assert done.returncode == 1
    assert "three-letter ISO code" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
