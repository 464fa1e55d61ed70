"""Each benchmark runs from its command line on little data and writes what it prints."""

import json
import re
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import (
    REPOSITORY,
    TINY,
    picture,
    with_test_classes_exchanged,
    write_folder,
    write_groups,
)
from hf_ela.data.loading import DataOptions
from hf_ela.recipes.loading import load_recipe

BENCHMARKS = REPOSITORY / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    """The scripts, to be imported."""
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def run(python, tmp_path):
    """Run a benchmark; return what it printed, and its report."""

    def run(script, *arguments, **environment):
        out = tmp_path / "report.json"
        done = python([BENCHMARKS / script, *arguments, "--out", out], **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout, json.loads(out.read_text("utf-8"))

    return run


def test_exact_draws_all_cases_and_sees_one_level_in_one_pixel(scripts):
    import exact

    cases = exact.Cases(None, seed=3)
    for subsampling in exact.SUBSAMPLINGS:
        sizes = [shape[:2] for shape in cases.shapes if shape.subsampling == subsampling]
        assert {height % 16 for height, _ in sizes} == set(range(16))
        assert {width % 16 for _, width in sizes} == set(range(16))
        assert {1, 2, 3, 4, 5} <= {width for _, width in sizes}
        assert (1, 1) in sizes
    images, qualities = cases.images(exact.STEP, exact.Shape(9, 7, "4:2:0"))
    assert images.shape == (800, 9, 7, 3)
    assert [(qualities == quality).sum() for quality in range(1, 101)] == [8] * 100
    theirs = exact.pillow(images[:3], qualities[:3], "4:2:0")
    ours = theirs.copy()
    assert exact.differing(ours, theirs) == 0
    ours[1, 4, 5, 2] ^= 1
    assert exact.differing(ours, theirs) == 1


@pytest.mark.second_lane
def test_exact_counts_cases_and_finds_no_differing_pixel(run):
    printed, report = run(
        "exact.py", "--cases", 400, "--shapes", 2, "--backends", "tensorflow", "onnx"
    )
    rows = report["rows"]
    assert rows["tensorflow"]["kinds"]["eager"]["cases"] == 2 * 100 * 16
    assert rows["onnx"]["cases"] == 400 + 2 * 7 * 16
    for row in rows.values():
        assert row["kinds"]["a quality an image"] == {"cases": 400, "differing_pixels": 0}
        assert row["cases"] == sum(kind["cases"] for kind in row["kinds"].values())
        assert row["differing_pixels"] == 0
        assert f"{row['cases']:,}" in printed


def test_speed_compares_ways_to_the_same_network_input(scripts, tiny):
    import speed

    for path in (tiny / "test" / "fake").iterdir():
        theirs, (ours,) = speed.as_usually_written(str(path)), speed.ours(str(path))
        assert np.array_equal((theirs * 255).round(), ours)


@pytest.mark.second_lane
def test_speed_measures_every_way_and_all_of_ours_are_exact(run):
    small = [
        "--rows",
        1000,
        "--images",
        16,
        "--files",
        10,
        "--repeat",
        1,
        "--sides",
        64,
        "--processes",
        1,
    ]
    one = ["--backends", "tensorflow", "--recipes", "reference"]
    printed, report = run("speed.py", *small, *one)
    for row in report["rows"]:
        assert row["value"] > 0
        assert re.search(f"^{re.escape(row['way'])} +{row['value']:.2f} ", printed, re.MULTILINE)
    assert [row["differing"] for row in report["rows"] if "differing" in row] == [0] * 5
    assert Counter(row["what"] for row in report["rows"]) == {
        "ELA of 64 x 64 pixels, images/s": 5,  # Pillow twice, TensorFlow twice, ONNX Runtime
        "from file to network input, images/s": 2,  # as usually written, ours
        "prepare, images/s": 2,  # cold, cached
        "cold start, s": 2,  # ONNX Runtime, TensorFlow
        "scoring, images/s": 3,  # and the published way
        "peak memory, MiB": 2,
        "beside the score, ms": 2,  # claims, facts
        "near-duplicates, s": 2,  # counted, grouped
        "near-duplicates, peak memory, MiB": 2,
        "explain, s": 2,  # a square and a strip
    }


def test_speed_takes_the_images_of_a_folder(scripts, tiny, tmp_path):
    import common

    common.write_images(tmp_path / "images", str(tiny), 8)
    links = sorted((tmp_path / "images").rglob("*.*g"))
    assert [link.resolve().is_relative_to(tiny) for link in links] == [True] * 8


@pytest.mark.second_lane
def test_feeding_measures_the_input_of_a_training(run, tiny, tmp_path):
    options = ["--data", tiny, "--cache-dir", tmp_path / "cache", "--num-proc", 1]
    printed, report = run("feeding.py", "input", *options, *settings(*TINY))
    rows = {row["what"]: row["value"] for row in report["rows"]}
    assert all(f"{what:<36}{value:10.4g}" in printed for what, value in rows.items())
    assert len(rows) == 6
    assert min(rows.values()) > 0
    assert rows["cache, kB an image to train on"] < 3 * 3 * 32**2 / 1000  # three views, as WebP


@pytest.fixture
def packed(tiny, tmp_path, python):
    """The images of `tiny`, packed by the command: classes and splits stay, sizes are aligned."""
    folder = tmp_path / "packed"
    made = python([BENCHMARKS / "gpu.py", "pack", "--data", tiny, "--out", folder])
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("44 images, ")
    for (split, count), kind in product({"train": 16, "test": 6}.items(), ("fake", "real")):
        packed = [path.read_bytes() for path in (folder / split / kind).iterdir()]
        assert len(packed) == count
        assert all(256 <= max(Image.open(BytesIO(file)).size) <= 384 for file in packed)
    return folder


@pytest.mark.second_lane
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_gpu_measures_the_cpu_where_there_is_no_gpu_and_says_so(backend, packed, run):
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    recipes = ("reference", "scratch") if backend == "torch" else ("scratch",)
    quick = ["--data", packed, "--quick", "--repeat", 1, "--recipes", *recipes]
    printed, report = run("gpu.py", "run", *quick, KERAS_BACKEND=backend, CUDA_VISIBLE_DEVICES="")
    assert "NO GPU" in printed
    assert "44 images" not in printed  # it is packed
    assert report["environment"]["backend"] == backend
    (ela,) = report["ela"]
    assert ela["differing_pixels"] == 0
    assert f"{ela['images_per_second'] / ela['limit_images_per_second']:.1%}" in printed
    for row, recipe in zip(report["training"], recipes, strict=True):
        assert (row["recipe"], row["test_images"], row["epochs"]) == (recipe, 12, 1)
        assert 0 <= row["test_auc"] <= 1


@pytest.mark.second_lane
def test_gpu_stops_a_training_in_time_and_takes_a_plain_folder(tiny, run):
    if not find_spec("jax"):
        pytest.skip("jax is not installed")
    quick = ["--data", tiny, "--quick", "--repeat", 1, "--recipes", "scratch", "--minutes", 0]
    printed, report = run("gpu.py", "run", *quick, KERAS_BACKEND="jax", CUDA_VISIBLE_DEVICES="")
    assert "44 images" in printed
    assert "stopped, 0 minutes after the start" in printed
    (row,) = report["training"]
    assert (row["epochs"], row["test_auc"]) == (0, None)


@pytest.mark.second_lane
def test_gpu_refuses_a_backend_that_it_cannot_measure(python):
    done = python([BENCHMARKS / "gpu.py", "run", "--data", "x"], KERAS_BACKEND="tensorflow")
    assert done.returncode == 1
    assert "KERAS_BACKEND must be jax or torch. Received: tensorflow." in done.stderr


@pytest.fixture
def trials(tiny, tmp_path):
    """The options of a benchmark that trains: little data, whose formats are its sources."""
    groups = write_groups(
        tmp_path / "groups.csv", tiny, "group,source", lambda n: (n, n.split("/")[1] + n[-3:])
    )
    options = ["--data", tiny, "--groups", groups, "--num-proc", 1]
    return [*options, "--cache-dir", tmp_path / "cache", "--runs", tmp_path / "runs"]


def settings(*overrides):
    return [f"--set={override}" for override in overrides]


def test_a_finished_run_is_kept_and_not_taken_for_one_with_other_settings(
    scripts, tiny, tiny_groups, tiny_run
):
    from common import trained

    recipe, other = (load_recipe("scratch", [*TINY, *more]) for more in ([], ["training.epochs=1"]))
    options = DataOptions(str(tiny), groups=str(tiny_groups))
    assert trained(recipe, options, tiny_run) == json.loads((tiny_run / "run.json").read_text())
    for asked in ((other, options), (recipe, replace(options, leave_out="source=reals"))):
        with pytest.raises(SystemExit, match="with other settings"):
            trained(*asked, tiny_run)


def test_leave_one_out_sums_each_seed_over_the_values(scripts):
    from leave_one_out import METRICS, summed

    areas = [(0, 0.5), (0, 0.75), (1, 0.875), (1, 0.625)]
    rows = [{"seed": s} | {metric: {"value": area} for metric in METRICS} for s, area in areas]
    assert summed(rows)["roc_auc"] == {"mean": [0.625, 0.75], "minimum": [0.5, 0.625]}


@pytest.mark.second_lane
def test_leave_one_out_tests_on_what_training_did_not_see(run, trials, tmp_path):
    arguments = [*trials, *settings(*TINY), "--only", "fakejpg"]
    printed, report = run("leave_one_out.py", *arguments)
    # Of train and test: 8 + 3 unseen fakes; beside them all 6 real images of test.
    (row,) = report["rows"]
    assert (row["seed"], row["unseen"], row["fake"], row["real"]) == (0, 11, 11, 6)
    area = row["roc_auc"]["value"]
    assert report["summary"]["roc_auc"] == {"mean": [area], "minimum": [area]}
    assert f"seed 0: | fakejpg | 11 | 11 | 6 | {area:.3f} (" in printed
    fold = tmp_path / "runs" / "scratch-source-fakejpg-0"
    trained = json.loads((fold / "run.json").read_text("utf-8"))
    assert trained["data"]["left_out"] == {"rule": "source=fakejpg", "images": 8}


def test_sources_are_drawn_with_both_classes_outside_of_each_part(scripts):
    from left_out import drawn

    labels = np.repeat([0, 1], 60)
    sources = np.array([f"{label}-{i % 6}" for i, label in enumerate(labels)])
    parts = np.array([str(i % 6 // 2) for i in range(len(labels))])
    for seed in range(20):
        chosen = drawn(labels, sources, parts, "sources", 0.3, seed)
        assert len(set(sources[chosen])) == 4
        assert all(set(labels[chosen & (parts != part)]) == {0, 1} for part in set(parts))
    assert drawn(labels, sources, parts, "images", 0.3, 0).mean() == pytest.approx(0.3, abs=0.15)
    assert drawn(labels, sources, parts, "all", 1, 0).all()


@pytest.mark.second_lane
def test_sources_left_out_are_scored_from_fewer_images_and_sources(run, tiny, trials, tmp_path):
    def row(name):
        kind, second = name.split("/")[1], name.endswith("jpg")
        return name, f"{kind}-{second}", "01"[second]

    groups = write_groups(tmp_path / "parts.csv", tiny, "group,source,part", row)
    small = settings(
        "input.size=96", "augmentation.views=1", "training.epochs=2", "validation.fraction=0.25"
    )
    arguments = [*trials, "--groups", groups, *small, "--seeds", 2, "--shares", 0.5]
    printed, report = run("left_out.py", *arguments)
    kinds = [(row["of"], row["seed"]) for row in report["rows"]]
    assert kinds == [(of, seed) for seed in (0, 1) for of in ("all", "images", "sources")]
    whole = max(row["images"] for row in report["rows"])
    for row in report["rows"]:
        assert [part["part"] for part in row["aligned"]] == ["0", "1"]
        assert (row["images"] < whole) == (row["of"] == "images")  # two sources a class: all kept
    assert f"| all | 1 | {whole} | 4 | " in printed


@pytest.mark.second_lane
def test_fine_tuning_is_compared_on_images_that_no_training_has_seen(run, tiny, trials, tmp_path):
    def row(name):
        return name, name.split("/")[1], "01"[name.endswith("jpg")]

    groups = write_groups(tmp_path / "parts.csv", tiny, "group,source,part", row)
    small = settings(*TINY, "validation.fraction=0.25")
    arguments = [*trials, "--groups", groups, *small, "--recipe", "scratch", "--part", 1]
    printed, report = run("fine_tuning.py", *arguments, "--each", 6, "--test", 3)
    assert [row["model"] for row in report["rows"]] == ["as it is", "fine-tuned", "trained anew"]
    folder = tmp_path / "runs" / "folder"
    assert Counter(file.parent for file in folder.rglob("*.*")) == {
        folder / split / label: size
        for split, size in (("train", 6), ("test", 3))
        for label in ("fake", "real")
    }
    accuracy = report["rows"][1]["test"]["aligned"]["accuracy"]
    assert f"| fine-tuned | {report['rows'][1]['test']['as_is']['roc_auc']:.3f} | " in printed
    assert f" {accuracy:.3f} " in printed


@pytest.mark.second_lane
def test_detectors_are_compared_on_the_same_images(run, trials, tmp_path):
    small = settings("input.size=32", "training.epochs=2", "training.batch_size=8")
    arguments = [*trials, *small, "--seeds", 1, "--recipes", "features-aligned"]
    printed, report = run("detectors.py", *arguments)
    rows = {(row["detector"], row["tested"]): row for row in report["rows"]}
    detectors = ["reference", "features-aligned"]
    assert list(rows) == [(name, how) for how in ("as_is", "aligned") for name in detectors]
    assert (report["test"]["fake"], report["test"]["real"]) == (6, 6)
    for (name, how), row in rows.items():
        right, of_reference = (round(12 * rows[n, how]["accuracy"][0]) for n in (name, "reference"))
        assert list(row["against"]) == [other for other in ("reference",) if other != name]
        for (test,) in row["against"].values():
            assert test["only_b"] - test["only_a"] == right - of_reference
            assert f"| {right - of_reference:+d}, p = {test['p']:.1g} |" in printed
        assert f"| `{name}` |" in printed
    assert rows["features-aligned", "aligned"]["roc_auc"][0] > 0.9  # rare by chance, 6 against 6
    # What the table says of a network is what its run says.
    trained = json.loads((tmp_path / "runs" / "reference-0" / "run.json").read_text("utf-8"))
    for how, metrics in trained["evaluation"]["test"].items():
        for metric in ("accuracy", "balanced_accuracy", "roc_auc", "ece"):
            assert rows["reference", how][metric] == [pytest.approx(metrics[metric]["value"])]


@pytest.mark.second_lane
@pytest.mark.second_lane
def test_grey_copies_of_the_same_pictures_have_no_certain_answer(run, tiny):
    words = ["--data", tiny, "--changes", "none", "grey", "--images", 3]
    printed, report = run("doubts.py", *words)
    assert report["facts"] == []
    assert [row["change"] for row in report["changes"]] == ["none", "grey"]
    _, grey = report["changes"]
    assert (grey["certain"]["value"], grey["certain"]["n"]) == (0, 6)
    assert grey["human called AI"]["n"] == 3
    assert printed.startswith("none | ")


def test_damaged_files_are_the_same_for_the_same_seed_and_nearly_all_differ(scripts):
    from itertools import islice

    from hostile import damaged_files

    files = [[*islice(damaged_files(seed), 12)] for seed in (0, 0, 1)]
    assert files[0] == files[1] != files[2]
    assert len({data for _, data in files[0]}) > 10


@pytest.mark.second_lane
def test_campaign_finds_no_failure(run):
    """Kills and folders are left to the command itself, and to the tests of training and models."""
    parts = ["files", "releases", "downloads"]
    printed, report = run("campaign.py", *parts, "--files", 9, "--faults", 2)
    rows = report["rows"]
    assert list(rows) == parts
    assert [rows[part]["tried"] for part in parts[1:]] == [2, 2]
    for part, row in rows.items():
        assert row["failures"] == []
        assert printed.count(f"| {row['tried']:,} | ") >= 1, part
    files = rows["files"]
    assert files["scored"] + sum(files["refused"].values()) == files["tried"] == 10


@pytest.mark.second_lane
def test_the_test_split_decides_nothing_of_boosting(tmp_path, cache, scripts):
    from detectors import of_boosting

    data = write_folder(tmp_path / "data", train=20, test=8)
    for number, path in enumerate(sorted(data.rglob("*.*g"))):  # classes that are hard to tell
        picture(number, fake=number % 3 == 0).save(path)
    recipe = load_recipe("scratch", TINY)
    exchanged = with_test_classes_exchanged(data, tmp_path / "exchanged")
    plain, other = (
        of_boosting(recipe, DataOptions(str(folder), num_proc=1), "aligned")
        for folder in (data, exchanged)
    )
    assert plain.threshold == other.threshold

    def scores(found, labels):
        names = [
            f"{Path(name).name} {label}" for name, label in zip(found.files, labels, strict=True)
        ]
        return dict(zip(names, found.scores["aligned"], strict=True))

    assert scores(plain, plain.labels) == scores(other, 1 - other.labels)
