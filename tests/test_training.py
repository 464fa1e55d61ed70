"""Whole trainings by the command, as a user types it: runs, resume, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from conftest import REPOSITORY, TINY, picture, with_test_classes_exchanged, write_folder
from hf_ela import ElaClassifier, load_image
from hf_ela.data.loading import DataOptions
from hf_ela.evaluation.intervals import chance_calibration_error
from hf_ela.evaluation.metrics import METRICS
from hf_ela.recipes.loading import load_recipe
from hf_ela.training.trainer import train

SMALL = [word for override in TINY for word in ("--set", override)]


@pytest.fixture(scope="module")
def command(tiny, tmp_path_factory):
    """The words of a small training, all with one cache; `{out}` to be added."""
    cache = tmp_path_factory.mktemp("cache")
    groups = cache / "groups.csv"
    names = [path.relative_to(tiny).as_posix() for path in sorted(tiny.rglob("*.*g"))]
    groups.write_text(
        "file_name,group,source,generator\n"
        + "".join(f"{n},{n},{n.split('/')[1]}s,g-{n.split('/')[1]}\n" for n in names)
    )
    os.environ["HF_DATASETS_CACHE"] = str(cache)
    yield ["train.py", "--data", tiny, "--groups", groups, "--num-proc", 1, *SMALL]
    del os.environ["HF_DATASETS_CACHE"]


@pytest.fixture(scope="module")
def run(command, python, tmp_path_factory) -> Path:
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "first"
    done = python([*command, "--out", out])
    assert done.returncode == 0, done.stderr
    assert "ELA of 44 images computed" in done.stdout
    assert "roc_auc" in done.stdout
    return out


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


def read(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def test_run_json_holds_all_that_a_card_needs(run) -> None:
    content = read(run)
    assert content["schema"] == 1
    assert content["recipe"] == load_recipe("default", TINY).model_dump()
    assert content["seed"] == 0
    assert content["ela"] == {"computed": 44, "cached": 0}
    assert {"id", "revision", "classes", "splits", "rejected"} <= set(content["data"])
    assert content["data"]["splits"]["test"] == {"n": 12, "fake": 6, "real": 6}
    assert content["model"]["parameters"] > 1000
    assert content["timing"]["training_seconds"] > 0
    audited = content["audit"]["images"]
    assert {name: sum(counts.values()) for name, counts in audited.items()} == {
        name: counts["n"] for name, counts in content["data"]["splits"].items()
    }
    assert content["audit"]["verdict"]
    assert content["environment"]["packages"]["keras"]
    predictions = pd.read_parquet(run / "predictions.parquet")
    for protocol in ("as_is", "aligned"):
        measured = content["evaluation"]["test"][protocol]
        assert set(measured) == {*METRICS, "confusion"}
        for metric in METRICS:
            cell = measured[metric]
            assert set(cell) == {"value", "low", "high", "n", "groups"}
            assert (cell["n"], cell["groups"]) == (12, 12)
        assert sum(measured["confusion"].values()) == 12
        scores = predictions["score" if protocol == "as_is" else "score_aligned"]
        assert content["evaluation"]["chance_ece"][protocol] == chance_calibration_error(scores)
        covered = content["evaluation"]["coverage"][protocol]
        assert covered["shipped"]["coverage"]["n"] == 12
        assert len(covered["curve"]) == 10
        assert covered["curve"][0]["accuracy"] == measured["accuracy"]["value"]
    band = content["calibration"]["uncertain"]
    saved = ElaClassifier.from_pretrained(run)
    assert saved.uncertain == (band and tuple(band))
    assert [row["source"] for row in content["sources"]["as_is"]] == ["fakes", "reals"]
    assert [row["source"] for row in content["generators"]["as_is"]] == ["g-fake", "g-real"]
    assert {row["groups"] for row in content["sources"]["as_is"]} == {6}
    assert content["evaluation"]["validation"]["aligned"]["ece"]["groups"] == 8
    (found,) = (row for row in content["sources"]["aligned"] if row["source"] == "fakes")
    mean = content["spread"]["sources"]["aligned"]["fake"]["mean"]
    assert mean == found["recall"]["fake"]["value"]
    text = (run / "run.json").read_text()
    assert str(REPOSITORY) not in text
    assert "NaN" not in text


def test_run_folder_is_complete_and_tidy(run) -> None:
    assert sorted(path.name for path in run.iterdir()) == [
        "README.md",
        "plots",
        "predictions.parquet",
        "run.json",
        "samples",
        "weights",
    ]
    plots = {path.stem: load_image(path).pixels.size for path in (run / "plots").iterdir()}
    assert set(plots) == {
        "confusion", "coverage", "ela", "mistakes", "reliability", "robustness", "roc",
        "sources_aligned", "sources_as_is", "training",
    }  # fmt: skip
    assert all(min(size) > 200 for size in plots.values())


def test_robustness_begins_with_the_aligned_evaluation(run) -> None:
    content = read(run)
    robustness, test = content["robustness"], content["evaluation"]["test"]["aligned"]
    assert (robustness["base"], robustness["n"]) == ("aligned", 12)
    assert robustness["threshold"] == content["calibration"]["threshold"]
    plain = robustness["rows"][0]  # of all test images, since they are few
    assert plain["perturbation"] == "none"
    for metric in ("balanced_accuracy", "recall", "specificity", "roc_auc"):
        assert plain[metric]["value"] == pytest.approx(test[metric]["value"])


def test_predictions_are_those_of_the_saved_model(run, tiny) -> None:
    table = pd.read_parquet(run / "predictions.parquet")
    assert len(table) == 12
    columns = {"file", "label", "score", "group", "source", "generator", "format", "width"}
    assert columns <= set(table)
    classifier = ElaClassifier.from_pretrained(run)
    scores = list(classifier.scores([tiny / name for name in table["file"]]))
    assert np.allclose(scores, table["score"], atol=1e-6)
    cell = read(run)["evaluation"]["test"]["as_is"]["accuracy"]
    right = (table["score"] >= classifier.threshold) == (table["label"] == "fake")
    assert cell["value"] == pytest.approx(right.mean())


def test_same_seed_same_bits_and_no_ela_the_second_time(run, command, python, tmp_path) -> None:
    done = python([*command, "--out", tmp_path / "again"])
    assert "ELA of 0 images computed, of 44 found" in done.stdout
    assert read(tmp_path / "again")["ela"] == {"computed": 0, "cached": 44}
    assert same_weights(run, tmp_path / "again")
    assert read(tmp_path / "again")["evaluation"] == read(run)["evaluation"]


@pytest.mark.second_lane
def test_the_test_split_decides_nothing(run, command, python, tiny, tmp_path) -> None:
    """Its classes exchanged: weights, calibration, threshold and band stay as they were."""
    exchanged = with_test_classes_exchanged(tiny, tmp_path / "data")
    out = tmp_path / "run"
    done = python([*command, "--data", exchanged, "--out", out])
    assert done.returncode == 0, done.stderr
    assert same_weights(run, out)
    assert read(out)["calibration"] == read(run)["calibration"]
    areas = [read(one)["evaluation"]["test"]["as_is"]["roc_auc"]["value"] for one in (run, out)]
    assert areas[0] != 0.5
    assert sum(areas) == pytest.approx(1)


def test_another_seed_gives_other_weights(run, command, python, tmp_path) -> None:
    done = python([*command, "--out", tmp_path / "other", "--seed", 1])
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "other")["seed"] == 1
    assert not same_weights(run, tmp_path / "other")


@pytest.mark.parametrize(
    ("recipe", "how", "backend"),
    [
        ("default", signal.SIGKILL, "tensorflow"),
        pytest.param("reference", signal.SIGINT, "tensorflow", marks=pytest.mark.second_lane),
        pytest.param("default", signal.SIGKILL, "jax", marks=pytest.mark.second_lane),
        pytest.param("default", signal.SIGKILL, "torch", marks=pytest.mark.second_lane),
    ],
)
def test_resume_after_interruption_ends_in_the_same_bits(
    command, python, tmp_path, monkeypatch, recipe, how, backend
) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    monkeypatch.setenv("KERAS_BACKEND", backend)
    epochs = 12
    words = [*command[: command.index("--set")], "--set", f"training.epochs={epochs}"]
    if recipe == "default":
        more = [*SMALL, "--set", f"training.epochs={epochs}"]
    else:  # dropout, RMSprop, early stopping that restores nothing; small input for a small net
        words += ["--recipe", "reference", "--set", "input.before=48", "--set", "input.size=32"]
        more = ["--set", "training.early_stopping.patience=9", "--set", "training.batch_size=8"]
    words += more
    whole = python([*words, "--out", tmp_path / "whole"])
    assert whole.returncode == 0, whole.stderr

    process = subprocess.Popen(
        [sys.executable, *map(str, words), "--out", str(tmp_path / "cut")],
        cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    state = tmp_path / "cut/checkpoint/state.json"
    deadline = time.monotonic() + 120
    while not state.exists() or len(json.loads(state.read_text())["history"]["loss"]) < 3:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "--resume" in errors
        assert "Traceback" not in errors
    done_epochs = len(json.loads(state.read_text())["history"]["loss"])
    assert 3 <= done_epochs < epochs
    assert not (tmp_path / "cut/run.json").exists()

    resumed = python(["train.py", "--out", tmp_path / "cut", "--resume"])
    assert resumed.returncode == 0, resumed.stderr
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    assert read(tmp_path / "cut")["training"] == read(tmp_path / "whole")["training"]
    assert not (tmp_path / "cut/checkpoint").exists()


def test_resume_refuses_other_images(python, tmp_path) -> None:
    folder = write_folder(tmp_path / "data")
    words = ["train.py", "--data", folder, "--cache-dir", tmp_path / "cache", *SMALL]
    words += ["--set", "training.epochs=400", "--set", "training.early_stopping=none"]
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, *map(str, words), "--out", str(out)],
        cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (out / "checkpoint/state.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    picture(12345, fake=False).save(folder / "train/real/train000.png")
    resumed = python(["train.py", "--out", out, "--resume"])
    assert resumed.returncode == 1
    assert "needs the images that the run began with" in resumed.stderr
    assert (out / "checkpoint/state.json").exists()  # nothing is lost


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interruption_while_ela_is_computed_by_two_processes(tmp_path, how) -> None:
    """As a terminal does it: the signal goes to the whole group; or the parent alone is killed."""
    folder = write_folder(tmp_path / "data", train=200, test=4)
    words = ["train.py", "--data", folder, "--cache-dir", tmp_path / "cache", "--num-proc", 2]
    words += [*SMALL, "--set", "augmentation.views=60", "--out", tmp_path / "run"]
    process = subprocess.Popen(
        [sys.executable, *map(str, words)], cwd=REPOSITORY, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    # `datasets` writes to a temporary file beside its cache until a part is done.
    while not any(path.stat().st_size for path in (tmp_path / "cache").rglob("tmp*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in errors
        assert "--resume" in errors
    else:
        process.kill()
        process.communicate(timeout=60)
    while time.monotonic() < deadline:  # no worker outlives it
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("workers are still there")


def test_the_bias_of_the_calibration_is_in_the_weights(command, run, python, tmp_path) -> None:
    words = [*command, "--set", "calibration.temperature=false", "--out", tmp_path / "run"]
    done = python(words)
    assert done.returncode == 0, done.stderr
    bias = read(run)["calibration"]["bias"]
    assert abs(bias) > 1e-3
    found, raw = weights(run), weights(tmp_path / "run")
    different = {name: found[name] - raw[name] for name in raw if (found[name] != raw[name]).any()}
    (change,) = different.values()
    assert change == pytest.approx([bias, 0], abs=1e-6)  # of fake and of real


def test_early_stopping_keeps_the_best_epoch(command, python, tmp_path) -> None:
    words = [*command, "--set", "training.epochs=30", "--set", "training.early_stopping.patience=2"]
    words += ["--set", "training.learning_rate=0.05", "--set", "calibration.temperature=false"]
    done = python([*words, "--out", tmp_path / "run"])
    assert done.returncode == 0, done.stderr
    training = read(tmp_path / "run")["training"]
    losses = training["history"]["val_loss"]
    assert training["best_epoch"] == int(np.argmin(losses))
    assert training["epochs"] == len(losses) == training["best_epoch"] + 3 < 30


@pytest.mark.second_lane
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_train_too(backend, command, python, tmp_path, tiny) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = python([*command, "--out", tmp_path / "run"], KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "run")["environment"]["backend"] == backend
    table = pd.read_parquet(tmp_path / "run/predictions.parquet")
    here = ElaClassifier.from_pretrained(tmp_path / "run")  # on this process's backend
    scores = list(here.scores([tiny / name for name in table["file"]]))
    assert np.allclose(scores, table["score"], atol=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "training.epoch=3"], "`training.epochs`"),
        (["--recipe", "nothing"], "default, reference"),
        (["--data", "no/such/folder/here"], "no/such/folder/here"),
        (["--label-map", "x"], "NAME=fake"),
        (["--limit", "1"], "2 or more"),
        (["--out", "src"], "new or empty"),
        (["--out", "src", "--resume"], "interrupted run"),
        (["--groups", "missing.csv"], "missing.csv"),
        (["--groups", "a\n  \x1b[31m.csv"], "file a\\n  \\x1b[31m.csv cannot"),
        (["--out", "README.md/run"], "must be writable"),
        (["--cache-dir", "README.md"], "File exists: 'README.md"),
    ],
)
def test_wrong_usage_is_one_line_without_traceback(
    command, python, tmp_path, words, message
) -> None:
    done = python([*command, "--out", tmp_path / "run", *words])
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()  # it is not in the way of the next try


def test_a_run_inside_its_data_is_refused(python, tmp_path) -> None:
    folder = write_folder(tmp_path / "data", train=2, test=2)
    done = python(["train.py", "--data", folder, "--out", folder / "run"])
    assert done.returncode == 1
    assert "outside the data" in done.stderr


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_a_missing_backend_is_said_before_any_work(command, python, tmp_path, backend) -> None:
    if find_spec(backend) and backend == "torch":
        pytest.skip("torch is installed")
    done = python([*command, "--out", tmp_path / "run"], KERAS_BACKEND=backend)
    assert done.returncode == 1
    assert f"Received: {backend}" in done.stderr
    assert "Preparing" not in done.stdout


def test_a_finished_run_is_neither_overwritten_nor_resumed(run, command, python) -> None:
    before = (run / "run.json").read_bytes()
    again = python([*command, "--out", run])
    assert again.returncode == 1
    assert "new or empty" in again.stderr
    resumed = python(["train.py", "--out", run, "--resume"])
    assert resumed.returncode == 1
    assert "finished run" in resumed.stderr
    assert (run / "run.json").read_bytes() == before


@pytest.mark.second_lane
def test_the_published_recipe_runs_on_real_images(pool, pool_csv, python, tmp_path) -> None:
    words = ["train.py", "--recipe", "reference", "--data", pool, "--groups", pool_csv]
    words += ["--limit", 24, "--set", "training.epochs=1", "--cache-dir", tmp_path / "cache"]
    done = python([*words, "--out", tmp_path / "run"], HF_DATASETS_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    content = read(tmp_path / "run")
    assert content["model"]["parameters"] == 29_520_034
    assert content["calibration"] == {
        "temperature": 1.0,
        "bias": 0.0,
        "threshold": 0.5,
        "uncertain": None,
    }


def test_a_card_that_fails_loses_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_ela.hub.card.MODEL_CARD", tmp_path / "nowhere")  # no template
    said: list[str] = []
    options = DataOptions(str(tiny), cache_dir=str(tmp_path / "cache"))
    run = train(load_recipe("default", TINY), options, tmp_path / "run", say=said.append)
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == run
    assert (tmp_path / "run" / "weights" / "model.weights.h5").is_file()
    assert not (tmp_path / "run" / "README.md").exists()
    assert "its card could not be made" in said[-1]
