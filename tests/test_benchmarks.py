"""Each benchmark runs from its command line on little data and writes what it prints."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from PIL import Image

from conftest import REPOSITORY, TINY, picture, with_test_classes_exchanged, write_folder
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


def test_exact_draws_every_remainder_and_every_pair_of_quality_and_content(scripts):
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


def test_exact_sees_one_level_in_one_channel_of_one_pixel(scripts):
    import exact

    images, qualities = exact.Cases(None, seed=0).images(3, exact.Shape(8, 8, "4:2:0"))
    theirs = exact.pillow(images, qualities, "4:2:0")
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
    small = ["--images", 16, "--files", 10, "--repeat", 1, "--sides", 64, "--processes", 1]
    one = ["--backends", "tensorflow", "--recipes", "reference"]
    printed, report = run("speed.py", *small, *one)
    ways: dict[str, list[str]] = {}
    for row in report["rows"]:
        ways.setdefault(row["what"], []).append(row["way"])
        assert row["value"] > 0
        assert re.search(f"^{re.escape(row['way'])} +{row['value']:.2f} ", printed, re.MULTILINE)
    assert {row["differing"] for row in report["rows"] if "differing" in row} == {0}
    layers = [f"layer, {name}" for name in ("tensorflow", "tensorflow with XLA", "ONNX Runtime")]
    ela = ways.pop("ELA of 64 x 64 pixels, images/s")
    assert (ela[0], ela[2:]) == ("Pillow, 1 thread", layers)
    assert ways == {
        "from file to network input, images/s": [
            "as usually written, 1 process(es)",
            "ours, 1 process(es)",
        ],
        "prepare, images/s": [
            "reference, 1 process(es), cold",
            "reference, 1 process(es), cached",
        ],
        "cold start, s": ["reference, onnx", "reference, tensorflow"],
        "scoring, images/s": [
            "reference, published",
            "reference, onnx",
            "reference, tensorflow",
        ],
        "peak memory, MiB": ["reference, onnx, 1 files", "reference, onnx, 10 files"],
    }


def test_speed_takes_the_images_of_a_folder_and_knows_its_parts(scripts, tiny, tmp_path):
    import speed

    speed.write_images(tmp_path / "images", str(tiny), 8)
    links = sorted((tmp_path / "images").rglob("*.*g"))
    assert len(links) == 8
    assert all(link.resolve().is_relative_to(tiny) for link in links)
    assert list(speed.PARTS) == ["ela", "preprocess", "predict"]


@pytest.fixture
def packed(tiny, tmp_path, python):
    """The images of `tiny`, packed by the command."""
    made = python([BENCHMARKS / "gpu", "pack", "--data", tiny, "--out", tmp_path / "packed"])
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("44 images, ")
    return tmp_path / "packed"


@pytest.mark.second_lane
def test_gpu_packs_classes_and_splits_at_aligned_sizes(packed, tiny):
    def counts(folder):
        places = [path.parent.relative_to(folder) for path in folder.rglob("*.*g")]
        return {place: places.count(place) for place in places}

    assert counts(packed) == counts(tiny)
    for path in packed.rglob("*.jpg"):
        with Image.open(path) as image:
            assert 256 <= max(image.size) <= 384


@pytest.mark.second_lane
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_gpu_measures_the_cpu_where_there_is_no_gpu_and_says_so(backend, packed, run):
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    quick = ["--data", packed, "--quick", "--repeat", 1, "--recipes", "default"]
    printed, report = run("gpu", "run", *quick, KERAS_BACKEND=backend, CUDA_VISIBLE_DEVICES="")
    assert "NO GPU" in printed
    assert report["environment"]["backend"] == backend
    assert [row["differing_pixels"] for row in report["ela"]] == [0]
    (row,) = report["training"]
    assert (row["recipe"], row["test_images"]) == ("default", 12)
    assert 0 <= row["test_auc"] <= 1


@pytest.mark.second_lane
def test_gpu_refuses_a_backend_that_it_cannot_measure(python):
    done = python([BENCHMARKS / "gpu", "run", "--data", "x"], KERAS_BACKEND="tensorflow")
    assert done.returncode == 1
    assert "KERAS_BACKEND must be jax or torch. Received: tensorflow." in done.stderr


@pytest.fixture
def trials(tiny, tmp_path):
    """The options of a benchmark that trains: little data, whose formats are its sources."""
    names = [path.relative_to(tiny).as_posix() for path in sorted(tiny.rglob("*.*g"))]
    lines = [f"{n},{n},{n.split('/')[1]}{n[-3:]}\n" for n in names]
    groups = tmp_path / "groups.csv"
    groups.write_text("file_name,group,source\n" + "".join(lines))
    options = ["--data", tiny, "--groups", groups, "--num-proc", 1]
    return [*options, "--cache-dir", tmp_path / "cache", "--runs", tmp_path / "runs"]


def settings(*overrides):
    return [word for override in overrides for word in ("--set", override)]


@pytest.mark.second_lane
def test_leave_one_out_tests_on_what_training_did_not_see(run, trials, tmp_path):
    arguments = [*trials, *settings(*TINY), "--only", "fakejpg", "--seeds", 2]
    printed, report = run("leave_one_out.py", *arguments)
    # Of train and test: 8 + 3 unseen fakes; beside them all 6 real images of test.
    assert [row["seed"] for row in report["rows"]] == [0, 1]
    for row in report["rows"]:
        assert (row["unseen"], row["fake"], row["real"]) == (11, 11, 6)
    areas = [row["roc_auc"]["value"] for row in report["rows"]]
    assert report["summary"]["roc_auc"] == {"mean": areas, "minimum": areas}
    assert f"seed 0: | fakejpg | 11 | 11 | 6 | {areas[0]:.3f} (" in printed
    spread = f" ({min(areas):.3f}-{max(areas):.3f})" if areas[0] != areas[1] else ""
    assert f"\n| fakejpg | 11 | 11 | 6 | {mean(areas):.3f}{spread} |" in printed
    fold = tmp_path / "runs" / "default-source-fakejpg-0"
    trained = json.loads((fold / "run.json").read_text("utf-8"))
    assert trained["data"]["left_out"] == {"rule": "source=fakejpg", "images": 8}


@pytest.mark.second_lane
def test_detectors_are_compared_on_the_same_images(run, python, trials, tmp_path):
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
    # Enlarged noise is told from noise; by chance, of 6 against 6, .9 is rare.
    assert rows["features-aligned", "aligned"]["roc_auc"][0] > 0.9
    # What the table says of a network is what its run says.
    folder = tmp_path / "runs" / "reference-0"
    trained = json.loads((folder / "run.json").read_text("utf-8"))
    losses = {row["perturbation"]: [row["loss"]] for row in trained["robustness"]["rows"]}
    assert report["losses"] == {"reference": losses}
    for how, metrics in trained["evaluation"]["test"].items():
        for metric in ("accuracy", "balanced_accuracy", "roc_auc", "ece"):
            assert rows["reference", how][metric] == [pytest.approx(metrics[metric]["value"])]
    # --record puts the table into the card of a run on the same images; a finished run is kept.
    again, same = run("detectors.py", *arguments, "--record", folder)
    assert "Preparing" not in again
    assert same["rows"] == report["rows"]
    assert json.loads((folder / "run.json").read_text("utf-8"))["detectors"] == same
    assert "| `features-aligned` | aligned |" in (folder / "README.md").read_text("utf-8")
    # A run with other settings is not taken for it.
    other = [*arguments, "--set", "training.epochs=1", "--out", tmp_path / "other.json"]
    done = python([BENCHMARKS / "detectors.py", *other])
    assert done.returncode == 1
    assert "with other settings" in done.stderr


def test_the_test_split_decides_nothing_of_boosting(tmp_path, cache, scripts):
    """Its classes exchanged: threshold and scores stay as they were."""
    from detectors import of_boosting

    data = write_folder(tmp_path / "data", train=20, test=8)
    for number, path in enumerate(sorted(data.rglob("*.*g"))):  # classes that are hard to tell
        picture(number, fake=number % 3 == 0).save(path)
    recipe = load_recipe("default", TINY)
    exchanged = with_test_classes_exchanged(data, tmp_path / "exchanged")
    plain, other = (
        of_boosting(recipe, DataOptions(str(folder), num_proc=1), "aligned")
        for folder in (data, exchanged)
    )
    assert plain.threshold == other.threshold
    scores = [
        {Path(name).name + str(label): score for name, label, score in zip(*columns, strict=True)}
        for columns in (
            (plain.files, plain.labels, plain.scores["aligned"]),
            (other.files, 1 - other.labels, other.scores["aligned"]),
        )
    ]
    assert scores[0] == scores[1]
