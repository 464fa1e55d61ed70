"""Emissions of a training, measured by the real codecarbon."""

from pathlib import Path

import pytest

from conftest import TINY
from hf_ela.cli import main
from hf_ela.data import DataOptions
from hf_ela.recipes import load_recipe
from hf_ela.training import train


@pytest.mark.second_lane
@pytest.mark.filterwarnings("ignore:The save_to_:DeprecationWarning")  # of codecarbon
def test_a_named_country_is_recorded_with_the_grams(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("codecarbon")
    options = DataOptions(str(tiny), num_proc=1, cache_dir=str(tmp_path / "cache"))
    cheap = {"plots": False, "export": False, "resamples": 20, "perturbations": ["blur"]}
    recipe = load_recipe("default", TINY)
    run = train(recipe, options, tmp_path / "run", country="FRA", **cheap)
    found = run.co2_eq_emissions
    assert found["geographical_location"] == "France"
    assert 0 < found["emissions"] < 100  # seconds of two cores


def test_an_unknown_country_is_refused_before_training(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("codecarbon")
    words = ["train", "--data", str(tiny), "--out", str(tmp_path / "run"), "--emissions", "France"]
    assert main(words) == 2
    assert "three-letter ISO code" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
