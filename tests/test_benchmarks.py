"""Each benchmark runs from its command line, on little data, and writes what it prints."""

import json
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from PIL import Image

from conftest import TINY, picture, with_test_classes_exchanged, write_folder
from hf_ela._text import over_seeds
from hf_ela.data.loading import DataOptions
from hf_ela.recipes.loading import load_recipe

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def run(python, tmp_path, script, *arguments, **environment):
    """Run a benchmark; return what it printed, and its report."""
    out = tmp_path / "report.json"
    done = python([BENCHMARKS / script, *arguments, "--out", out], **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text("utf-8"))


def test_exact_counts_cases_and_finds_no_differing_pixel(python, tmp_path):
    arguments = ["--cases", 400, "--shapes", 2, "--backends", "tensorflow"]
    printed, report = run(python, tmp_path, "exact.py", *arguments)
    (row,) = report["rows"].values()
    assert row["kinds"]["a quality an image"] == {"cases": 400, "differing_pixels": 0}
    assert row["kinds"]["eager"]["cases"] == 2 * 100 * 16
    assert row["cases"] == sum(kind["cases"] for kind in row["kinds"].values())
    assert row["differing_pixels"] == 0
    assert f"{row['cases']:,}" in printed


@pytest.mark.second_lane
def test_exact_compares_onnx_runtime(python, tmp_path):
    arguments = ["--cases", 400, "--shapes", 2, "--backends", "onnx"]
    _, report = run(python, tmp_path, "exact.py", *arguments)
    assert report["rows"]["onnx"]["cases"] == 400 + 2 * 7 * 16
    assert report["rows"]["onnx"]["differing_pixels"] == 0


def test_exact_draws_every_remainder_and_every_pair_of_quality_and_content(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
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


def test_exact_sees_one_level_in_one_channel_of_one_pixel(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import exact

    images, qualities = exact.Cases(None, seed=0).images(3, exact.Shape(8, 8, "4:2:0"))
    theirs = exact.pillow(images, qualities, "4:2:0")
    ours = theirs.copy()
    assert exact.differing(ours, theirs) == 0
    ours[1, 4, 5, 2] ^= 1
    assert exact.differing(ours, theirs) == 1


@pytest.mark.second_lane
def test_ela_compares_every_way_and_all_of_ours_are_exact(python, tmp_path):
    # Compiling for torch takes minutes.
    only = ["--only", "Pillow", "tensorflow", "onnx"]
    printed, report = run(python, tmp_path, "ela.py", "--sides", 64, "--repeat", 1, *only)
    differing = {row["name"]: row["differing"] for row in report["rows"]}
    assert {"Pillow, 1 thread", "layer, tensorflow", "layer, ONNX Runtime"} <= differing.keys()
    assert set(differing.values()) == {0}
    assert all(row["images_per_second"] > 0 for row in report["rows"])
    assert "pixels that differ" in printed


@pytest.mark.second_lane
def test_predict_measures_every_way(python, tmp_path):
    arguments = ["--images", 4, "--files", 10, "--repeat", 1, "--runtimes", "onnx", "tensorflow"]
    _, report = run(python, tmp_path, "predict.py", *arguments)
    ways = {(row["what"], row["way"], row["recipe"]) for row in report["rows"]}
    for recipe in ("reference", "default"):
        assert ("cold start, s", "onnx", recipe) in ways
        assert ("images/s", "onnx", recipe) in ways
        assert ("images/s", "tensorflow", recipe) in ways
    assert ("images/s", "published", "reference") in ways
    assert ("peak memory over 10 files, MiB", "onnx", "default") in ways


@pytest.fixture(scope="module")
def pack(python, tmp_path_factory):
    """A pack of 60 images, 12 of them to test."""
    folder = tmp_path_factory.mktemp("pack")
    data = write_folder(folder / "data", train=24, test=6)
    made = python([BENCHMARKS / "gpu", "pack", "--data", data, "--out", folder / "pool.npz"])
    assert made.returncode == 0, made.stderr
    assert "60 images, longest side 256-384 px" in made.stdout
    return folder / "pool.npz"


def test_a_pack_holds_the_classes_and_the_split(pack, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS / "gpu")
    from pool import read_pool

    pool = read_pool(pack, limit=None)
    assert (int(pool.test.sum()), int(pool.fake.sum())) == (12, 30)
    assert int((pool.test & pool.fake).sum()) == 6
    parts = [pool.part(name) for name in ("train", "validation", "test")]
    assert sorted(np.concatenate(parts)) == list(range(60))
    assert all(256 <= max(image.size) <= 384 for image in pool.images)
    assert all(isinstance(image, Image.Image) and image.mode == "RGB" for image in pool.images)


def test_a_pack_shrinks_images_until_it_fits(tiny, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS / "gpu")
    from pool import pack, read_pool

    pack(tiny, tmp_path / "pool.npz", megabytes=0.3)
    held = np.load(tmp_path / "pool.npz")
    assert len(held["bytes"]) <= 300_000
    assert held["factor"] < 1
    assert len(read_pool(tmp_path / "pool.npz", limit=None).images) == 44


def test_area_under_curve_is_that_of_scikit_learn(monkeypatch):
    from sklearn.metrics import roc_auc_score

    monkeypatch.syspath_prepend(BENCHMARKS / "gpu")
    from training import area_under_curve

    rng = np.random.default_rng(0)
    scores, fake = rng.integers(0, 9, 100) / 9, rng.random(100) < 0.4
    assert area_under_curve(scores, fake) == pytest.approx(roc_auc_score(fake, scores))


@pytest.mark.second_lane
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_gpu_runs_where_there_is_none_and_says_so(backend, pack, python, tmp_path):
    if not find_spec(backend):
        pytest.skip(f"{backend} is not here")
    out = tmp_path / "report.json"
    command = [BENCHMARKS / "gpu", "run", "--data", pack, "--quick", "--repeat", 1]
    done = python([*command, "--out", out], KERAS_BACKEND=backend, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    assert "NO GPU" in done.stdout
    report = json.loads(out.read_text("utf-8"))
    assert report["gpu"] is False
    assert [row["differing_pixels"] for row in report["ela"]] == [0]
    assert [row["recipe"] for row in report["training"]] == ["reference", "default"]
    assert all(0 <= row["test_auc"] <= 1 for row in report["training"])


def test_gpu_refuses_a_backend_that_it_cannot_measure(pack, python):
    done = python([BENCHMARKS / "gpu", "run", "--data", pack], KERAS_BACKEND="tensorflow")
    assert done.returncode == 1
    assert "KERAS_BACKEND must be jax or torch. Received: tensorflow." in done.stderr


@pytest.fixture
def trials(tiny, tmp_path):
    """The options of a benchmark that trains: little data, whose formats are its sources."""
    names = [path.relative_to(tiny).as_posix() for path in sorted(tiny.rglob("*.*g"))]
    lines = [f"{n},{n},{n.split('/')[1]}{n[-3:]}\n" for n in names]
    groups = tmp_path / "groups.csv"
    groups.write_text("file_name,group,source\n" + "".join(lines))
    options = ["--data", tiny, "--groups", groups, "--num-proc", 1, "--seeds", 1]
    return [*options, "--cache-dir", tmp_path / "cache", "--runs", tmp_path / "runs"]


def settings(*overrides):
    return [word for override in overrides for word in ("--set", override)]


def check_finished_are_kept(python, tmp_path, script, arguments, report):
    """A finished training is not done again, and one of other settings is not taken for it."""
    again, same = run(python, tmp_path, script, *arguments)
    assert "Preparing" not in again
    assert same["rows"] == report["rows"]
    other = [*arguments, "--set", "training.epochs=1", "--out", tmp_path / "other.json"]
    done = python([BENCHMARKS / script, *other])
    assert done.returncode == 1
    assert "of other settings" in done.stderr


@pytest.mark.second_lane
def test_leave_one_out_tests_on_what_training_did_not_see(python, trials, tmp_path):
    arguments = [*trials, *settings(*TINY), "--only", "fakejpg", "--seeds", "2"]
    printed, report = run(python, tmp_path, "leave_one_out.py", *arguments)
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
    check_finished_are_kept(python, tmp_path, "leave_one_out.py", arguments, report)


@pytest.mark.second_lane
def test_ablation_trains_with_one_change_and_without_the_unseen(python, trials, tmp_path):
    arguments = [*trials, *settings(*TINY), "--unseen", "fakejpg", "realpng"]
    arguments += ["--changes", "default", "block-means"]
    printed, report = run(python, tmp_path, "ablation.py", *arguments)
    assert [row["change"] for row in report["rows"]] == ["default", "block-means"]
    for row in report["rows"]:
        found = json.loads((tmp_path / "runs" / f"{row['change']}-0" / "found.json").read_text())
        # Of the 32 images of train and validation, 8 and 8 are unseen; none is of the test split.
        assert row["images"] == found["images"]
        assert found["images"]["unseen"] == {"fakejpg": 8, "realpng": 8}
        assert found["images"]["train"] + found["images"]["validation"] == 16
        kinds = [layer["kind"] for layer in found["model"]["layers"]]
        assert ("Subtract" in kinds) == (row["change"] == "default")
        areas = [found["unseen_auc"][value] for value in ("fakejpg", "realpng")]
        assert row["unseen_auc"] == {"fakejpg": areas[:1], "realpng": areas[1:]}
        assert row["validation_auc"] == [found["validation_auc"]]
        cells = (found["validation_auc"], mean(areas), min(areas))
        start = " | ".join([f"`{row['change']}`", *(f"{cell:.3f}" for cell in cells)])
        assert f"| {start} |" in printed
        # Stem: 8 x 8 places, 4 x 4 x 6 to 8. Block: 3 x 3 x 8 to 8, and 8 to 8.
        assert row["multiply_adds"] == 64 * (96 * 8 + 72 * 8 + 8 * 8)
    check_finished_are_kept(python, tmp_path, "ablation.py", arguments, report)
    # The same models, and one of another seed, looking more than once.
    looking = [*arguments[: arguments.index("--changes")], "--seeds", 2]
    _, report = run(python, tmp_path, "ablation.py", *looking, "--changes", "default")
    printed, judged = run(python, tmp_path, "averaging.py", *looking)
    looks = {row["look"]: row for row in judged["rows"]}
    assert list(looks) == ["shipped", "seeds", "flips", "grid-phase", "crops"]
    for areas in ("validation_auc", "unseen_auc"):
        assert looks["shipped"][areas] == report["rows"][0][areas]
    found = {look: (row["validation_auc"], row["unseen_auc"]) for look, row in looks.items()}
    assert all(others != found["shipped"] for look, others in found.items() if look != "shipped")
    for seed in range(2):
        alone = {source: areas[seed : seed + 1] for source, areas in found["shipped"][1].items()}
        assert found["seeds"] != (found["shipped"][0][seed : seed + 1], alone)
    assert [row["crops"] for row in looks.values()] == [1, 2, 2, 4, 9]
    assert f"| `crops` | {over_seeds(looks['crops']['validation_auc'])} |" in printed
    untrained = python([BENCHMARKS / "averaging.py", *looking, "--runs", tmp_path / "none"])
    assert untrained.returncode == 1
    assert "Received: no" in untrained.stderr
    for unseen, complaint in {
        "fakepng": "of other settings",
        "fakegif": "must be in train. Received: fakegif",
    }.items():
        runs = ["--runs", tmp_path / "more"] if unseen == "fakegif" else []
        other = python([BENCHMARKS / "ablation.py", *arguments, "--unseen", unseen, *runs])
        assert other.returncode == 1
        assert complaint in other.stderr


@pytest.mark.second_lane
def test_ablation_trains_in_other_ways(python, trials, tmp_path):
    ways = ["mixup", "balanced-sources", "pairs", "focal", "averaged"]
    arguments = [*trials, *settings(*TINY, "training.epochs=1"), "--unseen", "fakejpg", "realpng"]
    _, report = run(python, tmp_path, "ablation.py", *arguments, "--changes", "default", *ways)
    changes = [row["change"] for row in report["rows"]]
    assert changes == ["default", *ways]
    # The same seed gives the same losses, unless a way changes the steps: averages do not.
    states = [tmp_path / "runs" / f"{change}-0/checkpoint/state.json" for change in changes]
    histories = [json.loads(state.read_text("utf-8"))["history"] for state in states]
    assert len({tuple(history["loss"]) for history in histories}) == 5
    assert histories[-1]["loss"] == histories[0]["loss"]
    assert histories[-1]["val_loss"] != histories[0]["val_loss"]
    # Remade are the real images that a training without the unseen has.
    fakes = list((tmp_path / "runs" / "fakes").glob("*.png"))
    views = np.load(tmp_path / "runs" / "fakes" / "views.npy", mmap_mode="r")
    assert len(fakes) == len(views)
    assert {int(path.stem[-3:]) % 2 for path in fakes} == {1}  # .jpg: .png is unseen


def test_the_test_split_decides_nothing_of_boosting(tmp_path, cache, monkeypatch):
    """Its classes exchanged: threshold and scores stay as they were."""
    data = write_folder(tmp_path / "data", train=20, test=8)
    for number, path in enumerate(sorted(data.rglob("*.*g"))):  # classes that are hard to tell
        picture(number, fake=number % 3 == 0).save(path)
    monkeypatch.syspath_prepend(BENCHMARKS)
    from detectors import of_boosting

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


@pytest.mark.second_lane
def test_a_learning_curve_is_tested_on_the_same_images(python, trials, tmp_path):
    arguments = [*trials, *settings(*TINY), "--sizes"]
    printed, report = run(python, tmp_path, "learning_curve.py", *arguments, 32, 16)
    assert [row["images"] for row in report["rows"]] == [[16], [32]]
    assert [row["test"] for row in report["rows"]] == [[12], [12]]
    for row in report["rows"]:
        assert (
            f"| {row['images'][0]} | {row['accuracy'][0]:.3f} | {row['roc_auc'][0]:.3f} |"
            in printed
        )
    refused = python([BENCHMARKS / "learning_curve.py", *arguments, 10])
    assert refused.returncode == 1
    assert "which leaves 10 of 12 test images" in refused.stderr


@pytest.mark.second_lane
def test_detectors_are_compared_on_the_same_images(python, trials, tmp_path):
    small = settings("input.size=32", "training.epochs=2", "training.batch_size=8")
    recorded = tmp_path / "runs" / "pixels-0"
    arguments = [*trials, *small, "--recipes", "features-aligned", "pixels"]
    printed, report = run(python, tmp_path, "detectors.py", *arguments)
    rows = {(row["detector"], row["tested"]): row for row in report["rows"]}
    detectors = ["reference", "features-aligned", "pixels"]
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
    trained = json.loads((recorded / "run.json").read_text("utf-8"))
    losses = {row["perturbation"]: [row["loss"]] for row in trained["robustness"]["rows"]}
    assert report["losses"]["pixels"] == losses
    assert list(report["losses"]) == ["reference", "pixels"]
    assert trained["recipe"]["ela"] is None
    for how, metrics in trained["evaluation"]["test"].items():
        for metric in ("accuracy", "balanced_accuracy", "roc_auc", "ece"):
            assert rows["pixels", how][metric] == [pytest.approx(metrics[metric]["value"])]
    # --record puts the table into the card of a run, if it is on the same images.
    arguments += ["--record", recorded]
    run(python, tmp_path, "detectors.py", *arguments)
    assert json.loads((recorded / "run.json").read_text("utf-8"))["detectors"] == report
    assert "| `features-aligned` | aligned |" in (recorded / "README.md").read_text("utf-8")
    # A run of an hf-ela that did not know pixels beside ELA is of the same recipe.
    earlier = tmp_path / "runs" / "reference-0" / "run.json"
    trained = json.loads(earlier.read_text("utf-8"))
    del trained["recipe"]["ela"]["with_pixels"]
    earlier.write_text(json.dumps(trained), "utf-8")
    check_finished_are_kept(python, tmp_path, "detectors.py", arguments, report)
