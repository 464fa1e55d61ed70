"""Whole trainings: what a run holds, resume by process, refusals."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from conftest import (
    CHEAP,
    COMMAND,
    REPOSITORY,
    TINY,
    ctrl_c_is_heard,
    picture,
    wait_for,
    wait_until_gone,
    with_test_classes_exchanged,
    write_folder,
)
from hf_ela import ElaClassifier, load_image
from hf_ela.backend import keras
from hf_ela.cli.tables import run_summary
from hf_ela.data.loading import DataOptions
from hf_ela.data.preparation import prepare
from hf_ela.errors import RunError
from hf_ela.evaluation.intervals import chance_calibration_error, measure
from hf_ela.evaluation.metrics import METRICS
from hf_ela.models.detector import image_logits, keras_probabilities
from hf_ela.recipes.loading import load_recipe
from hf_ela.run_record import Run, read_run
from hf_ela.training import train
from hf_ela.training.claiming import recorded

RECIPE = load_recipe("scratch", TINY)


@pytest.fixture(scope="module")
def run(tiny_run) -> dict[str, Any]:
    return json.loads((tiny_run / "run.json").read_text())


def quick(data: Path, out: Path, say: Callable[[str], None] = print, **options: Any) -> Run:
    """Train on a folder with as little beside the fit as possible."""
    resume = options.pop("resume", False)
    found = DataOptions(str(data), num_proc=1, cache_dir=str(out.parent / "cache"), **options)
    return train(RECIPE, found, out, resume=resume, say=say, **CHEAP)


def weights(run: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(run / "weights/model.weights.h5") as file:
        file.visititems(
            lambda name, item: found.update({name: item[()]} if hasattr(item, "shape") else {})
        )
    return found


def same_weights(a: Path, b: Path) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(
        np.array_equal(left[name], right[name]) for name in left
    )


# ----------------------------------------------------------------------------- what a run holds


def test_run_json_holds_all_that_a_card_needs(tiny_run, run) -> None:
    assert run["schema"] == 1
    assert run["recipe"] == RECIPE.model_dump()
    assert run["seed"] == 0
    assert run["ela"] == {"computed": 44, "cached": 0}
    assert {"id", "revision", "classes", "splits", "rejected"} <= set(run["data"])
    assert run["data"]["splits"]["test"] == {"n": 12, "fake": 6, "real": 6}
    assert run["model"]["parameters"] > 1000
    assert run["timing"]["training_seconds"] > 0
    audited = run["audit"]["images"]
    assert {name: sum(counts.values()) for name, counts in audited.items()} == {
        name: counts["n"] for name, counts in run["data"]["splits"].items()
    }
    assert run["audit"]["verdict"]
    assert run["environment"]["packages"]["keras"]
    predictions = pd.read_parquet(tiny_run / "predictions.parquet")
    for protocol in ("as_is", "aligned"):
        metrics = run["evaluation"]["test"][protocol]
        assert set(metrics) == {*METRICS, "confusion"}
        for metric in METRICS:
            cell = metrics[metric]
            assert set(cell) == {"value", "low", "high", "n", "groups"}
            assert (cell["n"], cell["groups"]) == (12, 12)
        assert sum(metrics["confusion"].values()) == 12
        scores = predictions["score" if protocol == "as_is" else "score_aligned"]
        assert run["evaluation"]["chance_ece"][protocol] == chance_calibration_error(scores)
        covered = run["evaluation"]["coverage"][protocol]
        assert covered["shipped"]["coverage"]["n"] == 12
        assert len(covered["curve"]) == 10
        assert covered["curve"][0]["accuracy"] == metrics["accuracy"]["value"]
    assert [row["source"] for row in run["sources"]["as_is"]] == ["fakes", "reals"]
    assert [row["source"] for row in run["generators"]["as_is"]] == ["g-fake", "g-real"]
    assert {row["groups"] for row in run["sources"]["as_is"]} == {6}
    assert run["evaluation"]["validation"]["aligned"]["ece"]["groups"] == 8
    (found,) = (row for row in run["sources"]["aligned"] if row["source"] == "fakes")
    mean = run["spread"]["sources"]["aligned"]["fake"]["mean"]
    assert mean == found["recall"]["fake"]["value"]
    text = (tiny_run / "run.json").read_text()
    assert str(REPOSITORY) not in text
    assert "NaN" not in text
    assert read_run(tiny_run).content() == run


def test_whoever_has_the_images_can_check_the_split(tiny_run, tiny, tiny_groups, run) -> None:
    text = (tiny_run / "groups.csv").read_text()
    assert run["data"]["groups"]["table"] == sha256(text.encode()).hexdigest()
    table = pd.read_csv(StringIO(text), dtype={"group": "Int64"})
    assert list(table) == ["sha256", "group", "split"]
    names = {sha256(path.read_bytes()).hexdigest(): path for path in tiny.rglob("*.*")}
    assert {*table["sha256"]} == {*names}
    for key, split in zip(table["sha256"], table["split"], strict=True):
        assert (split == "test") == (names[key].parts[-3] == "test")
    assert table["split"].value_counts().to_dict() == {
        name: counts["n"] for name, counts in run["data"]["splits"].items()
    }
    given = pd.read_csv(tiny_groups)
    assert table["group"].nunique() == given["group"].nunique()
    private = {*given["group"], *given["file_name"], *(path.stem for path in names.values())}
    assert not [name for name in private if name in text]


def test_run_folder_is_complete_and_tidy(tiny_run) -> None:
    assert sorted(path.name for path in tiny_run.iterdir()) == [
        "README.md",
        "events",
        "groups.csv",
        "plots",
        "predictions.parquet",
        "run.json",
        "samples",
        "weights",
    ]
    assert len([*(tiny_run / "events").iterdir()]) == 1
    plots = {path.stem: load_image(path).pixels.size for path in (tiny_run / "plots").iterdir()}
    assert set(plots) == {
        "confusion", "coverage", "ela", "mistakes", "reliability", "robustness", "roc",
        "scores", "sources_aligned", "sources_as_is", "training",
    }  # fmt: skip
    assert all(min(size) > 200 for size in plots.values())


def test_robustness_begins_with_the_aligned_evaluation(run) -> None:
    robustness, test = run["robustness"], run["evaluation"]["test"]["aligned"]
    assert (robustness["base"], robustness["n"]) == ("aligned", 12)
    assert robustness["threshold"] == run["calibration"]["threshold"]
    plain = robustness["rows"][0]  # of all test images, since they are few
    assert plain["perturbation"] == "none"
    for metric in ("balanced_accuracy", "recall", "specificity", "roc_auc"):
        assert plain[metric]["value"] == pytest.approx(test[metric]["value"])


def test_predictions_are_those_of_the_saved_model(tiny_run, tiny, run) -> None:
    table = pd.read_parquet(tiny_run / "predictions.parquet")
    assert len(table) == 12
    columns = {"file", "label", "score", "group", "source", "generator", "format", "width"}
    assert columns <= set(table)
    classifier = ElaClassifier.from_pretrained(tiny_run)
    scores = list(classifier.scores([tiny / name for name in table["file"]]))
    assert np.allclose(scores, table["score"], atol=1e-6)
    cell = run["evaluation"]["test"]["as_is"]["accuracy"]
    right = (table["score"] >= classifier.threshold) == (table["label"] == "fake")
    assert cell["value"] == pytest.approx(right.mean())
    band = run["calibration"]["uncertain"]
    assert classifier.uncertain == (band and tuple(band))


def test_the_bias_of_the_calibration_is_in_the_weights(
    tiny_run, tiny, tiny_groups, run, tmp_path
) -> None:
    assert abs(run["calibration"]["bias"]) > 1e-3
    classifier = ElaClassifier.from_pretrained(tiny_run, runtime="keras")
    options = DataOptions(
        str(tiny), groups=str(tiny_groups), num_proc=1, cache_dir=str(tmp_path / "cache")
    )
    held = prepare(options, RECIPE).validation
    logits = image_logits(keras_probabilities(classifier.model), held.views("aligned"))
    cells = measure(held.labels, classifier.calibrated(logits), classifier.threshold)
    then = run["evaluation"]["validation"]["aligned"]
    for metric in ("brier", "ece", "roc_auc", "accuracy"):  # of logits with the bias added
        assert cells[metric]["value"] == pytest.approx(then[metric]["value"], abs=1e-6)


def test_what_is_printed_at_the_end_are_the_results(tiny_run) -> None:
    text = run_summary(read_run(tiny_run), tiny_run)
    assert "roc_auc" in text
    assert "Test, n = 12, with 95 % intervals" in text


def test_the_test_split_decides_nothing(tiny_run, tiny, tmp_path) -> None:
    """Its classes exchanged: weights, calibration, threshold and band stay as they were.

    Which also says that the same seed gives the same bits, and that groups of one image, plots and
    the export change nothing.
    """
    exchanged = with_test_classes_exchanged(tiny, tmp_path / "data")
    found = quick(exchanged, tmp_path / "run").content()
    then = json.loads((tiny_run / "run.json").read_text())
    assert same_weights(tiny_run, tmp_path / "run")
    assert found["calibration"] == then["calibration"]
    areas = [one["evaluation"]["test"]["as_is"]["roc_auc"]["value"] for one in (then, found)]
    assert areas[0] != 0.5
    assert sum(areas) == pytest.approx(1)
    assert (found["plots"], found["onnx"]) == ([], None)
    assert [row["perturbation"] for row in found["robustness"]["rows"]] == ["none", "jpeg_50"]


# --------------------------------------------------------------------- interruption and resume

SCRIPT = """
import sys
from hf_ela.data import DataOptions
from hf_ela.recipes import load_recipe
from hf_ela.training import train
from hf_ela.training.claiming import recorded

data, cache, out, *overrides = sys.argv[1:]
resume = not overrides
options = DataOptions(data, num_proc=1, cache_dir=cache)
recipe, options = recorded(out) if resume else (load_recipe("scratch", overrides), options)
train(recipe, options, out, resume=resume, plots=False, export=False, resamples=20,
      perturbations=["jpeg_50"])
"""


@pytest.mark.parametrize(
    "backend",
    [
        "tensorflow",
        pytest.param("jax", marks=pytest.mark.second_lane),
        pytest.param("torch", marks=pytest.mark.second_lane),
    ],
)
def test_a_killed_training_resumes_to_the_same_bits(tiny, tmp_path, backend) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    epochs = 8
    overrides = [*TINY, f"training.epochs={epochs}"]
    cache = tmp_path / "cache"

    def start(out: str, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, tiny, cache, tmp_path / out, *words],
            env=os.environ | {"KERAS_BACKEND": backend, "PYTHONWARNINGS": "ignore"},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def finish(out: str, *words: str) -> None:
        if backend == keras.backend.backend():
            folder = tmp_path / out
            options = DataOptions(str(tiny), num_proc=1, cache_dir=str(cache))
            found = (load_recipe("scratch", words), options) if words else recorded(folder)
            train(*found, folder, resume=not words, **CHEAP)
            return
        process = start(out, *words)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors

    cut = start("cut", *overrides)
    state = tmp_path / "cut/checkpoint/state.json"

    def epochs_done() -> int:
        return len(json.loads(state.read_text())["history"]["loss"]) if state.exists() else 0

    wait_for(lambda: epochs_done() >= 2, cut)
    cut.send_signal(signal.SIGKILL)
    cut.communicate(timeout=60)
    assert epochs_done() < epochs
    assert not (tmp_path / "cut/run.json").exists()

    finish("cut")
    finish("whole", *overrides)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    then, now = (read_run(tmp_path / name).content() for name in ("whole", "cut"))
    assert now["training"] == then["training"]
    assert now["evaluation"] == then["evaluation"]
    assert now["environment"]["backend"] == backend
    assert now["ela"] == {"computed": 0, "cached": 44}
    assert not (tmp_path / "cut/checkpoint").exists()
    table = pd.read_parquet(tmp_path / "cut/predictions.parquet")
    here = ElaClassifier.from_pretrained(tmp_path / "cut")  # on this process's backend
    scores = list(here.scores([tiny / name for name in table["file"]]))
    assert np.allclose(scores, table["score"], atol=1e-4)


def interrupted(data: Path, out: Path, **options: Any) -> None:
    """Interrupt a training, as by Ctrl-C, when its data is ready."""

    def stop(line: str) -> None:
        if line.startswith("Training"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(data, out, say=stop, **options)


def test_resume_refuses_other_images_settings_and_emissions(tmp_path) -> None:
    folder, out = write_folder(tmp_path / "data", train=12, test=4), tmp_path / "run"
    interrupted(folder, out)
    with pytest.raises(RunError, match="settings differ from those of the interrupted run"):
        quick(folder, out, resume=True, limit=8)
    with pytest.raises(RunError, match=r"new or empty.*Continue that run with `resume`"):
        quick(folder, out)
    with pytest.raises(RunError, match="Emissions are measured over a whole training"):
        train(*recorded(out), out, resume=True, country="FRA")
    with (
        FileLock(out / "checkpoint/.lock"),
        pytest.raises(RunError, match="Another process still works in"),
    ):
        quick(folder, out, resume=True)
    picture(12345, fake=False).save(folder / "train/real/train000.png")
    left = [out / ".hf_ela-1", out / "checkpoint/.hf_ela-2.weights.h5"]  # by a killed process
    left[0].mkdir()
    left[1].touch()
    with pytest.raises(RunError, match="differ from those that the interrupted run began with"):
        quick(folder, out, resume=True)
    assert not any(path.exists() for path in left)
    assert recorded(out)[0] == RECIPE  # nothing is lost


def test_one_command_begins_a_run_and_continues_it(tiny, tmp_path, command, monkeypatch) -> None:
    """What a job needs that is started again: `--resume` beside what to train."""
    out, resumed = tmp_path / "run", []

    def cut(*args: Any, resume: bool, **options: Any) -> Any:
        resumed.append(resume)
        return train(*args, resume=resume, **{**options, **CHEAP, "say": stop})

    def stop(line: str) -> None:
        if line.startswith("Preparing"):
            raise RunError("A machine was taken away.")

    monkeypatch.setattr("hf_ela.training.trainer.train", cut)
    typed = f"train --data {tiny} --set training.epochs=1 --out {out} --resume"
    for _ in range(2):
        assert "taken away" in command(typed, status=2).err
    assert resumed == [False, True]


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize(
    "how", [pytest.param(signal.SIGINT, marks=pytest.mark.second_lane), signal.SIGKILL]
)
def test_interruption_while_ela_is_computed_by_two_processes(tmp_path, how) -> None:
    """As a terminal does it: the signal goes to the whole group; or the parent alone is killed."""
    folder = write_folder(tmp_path / "data", train=100, test=4)
    words = ["train", "--data", folder, "--cache-dir", tmp_path / "cache", "--num-proc", 2]
    words += ["--recipe", "scratch"]
    for override in (*TINY, "augmentation.views=60"):
        words += ["--set", override]
    process = subprocess.Popen(
        [*COMMAND, *map(str, words), "--out", str(tmp_path / "run")], start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=ctrl_c_is_heard,
    )  # fmt: skip
    # `datasets` writes to a temporary file beside its cache until a part is done.
    wait_for(lambda: any(p.stat().st_size for p in (tmp_path / "cache").rglob("tmp*")), process)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in errors
        assert "--resume" in errors
    else:
        process.kill()
        process.communicate(timeout=60)
    wait_until_gone(process.pid)


# ------------------------------------------------------------------------------------- refusals


def test_tracking_without_its_extra_is_refused_before_any_work(
    tiny, tmp_path, command, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    (line,) = command(
        f"train --data {tiny} --track --out {tmp_path}/run", status=2
    ).err.splitlines()
    assert "requires the `tensorboard` extra" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "training.epoch=3"], "`training.epochs`"),
        (["--recipe", "nothing"], "ela or reference or scratch"),
        (["--data", "no/such/folder/here"], "no/such/folder/here"),
        (["--label-map", "x"], "ai=fake,human=real"),
        (["--limit", "1"], "at least 2"),
        (["--out", str(REPOSITORY / "src")], "new or empty"),
        (["--out", str(REPOSITORY / "src"), "--resume"], "interrupted run"),
        (["--groups", "missing.csv"], "missing.csv"),
        (["--groups", "a\n  \x1b[31m.csv"], "file a\\n  \\x1b[31m.csv does not exist"),
        (["--out", str(REPOSITORY / "README.md" / "run")], "must be writable"),
        (["--cache-dir", str(REPOSITORY / "README.md")], "README.md"),
        (["--emissions", "France"], "three-letter ISO code"),
    ],
)
def test_wrong_usage_is_one_line(tiny, tmp_path, command, words, message) -> None:
    if "--emissions" in words:
        pytest.importorskip("codecarbon")
    typed = f"train --data {tiny} --out {tmp_path}/runs/one"
    (line,) = command(typed, *words, status=2).err.splitlines()
    assert message in line
    assert not (tmp_path / "runs").exists()  # it is not in the way of the next try


def test_a_run_inside_its_data_is_refused(tmp_path) -> None:
    folder = write_folder(tmp_path / "data", train=2, test=2)
    with pytest.raises(RunError, match="outside the data"):
        quick(folder, folder / "run")


def test_a_missing_backend_is_said_before_any_work(tiny, python, tmp_path) -> None:
    words = ["-m", "hf_ela", "train", "--data", tiny, "--out", tmp_path / "run"]
    done = python(words, KERAS_BACKEND="numpy")
    assert done.returncode == 2
    assert "Received: numpy" in done.stderr
    assert "Preparing" not in done.stdout


def test_a_finished_run_is_neither_overwritten_nor_resumed(tiny_run, tiny) -> None:
    before = (tiny_run / "run.json").read_bytes()
    with pytest.raises(RunError, match="new or empty"):
        quick(tiny, tiny_run)
    with pytest.raises(RunError, match="a finished run"):
        recorded(tiny_run)
    assert (tiny_run / "run.json").read_bytes() == before


@pytest.mark.second_lane
@pytest.mark.parametrize("where", ["repository", "pool"])
def test_the_published_recipe_runs_on_real_images(where, request, tmp_path) -> None:
    folder = request.getfixturevalue("real_folder" if where == "repository" else "pool")
    groups = str(request.getfixturevalue("pool_csv")) if where == "pool" else None
    options = DataOptions(
        str(folder), groups=groups, limit=24, cache_dir=str(tmp_path / "cache"), num_proc=1
    )
    recipe = load_recipe("reference", ["training.epochs=1"])
    found = train(recipe, options, tmp_path / "run")
    content = found.content()
    assert content["model"]["parameters"] == 29_520_034
    calibration = content["calibration"]
    assert sorted(calibration.pop("false_alarms")) == ["0.01", "0.02", "0.05"]
    assert [*calibration.pop("frequencies")] == ["known"]
    assert calibration == {"temperature": 1.0, "bias": 0.0, "threshold": 0.5, "uncertain": None}


def test_synthetic_data_is_said_and_a_card_that_fails_loses_nothing(
    tmp_path, monkeypatch, bars
) -> None:
    monkeypatch.setattr("hf_ela.hub.card.MODEL_CARD", tmp_path / "nowhere")  # no template
    folder, said = write_folder(tmp_path / "data", train=12, test=4), []
    (folder / "samples.json").write_text("{}")  # as `hf-ela samples` marks its sets
    run = quick(folder, tmp_path / "run", say=said.append)
    assert bars == ["Perturbing"]
    assert read_run(tmp_path / "run") == run
    assert run.data.synthetic
    assert any("synthetic samples" in line for line in said)
    assert (tmp_path / "run" / "weights" / "model.weights.h5").is_file()
    assert not (tmp_path / "run" / "README.md").exists()
    assert "its card could not be written" in said[-1]


@pytest.mark.second_lane
@pytest.mark.filterwarnings("ignore:The save_to_:DeprecationWarning")  # of codecarbon
def test_emissions_in_a_named_country_are_recorded(tiny, tmp_path) -> None:
    pytest.importorskip("codecarbon")
    options = DataOptions(str(tiny), num_proc=1, cache_dir=str(tmp_path / "cache"))
    found = train(RECIPE, options, tmp_path / "run", country="FRA", **CHEAP).co2_eq_emissions
    assert found["geographical_location"] == "France"
    assert 0 < found["emissions"] < 100  # grams, of seconds of two cores
